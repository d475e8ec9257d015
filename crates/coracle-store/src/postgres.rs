//! The database of several machines: a PostgreSQL, to which one connection writes in groups, and from which a few read.
//! Opened by `serve.rs` for `--store postgres://…`; every node opens the same one.

mod artifacts;
mod entries;
mod feed;
mod follower;
mod group;
mod log_reads;
mod messages;
mod plan;
mod readers;
mod schema;
mod session;
mod target;
mod tls;
mod writer;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::feed::Feed;
use self::readers::Readers;
use self::session::Session;
use self::target::Target;
use self::writer::{Pending, Place, Writer};
use crate::{
    Alive, Arrivals, Batch, BoxFuture, Cause, CommitError, Committed, Database, Entry, Key, Message,
    MessageId, Read, ReadError, Scan, TopicCount, Topics, Watch,
};

pub(crate) use self::artifacts::SharedArtifacts;
pub use self::target::ConnectError;

/// How many commits wait for the writer before the next one has to wait for room.
const COMMITS_WAITING_MAX: usize = 1024;

/// A [`Database`] in a PostgreSQL, shared with the other nodes that have opened it.
///
/// A commit is durable by PostgreSQL's own rules when it returns; commits that wait together share one transaction.
/// While PostgreSQL is away, commits and reads fail as unavailable, and everything goes on by itself when it is back.
/// Of several changes that another node made to one key in quick succession, a [`Watch`] may tell the last alone.
/// Dropping it lets what was asked for come to its end: see [`close`](Self::close).
pub struct Postgres {
    target: Arc<Target>,
    feed: Arc<Feed>,
    readers: Arc<Readers>,
    // Std mutexes: held to clone or take what is inside, never over `.await`.
    commits: Mutex<Option<mpsc::Sender<Pending>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    follower: JoinHandle<()>,
}

impl Postgres {
    /// Connects to `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, and makes or upgrades Coracle's tables there, which
    /// lie in a schema of their own. Several nodes may do so at once. The tasks behind it run on the Tokio runtime that
    /// this is called from.
    ///
    /// # Errors
    /// [`ConnectError`]; none of them ever holds the password.
    pub async fn open(url: &str) -> Result<Self, ConnectError> {
        let target = Arc::new(Target::read(url)?);
        schema::upgrade(&Session::open(&target).await?, &target).await?;
        let place = Place::open(&target).await?;
        let feed = Feed::open(&place.session, place.process).await;
        let feed = Arc::new(feed.map_err(|source| target.refused(source))?);
        let follower = follower::start(Arc::clone(&target), Arc::clone(&feed)).await?;
        let (commits, pending) = mpsc::channel(COMMITS_WAITING_MAX);
        let writer = Writer::new(Arc::clone(&target), place, Arc::clone(&feed), pending);
        Ok(Self {
            readers: Arc::new(Readers::new(Arc::clone(&target))),
            target,
            feed,
            commits: Mutex::new(Some(commits)),
            writer: Mutex::new(Some(tokio::spawn(writer.run()))),
            follower,
        })
    }

    /// The artifacts of this database. Called within the runtime that [`open`](Self::open) was called in.
    pub(crate) fn artifacts(&self) -> SharedArtifacts {
        SharedArtifacts::new(Arc::clone(&self.target), Arc::clone(&self.readers))
    }

    /// Waits until every commit that was asked for is answered, and disconnects. Later commits and reads fail as
    /// unavailable; watches end. A second call does nothing.
    pub async fn close(&self) {
        self.end();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.await.is_err()
        {
            tracing::error!("the writer of the database had panicked");
        }
    }

    fn end(&self) {
        drop(self.commits.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.readers.close();
        self.follower.abort();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Database for Postgres {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            batch.check()?;
            let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let gone = || CommitError::Unavailable(closed());
            let (answer, answered) = oneshot::channel();
            commits.ok_or_else(gone)?.send(Pending { batch, answer }).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, ReadError>> {
        Box::pin(async move {
            let reader = self.readers.reader().await?;
            entries::get(&reader, key).await.map_err(readers::unavailable)
        })
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<(Key, Entry)>, ReadError>> {
        Box::pin(async move {
            scan.check()?;
            let reader = self.readers.reader().await?;
            entries::scan(&reader, &scan).await.map_err(readers::unavailable)
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.feed.hub.watch(prefix)
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Vec<Message>, ReadError>> {
        Box::pin(async move {
            read.check()?;
            let reader = self.readers.reader().await?;
            log_reads::read(&reader, &read).await.map_err(readers::unavailable)
        })
    }

    fn find<'a>(&'a self, id: &'a MessageId) -> BoxFuture<'a, Result<Vec<Message>, ReadError>> {
        Box::pin(async move {
            let reader = self.readers.reader().await?;
            log_reads::find(&reader, id).await.map_err(readers::unavailable)
        })
    }

    fn topics(&self, topics: Topics) -> BoxFuture<'_, Result<Vec<TopicCount>, ReadError>> {
        Box::pin(async move {
            topics.check()?;
            let reader = self.readers.reader().await?;
            log_reads::topics(&reader, &topics).await.map_err(readers::unavailable)
        })
    }

    fn alive(&self) -> BoxFuture<'_, Result<Vec<Alive>, ReadError>> {
        Box::pin(async move {
            let reader = self.readers.reader().await?;
            log_reads::alive(&reader).await.map_err(readers::unavailable)
        })
    }

    fn arrivals(&self) -> Arrivals {
        self.feed.doorbells.arrivals()
    }

    fn edition(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it is closed")]
struct Closed;

fn closed() -> Cause {
    Arc::new(Closed)
}
