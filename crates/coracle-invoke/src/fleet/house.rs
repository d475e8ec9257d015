//! The bound on instances of programs of the whole server, and who gives one up when it is reached.
//! Every fleet of the server shares one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use coracle_model::{Problem, code};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::fleet::Inner;
use crate::fleet::member::Start;

/// Instances of programs at once, of all functions together.
pub(crate) const PROGRAM_INSTANCES_MAX: u32 = 1_000;
/// How often somebody is asked to make room before the server is called busy: who was asked may have got a call just then.
const ASKED_MAX: usize = 3;

/// Where all fleets live.
pub(crate) struct House<S: Start> {
    places: Arc<Semaphore>,
    places_max: u32,
    leases: AtomicU64,
    // Std mutex: held to add one or to copy the list, never with a fleet's own.
    fleets: Mutex<Vec<Weak<Inner<S>>>>,
}

impl<S: Start> House<S> {
    /// A house for so many instances.
    pub(crate) fn new(places: u32) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places as usize)),
            places_max: places,
            leases: AtomicU64::new(0),
            fleets: Mutex::default(),
        })
    }

    /// Instances that exist, of all fleets.
    pub(crate) fn instances(&self) -> u64 {
        u64::from(self.places_max) - self.places.available_permits() as u64
    }

    /// Those of them that serve no call.
    pub(crate) fn idle(&self) -> usize {
        let idle = |fleet: &Arc<Inner<S>>| {
            let counts = fleet.lock().counts(Instant::now());
            (counts.ready + counts.frozen) as usize
        };
        self.fleets().iter().map(idle).sum()
    }

    /// Calls that instances serve.
    pub(crate) fn leases(&self) -> u64 {
        self.leases.load(Ordering::Relaxed)
    }

    /// A place for one more instance; when all are taken, that of the instance which was not called for longest.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, Box<Problem>> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        if (0..ASKED_MAX).any(|_| self.make_room()) {
            // It comes when that instance is gone. The semaphore is never closed.
            if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
                return Ok(place);
            }
        }
        Err(Box::new(self.full()))
    }

    pub(super) fn register(&self, fleet: &Arc<Inner<S>>) {
        let mut fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        fleets.retain(|fleet| fleet.strong_count() > 0);
        fleets.push(Arc::downgrade(fleet));
    }

    pub(super) fn one_more_lease(&self) {
        self.leases.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn one_lease_less(&self) {
        self.leases.fetch_sub(1, Ordering::Relaxed);
    }

    fn make_room(&self) -> bool {
        let idle = |fleet: Arc<Inner<S>>| {
            let since = fleet.lock().longest_idle()?.0;
            Some((since, fleet))
        };
        let longest = self.fleets().into_iter().filter_map(idle).min_by_key(|(since, _)| *since);
        longest.is_some_and(|(_, fleet)| fleet.give_one_up())
    }

    fn fleets(&self) -> Vec<Arc<Inner<S>>> {
        let fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        fleets.iter().filter_map(Weak::upgrade).collect()
    }

    fn full(&self) -> Problem {
        Problem::new(
            &code::SERVER_BUSY,
            format!("the server runs {} instances of programs, and may not run more", self.places_max),
        )
        .hint("try again later, or lower `min` of functions that need not always run")
        .retry_after(1)
    }
}

impl<S: Start> Inner<S> {
    /// Stops the instance that was idle for longest; `false` when there is none that may be.
    fn give_one_up(self: &Arc<Self>) -> bool {
        self.act_with(|state, _, steps| {
            let Some((_, number)) = state.longest_idle() else { return false };
            let Some(dismissed) = state.dismiss(number) else { return false };
            steps.push(super::Step::Dismiss(dismissed));
            true
        })
    }
}

impl<S: Start> std::fmt::Debug for House<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("House").field("instances", &self.instances()).finish_non_exhaustive()
    }
}
