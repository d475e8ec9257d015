//! The handle that everybody holds, and what the queue is made of.
//! Opened by `serve.rs`; each verb has a file of its own.

use std::sync::Arc;
use std::time::Duration;

use coracle_catalog::Catalog;
use coracle_invoke::Invoke;
use coracle_model::{CallId, Problem, code};
use coracle_observe::Observe;
use coracle_store::{Artifacts, Database};
use jiff::Timestamp;

use crate::status::{List, Page, Selection, Status};
use crate::{Filter, QueuedCall, State, Submission};

/// Durable calls; a clone is a handle to the same.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    options: Options,
}

/// What the queue stands on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where calls are kept.
    pub database: Arc<dyn Database>,
    /// Where large bodies are kept.
    pub artifacts: Artifacts,
    /// What is deployed.
    pub catalog: Catalog,
    /// What runs calls.
    pub invoke: Invoke,
    /// Clock, logs and numbers.
    pub observe: Observe,
}

/// How the queue works; the defaults are right for most.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of this server, as stories tell it.
    pub node: String,
    /// Where other servers reach this one.
    pub url: Option<String>,
    /// Queued calls that run at once on this server, of all functions together.
    pub concurrency: u32,
    /// Calls that may wait in one namespace.
    pub depth_max: u64,
    /// How long results are kept.
    pub results_kept: Duration,
}

impl Options {
    /// Queued calls that run at once, if nobody says otherwise; as are the next.
    pub const CONCURRENCY: u32 = 100;
    /// Calls that may wait in one namespace.
    pub const DEPTH_MAX: u64 = 1_000_000;
    /// How long results are kept.
    pub const RESULTS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: "local".to_owned(),
            url: None,
            concurrency: Self::CONCURRENCY,
            depth_max: Self::DEPTH_MAX,
            results_kept: Self::RESULTS_KEPT,
        }
    }
}

/// A call that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Which call; the first one's, when it was sent twice with one key.
    pub id: CallId,
    /// When it is due.
    pub due: Timestamp,
    /// Whether it had been accepted before, by its idempotency key.
    pub again: bool,
}

/// How a server that stops left its queued calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Calls that still ran when the time was over; they run again.
    pub left: u64,
}

impl Queue {
    /// Begins to work on what the database holds. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// `store-unavailable` if the database does not answer.
    pub async fn open(parts: Parts, options: Options) -> Result<Self, Problem> {
        Ok(Self(Arc::new(Inner { parts, options })))
    }

    /// Keeps a call, to be run as soon as it is due and there is a place. It is durable when this returns.
    ///
    /// # Errors
    /// What is wrong with the call (`function-not-found`, `request-too-large`, `callback-denied`, …), `queue-full`, or
    /// why it could not be kept (`disk-full`, `store-unavailable`).
    pub async fn put(&self, submission: Submission) -> Result<Accepted, Problem> {
        drop(submission);
        Err(self.unbuilt())
    }

    /// How full it is.
    ///
    /// # Errors
    /// `store-unavailable`.
    pub async fn status(&self, filter: &Filter) -> Result<Status, Problem> {
        let _ = filter;
        Err(self.unbuilt())
    }

    /// Some of the calls it has.
    ///
    /// # Errors
    /// `bad-request` if `after` is no place, `store-unavailable`.
    pub async fn list(&self, list: &List) -> Result<Page, Problem> {
        let _ = list;
        Err(self.unbuilt())
    }

    /// A call, with all that is known of it.
    ///
    /// # Errors
    /// `call-not-found`, `store-unavailable`.
    pub async fn show(&self, id: &CallId) -> Result<QueuedCall, Problem> {
        let _ = id;
        Err(self.unbuilt())
    }

    /// The deliveries that a call caused and that have not ended well: those that wait, run, or are dead.
    ///
    /// # Errors
    /// `store-unavailable`.
    pub async fn deliveries(&self, id: &CallId) -> Result<Vec<QueuedCall>, Problem> {
        let _ = id;
        Err(self.unbuilt())
    }

    /// The same, once the call has ended, or the time is over: then it is still as it is.
    ///
    /// # Errors
    /// `call-not-found`, `store-unavailable`.
    pub async fn wait(&self, id: &CallId, at_most: Duration) -> Result<QueuedCall, Problem> {
        let _ = (id, at_most);
        Err(self.unbuilt())
    }

    /// Ends a call that waits, so that it never runs; one that runs is stopped, wherever it runs.
    ///
    /// Returns where it stood: waiting or running. One that runs elsewhere may end by itself before it hears of this.
    ///
    /// # Errors
    /// `call-not-found`, `call-ended`, `store-unavailable`.
    pub async fn cancel(&self, id: &CallId) -> Result<State, Problem> {
        let _ = id;
        Err(self.unbuilt())
    }

    /// Has dead calls and dead deliveries run again, and says how many. Their attempts are counted anew.
    ///
    /// # Errors
    /// `call-not-found` and `function-not-found` of a single call, `store-unavailable`.
    pub async fn redrive(&self, what: &Selection) -> Result<u64, Problem> {
        let _ = what;
        Err(self.unbuilt())
    }

    /// Removes calls for good, and says how many: those that wait, or those that are dead.
    ///
    /// What runs is left alone.
    ///
    /// # Errors
    /// `bad-request` for another state, `store-unavailable`.
    pub async fn purge(&self, what: &Selection, state: State) -> Result<u64, Problem> {
        let _ = (what, state);
        Err(self.unbuilt())
    }

    /// Takes no more calls from the database, gives back what has not begun, and waits for what runs, or for the time.
    pub async fn drain(&self, at_most: Duration) -> Drained {
        let _ = at_most;
        Drained { left: 0 }
    }

    /// FIXME: the engine comes with the log half of the database; until then other crates build against the signatures.
    fn unbuilt(&self) -> Problem {
        let Inner { parts: Parts { .. }, options } = &*self.0;
        Problem::new(&code::NOT_IMPLEMENTED, format!("the queue of `{}` is still being built", options.node))
    }
}
