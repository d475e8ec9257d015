//! Runs a guest beyond the head of its response, while its body is read.
//! Both contracts hand their guests over to it; it ends them when their reader goes or nothing moves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use coracle_model::Problem;
use wasmtime::Store;

use crate::bodies::request::Seen;
use crate::bodies::response::{Done, Progress};
use crate::bodies::watch::{End, drive, read_out};
use crate::fault::{self, gone};
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
    let end = drive(&plan.revision, &mut guest, &progress, seen.as_deref()).await;
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
