//! What waits for one reader who follows: a bounded mailbox that whoever writes never waits for.
//! A reader who is too slow loses letters and learns how many; logs and calls are followed through it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a reader gets next.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed<T> {
    /// One of what is followed.
    One(T),
    /// So many that came here were lost, because the reader was too slow.
    Missed(u64),
}

/// How much may wait for one reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) letters_max: usize,
    pub(crate) bytes_max: usize,
}

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    bounds: Bounds,
    // Std mutex: held to put or take letters, never over a system call or an await.
    letters: Mutex<Letters<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Letters<T> {
    /// Each with its size.
    waiting: VecDeque<(Followed<T>, usize)>,
    bytes: usize,
    /// Lost since the last letter.
    missed: u64,
    ended: bool,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let letters = Letters { waiting: VecDeque::new(), bytes: 0, missed: 0, ended: false };
        Self { bounds, letters: Mutex::new(letters), arrived: Notify::new() }
    }

    /// Puts letters in, each with its size in bytes, as far as there is room.
    pub(crate) fn put(&self, items: impl Iterator<Item = (T, usize)>) {
        let mut letters = self.lock();
        for (item, bytes) in items {
            letters.push(item, bytes, self.bounds);
        }
        drop(letters);
        self.arrived.notify_one();
    }

    /// The next letter; `None` when no more will come. Nothing is lost when this is cancelled.
    pub(crate) async fn next(&self) -> Option<Followed<T>> {
        loop {
            {
                let mut letters = self.lock();
                if let Some(next) = letters.pop() {
                    return Some(next);
                }
                if letters.ended {
                    return None;
                }
            }
            // A permit is kept when the writer was faster than we are: no letter is slept through.
            self.arrived.notified().await;
        }
    }

    /// No more letters will come.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Letters<T>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Letters<T> {
    fn push(&mut self, item: T, bytes: usize, bounds: Bounds) {
        if self.waiting.len() >= bounds.letters_max || self.bytes + bytes > bounds.bytes_max {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            self.waiting.push_back((Followed::Missed(std::mem::take(&mut self.missed)), 0));
        }
        self.bytes += bytes;
        self.waiting.push_back((Followed::One(item), bytes));
    }

    fn pop(&mut self) -> Option<Followed<T>> {
        if let Some((next, bytes)) = self.waiting.pop_front() {
            self.bytes -= bytes;
            return Some(next);
        }
        match std::mem::take(&mut self.missed) {
            0 => None,
            missed => Some(Followed::Missed(missed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { letters_max: 4, bytes_max: 100 };

    fn mailbox(items: &[(&'static str, usize)]) -> Mailbox<&'static str> {
        let mailbox = Mailbox::new(BOUNDS);
        mailbox.put(items.iter().copied());
        mailbox
    }

    #[tokio::test]
    async fn what_is_missed_is_said_where_it_is_missing() {
        let mailbox = mailbox(&[("", 1); BOUNDS.letters_max + 3]);
        for _ in 0..2 {
            assert_eq!(mailbox.next().await, Some(Followed::One("")));
        }
        mailbox.put([("after", 1)].into_iter());
        for _ in 0..BOUNDS.letters_max - 2 {
            assert_eq!(mailbox.next().await, Some(Followed::One("")));
        }
        assert_eq!(mailbox.next().await, Some(Followed::Missed(3)));
        assert_eq!(mailbox.next().await, Some(Followed::One("after")));
        mailbox.end();
        assert_eq!(mailbox.next().await, None);
    }

    #[tokio::test]
    async fn a_reader_who_catches_up_learns_what_was_missed_at_the_end() {
        let mailbox = mailbox(&[("long", BOUNDS.bytes_max / 2 + 1); 3]);
        assert_eq!(mailbox.next().await, Some(Followed::One("long")));
        assert_eq!(mailbox.next().await, Some(Followed::Missed(2)));
        assert_eq!(mailbox.lock().bytes, 0);
    }
}
