//! What works on the queue: the parts it stands on, what is leased, and how one message is dealt with.
//! `worker.rs` drives it, `put.rs` hands it calls that begin at once.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_catalog::Catalog;
use coracle_invoke::Afterwards;
use coracle_model::{CallId, FunctionRef, Problem, code};
use coracle_observe::Observe;
use coracle_runtime::{Courier, random_bits};
use coracle_store::{Artifacts, Batch, Database, Holder};
use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::State;
use crate::board::{Board, DELIVERIES_MAX, Job, Leased, Why};
use crate::depth::Depths;
use crate::drain;
use crate::payload::{Kept, Work};
use crate::queue::Options;
use crate::run::{self, Executor, Ran};
use crate::sessions::Sessions;
use crate::settle::{Attempted, Begun, Orders, Settled};
use crate::story::Story;
use crate::topics::Room;

/// All that works on the queue shares.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) database: Arc<dyn Database>,
    pub(crate) artifacts: Artifacts,
    pub(crate) catalog: Catalog,
    pub(crate) observe: Observe,
    pub(crate) executor: Executor,
    pub(crate) courier: Courier,
    pub(crate) options: Options,
    pub(crate) started: Timestamp,
    pub(crate) board: Board,
    pub(crate) sessions: Sessions,
    pub(crate) depths: Depths,
    /// Room for the bodies that are being read.
    pub(crate) reading: Semaphore,
    pub(crate) endings: Endings,
    /// What is settled, on its way to the worker, which commits it.
    pub(crate) settled: mpsc::Sender<Settled>,
}

/// Who waits for calls to end.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    // Std mutex: held for a look-up, never over an await.
    waiting: Mutex<HashMap<CallId, Arc<Notify>>>,
}

impl Endings {
    /// Told when a call has ended here; one bell for all who wait for it.
    pub(crate) fn bell(&self, id: &CallId) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, bell| Arc::strong_count(bell) > 1);
        Arc::clone(waiting.entry(id.clone()).or_default())
    }

    /// A call has ended, durably.
    pub(crate) fn ended(&self, id: &CallId) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.is_empty()
            && let Some(bell) = waiting.get(id)
        {
            bell.notify_waiters();
        }
    }
}

impl Engine {
    /// Starts what may start.
    pub(crate) fn start(self: &Arc<Self>) {
        while let Some(job) = self.board.next(self.now()) {
            tokio::spawn(Arc::clone(self).work(job));
        }
    }

