//! What is known of a queued call: where it stands, what was tried, and how it ended.
//! The gateway shows it; `read.rs` makes it of what the database holds.

use std::time::Duration;

use bytes::Bytes;
use coracle_model::{CallId, FunctionRef};
use http::{HeaderMap, Method};
use jiff::Timestamp;

/// A queued call, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedCall {
    /// Which call.
    pub id: CallId,
    /// What is called, or whose result is delivered.
    pub function: FunctionRef,
    /// Whether it is a call, or the delivery of a call's result.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// The group in whose order it runs.
    pub group: Option<String>,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it is due, or was due last.
    pub due: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Who is told how it ends.
    pub callback: Option<String>,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// How often it was begun.
    pub attempts_made: u32,
    /// What was tried, the first attempt first; of very many, some in the middle are left out.
    pub attempts: Vec<Attempt>,
    /// Why it is not tried again, when it ended without success.
    pub reason: Option<String>,
    /// What it answered, when it ended. A list has it without its body.
    pub result: Option<CallResult>,
}

/// What a message of the queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A call of a function.
    Call {
        /// Its method.
        method: Method,
        /// Its path and query, as the function sees them.
        path: String,
    },
    /// The delivery of a call's result.
    Delivery {
        /// Where it goes.
        url: String,
    },
}

/// Where a queued call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits: for its time, for its turn, or for its next attempt.
    Waiting,
    /// It runs.
    Running,
    /// It was answered with a status below 400.
    Succeeded,
    /// It was answered with another status, which is not tried again.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It is not tried again, and lies where it can be looked at and redriven.
    Dead,
}

impl State {
    /// All of them, in the order in which a call goes through them.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Dead];

    /// The state in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// The state of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more happens to it, unless somebody asks.
    pub const fn is_ended(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

/// One attempt of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The first one is 1.
    pub number: u32,
    /// The server that made it.
    pub node: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took; zero when nobody knows.
    pub took: Duration,
    /// What came of it.
    pub end: AttemptEnd,
    /// The last lines that the function printed, if it failed.
    pub log: Vec<String>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The function, or the receiver of a delivery, answered with this status.
    Answered(u16),
    /// It ended in a problem.
    Failed {
        /// The code, which `coracle explain` knows.
        code: String,
        /// What happened.
        message: String,
    },
}

/// What a call answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResult {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; only its beginning, if it was over the bound for results.
    pub body: Bytes,
    /// How long the whole body was.
    pub body_bytes: u64,
}
