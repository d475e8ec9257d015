//! What survives a restart: the database behind one trait, and artifacts as files named by their digest.
//! Called by the catalog and the queue; opened once by `serve.rs`, which owns the [`DataDir`].
//!
//! [`Database`] has two views: small state under keys with conditions, and a log of topics that are appended and leased.
//! They share one verb, the commit of a [`Batch`], so that "acknowledge this, append that, move this key" is one fact or
//! none.

mod arrivals;
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
mod loss;
mod message;
mod postgres;
mod topic;
mod watch;

pub use arrivals::{Arrivals, Where};
pub use artifacts::{ArtifactError, ArtifactWriter, Artifacts};
pub use backup::{BackupError, RestoreError};
pub use batch::{BATCH_BYTES_MAX, Batch, Condition, INFO_BYTES_MAX, OPERATIONS_MAX, VALUE_BYTES_MAX};
pub use data_dir::{DataDir, DataDirError};
pub use database::{
    BoxFuture, Cause, CommitError, Committed, Database, Entry, FOUND_MAX, ReadError, SCAN_BYTES_MAX,
    SCAN_ENTRIES_MAX, Scan, read_all,
};
pub use embedded::{Embedded, OpenError};
pub use faulty::{Fault, Faulty};
pub use key::{InvalidKey, KEY_BYTES_MAX, Key};
pub use loss::Loss;
pub use message::{
    Alive, Append, Appended, Begin, Due, Lease, MESSAGES_BYTES_MAX, MESSAGES_MAX, Message, MessageState,
    PAYLOAD_BYTES_MAX, Read, ReadFrom, STORY_BYTES_MAX, TRIM_MAX, Take, Taken, TopicCount, Topics,
};
pub use postgres::{ConnectError, Postgres};
pub use topic::{Group, Holder, InvalidName, MessageId, NAME_BYTES_MAX, Position, Topic};
pub use watch::{Change, WATCH_QUEUE_MAX, Watch};