    /// Runs a job, and then others for as long as there are any: whoever ends a call begins the next.
    pub(crate) async fn work(self: Arc<Self>, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            let after = Afterwards::default();
            let settled = Box::pin(self.deal_with(job, &after)).await;
            next = self.board.next(self.now());
            match settled {
                // The worker that is gone took the leases with it.
                Some(settled) => drop(self.settled.send(settled).await),
                None => self.board.nudge(),
            }
            while let Some(chore) = after.take() {
                chore.run().await;
            }
        }
    }

    /// Deals with one message, and says what follows; nothing if others are to run it again.
    async fn deal_with(&self, job: Job, after: &Afterwards) -> Option<Settled> {
        let Job { leased, place, stop } = job;
        if !self.is_ours(&leased.lease.holder) {
            // This server was stopped for long, the database is away, or an answer of it was lost: others may have run it.
            // Whether it is still ours, its way back tells.
            return Some(drain::released(leased.lease, &leased.message));
        }
        let begun = match self.begin(leased) {
            Ok(begun) => begun,
            Err(settled) => return Some(*settled),
        };
        let orders = self.orders(&begun);
        let now = self.observe.clock.now();
        if let Some(reason) = begun.exhausted(&orders.retry, now) {
            return Some(begun.end_untried(State::Dead, reason, &orders, now));
        }
        self.count_start(&begun, now);
        let started = self.observe.clock.instant();
        let attempt = tokio::select! {
            biased;
            why = stop.told() => Err(why),
            ran = AssertUnwindSafe(self.run(&begun, after)).catch_unwind() => Ok(ran.unwrap_or_else(|_| panicked())),
        };
        let took = self.observe.clock.instant().saturating_duration_since(started);
        place.took(took);
        let ran = match attempt {
            Ok(ran) => ran,
            Err(Why::Abandoned) => {
                self.sessions.over(&begun.lease.holder);
                return None;
            }
            Err(Why::Cancelled) => {
                return Some(begun.end_untried(
                    State::Cancelled,
                    "it was cancelled while it ran".to_owned(),
                    &orders,
                    self.observe.clock.now(),
                ));
            }
        };
        let log = match &ran {
            Ran::Answered(result) if result.status < 400 => Vec::new(),
            _ => run::log_excerpt(&self.observe, &begun.function, &begun.kept, now).await,
        };
        let attempted = Attempted { node: self.options.node.clone(), started: now, took, log, ran };
        let mut rng = fastrand::Rng::with_seed(random_bits());
        let function = begun.function.clone();
        let settled = begun.settle(attempted, &orders, self.observe.clock.now(), &mut rng);
        self.count_end(&function, &settled);
        Some(settled)
    }

    /// Whether what is leased under this name is ours for sure.
    pub(crate) fn is_ours(&self, holder: &Holder) -> bool {
        self.sessions.is_ours(holder, self.observe.clock.instant())
    }

    async fn run(&self, begun: &Begun, after: &Afterwards) -> Ran {
        let revision = self.catalog.resolve(&begun.function);
        match (&begun.kept.work, revision) {
            (Work::Call(head), Some(revision)) => {
                let kept = &begun.kept;
                run::call(&self.executor, &self.artifacts, &begun.function, revision, kept, head, after).await
            }
            (Work::Call(_), None) => Ran::Failed(Box::new(Problem::no_function(&begun.function))),
            (Work::Delivery(head), revision) => {
                run::deliver(&self.courier, revision.as_deref(), &begun.kept, head).await
            }
        }
    }

    /// Reads a message; one that cannot be read is buried as it came.
    pub(crate) fn begin(&self, leased: Leased) -> Result<Begun, Box<Settled>> {
        let Leased { lease, message } = leased;
        let (Some(Room::Calls(function)) | Some(Room::Deliveries(function))) = Room::of(&message.topic)
        else {
            // Nothing but those is ever leased.
            unreachable!("a lane is of calls or deliveries")
        };
        let (kept, story) = match (Kept::decode(&message.payload), Story::decode(&message.story)) {
            (Ok(kept), Ok(story)) => (kept, story),
            (Err(unreadable), _) | (_, Err(unreadable)) => {
                let problem = Problem::from(unreadable);
                tracing::error!(%problem, topic = %message.topic, "a queued call is unreadable");
                let id = message.id.as_ref().and_then(|id| CallId::parse(id.as_str()));
                let id = id.unwrap_or_else(|| CallId::from_bits(message.position.0.into()));
                let dead = Room::Dead(function).topic();
                let batch = Batch::new().bury(lease.clone(), dead, message.story);
                return Err(Box::new(Settled { lease, topic: message.topic, id, state: State::Dead, batch }));
            }
        };
        let mut begun = Begun { lease, message, function, kept, story };
        begun.story.catch_up(begun.message.attempt, &begun.message);
        Ok(begun)
    }

    /// What is to be done about its ends, as the function says now.
    pub(crate) fn orders(&self, begun: &Begun) -> Orders {
        if matches!(begun.kept.work, Work::Delivery(_)) {
            return Orders::default();
        }
        let revision = self.catalog.resolve(&begun.function);
        revision.map_or_else(Orders::default, |revision| {
            let queueing = &revision.settings.queue;
            Orders {
                retry: queueing.retry.clone(),
                on_success: queueing.on_success.clone(),
                on_failure: queueing.on_failure.clone(),
            }
        })
    }

    /// How many calls of a topic may run at once.
    pub(crate) fn limit(&self, room: &Room) -> u32 {
        match room {
            Room::Calls(function) => self.limit_of(function),
            _ => DELIVERIES_MAX,
        }
    }

    /// How many queued calls of a function may run at once; of one that is gone, enough to end them soon.
    pub(crate) fn limit_of(&self, function: &FunctionRef) -> u32 {
        let revision = self.catalog.resolve(function);
        revision.map_or(DELIVERIES_MAX, |revision| revision.settings.queue.concurrency)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.observe.clock.now()
    }
}

/// How long from now until a moment; nothing, if it has passed.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(at.duration_since(now).max(SignedDuration::ZERO)).unwrap_or_default()
}

fn panicked() -> Ran {
    Ran::Failed(Box::new(Problem::new(&code::INTERNAL, "what runs the call panicked")))
}
