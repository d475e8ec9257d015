//! The handle that everybody holds, and what the queue is made of.
//! Opened by `serve.rs`; each verb has a file of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use coracle_catalog::Catalog;
use coracle_invoke::Invoke;
use coracle_model::{CallId, Digest, FunctionRef, NamespaceName, Problem, TopicName};
use coracle_observe::Observe;
use coracle_runtime::Courier;
use coracle_store::{Artifacts, CommitError, Database, read_all};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::depth::Depths;
use crate::engine::{Endings, Engine};
use crate::run::Executor;
use crate::sessions::Sessions;
use crate::status::{List, Page, Selection, Status};
use crate::topics::{BODY_PREFIX, CANCEL_PREFIX};
use crate::worker::{SETTLED_MAX, Worker, look_everywhere};
use crate::{
    Entry, Filter, QueuedCall, State, Submission, bodies, cancel, entries, heartbeat, purge, put, read,
    redrive, sweep,
};

/// Durable calls; a clone is a handle to the same.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Arc<Engine>,
    /// What works on the queue; it ends with the last handle.
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
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
    /// How long whoever is told of a result may take to answer.
    pub delivery_timeout: Duration,
    /// Whether calls are accepted and forgotten, which loses all of them: what benchmarks compare with.
    pub forgets: bool,
}

