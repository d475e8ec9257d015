//! Runs a guest beyond the head of its response, while its body is read.
//! Both contracts hand their guests over to it; it ends them when their reader goes or nothing moves.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use coracle_model::{Limits, Problem};
use tokio::time::{Instant, timeout};
use wasmtime::Store;

use crate::bodies::request::Seen;
use crate::bodies::response::{Done, Progress};
use crate::fault::{self, gone, too_large};
use crate::wasm::engine::Ticking;
use crate::wasm::guest::{Guest, Plan};
use crate::wasm::instance::{Ended, Instance, Left};

use crate::wasm::trap::{self, Served};

/// A guest that runs, to its end.
pub(super) type Guesting = Pin<Box<dyn Future<Output = Exit> + Send>>;

/// How a guest ended.
pub(super) struct Exit {
    /// What went wrong, if anything did.
    pub(super) problem: Option<Problem>,
    pub(super) memory_bytes: u64,
    /// What is left of it: its end of the body closes when this goes, which must be after its fault is told.
    pub(super) remains: Remains,
}

/// What is left of a guest that ended.
pub(super) enum Remains {
    Instance(Instance),
    Program {
        #[expect(dead_code, reason = "held for its drop, which closes the guest's end of the body")]
        store: Box<Store<Guest>>,
    },
}

impl Remains {
    /// What a call that ended well or not leaves for the next one.
    pub(super) fn left(self, ok: bool) -> Left {
        match self {
            Self::Instance(mut instance) => {
                if ok && instance.may_serve_again() {
                    Left::Reusable(instance)
                } else {
                    Left::Spent(instance)
                }
            }
            Self::Program { .. } => Left::Nothing,
        }
    }
}

/// Runs a guest to its end while its body is read.
pub(super) async fn pump(
    plan: Arc<Plan>,
    served: Served,
    mut guest: Guesting,
    progress: Arc<Progress>,
    seen: Option<Arc<Seen>>,
    _ticking: Ticking,
) -> Ended {
    let limits = &plan.revision.settings.limits;
    let end = drive(&plan, &mut guest, &progress, seen.as_deref()).await;
    drop(guest);
    let is_unread = matches!(end, End::Unread);
    let (memory_bytes, left) = match end {
        End::CutOff | End::Unread => (0, Left::Nothing),
        End::Itself(exit) => {
            let ok = exit.problem.is_none();
            // A guest that stumbled over a reader who left is not to blame.
            let left = progress.done() == Some(Done::Gone);
            if let Some(problem) = exit.problem.filter(|_| !left) {
                progress.fail(fault::blame(problem, &plan.revision, seen.as_deref()));
            }
            // Its end of the body closes with it, so only one that serves again may outlive its fault's telling.
            match exit.remains.left(ok) {
                Left::Reusable(instance) => (exit.memory_bytes, Left::Reusable(instance)),
                left => {
                    drop(left);
                    (exit.memory_bytes, Left::Nothing)
                }
            }
        }
    };
    let problem =
        if is_unread { Some(gone("the client stopped reading")) } else { read_out(&progress, limits).await };
    if let Some(problem) = &problem {
        trap::note(&plan, &served, problem);
    }
    Ended {
        problem: problem.map(Box::new),
        left,
        memory_bytes,
        bytes_in: seen.as_ref().map_or(0, |seen| seen.bytes()),
        bytes_out: progress.bytes.load(Ordering::Relaxed),
    }
}

/// How a guest came to its end.
enum End {
    /// By itself.
    Itself(Exit),
    /// Its reader is gone, or its body paused for too long.
    CutOff,
    /// Its reader takes nothing of what there is.
    Unread,
}

async fn drive(plan: &Plan, guest: &mut Guesting, progress: &Progress, seen: Option<&Seen>) -> End {
    let pause_max = plan.revision.settings.limits.stream_timeout;
    let moved = || progress.bytes.load(Ordering::Relaxed) + seen.map_or(0, Seen::bytes);
    let (mut last, mut since) = (moved(), Instant::now());
    let mut look = std::pin::pin!(tokio::time::sleep(pace_of(pause_max)));
    loop {
        tokio::select! {
            biased;
            () = progress.wake.notified() => {
                if matches!(progress.done(), Some(Done::Gone | Done::TooLarge)) {
                    return End::CutOff;
                }
            }
            exit = &mut *guest => return End::Itself(exit),
            () = &mut look => {
                let now = moved();
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() >= pause_max {
                    if progress.is_awaited() {
                        progress.fail(fault::paused(&plan.revision.function, pause_max));
                        return End::CutOff;
                    }
                    progress.fail(gone("the client stopped reading"));
                    return End::Unread;
                }
                look.as_mut().reset(Instant::now() + pace_of(pause_max));
            }
        }
    }
}

/// Until the reader has taken what is left, or is gone; gives what went wrong.
async fn read_out(progress: &Progress, limits: &Limits) -> Option<Problem> {
    let fault = || progress.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
    loop {
        match progress.done() {
            Some(Done::Read) => return fault(),
            Some(Done::TooLarge) => return Some(too_large(limits.response_body_bytes)),
            Some(Done::Gone) => return fault().or_else(|| Some(gone("the client went away"))),
            None => {}
        }
        let bytes = progress.bytes.load(Ordering::Relaxed);
        let woken = timeout(limits.stream_timeout, progress.wake.notified()).await.is_ok();
        if !woken && progress.bytes.load(Ordering::Relaxed) == bytes && progress.done().is_none() {
            return fault().or_else(|| Some(gone("the client stopped reading")));
        }
    }
}

/// How often a body's pace is looked at: often enough that a pause is noticed within a quarter of its bound.
fn pace_of(pause_max: Duration) -> Duration {
    (pause_max / 4).max(Duration::from_millis(1))
}
