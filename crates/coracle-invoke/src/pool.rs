//! The instances of one revision that wait for a call: made ahead of demand, or kept for reuse.
//! A room has one pool, for the revision that is current; the pool of the one before goes with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coracle_runtime::{Instance, Plan};

/// Instances that are kept for reuse, for each revision.
const KEPT_MAX: usize = 64;

/// Instances that are made ahead of demand, for each revision.
pub(crate) const AHEAD_MAX: usize = 1;

/// The waiting instances of a revision.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) plan: Arc<Plan>,
    // Std mutex: held for one push or pop, never over an await.
    idle: Mutex<Vec<Instance>>,
    /// Whether an instance is being made ahead.
    pub(crate) making: AtomicBool,
    /// Calls that began, so that whoever makes ahead sees whether the server is idle.
    pub(crate) begun: AtomicU64,
}

impl Pool {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan: Arc::new(plan),
            idle: Mutex::default(),
            making: AtomicBool::new(false),
            begun: AtomicU64::new(0),
        }
    }

    /// An instance that waits, the one used last first: its memory is warm.
    pub(crate) fn take(&self) -> Option<Instance> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.lock().pop()
    }

    /// Keeps an instance for the next call; gives it back if enough are kept.
    pub(crate) fn keep(&self, instance: Instance) -> Option<Instance> {
        let mut idle = self.lock();
        if idle.len() >= KEPT_MAX {
            return Some(instance);
        }
        idle.push(instance);
        None
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Takes all that wait.
    pub(crate) fn drain(&self) -> Vec<Instance> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