impl Options {
    /// Queued calls that run at once, if nobody says otherwise; as are the next.
    pub const CONCURRENCY: u32 = 100;
    /// Calls that may wait in one namespace.
    pub const DEPTH_MAX: u64 = 1_000_000;
    /// How long results are kept.
    pub const RESULTS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
    /// How long whoever is told of a result may take.
    pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: "local".to_owned(),
            url: None,
            concurrency: Self::CONCURRENCY,
            depth_max: Self::DEPTH_MAX,
            results_kept: Self::RESULTS_KEPT,
            delivery_timeout: Self::DELIVERY_TIMEOUT,
            forgets: false,
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
        let executor = Executor::Invoke(parts.invoke.clone());
        Self::open_with(parts, options, executor).await
    }

    pub(crate) async fn open_with(
        parts: Parts,
        options: Options,
        executor: Executor,
    ) -> Result<Self, Problem> {
        let Parts { database, artifacts, catalog, invoke: _, observe } = parts;
        let (settled, settling) = mpsc::channel(SETTLED_MAX);
        let engine = Arc::new(Engine {
            database,
            artifacts,
            catalog,
            started: observe.clock.now(),
            observe,
            executor,
            courier: Courier::new(options.delivery_timeout),
            board: Board::new(options.concurrency),
            sessions: Sessions::new(&options.node),
            depths: Depths::default(),
            reading: bodies::room(),
            endings: Endings::default(),
            options,
            settled,
        });
        match heartbeat::beat(&engine).await {
            // All else can be served, and room can be made; calls wait until then.
            Err(CommitError::Full) => {
                tracing::warn!("the disk is full: no queued call is run until there is room")
            }
            beat => drop(beat.map_err(put::uncommitted)?),
        }
        // Heard before it is looked, so that nothing falls between the two.
        let (watch, arrivals) = (engine.database.watch(CANCEL_PREFIX), engine.database.arrivals());
        cancel::look(&engine).await;
        look_everywhere(&engine).await;
        let worker = Worker::new(Arc::clone(&engine), settling, arrivals);
        let tasks = vec![
            tokio::spawn(worker.run()),
            tokio::spawn(heartbeat::run(Arc::clone(&engine))),
            tokio::spawn(cancel::follow(Arc::clone(&engine), watch)),
            tokio::spawn(sweep::run(Arc::clone(&engine))),
        ];
        Ok(Self(Arc::new(Inner { engine, tasks })))
    }

    /// Keeps a call, to be run as soon as it is due and there is a place. It is durable when this returns.
    ///
    /// # Errors
    /// What is wrong with the call (`function-not-found`, `request-too-large`, `callback-denied`, …), `queue-full`, or
    /// `store-unavailable` if it could not be kept: then nobody has promised to run it.
    pub async fn put(&self, submission: Submission) -> Result<Accepted, Problem> {
        put::put(self.engine(), submission).await
    }

    /// How full it is.
    ///
    /// # Errors
    /// `store-unavailable`.
    pub async fn status(&self, filter: &Filter) -> Result<Status, Problem> {
        read::status(self.engine(), filter).await
    }

    /// Some of the calls it has.
    ///
    /// # Errors
    /// `bad-request` if `after` is no place, `store-unavailable`.
    pub async fn list(&self, list: &List) -> Result<Page, Problem> {
        read::list(self.engine(), list).await
    }

    /// A call of one of these functions, with all that is known of it; of several with one identity, the newest.
    ///
    /// # Errors
    /// `call-not-found`, `store-unavailable`.
    pub async fn show(&self, id: &CallId, of: impl Fn(&FunctionRef) -> bool) -> Result<QueuedCall, Problem> {
        read::show(self.engine(), id, of).await
    }

    /// Whether a call or a delivery has this identity, or had it of late.
    ///
    /// # Errors
    /// `store-unavailable`.
    pub async fn knows(&self, id: &CallId) -> Result<bool, Problem> {
        read::find(self.engine(), id).await.map(|found| !found.is_empty())
    }

    /// The deliveries that a call caused, wherever they stand.
    ///
    /// # Errors
    /// `store-unavailable`.
    pub async fn deliveries(&self, id: &CallId, of: &Filter) -> Result<Vec<QueuedCall>, Problem> {
        read::deliveries(self.engine(), id, of).await
    }

    /// A call once it has ended, or as it is when the time is over.
    ///
    /// # Errors
    /// `call-not-found`, `store-unavailable`.
    pub async fn wait(&self, id: &CallId, of: &Filter, at_most: Duration) -> Result<QueuedCall, Problem> {
        read::wait(self.engine(), id, of, at_most).await
    }

    /// The outcomes that were sent to a topic of a namespace, behind a place, the oldest first.
    ///
    /// # Errors
    /// `store-unavailable`.
    pub async fn entries(
        &self,
        namespace: &NamespaceName,
        topic: &TopicName,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Entry>, Problem> {
        entries::entries(self.engine(), namespace, topic, after, limit).await
    }

    /// Ends a call that waits, so that it never runs; one that runs is stopped, wherever it runs.
    ///
    /// Returns where it stood, waiting or running, once its end is durable.
    ///
    /// # Errors
    /// `call-not-found`, `call-ended`, `store-unavailable`.
    pub async fn cancel(&self, id: &CallId, of: &Filter) -> Result<State, Problem> {
        cancel::cancel(self.engine(), id, of).await
    }

    /// Has dead calls and dead deliveries run again, and says how many. Their attempts are counted anew.
    ///
    /// Of all that are selected, those whose function is gone are left where they are.
    ///
    /// # Errors
    /// `call-not-found`, `function-not-found` and `conflict` of a single call, `store-unavailable`.
    pub async fn redrive(&self, what: &Selection) -> Result<u64, Problem> {
        redrive::redrive(self.engine(), what).await
    }

    /// Removes calls for good, and says how many: those that wait, or those that are dead.
    ///
    /// What runs is left alone.
    ///
    /// # Errors
    /// `bad-request` for another state, `call-not-found`, `store-unavailable`.
    pub async fn purge(&self, what: &Selection, state: State) -> Result<u64, Problem> {
        purge::purge(self.engine(), what, state).await
    }

    /// The artifacts that queued calls need: whoever clears up spares them.
    ///
    /// # Errors
    /// `store-unavailable`: then nothing is known, and nothing may be cleared up.
    pub async fn bodies(&self) -> Result<HashSet<Digest>, Problem> {
        let entries = read_all(&*self.engine().database, BODY_PREFIX).await.map_err(put::unread)?;
        Ok(entries.iter().filter_map(|(key, _)| key.parts().nth(2)?.parse().ok()).collect())
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }
}
