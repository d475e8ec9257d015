//! Calls that must not be lost: kept until they ended, tried again by a policy, and ended in a place of their own.
//! The gateway puts calls here and asks about them; `serve.rs` opens the queue and drains it.
//!
//! Everything starts at [`Queue`], a cheap handle.
//! A call is a message of the database's log; whoever holds its lease runs it, and what follows its end is one commit
//! with the end itself.

mod ask;
mod board;
mod bodies;
mod call;
mod cancel;
mod depth;
mod drain;
mod ended;
mod engine;
mod entries;
mod fair;
mod gauges;
mod heartbeat;
mod payload;
mod purge;
mod put;
mod queue;
mod read;
mod redrive;
mod retry;
mod run;
mod sessions;
mod settle;
mod status;
mod story;
mod sweep;
mod topics;
mod worker;

#[cfg(test)]
mod tests;

pub use ask::{Callback, DELAY_MAX, Delay, GROUP_BYTES_MAX, Group, ONCE_BYTES_MAX, OnceKey, Submission};
pub use call::{Attempt, AttemptEnd, CallResult, Kind, QueuedCall, State};
pub use coracle_faces::callback::Form;
pub use coracle_observe::calls::Filter;
pub use entries::Entry;
pub use queue::{Accepted, Drained, Options, Parts, Queue};
pub use status::{Counts, List, Page, Selection, Status};
