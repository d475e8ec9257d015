//! What survives a restart: the database behind one trait, and artifacts as files named by their digest.
//! Called by the catalog and, later, by the queue; opened once by `serve.rs`, which owns the [`DataDir`].
//!
//! [`Database`] is small state under keys with conditions.
//! Its second half, the log (topics that are appended and leased), comes with the queue: its verbs become further
//! operations of [`Batch`], so that "acknowledge this, append that, move this key" is one fact or none.

mod artifacts;
mod backup;
mod batch;
pub mod conformance;
mod data_dir;
mod database;
mod durable;
mod embedded;
mod faulty;
mod key;
mod postgres;
mod watch;

pub use artifacts::{ArtifactError, ArtifactWriter, Artifacts};
pub use backup::{BackupError, RestoreError};
pub use batch::{BATCH_BYTES_MAX, Batch, Condition, OPERATIONS_MAX, VALUE_BYTES_MAX};
pub use data_dir::{DataDir, DataDirError};
pub use database::{
    BoxFuture, Cause, CommitError, Committed, Database, Entry, ReadError, SCAN_BYTES_MAX, SCAN_ENTRIES_MAX,
    Scan, read_all,
};
pub use embedded::{Embedded, OpenError};
pub use faulty::{Fault, Faulty};
pub use key::{InvalidKey, KEY_BYTES_MAX, Key};
pub use postgres::{ConnectError, Postgres};
pub use watch::{Change, WATCH_QUEUE_MAX, Watch};
