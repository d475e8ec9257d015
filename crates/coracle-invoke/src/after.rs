//! What a call leaves to be done when nobody waits for it: its instance is let go, and the next one made.
//! The task that writes the response does it, so that nobody has to be woken for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_model::Clock;
use coracle_runtime::{Instance, Runtime};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::room::Instances;

/// Where calls leave what is to be done beside their responses; a clone is the same place.
///
/// Whoever made the calls takes it from here when nothing more can be written, and runs it.
#[derive(Debug, Clone, Default)]
pub struct Afterwards {
    chores: Arc<Mutex<Vec<Chore>>>,
    pub(crate) is_connection: bool,
}

impl Afterwards {
    /// For the calls of one connection, each of whose responses has a client to be woken for it.
    pub fn of_connection() -> Self {
        Self { is_connection: true, ..Self::default() }
    }

    /// The next thing to do.
    pub fn take(&self) -> Option<Chore> {
        self.chores.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(crate) fn leave(&self, chore: Chore) {
        self.chores.lock().unwrap_or_else(PoisonError::into_inner).push(chore);
    }
}

/// Something to be done beside a response.
#[derive(Debug)]
pub struct Chore {
    /// What is not needed any more. Dropped in this order: an instance gives its slot back before its permit goes.
    pub(crate) spent: Vec<Instance>,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    pub(crate) ahead: Option<Ahead>,
}

impl Chore {
    /// Does it. Dropping the future leaves undone what is only for speed.
    pub async fn run(mut self) {
        self.let_go();
        if let Some(ahead) = self.ahead {
            ahead.make().await;
        }
    }

    /// Does the part that makes room for others.
    pub(crate) fn let_go(&mut self) {
        self.spent.clear();
        self.permit = None;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.permit.is_none() && self.ahead.is_none()
    }
}

/// An instance to be made ahead of demand.
#[derive(Debug)]
pub(crate) struct Ahead {
    pool: Arc<Instances>,
    runtime: Runtime,
    deadline: Instant,
}

impl Ahead {
    /// One for this pool after a call of it, unless one waits already, is being made, or would wait in vain.
    pub(crate) fn of(pool: &Arc<Instances>, runtime: &Runtime, clock: &dyn Clock) -> Option<Self> {
        let revision = pool.plan.revision();
        let wanted = revision.settings.reuse == 0
            && pool.idle.expects_another()
            && pool.idle.len() == 0
            && !pool.making.swap(true, Ordering::Relaxed);
        wanted.then(|| {
            let deadline = (clock.instant() + revision.settings.limits.timeout).into();
            Self { pool: Arc::clone(pool), runtime: runtime.clone(), deadline }
        })
    }

    async fn make(self) {
        // If it cannot start, the call that needs it will say why.
        if let Ok(instance) = self.runtime.start(&self.pool.plan, self.deadline).await {
            drop(self.pool.idle.keep(instance));
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.pool.making.store(false, Ordering::Relaxed);
    }
}
