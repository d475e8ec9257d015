//! The one trait behind which state survives, with its requests, answers and errors.
//! Called by the catalog as `Arc<dyn Database>`; implemented by `embedded.rs` and `faulty.rs`.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
pub use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    Alive, Appended, Arrivals, Batch, Holder, Key, Message, MessageId, Position, Read, Taken, TopicCount,
    Topics, Watch,
};

/// The most entries that one [`Scan`] may ask for.
pub const SCAN_ENTRIES_MAX: usize = 1000;
/// The size at which a page of a [`Scan`] ends early: it holds fewer bytes of keys and values than this, plus one entry.
pub const SCAN_BYTES_MAX: usize = 8 << 20;

/// What survives: small state under keys, and a log of messages in topics, changed together by one atomic verb.
///
/// Keys are changed under conditions, read in order, and watched.
/// Messages are appended, leased by one holder at a time, and ended; a lease lasts as long as its holder is kept alive,
/// by the database's own clock.
///
/// Every successful commit has a revision, greater than that of every commit before it; an entry carries the revision
/// of the commit that wrote it.
/// A reader that wants to stay up to date calls [`watch`](Self::watch) first, then [`read_all`], and then applies the
/// changes whose revision is greater than that of what it holds under the key.
pub trait Database: fmt::Debug + Send + Sync + 'static {
    /// Makes the batch true, all of it or nothing; it is durable when this returns.
    ///
    /// A future that is dropped after its first poll takes nothing back: the batch may still be applied.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// The entry under a key, as of the last commit.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, ReadError>>;

    /// A page of entries in the order of their keys' bytes, all as of one moment.
    ///
    /// A page may be shorter than the limit (see [`SCAN_BYTES_MAX`]): only an empty one says that there are no more.
    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<(Key, Entry)>, ReadError>>;

    /// The changes to keys that start with these bytes, from now on; each is durable before it is seen.
    ///
    /// End the prefix with `/` to mean a room and not its neighbours; the empty one means everything.
    fn watch(&self, prefix: &str) -> Watch;

    /// A page of the messages of a topic in the order of their positions or against it, whatever is done with them.
    ///
    /// A message whose commit ends late never appears behind a reader, nor between two pages of one that reads back: what
    /// is not yet certain is not shown.
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Vec<Message>, ReadError>>;

    /// The messages with this identity, the newest first; at most [`FOUND_MAX`] of them.
    fn find<'a>(&'a self, id: &'a MessageId) -> BoxFuture<'a, Result<Vec<Message>, ReadError>>;

    /// A page of the topics that hold something, in the order of their names, with how much.
    fn topics(&self, topics: Topics) -> BoxFuture<'_, Result<Vec<TopicCount>, ReadError>>;

    /// The holders that are alive.
    fn alive(&self) -> BoxFuture<'_, Result<Vec<Alive>, ReadError>>;

    /// The topics in which something has begun to wait, from now on, on whatever node.
    fn arrivals(&self) -> Arrivals;

    /// A number that rises with every commit, where nobody commits but through this very value; `None` where others may.
    ///
    /// Read before what it is about, it tells later whether that may have changed since: a change can be seen a moment
    /// before it rises, commits of one moment count once, and those that failed count too.
    fn edition(&self) -> Option<watch::Receiver<u64>>;
}

/// The most messages that [`Database::find`] returns.
pub const FOUND_MAX: usize = 16;

/// Every entry whose key starts with the prefix, in the order of keys.
///
/// It is read in pages, each of one moment: what changes meanwhile may or may not be in it, and a
/// [`Watch`] taken before tells.
///
/// # Errors
/// [`ReadError::Unavailable`] if a page cannot be read.
pub async fn read_all(database: &dyn Database, prefix: &str) -> Result<Vec<(Key, Entry)>, ReadError> {
    let mut entries: Vec<(Key, Entry)> = Vec::new();
    loop {
        let after = entries.last().map(|(key, _)| key.clone());
        let page = database.scan(Scan { prefix: prefix.to_owned(), after, limit: SCAN_ENTRIES_MAX }).await?;
        if page.is_empty() {
            return Ok(entries);
        }
        entries.extend(page);
    }
}

