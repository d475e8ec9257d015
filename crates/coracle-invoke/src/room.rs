//! What a function has while it is called: its gate, its numbers, and the pool of its current revision.
//! Made at the first call of a function, and given up when the function is removed.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use coracle_model::{Code, FunctionRef, Revision};
use coracle_observe::metrics::{FunctionMetrics, Metrics};
use coracle_runtime::{Instance, Plan, Runtime};

use crate::admit::Gate;
use crate::fleet::house::{House, PROGRAM_INSTANCES_MAX};
use crate::handover;
use crate::idle::{Idle, Shelf};
use crate::keepers::Keepers;
use crate::program::{self, Launcher};

/// The room of one function.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: Arc<FunctionMetrics>,
    shelf: Arc<Shelf<Instance>>,
    pool: ArcSwap<Pool>,
    // Std mutex: held to change pools, which is not done on every call, and never over an await.
    changing: Mutex<()>,
}

/// A program of the catalog's, which the runtime starts.
pub(crate) type Program = handover::Program<Launcher>;

/// What the calls of one revision share; a new revision gets a new one.
#[derive(Debug)]
pub(crate) enum Pool {
    /// A component or a command: an instance serves one call at a time.
    Wasm(Arc<Instances>),
    /// A program, whose instances live on.
    Program(Arc<Program>),
}

/// What the calls of one revision of Wasm share.
#[derive(Debug)]
pub(crate) struct Instances {
    pub(crate) plan: Arc<Plan>,
    pub(crate) idle: Arc<Idle<Instance>>,
    /// Whether an instance is being made ahead.
    pub(crate) making: AtomicBool,
}

impl Instances {
    fn new(plan: Plan, shelf: &Arc<Shelf<Instance>>) -> Arc<Self> {
        Arc::new(Self { plan: Arc::new(plan), idle: Idle::on(shelf), making: AtomicBool::new(false) })
    }
}

impl Pool {
    /// Lets go of what nobody will call any more.
    fn let_go(&self) {
        match self {
            // Letting go of instances takes a while, and this may be the call path.
            Self::Wasm(instances) => {
                let idle = instances.idle.take_all();
                if !idle.is_empty() {
                    tokio::spawn(async move { drop(idle) });
                }
            }
            Self::Program(program) => program.retire(),
        }
    }
}

impl Room {
    /// The instances of this revision, which is Wasm; the first call of a new one changes pools.
    pub(crate) fn instances(&self, revision: &Arc<Revision>, runtime: &Runtime) -> Arc<Instances> {
        if let Pool::Wasm(instances) = &**self.pool.load()
            && Arc::ptr_eq(instances.plan.revision(), revision)
        {
            return Arc::clone(instances);
        }
        let instances = Instances::new(runtime.plan(Arc::clone(revision)), &self.shelf);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // A call that was resolved before the function became a program still runs, but changes nothing.
        let is_older = |pool: &Pool| matches!(pool, Pool::Program(program) if program.revision().number > revision.number);
        if !is_older(&self.pool.load()) {
            self.pool.swap(Arc::new(Pool::Wasm(Arc::clone(&instances)))).let_go();
        }
        instances
    }

