//! A database that fails on purpose, around any other: the way to see what the code above does with a failed write.
//! Used by the conformance suite and by the tests of everything that keeps state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{
    Alive, Arrivals, Batch, BoxFuture, Cause, CommitError, Committed, Database, Entry, Key, Message,
    MessageId, Read, ReadError, Scan, TopicCount, Topics, Watch,
};

/// Wraps a database and fails as told; without a [`Fault`] it only counts.
#[derive(Debug)]
pub struct Faulty<D> {
    inner: D,
    is_shared: bool,
    fault: Mutex<Option<Fault>>,
    commits: AtomicU64,
}

/// Which commits fail. They are counted from 1, from the making of the [`Faulty`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The n-th commit fails and is not applied.
    Before(u64),
    /// The n-th commit is applied, and then reported as failed: the answer was lost.
    After(u64),
    /// The store goes down at the n-th commit: it and all later ones fail, are not applied, and from then on reads
    /// fail too.
    Down(u64),
}

impl<D> Faulty<D> {
    /// Wraps a database, which others may use too; nothing fails until [`set`](Self::set) says so.
    pub fn new(inner: D) -> Self {
        Self { inner, is_shared: true, fault: Mutex::new(None), commits: AtomicU64::new(0) }
    }

    /// Wraps a database that nobody else uses, if it is such a one.
    pub fn alone(inner: D) -> Self {
        Self { is_shared: false, ..Self::new(inner) }
    }

    /// Replaces the fault; `None` heals.
    pub fn set(&self, fault: Option<Fault>) {
        *self.fault() = fault;
    }

    /// How many commits were asked for so far, failed ones included.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    fn fault(&self) -> MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_up(&self) -> Result<(), ReadError> {
        match *self.fault() {
            Some(Fault::Down(from)) if self.commits() >= from => Err(ReadError::Unavailable(injected())),
            _ => Ok(()),
        }
    }
}

impl<D: Database> Database for Faulty<D> {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        let fault = *self.fault();
        Box::pin(async move {
            match fault {
                Some(Fault::Before(n)) if number == n => Err(CommitError::Unavailable(injected())),
                Some(Fault::Down(from)) if number >= from => Err(CommitError::Unavailable(injected())),
                Some(Fault::After(n)) if number == n => {
                    self.inner.commit(batch).await?;
                    Err(CommitError::Unavailable(injected()))
                }
                _ => self.inner.commit(batch).await,
            }
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, ReadError>> {
        Box::pin(async move {
            self.check_up()?;
            self.inner.get(key).await
        })
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<(Key, Entry)>, ReadError>> {
        Box::pin(async move {
            self.check_up()?;
            self.inner.scan(scan).await
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watch(prefix)
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Vec<Message>, ReadError>> {
        Box::pin(async move {
            self.check_up()?;
            self.inner.read(read).await
        })
    }

    fn find<'a>(&'a self, id: &'a MessageId) -> BoxFuture<'a, Result<Vec<Message>, ReadError>> {
        Box::pin(async move {
            self.check_up()?;
            self.inner.find(id).await
        })
    }

    fn topics(&self, topics: Topics) -> BoxFuture<'_, Result<Vec<TopicCount>, ReadError>> {
        Box::pin(async move {
            self.check_up()?;
            self.inner.topics(topics).await
        })
    }

    fn alive(&self) -> BoxFuture<'_, Result<Vec<Alive>, ReadError>> {
        Box::pin(async move {
            self.check_up()?;
            self.inner.alive().await
        })
    }

    fn arrivals(&self) -> Arrivals {
        self.inner.arrivals()
    }

    fn edition(&self) -> Option<watch::Receiver<u64>> {
        if self.is_shared { None } else { self.inner.edition() }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a fault was injected here")]
struct Injected;

fn injected() -> Cause {
    Arc::new(Injected)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;
    use crate::{Condition, Embedded};

    #[tokio::test]
    async fn a_store_that_is_down_answers_nothing_until_it_is_healed() {
        let dir = tempdir().unwrap();
        let faulty = Faulty::new(
            Embedded::open(&dir.path().join("coracle.db"), Arc::new(coracle_observe::clock::System)).unwrap(),
        );
        let key = Key::new("a").unwrap();
        let put = || faulty.commit(Batch::new().put(key.clone(), "", Condition::Any));
        faulty.set(Some(Fault::Down(2)));
        put().await.unwrap();
        assert!(faulty.get(&key).await.is_ok(), "it is not down yet");
        for _ in 0..2 {
            assert!(matches!(put().await, Err(CommitError::Unavailable(_))));
            assert!(matches!(faulty.get(&key).await, Err(ReadError::Unavailable(_))));
            assert!(crate::read_all(&faulty, "").await.is_err());
        }
        faulty.set(None);
        assert_eq!(
            faulty.get(&key).await.unwrap().map(|entry| entry.revision),
            Some(1),
            "nothing was applied"
        );
        assert_eq!(put().await.unwrap().revision, 2);
        assert_eq!(faulty.commits(), 4);
    }
}
