//! What a function has while it is called: its gate, its numbers, and the pool of its current revision.
//! Made at the first call of a function, and given up when the function is removed.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use coracle_model::{FunctionRef, Revision};
use coracle_observe::metrics::{FunctionMetrics, Metrics};
use coracle_runtime::{Instance, Plan, Runtime};

use crate::admit::Gate;
use crate::idle::{Idle, Shelf};

/// The room of one function.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: Arc<FunctionMetrics>,
    pool: ArcSwap<Pool>,
}

/// What the calls of one revision share; a new revision gets a new one.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) plan: Arc<Plan>,
    pub(crate) idle: Arc<Idle<Instance>>,
    /// Whether an instance is being made ahead.
    pub(crate) making: AtomicBool,
}

impl Pool {
    fn new(plan: Plan, shelf: &Arc<Shelf<Instance>>) -> Self {
        Self { plan: Arc::new(plan), idle: Idle::on(shelf), making: AtomicBool::new(false) }
    }
}

impl Room {
    /// The pool of this revision; the first call of a new one changes pools.
    pub(crate) fn pool(&self, revision: &Arc<Revision>, runtime: &Runtime) -> Arc<Pool> {
        let pool = self.pool.load();
        if Arc::ptr_eq(pool.plan.revision(), revision) {
            return Arc::clone(&pool);
        }
        let new = Arc::new(Pool::new(runtime.plan(Arc::clone(revision)), pool.idle.shelf()));
        let old = self.pool.swap(Arc::clone(&new));
        // Letting go of instances takes a while, and this is the call path.
        let idle = old.idle.take_all();
        if !idle.is_empty() {
            tokio::spawn(async move { drop(idle) });
        }
        new
    }

    /// The pool as it is, whichever revision it is of.
    pub(crate) fn current_pool(&self) -> Arc<Pool> {
        self.pool.load_full()
    }
}

/// The rooms of all functions that were called.
#[derive(Debug)]
pub(crate) struct Rooms {
    // Std lock: held for one look-up or insertion, never over an await.
    rooms: RwLock<HashMap<FunctionRef, Arc<Room>>>,
    shelf: Arc<Shelf<Instance>>,
}

impl Rooms {
    /// Rooms in which so many instances may wait, of all functions together.
    pub(crate) fn new(idle: u32) -> Self {
        Self { rooms: RwLock::default(), shelf: Shelf::new(idle) }
    }

    /// Instances that wait for a call.
    pub(crate) fn idle(&self) -> usize {
        self.shelf.len()
    }

    /// The room of a function, which exists.
    pub(crate) fn of(&self, revision: &Arc<Revision>, runtime: &Runtime, metrics: &Metrics) -> Arc<Room> {
        let function = &revision.function;
        if let Some(room) = self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(function) {
            return Arc::clone(room);
        }
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let room = rooms.entry(function.clone()).or_insert_with(|| {
            let pool = Pool::new(runtime.plan(Arc::clone(revision)), &self.shelf);
            Arc::new(Room {
                gate: Arc::default(),
                metrics: metrics.function(function),
                pool: ArcSwap::from_pointee(pool),
            })
        });
        Arc::clone(room)
    }

    /// The room of a function, if it was called.
    pub(crate) fn get(&self, function: &FunctionRef) -> Option<Arc<Room>> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(function).cloned()
    }

    /// Gives up the room of a function that was removed.
    pub(crate) fn close(&self, function: &FunctionRef) -> Option<Arc<Room>> {
        self.rooms.write().unwrap_or_else(PoisonError::into_inner).remove(function)
    }
}
