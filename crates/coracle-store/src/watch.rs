//! Telling readers what has changed: a bounded queue for each, filled by the writer after a commit is durable.
//! [`Watch`] is held by callers of [`Database::watch`](crate::Database::watch); `Hub` by implementations.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::{Entry, Key};

/// The most changes that wait for one slow reader; one more, and they become a single [`Change::Lagged`].
pub const WATCH_QUEUE_MAX: usize = 1024;

/// Changes to the keys under one prefix, in the order in which they were committed.
///
/// Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch(Arc<Reader>);

/// Something that is now different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key has this entry now.
    Put {
        /// The key.
        key: Key,
        /// Its entry, with the revision of the commit.
        entry: Entry,
    },
    /// A key has no entry any more.
    Delete {
        /// The key.
        key: Key,
        /// The revision of the commit that removed it.
        revision: u64,
    },
    /// The reader was too slow and changes were dropped: read everything again.
    /// Changes that follow are complete from here on.
    Lagged,
}

impl Watch {
    /// The next change, waiting for it; `None` once the database is closed and every change was taken.
    ///
    /// May be dropped while it waits: no change is lost by that.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            {
                let mut queue = self.0.queue();
                if let Some(change) = queue.changes.pop_front() {
                    return Some(change);
                }
                if queue.closed {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }
}

/// Everybody who watches one database.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    // Std mutex: held while changes are moved into queues, never over `.await`.
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    all: Vec<Weak<Reader>>,
    closed: bool,
}

#[derive(Debug)]
struct Reader {
    prefix: String,
    queue: Mutex<Queue>,
    // One reader waits at most, so that the one permit of `notify_one` never goes to the wrong place.
    filled: Notify,
}

#[derive(Debug)]
struct Queue {
    changes: VecDeque<Change>,
    closed: bool,
}

impl Hub {
    pub(crate) fn watch(&self, prefix: &str) -> Watch {
        let mut readers = self.readers();
        let queue = Mutex::new(Queue { changes: VecDeque::new(), closed: readers.closed });
        let reader = Arc::new(Reader { prefix: prefix.to_owned(), queue, filled: Notify::new() });
        readers.all.retain(|reader| reader.strong_count() > 0);
        readers.all.push(Arc::downgrade(&reader));
        Watch(reader)
    }

    /// Hands durable changes to everybody whose prefix they carry. Called in commit order.
    pub(crate) fn publish(&self, changes: &[Change]) {
        for reader in self.readers().all.iter().filter_map(Weak::upgrade) {
            let mut queue = reader.queue();
            for change in changes.iter().filter(|change| change.concerns(&reader.prefix)) {
                queue.push(change.clone());
            }
            drop(queue);
            reader.filled.notify_one();
        }
    }

    /// Ends every watch, once its queue is empty.
    pub(crate) fn close(&self) {
        let mut readers = self.readers();
        readers.closed = true;
        for reader in readers.all.drain(..).filter_map(|reader| reader.upgrade()) {
            reader.queue().closed = true;
            reader.filled.notify_one();
        }
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, change: Change) {
        if self.changes.len() == WATCH_QUEUE_MAX {
            // What waited is stale once the reader reads everything again; keeping it would only feed it old news.
            self.changes.clear();
            self.changes.push_back(Change::Lagged);
        }
        self.changes.push_back(change);
    }
}

impl Change {
    fn concerns(&self, prefix: &str) -> bool {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key.as_str().starts_with(prefix),
            Self::Lagged => true,
        }
    }
}
