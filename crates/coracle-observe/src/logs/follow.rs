//! Readers who follow: each has a bounded mailbox, filled by the writer thread.
//! A reader who is too slow loses lines and learns how many; the writer never waits for anybody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::queue::{Entry, Queue};
use super::{Error, Filter, Line};

/// Readers who may follow at one time.
pub const FOLLOWERS_MAX: usize = 64;
/// Lines that wait for one reader.
pub const FOLLOW_LINES_MAX: usize = 4_096;
/// Bytes of lines that wait for one reader.
pub const FOLLOW_BYTES_MAX: usize = 1024 * 1024;

/// What a reader gets next.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// A line.
    Line(Line),
    /// So many lines that came here were lost, because the reader was too slow.
    Missed(u64),
}

/// One reader's place in the stream; dropping it leaves.
#[derive(Debug)]
pub struct Follower {
    mailbox: Arc<Mailbox>,
    followers: Arc<Followers>,
}

impl Follower {
    /// The next line, or how many were missed; `None` when the logs are closed. Nothing is lost when this is cancelled.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            {
                let mut letters = self.mailbox.lock();
                if let Some(next) = letters.pop() {
                    return Some(next);
                }
                if letters.ended {
                    return None;
                }
            }
            // A permit is kept when the writer was faster than we are: no letter is slept through.
            self.mailbox.arrived.notified().await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followers.lock().retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
    }
}

/// All who follow.
#[derive(Debug, Default)]
pub(super) struct Followers {
    // Std mutex: held while a batch is handed out, never over a system call or an await.
    mailboxes: Mutex<Vec<Arc<Mailbox>>>,
}

#[derive(Debug)]
struct Mailbox {
    filter: Filter,
    /// The first entry of the queue, counted from its beginning, that this reader shall see.
    from: u64,
    letters: Mutex<Letters>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Letters {
    waiting: VecDeque<Followed>,
    bytes: usize,
    /// Lines lost since the last letter.
    missed: u64,
    ended: bool,
}

impl Followers {
    /// Adds a reader who sees what is queued from now on; also says when the last line before that was written.
    pub(super) fn add(
        self: &Arc<Self>,
        filter: &Filter,
        queue: &Queue,
    ) -> Result<(Follower, Timestamp), Error> {
        let mut mailboxes = self.lock();
        if mailboxes.len() >= FOLLOWERS_MAX {
            return Err(Error::FollowersFull);
        }
        // Asked under the lock that handing out takes too: no line can pass between the question and the place in the list.
        let (from, last_at) = queue.position();
        let (letters, arrived) = (Mutex::default(), Notify::new());
        let mailbox = Arc::new(Mailbox { filter: filter.clone(), from, letters, arrived });
        mailboxes.push(Arc::clone(&mailbox));
        Ok((Follower { mailbox, followers: Arc::clone(self) }, last_at))
    }

    /// Hands out entries, the first of which is number `begins_at` of all that were ever queued.
    pub(super) fn publish(&self, begins_at: u64, entries: &[Entry]) {
        for mailbox in self.lock().iter() {
            mailbox.put(begins_at, entries);
        }
    }

    /// No more lines will come.
    pub(super) fn end(&self) {
        for mailbox in self.lock().iter() {
            mailbox.lock().ended = true;
            mailbox.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Mailbox>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox {
    fn put(&self, begins_at: u64, entries: &[Entry]) {
        let seen = usize::try_from(self.from.saturating_sub(begins_at)).unwrap_or(usize::MAX);
        let mut letters = self.lock();
        for entry in entries.iter().skip(seen) {
            if let Entry::Line(line) = entry
                && self.filter.matches(line)
            {
                letters.push(line);
            }
        }
        drop(letters);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Letters {
    fn push(&mut self, line: &Line) {
        if self.waiting.len() >= FOLLOW_LINES_MAX || self.bytes + line.bytes() > FOLLOW_BYTES_MAX {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            self.waiting.push_back(Followed::Missed(std::mem::take(&mut self.missed)));
        }
        self.bytes += line.bytes();
        self.waiting.push_back(Followed::Line(line.clone()));
    }

    fn pop(&mut self) -> Option<Followed> {
        let next = self.waiting.pop_front();
        if let Some(Followed::Line(line)) = &next {
            self.bytes -= line.bytes();
        }
        next.or_else(|| match std::mem::take(&mut self.missed) {
            0 => None,
            missed => Some(Followed::Missed(missed)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_model::FunctionRef;

    fn line(text: &str) -> Line {
        Line::note(Timestamp::UNIX_EPOCH, FunctionRef::parse("hello").expect("a name"), text.to_owned())
    }

    #[test]
    fn what_is_missed_is_said_where_it_is_missing() {
        let mut letters = Letters::default();
        for _ in 0..FOLLOW_LINES_MAX + 3 {
            letters.push(&line(""));
        }
        for _ in 0..2 {
            assert_eq!(letters.pop(), Some(Followed::Line(line(""))));
        }
        letters.push(&line("after"));
        for _ in 0..FOLLOW_LINES_MAX - 2 {
            assert_eq!(letters.pop(), Some(Followed::Line(line(""))));
        }
        assert_eq!(letters.pop(), Some(Followed::Missed(3)));
        assert_eq!(letters.pop(), Some(Followed::Line(line("after"))));
        assert_eq!(letters.pop(), None);
    }

    #[test]
    fn a_reader_who_catches_up_learns_what_was_missed_at_the_end() {
        let mut letters = Letters::default();
        let long = "x".repeat(FOLLOW_BYTES_MAX / 2);
        for _ in 0..3 {
            letters.push(&line(&long));
        }
        assert_eq!(letters.pop(), Some(Followed::Line(line(&long))));
        assert_eq!(letters.pop(), Some(Followed::Missed(2)));
        assert_eq!(letters.pop(), None);
        assert_eq!(letters.bytes, 0);
    }
}
