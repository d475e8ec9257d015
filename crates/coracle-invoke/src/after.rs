//! What a call leaves to be done when nobody waits for it: its instance is let go, and the next one made.
//! The task that writes the response does it, so that nobody has to be woken for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use coracle_runtime::{Instance, Runtime, Started};
use tokio::sync::OwnedSemaphorePermit;

use crate::room::Instances;

/// Where calls leave what is to be done beside their responses; a clone is the same place.
///
/// Whoever made the calls takes it from here when nothing more can be written, and runs it.
#[derive(Debug, Clone, Default)]
pub struct Afterwards {
    chores: Arc<Chores>,
    pub(crate) is_connection: bool,
}

#[derive(Debug, Default)]
struct Chores {
    /// Whether there is one: a connection asks whenever it is polled, and takes no lock for it.
    is_any: AtomicBool,
    // Std mutex: held for a push or a pop.
    left: Mutex<Vec<Chore>>,
}

impl Chores {
    fn left(&self) -> MutexGuard<'_, Vec<Chore>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Afterwards {
    /// For the calls of one connection, each of whose responses has a client to be woken for it.
    pub fn of_connection() -> Self {
        Self { is_connection: true, ..Self::default() }
    }

    /// The next thing to do.
    pub fn take(&self) -> Option<Chore> {
        if !self.chores.is_any.load(Ordering::Acquire) {
            return None;
        }
        let mut left = self.chores.left();
        let chore = left.pop();
        self.chores.is_any.store(!left.is_empty(), Ordering::Release);
        chore
    }

    pub(crate) fn leave(&self, chore: Chore) {
        let mut left = self.chores.left();
        left.push(chore);
        self.chores.is_any.store(true, Ordering::Release);
    }
}

/// Something to be done beside a response.
#[derive(Debug)]
pub struct Chore {
    /// When its call ended.
    pub(crate) ended: Instant,
    /// The instance of the call, where it serves no other. Dropped in this order: an instance gives its slot back before
    /// its permit goes.
    pub(crate) spent: Option<Instance>,
    /// What had to go for an instance that was kept; or that one, where there was no place for it.
    pub(crate) given_up: Vec<Instance>,
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
        self.spent = None;
        self.given_up.clear();
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
    deadline: tokio::time::Instant,
}

impl Ahead {
    /// One for this pool after a call of it that ended, unless one waits already, is being made, or would wait in vain.
    pub(crate) fn of(pool: &Arc<Instances>, runtime: &Runtime, ended: Instant) -> Option<Self> {
        let revision = pool.plan.revision();
        let wanted = revision.settings.reuse == 0
            && pool.idle.expects_another()
            && pool.idle.len() == 0
            && !pool.making.swap(true, Ordering::Relaxed);
        wanted.then(|| {
            let deadline = (ended + revision.settings.limits.timeout).into();
            Self { pool: Arc::clone(pool), runtime: runtime.clone(), deadline }
        })
    }

    async fn make(self) {
        // If it cannot start, the call that needs it will say why.
        if let Ok(Started { instance, .. }) = self.runtime.start(&self.pool.plan, self.deadline).await {
            drop(self.pool.idle.keep(instance));
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.pool.making.store(false, Ordering::Relaxed);
    }
}
