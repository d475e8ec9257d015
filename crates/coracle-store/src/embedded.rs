//! The database of one machine: a SQLite file with one writer thread that commits in groups, and a few readers.
//! Opened by `serve.rs` on the file that [`DataDir`](crate::DataDir) names.

mod log;
mod log_readers;
mod readers;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use coracle_model::Clock;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tokio::sync::{mpsc, oneshot, watch};

use self::readers::Readers;
use self::writer::{News, Pending, Writer};
use crate::{
    Alive, Arrivals, BackupError, Batch, BoxFuture, Cause, CommitError, Committed, Database, Entry, Key,
    Message, MessageId, Read, ReadError, Scan, TopicCount, Topics, Watch, durable,
};

/// How many commits wait for the writer before the next one has to wait for room.
const COMMITS_WAITING_MAX: usize = 1024;
/// How long a connection waits for another one's lock. Ours never hold one for long; an operator's shell may.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A [`Database`] in one SQLite file (write-ahead log, `synchronous = FULL`).
///
/// A commit has been synced to the disk when it returns; commits that wait together share one sync.
/// Reads run on the blocking threads of the Tokio runtime they are called from.
/// Dropping it closes it: see [`close`](Self::close).
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    news: News,
    readers: Arc<Readers>,
    // Std mutexes: held to clone or take what is inside, never over `.await`.
    commits: Mutex<Option<mpsc::Sender<Pending>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the database file, creating it with mode 0600 if it is absent and upgrading its schema if it is older.
    ///
    /// If the last owner did not close it, what it committed is recovered from the write-ahead log and the file's
    /// structure is checked. Blocks for that long. The clock says when messages are due and holders are gone; nobody
    /// holds anything when a file is opened, because nobody else may have it open.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_slowed(path, clock, Duration::ZERO)
    }

    /// The same, as if its disk took so much longer for each commit; benchmarks compare machines with it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_slowed(path: &Path, clock: Arc<dyn Clock>, delay: Duration) -> Result<Self, OpenError> {
        let connection = schema::open(path)?;
        let gone = schema::holders(&connection).map_err(|source| schema::open_error(path, source))?;
        let news = News::default();
        let (commits, pending) = mpsc::channel(COMMITS_WAITING_MAX);
        let writer =
            Writer::new(connection, gone, path.to_owned(), Arc::clone(&clock), news.clone(), pending)
                .slowed(delay);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            clock,
            news,
            readers: Arc::new(Readers::new(path.to_owned())),
            commits: Mutex::new(Some(commits)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Writes a copy of the database, as of one moment, to a file, while commits go on.
    ///
    /// The copy is a database file of mode 0600, complete and synced when this returns; a file that was there is
    /// replaced only then. Blocks; call it from a blocking thread.
    ///
    /// # Errors
    /// [`BackupError`]; whatever was at the path is then untouched.
    pub fn backup(&self, to: &Path) -> Result<(), BackupError> {
        durable::write_whole(to, |partial| {
            let from = schema::open_reader(&self.path)?;
            let mut copy = Connection::open(partial)?;
            // Durability is the caller's one sync at the end, and the copy must not need a log file beside it.
            copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
            // All pages in one step: in smaller ones a commit in between would start the copy anew, without end.
            let copied = Backup::new(&from, &mut copy)?.step(-1)?;
            if copied != StepResult::Done {
                return Err(BackupError::Busy);
            }
            // The header came over as "in write-ahead mode".
            copy.pragma_update(None, "journal_mode", "DELETE")?;
            copy.close().map_err(|(_, source)| source)?;
            Ok(())
        })
    }

    /// Waits until every commit that was asked for is answered, and closes the file. Later commits and reads fail as
    /// unavailable; watches end. Blocks until the writer thread has ended; a second call does nothing.
    pub fn close(&self) {
        drop(self.commits.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.readers.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = writer.map(JoinHandle::join) {
            tracing::error!("the writer thread of the database had panicked");
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl Database for Embedded {
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
        let key = key.clone();
        Box::pin(self.readers.read(move |connection| readers::get(connection, &key)))
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<(Key, Entry)>, ReadError>> {
        Box::pin(async move {
            scan.check()?;
            self.readers.read(move |connection| readers::scan(connection, &scan)).await
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.news.hub.watch(prefix)
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Vec<Message>, ReadError>> {
        Box::pin(async move {
            read.check()?;
            self.readers.read(move |connection| log_readers::read(connection, &read)).await
        })
    }

    fn find<'a>(&'a self, id: &'a MessageId) -> BoxFuture<'a, Result<Vec<Message>, ReadError>> {
        let id = id.clone();
        Box::pin(self.readers.read(move |connection| log_readers::find(connection, &id)))
    }

    fn topics(&self, topics: Topics) -> BoxFuture<'_, Result<Vec<TopicCount>, ReadError>> {
        Box::pin(async move {
            topics.check()?;
            self.readers.read(move |connection| log_readers::topics(connection, &topics)).await
        })
    }

    fn alive(&self) -> BoxFuture<'_, Result<Vec<Alive>, ReadError>> {
        let now = self.clock.now();
        Box::pin(self.readers.read(move |connection| log_readers::alive(connection, now)))
    }

    fn arrivals(&self) -> Arrivals {
        self.news.doorbells.arrivals()
    }

    fn edition(&self) -> Option<watch::Receiver<u64>> {
        Some(self.news.groups.subscribe())
    }
}

/// A database file that was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer program has written it.
    #[error(
        "database {} has schema version {found}, this program knows versions up to {known}: use the newer program again",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// It is a file of something else.
    #[error("{} is not a database of Coracle", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Its structure is broken.
    #[error("database {} is damaged, restore a backup: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing found wrong.
        detail: String,
    },
    /// The disk is full.
    #[error("open database {}: the disk is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("open database {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("open database {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: rusqlite::Error,
    },
}

#[derive(Debug, thiserror::Error)]
#[error("it is closed")]
struct Closed;

fn closed() -> Cause {
    Arc::new(Closed)
}

/// Whether an error of SQLite means that there is no room on the disk.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    // Growing the shared memory file beside the log has a code of its own, and no other usual reason.
    const SHARED_MEMORY_GROWS: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
    matches!(
        error.sqlite_error(),
        Some(failure) if failure.code == rusqlite::ErrorCode::DiskFull || failure.extended_code == SHARED_MEMORY_GROWS
    )
}
