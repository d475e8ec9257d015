//! What guests print, and what the platform has to say to them, line by line.
//! The runtime writes, and never waits for it; the gateway reads the last lines, pages through them, and follows.
//!
//! ```text
//! write ─► queue (bounded; drops and counts) ─► one thread ─┬─► followers (bounded; told what they missed)
//!                                                           └─► files, one write per function and burst
//! ```
//! Lines are kept on disk and not in memory: 10,000 quiet functions cost nothing but their files.

mod files;
mod follow;
mod line;
mod queue;
mod read;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use coracle_model::FunctionRef;
use jiff::Timestamp;

use crate::bounded;
use crate::metrics::Metrics;

use files::{Directory, Files};
use follow::Followers;
use queue::Queue;
use writer::Writer;

pub use follow::{FOLLOW_BYTES_MAX, FOLLOW_LINES_MAX, FOLLOWERS_MAX, Follower};
pub use line::{Filter, Line, Stream};
pub use queue::{QUEUE_BYTES_MAX, QUEUE_LINES_MAX};
pub use read::{Lines, READ_BYTES_MAX, READ_FUNCTIONS_MAX, READ_LINES_MAX, SCAN_BYTES_MAX};

/// Bytes kept of one line; the rest is cut off, and marked.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// How much is kept, and with how much open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file; a function that has written as many goes on in a new one.
    pub file_bytes_max: u64,
    /// Files of one function; the oldest goes when there would be more.
    pub files_per_function_max: u32,
    /// Files that are open for writing at one time, least recently used ones closed first.
    pub open_files_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes_max: 4 * 1024 * 1024, files_per_function_max: 2, open_files_max: 128 }
    }
}

/// Why logs cannot be opened, read or followed. Writing has no errors: a line that cannot be kept is counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or its thread.
    #[error("cannot keep logs in {}", dir.display())]
    Open {
        /// Where the logs were to be.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is there and cannot be read.
    #[error("cannot read the logs of `{of}`")]
    Read {
        /// Whose: a function or a namespace.
        of: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// [`FOLLOWERS_MAX`] readers follow already.
    #[error("cannot follow logs: {FOLLOWERS_MAX} readers follow already")]
    FollowersFull,
}

/// The logs of a server; cheap to clone. The last clone writes what is queued, then closes.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    followers: Arc<Followers>,
    directory: Arc<Directory>,
    writer: Option<JoinHandle<()>>,
}

impl Logs {
    /// Opens the logs under `dir`, made if it is not there. Lines that are dropped are counted in `metrics`, per function.
    ///
    /// # Errors
    /// [`Error::Open`] when the directory cannot be made or the thread not started.
    pub fn open(dir: &Path, limits: Limits, metrics: Metrics) -> Result<Self, Error> {
        let failed = |source| Error::Open { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let queue = Arc::new(Queue::default());
        let followers = Arc::new(Followers::default());
        let directory = Arc::new(Directory::new(dir, limits));
        let files = Files::new(Arc::clone(&directory));
        let writer = Writer::new(Arc::clone(&queue), Arc::clone(&followers), files, metrics);
        let thread = std::thread::Builder::new().name("coracle-logs".to_owned());
        let writer = thread.spawn(move || writer.run()).map_err(failed)?;
        Ok(Self(Arc::new(Inner { queue, followers, directory, writer: Some(writer) })))
    }

    /// Keeps a line. Never waits and never fails: when the queue is full, the line is dropped and counted, and the log says so once there is room.
    ///
    /// Of two lines written one after the other, the second has the later time: `at` is moved by a nanosecond where the clock did not move.
    pub fn write(&self, mut line: Line) {
        bounded::cut(&mut line.text, LINE_BYTES_MAX);
        self.0.queue.push(line);
    }

    /// The last `n` lines (at most [`READ_LINES_MAX`]), oldest first. Every line written before this call is among what is looked at.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub async fn tail(&self, filter: &Filter, n: usize) -> Result<Lines, Error> {
        self.read(filter, read::Want::Last { n, until: Timestamp::MAX }).await
    }

    /// The first lines at or after `from`, oldest first, as many as bounds allow. When [`Lines::cut`], go on from just after the last one's `at`.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub async fn since(&self, filter: &Filter, from: Timestamp) -> Result<Lines, Error> {
        self.read(filter, read::Want::Since(from)).await
    }

    /// Lines as they are written from now on.
    ///
    /// # Errors
    /// [`Error::FollowersFull`].
    pub fn follow(&self, filter: &Filter) -> Result<Follower, Error> {
        self.0.followers.add(filter, &self.0.queue).map(|(follower, _)| follower)
    }

    /// The last `n` lines and then those that follow: none twice, none left out between.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::FollowersFull`].
    pub async fn tail_then_follow(&self, filter: &Filter, n: usize) -> Result<(Lines, Follower), Error> {
        let (follower, until) = self.0.followers.add(filter, &self.0.queue)?;
        let lines = self.read(filter, read::Want::Last { n, until }).await?;
        Ok((lines, follower))
    }

    /// Removes the logs of a function, soon; lines written before this call are gone with them.
    pub fn forget(&self, function: &FunctionRef) {
        self.0.queue.forget(function);
    }

    /// Waits until the lines written so far are in their files. Blocks the thread: for tests, and for the end.
    pub fn flush(&self) {
        self.0.queue.flush();
    }

    async fn read(&self, filter: &Filter, want: read::Want) -> Result<Lines, Error> {
        let (queue, directory) = (Arc::clone(&self.0.queue), Arc::clone(&self.0.directory));
        let filter = filter.clone();
        let reading = tokio::task::spawn_blocking(move || {
            queue.flush();
            read::read(&directory, &filter, want)
        });
        reading.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and whoever asked with it.
            Err(_) => Ok(Lines { cut: true, ..Lines::default() }),
        })
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("dir", &self.0.directory.root()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so on its own; there is nothing left to save.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