/// A value and the commit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was put.
    pub value: Bytes,
    /// The commit that put it: for [`Condition::Revision`](crate::Condition::Revision).
    pub revision: u64,
}

/// Which entries to read.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The bytes with which the keys start; empty for all.
    pub prefix: String,
    /// Only keys behind this one: the last key of the page before.
    pub after: Option<Key>,
    /// The most entries to return, from 1 to [`SCAN_ENTRIES_MAX`].
    pub limit: usize,
}

impl Scan {
    /// Checks the bounds; every implementation does this before anything else.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        if self.limit == 0 || self.limit > SCAN_ENTRIES_MAX {
            let reason = format!("its limit is {}, it must be from 1 to {SCAN_ENTRIES_MAX}", self.limit);
            return Err(ReadError::Invalid { reason });
        }
        Ok(())
    }
}

/// A batch that is true and durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// The revision that every entry put by the batch now has; of no meaning for a batch that puts none.
    pub revision: u64,
    /// What was appended, buried and shifted, in the order of the batch.
    pub appended: Vec<Appended>,
    /// What was leased, for each take of the batch in order.
    pub taken: Vec<Taken>,
    /// How many messages were given back for holders that are gone.
    pub reclaimed: u64,
    /// How many messages were trimmed.
    pub trimmed: u64,
}

/// Why something beneath failed; shared, because one failure may answer a whole group of commits.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// A batch that was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A condition did not hold; nothing was changed. Read again and decide again.
    #[error("`{key}` was changed by someone else: {}", found_text(.found))]
    Conflict {
        /// The first key whose condition did not hold.
        key: Key,
        /// The revision found there, `None` if there is no entry.
        found: Option<u64>,
    },
    /// A lease is over, or a message is gone, or somebody has leased it; nothing was changed.
    #[error("the message at {position} is no longer ours to change")]
    Lost {
        /// The first message of which this is so.
        position: Position,
    },
    /// A holder's time is over, so it may lease nothing; nothing was changed. Keep it alive, and try again.
    #[error("`{holder}` is not known to be alive")]
    Lapsed {
        /// Whose.
        holder: Holder,
    },
    /// The disk is full; nothing was changed. Later commits may succeed once there is room again.
    #[error("the disk of the database is full")]
    Full,
    /// The batch breaks a bound and can never succeed; nothing was changed.
    #[error("the batch cannot be committed: {reason}")]
    Invalid {
        /// Which bound, and by how much.
        reason: String,
    },
    /// The outcome is unknown: the batch is either wholly true or not at all. Read before trying again.
    #[error("the database is unavailable")]
    Unavailable(#[source] Cause),
}

/// A read that has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The request breaks a bound.
    #[error("the scan cannot be made: {reason}")]
    Invalid {
        /// Which bound.
        reason: String,
    },
    /// The database cannot answer now.
    #[error("the database is unavailable")]
    Unavailable(#[source] Cause),
}

fn found_text(found: &Option<u64>) -> String {
    match found {
        Some(revision) => format!("it is at revision {revision}"),
        None => "it is absent".to_owned(),
    }
}

/// A shared database is a database, so that a wrapper can stand around one.
impl<D: Database + ?Sized> Database for Arc<D> {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        (**self).commit(batch)
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, ReadError>> {
        (**self).get(key)
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<(Key, Entry)>, ReadError>> {
        (**self).scan(scan)
    }

    fn watch(&self, prefix: &str) -> Watch {
        (**self).watch(prefix)
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Vec<Message>, ReadError>> {
        (**self).read(read)
    }

    fn find<'a>(&'a self, id: &'a MessageId) -> BoxFuture<'a, Result<Vec<Message>, ReadError>> {
        (**self).find(id)
    }

    fn topics(&self, topics: Topics) -> BoxFuture<'_, Result<Vec<TopicCount>, ReadError>> {
        (**self).topics(topics)
    }

    fn alive(&self) -> BoxFuture<'_, Result<Vec<Alive>, ReadError>> {
        (**self).alive()
    }

    fn arrivals(&self) -> Arrivals {
        (**self).arrivals()
    }

    fn edition(&self) -> Option<watch::Receiver<u64>> {
        (**self).edition()
    }
}