    /// The program of the function at its current revision, `None` if that is none; a new revision takes over from the one before.
    ///
    /// A call may come with an older revision than the current one: the current one serves it.
    pub(crate) fn program(&self, current: &Arc<Revision>, starts: &Starts<'_>) -> Option<Arc<Program>> {
        if matches!(current.code, Code::Wasm(_)) {
            return None;
        }
        if let Some(program) = self.program_at(current) {
            return Some(program);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been first.
        Some(self.program_at(current).unwrap_or_else(|| self.change(current, starts)))
    }

    /// Starts the program anew at the revision that it has, because its secrets changed.
    pub(crate) fn renew(&self, current: &Arc<Revision>, starts: &Starts<'_>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(current, starts);
    }

    /// Keeps the minimum of a program here, or leaves it to another server.
    fn keep(&self, is_kept: bool) {
        // A fleet that is being made asked before, or asks behind us.
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Pool::Program(program) = &**self.pool.load() {
            program.keep(is_kept);
        }
    }

    /// The program of the function, if it is at this revision.
    pub(crate) fn program_at(&self, current: &Arc<Revision>) -> Option<Arc<Program>> {
        match &**self.pool.load() {
            Pool::Program(program) if Arc::ptr_eq(program.revision(), current) => Some(Arc::clone(program)),
            _ => None,
        }
    }

    fn change(&self, current: &Arc<Revision>, starts: &Starts<'_>) -> Arc<Program> {
        let fleet = starts.fleet(current, &self.metrics);
        let before = self.pool.load_full();
        let next = match &*before {
            Pool::Program(program) => program.next(Arc::clone(current), fleet),
            Pool::Wasm(_) => Program::first(Arc::clone(current), fleet),
        };
        self.pool.store(Arc::new(Pool::Program(Arc::clone(&next))));
        if let Pool::Wasm(_) = &*before {
            before.let_go();
        }
        next
    }

    /// The pool as it is, whichever revision it is of.
    pub(crate) fn current_pool(&self) -> Arc<Pool> {
        self.pool.load_full()
    }

    /// Lets go of everything, because the function was removed or the server stops.
    pub(crate) fn close(&self) {
        self.pool.load().let_go();
    }
}

/// What programs are started with.
#[derive(Debug)]
pub(crate) struct Starts<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) house: &'a Arc<House<Launcher>>,
    keepers: &'a ArcSwap<Keepers>,
}

impl Starts<'_> {
    fn fleet(
        &self,
        revision: &Arc<Revision>,
        metrics: &Arc<FunctionMetrics>,
    ) -> crate::fleet::Fleet<Launcher> {
        program::fleet(self.runtime, revision, metrics, self.house, &self.keepers.load())
    }
}

/// The rooms of all functions that were called.
#[derive(Debug)]
pub(crate) struct Rooms {
    // Std lock: held for one look-up or insertion, never over an await.
    rooms: RwLock<foldhash::HashMap<FunctionRef, Arc<Room>>>,
    shelf: Arc<Shelf<Instance>>,
    house: Arc<House<Launcher>>,
    keepers: ArcSwap<Keepers>,
}

impl Rooms {
    /// Rooms in which so many instances may wait, of all functions together.
    pub(crate) fn new(idle: u32) -> Self {
        Self {
            rooms: RwLock::default(),
            shelf: Shelf::new(idle),
            house: House::new(PROGRAM_INSTANCES_MAX),
            keepers: ArcSwap::default(),
        }
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
            let metrics = metrics.function(function);
            let pool = match revision.code {
                Code::Wasm(_) => Pool::Wasm(Instances::new(runtime.plan(Arc::clone(revision)), &self.shelf)),
                Code::Bundle(_) | Code::Image { .. } => {
                    let fleet = self.starts(runtime).fleet(revision, &metrics);
                    Pool::Program(Program::first(Arc::clone(revision), fleet))
                }
            };
            Arc::new(Room {
                gate: Arc::default(),
                metrics,
                shelf: Arc::clone(&self.shelf),
                pool: ArcSwap::from_pointee(pool),
                changing: Mutex::default(),
            })
        });
        Arc::clone(room)
    }

    /// What programs are started with.
    pub(crate) fn starts<'a>(&'a self, runtime: &'a Runtime) -> Starts<'a> {
        Starts { runtime, house: &self.house, keepers: &self.keepers }
    }

    /// Takes other servers into account than before; `false` if they are the same.
    pub(crate) fn keep_among(&self, keepers: Keepers) -> bool {
        if **self.keepers.load() == keepers {
            return false;
        }
        self.keepers.store(Arc::new(keepers));
        // Behind that: a room that is made meanwhile is in the list, or knows of them by itself.
        let rooms = self.rooms.read().unwrap_or_else(PoisonError::into_inner).clone();
        rooms.iter().for_each(|(function, room)| room.keep(self.keeps(function)));
        true
    }

    /// Whether this server keeps the minimum of a function.
    pub(crate) fn keeps(&self, function: &FunctionRef) -> bool {
        self.keepers.load().has(function)
    }

    /// Where the instances of all programs live.
    pub(crate) fn house(&self) -> &House<Launcher> {
        &self.house
    }

    /// All rooms.
    pub(crate) fn all(&self) -> Vec<Arc<Room>> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
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
