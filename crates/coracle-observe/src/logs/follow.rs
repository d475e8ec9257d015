//! Readers who follow: each has a bounded mailbox, filled by the writer thread.
//! A reader who is too slow loses lines and learns how many; the writer never waits for anybody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::queue::{Entry, Queue};
use super::{Error, Filter, Line};
use crate::mailbox::{Bounds, Followed, Mailbox};

/// Readers who may follow at one time.
pub const FOLLOWERS_MAX: usize = 64;
/// Lines that wait for one reader.
pub const FOLLOW_LINES_MAX: usize = 4_096;
/// Bytes of lines that wait for one reader.
pub const FOLLOW_BYTES_MAX: usize = 1024 * 1024;

const BOUNDS: Bounds = Bounds { letters_max: FOLLOW_LINES_MAX, bytes_max: FOLLOW_BYTES_MAX };

/// One reader's place in the stream; dropping it leaves.
#[derive(Debug)]
pub struct Follower {
    mailbox: Arc<Place>,
    followers: Arc<Followers>,
}

impl Follower {
    /// The next line, or how many were missed; `None` when the logs are closed. Nothing is lost when this is cancelled.
    pub async fn next(&mut self) -> Option<Followed<Line>> {
        self.mailbox.letters.next().await
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
    mailboxes: Mutex<Vec<Arc<Place>>>,
}

#[derive(Debug)]
struct Place {
    filter: Filter,
    /// The first entry of the queue, counted from its beginning, that this reader shall see.
    from: u64,
    letters: Mailbox<Line>,
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
        let letters = Mailbox::new(BOUNDS);
        let mailbox = Arc::new(Place { filter: filter.clone(), from, letters });
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
            mailbox.letters.end();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn put(&self, begins_at: u64, entries: &[Entry]) {
        let seen = usize::try_from(self.from.saturating_sub(begins_at)).unwrap_or(usize::MAX);
        let lines = entries.iter().skip(seen).filter_map(|entry| match entry {
            Entry::Line(line) if self.filter.matches(line) => Some((line.clone(), line.bytes())),
            _ => None,
        });
        self.letters.put(lines);
    }
}
