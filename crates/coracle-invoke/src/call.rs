//! `invoke.call`: one call, from its name to its outcome.
//! Arguments go down and results come up: nothing below knows who called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coracle_catalog::Catalog;
use coracle_model::{Call, Code, Outcome, Problem, Revision, code};
use coracle_observe::Observe;
use coracle_observe::metrics::{Hold, Metrics};
use coracle_runtime::{Answer, Ended, Instance, Left, Running, Runtime, Started, Work};
use http::{HeaderName, HeaderValue, header};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::admit::{Admission, Place};
use crate::after::{Afterwards, Ahead, Chore};
use crate::record::{Recorder, Usage};
use crate::room::{Instances, Room, Rooms};
use crate::together::Together;

/// Runs calls; a cheap handle to share.
#[derive(Debug, Clone)]
pub struct Invoke(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) catalog: Catalog,
    pub(crate) runtime: Runtime,
    pub(crate) observe: Arc<Observe>,
    pub(crate) rooms: Rooms,
    /// Instances of all functions together.
    instances: Arc<Semaphore>,
    in_flight: AtomicU64,
    together: Together,
    stopping: AtomicBool,
    over: Notify,
}

/// How a server that stops left its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// Calls that were still in flight when the time was over.
    pub left: u64,
}

/// The trace context of W3C, which guests pass on.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

impl Invoke {
    /// The door to what the catalog names and the runtime runs.
    ///
    /// `instances` bounds the calls that run at once, of all functions together, and `idle` the instances that wait for one.
    pub fn new(catalog: Catalog, runtime: Runtime, observe: Observe, instances: u32, idle: u32) -> Self {
        Self(Arc::new(Inner {
            catalog,
            runtime,
            rooms: Rooms::new(idle),
            instances: Arc::new(Semaphore::new(instances as usize)),
            in_flight: AtomicU64::new(0),
            together: Together::new(observe.clock.instant()),
            observe: Arc::new(observe),
            stopping: AtomicBool::new(false),
            over: Notify::new(),
        }))
    }

    /// Runs a call of the revision that its function's name stands for: admit, run, record.
    ///
    /// What can wait until the response is out is left in `after`; without that, a task does it.
    /// For the calls of a connection, the response may wait a little for those of other calls.
    /// Dropping the future ends the call, and its guest with it.
    pub async fn call(&self, call: Call, revision: Arc<Revision>, after: Option<&Afterwards>) -> Outcome {
        let inner = &self.0;
        if inner.stopping.load(Ordering::Relaxed) {
            return Err(Box::new(stopping()));
        }
        let begun = inner.observe.clock.instant();
        let flight = Flight::begin(inner);
        let Call { id, mut request, trace, .. } = call;
        let room = inner.rooms.of(&revision, &inner.runtime, &inner.observe.metrics);
        let mut recorder =
            Recorder::begin(&inner.observe, &room.metrics, begun, id.clone(), &revision, &request);
        let limits = &revision.settings.limits;
        if let Some(problem) = too_large(&request, limits.request_body_bytes) {
            recorder.end(Some(&problem), Usage::default());
            return Err(Box::new(problem));
        }
        if let Ok(value) = HeaderValue::from_bytes(&trace.traceparent()) {
            request.headers_mut().insert(TRACEPARENT, value);
        }
        let deadline = begun + limits.timeout;
        let admitted = match admit_now(inner, &room, &revision) {
            Some(admitted) => Ok(admitted),
            // In a box, because nearly none has to wait.
            None => {
                let admitted = Box::pin(admit(inner, &room, &revision, deadline)).await;
                recorder.admitted();
                admitted
            }
        };
        let held = match admitted {
            Ok((place, permit)) => {
                Held { permit, _place: place, _running: room.metrics.run(), _flight: flight }
            }
            Err(problem) => {
                recorder.end(Some(&problem), Usage::default());
                return Err(Box::new(problem));
            }
        };
        let work = Work { id, request, deadline: deadline.into() };
        if !matches!(revision.code, Code::Wasm(_)) {
            // In a box, so that calls of Wasm need not move what only a program needs.
            return Box::pin(self.call_program(&room, &revision, work, recorder, held)).await;
        }
        let pool = room.instances(&revision, &inner.runtime);
        let instance = match pool.idle.take() {
            Some(instance) => instance,
            None => match Box::pin(inner.runtime.start(&pool.plan, deadline.into())).await {
                Ok(Started { instance, was_mapped }) => {
                    recorder.started(!was_mapped);
                    instance
                }
                Err(problem) => {
                    recorder.end(Some(&problem), Usage::default());
                    return Err(problem);
                }
            },
        };
        let Answer { reply, running } = Instance::serve(instance, work).await;
        if let Ok(reply) = &reply {
            recorder.answered(reply.status().as_u16());
        }
        match running {
            Running::Over(ended) => {
                let chore = self.over(&pool, recorder, held, ended);
                match (chore, after) {
                    (Some(chore), Some(after)) => {
                        inner.together.leave(chore, after, &*inner.observe.clock).await;
                    }
                    (Some(chore), None) => drop(tokio::spawn(chore.run())),
                    (None, _) => {}
                }
            }
            Running::Still(guest) => {
                let invoke = self.clone();
                tokio::spawn(async move {
                    // A task that panicked has no usage to tell; its record says the client is gone.
                    if let Ok(ended) = guest.await
                        && let Some(chore) = invoke.over(&pool, recorder, held, ended)
                    {
                        chore.run().await;
                    }
                });
            }
        }
        reply
    }

