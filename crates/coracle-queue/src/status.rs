//! How full the queue is, and which calls it has.
//! `coracle queue status` and `coracle queue list` show it.

use coracle_model::{CallId, FunctionRef};
use jiff::Timestamp;

use crate::{Filter, QueuedCall, State};

/// How full the queue is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Of all functions that were asked for.
    pub totals: Counts,
    /// Of each function that has any, in the order of their names.
    pub functions: Vec<(FunctionRef, Counts)>,
    /// How many calls may wait in one namespace.
    pub depth_max: u64,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that wait: for their time, their turn or their next attempt.
    pub waiting: u64,
    /// Calls that run.
    pub running: u64,
    /// Calls that are not tried again.
    pub dead: u64,
    /// Results that wait to be delivered, or are being delivered.
    pub deliveries: u64,
    /// When the oldest of the waiting calls was due, or will be.
    pub oldest: Option<Timestamp>,
}

/// Which calls to list.
#[derive(Debug, Clone)]
pub struct List {
    /// Whose.
    pub filter: Filter,
    /// Where they stand.
    pub state: State,
    /// Behind this place: [`Page::next`] of the page before.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Some of the calls that were asked for: of one function after the other, the oldest first.
///
/// Those that ended come the newest first: dead ones of one function after the other, all others of one namespace after
/// the other.
#[derive(Debug, Clone)]
pub struct Page {
    /// The calls, without the bodies of their results.
    pub calls: Vec<QueuedCall>,
    /// Where the next page begins, if there may be more. A page may have fewer calls than its limit, even none, and a next one.
    pub next: Option<String>,
}

/// Which calls to redrive or to purge.
#[derive(Debug, Clone)]
pub enum Selection {
    /// This one, if it is of these: an identity may have been chosen by several callers.
    Call(CallId, Filter),
    /// All of these.
    All(Filter),
}