    /// Stops taking calls, and waits until those in flight are over, or the time is.
    pub async fn drain(&self, at_most: Duration) -> Stopping {
        let inner = &self.0;
        inner.stopping.store(true, Ordering::SeqCst);
        let all_over = async {
            loop {
                let over = inner.over.notified();
                tokio::pin!(over);
                over.as_mut().enable();
                if inner.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                over.await;
            }
        };
        // Whether it was in time shows in the count.
        let _ = tokio::time::timeout(at_most, all_over).await;
        self.stop_programs(at_most).await;
        Stopping { left: inner.in_flight.load(Ordering::SeqCst) }
    }

    /// Whether it takes no more calls.
    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Calls in flight, of all functions.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Ends a call, and says what is left to do when its response is out.
    fn over(&self, pool: &Arc<Instances>, recorder: Recorder, held: Held, ended: Ended) -> Option<Chore> {
        let Ended { problem, left, memory_bytes, bytes_in, bytes_out } = ended;
        let at = recorder.end(problem.as_deref(), Usage { bytes_in, bytes_out, memory_bytes });
        let (spent, given_up) = match left {
            Left::Reusable(instance) => (None, pool.idle.keep(instance)),
            Left::Spent(instance) => (Some(instance), Vec::new()),
            Left::Nothing => (None, Vec::new()),
        };
        let ahead = Ahead::of(pool, &self.0.runtime, at);
        // The next call may come before the chore is done, and must find its place free.
        let Held { permit, .. } = held;
        let is_any = ahead.is_some() || spent.is_some() || !given_up.is_empty();
        is_any.then_some(Chore { ended: at, spent, given_up, permit: Some(permit), ahead })
    }
}

/// What a call holds while it is in flight.
pub(crate) struct Held {
    permit: OwnedSemaphorePermit,
    _place: Place,
    _running: Hold,
    _flight: Flight,
}

/// One call in flight, so that a server that stops can wait for it.
struct Flight(Arc<Inner>);

impl Flight {
    fn begin(inner: &Arc<Inner>) -> Self {
        inner.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(inner))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.stopping.load(Ordering::SeqCst) {
            self.0.over.notify_waiters();
        }
    }
}

/// One more call that waits because the server runs all the instances it may, for as long as this lives.
struct WaitsForInstance(Metrics);

impl WaitsForInstance {
    fn begin(metrics: &Metrics) -> Self {
        metrics.server().instances_waiting.add(1);
        Self(metrics.clone())
    }
}

impl Drop for WaitsForInstance {
    fn drop(&mut self) {
        self.0.server().instances_waiting.add(-1);
    }
}

/// A place among the function's calls, and one among the server's instances, where both are free.
fn admit_now(inner: &Inner, room: &Room, revision: &Revision) -> Option<(Place, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&inner.instances).try_acquire_owned().ok()?;
    let limits = &revision.settings.limits;
    Some((room.gate.enter_now(limits.concurrency)?, permit))
}

/// A place among the function's calls, and one among the server's instances.
async fn admit(
    inner: &Inner,
    room: &Arc<Room>,
    revision: &Revision,
    deadline: Instant,
) -> Result<(Place, OwnedSemaphorePermit), Problem> {
    let limits = &revision.settings.limits;
    let place = match room.gate.enter(limits.concurrency, limits.waiting) {
        Admission::Now(place) => place,
        Admission::Later(place) => {
            let _waiting = room.metrics.wait();
            match tokio::time::timeout_at(deadline.into(), place).await {
                Ok(Ok(place)) => place,
                _ => {
                    return Err(busy(
                        revision,
                        &format!("waited {} for one", coracle_model::Span(limits.timeout)),
                    ));
                }
            }
        }
        Admission::Full => return Err(busy(revision, &format!("{} more wait", limits.waiting))),
    };
    let permit = match Arc::clone(&inner.instances).try_acquire_owned() {
        Ok(permit) => permit,
        Err(_) => {
            let _waiting = (room.metrics.wait(), WaitsForInstance::begin(&inner.observe.metrics));
            let instances = Arc::clone(&inner.instances).acquire_owned();
            match tokio::time::timeout_at(deadline.into(), instances).await {
                Ok(Ok(permit)) => permit,
                _ => return Err(server_busy()),
            }
        }
    };
    Ok((place, permit))
}

fn too_large(request: &http::Request<coracle_model::Body>, bytes_max: u64) -> Option<Problem> {
    let promised: u64 = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (promised > bytes_max).then(|| {
        let (promised, bytes_max) = (coracle_model::ByteSize(promised), coracle_model::ByteSize(bytes_max));
        Problem::new(
            &code::REQUEST_TOO_LARGE,
            format!("the body of the request is {promised}, over {bytes_max}"),
        )
        .hint("set `request_body` of the function to allow more")
    })
}

fn busy(revision: &Revision, how: &str) -> Problem {
    let (function, limits) = (&revision.function, &revision.settings.limits);
    Problem::new(
        &code::FUNCTION_BUSY,
        format!("`{function}` has {} calls in flight, and {how}", limits.concurrency),
    )
    .hint("try again later, or raise `concurrency` or `waiting` of the function")
    .retry_after(1)
}

fn server_busy() -> Problem {
    Problem::new(&code::SERVER_BUSY, "the server runs as many instances as it may")
        .hint("try again later, or start the server with a greater `--instances`")
        .retry_after(1)
}

pub(crate) fn stopping() -> Problem {
    Problem::new(&code::SERVER_STOPPING, "the server is about to stop")
        .hint("try again in a moment")
        .retry_after(1)
}
