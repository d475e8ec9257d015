//! Instances that wait for a call: few for each revision, and not many for the whole server.
//! When the server has as many as it may, a revision that was not called of late gives its own up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Calls of all functions between two of one, for each place of a full shelf, beyond which the second finds nothing that waited.
///
/// More than one, because most of those calls are of few functions, which take few places.
const CALLS_BETWEEN_PER_PLACE_MAX: u64 = 4;

/// What waits of one revision, on a shelf that all share.
#[derive(Debug)]
pub(crate) struct Idle<T> {
    shelf: Arc<Shelf<T>>,
    /// Each takes one of the shelf's places.
    // Std mutex: held for one push or pop, never over an await.
    waiting: Mutex<Vec<T>>,
    /// Whether it was called since the shelf last looked for room.
    called: AtomicBool,
    /// Whether it stands in the shelf's queue.
    queued: AtomicBool,
    /// When it was called last, on the shelf's count of calls.
    last_call: AtomicU64,
}

/// The bound on what waits, of all revisions together.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    places_max: usize,
    /// Places that nothing takes.
    free: AtomicUsize,
    /// Calls of all revisions so far.
    calls: AtomicU64,
    /// Those who may have something on the shelf, in the order of a clock: the first is asked first to make room.
    // Std mutex: held to turn the clock, and then `Idle::waiting` within it, never the reverse.
    queue: Mutex<VecDeque<Weak<Idle<T>>>>,
}

impl<T> Shelf<T> {
    pub(crate) fn new(places: u32) -> Arc<Self> {
        let places_max = places as usize;
        Arc::new(Self {
            places_max,
            free: AtomicUsize::new(places_max),
            calls: AtomicU64::new(0),
            queue: Mutex::default(),
        })
    }

    /// What waits now, of all revisions.
    pub(crate) fn len(&self) -> usize {
        self.places_max - self.free.load(Ordering::Relaxed)
    }

    /// Takes a place, if one is free.
    fn take_place(&self) -> bool {
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1)).is_ok()
    }

    fn give_back(&self, places: usize) {
        self.free.fetch_add(places, Ordering::Relaxed);
    }

    /// What others give up for one who finds no place; theirs are free then.
    fn make_room(&self) -> Vec<T> {
        let mut queue = lock(&self.queue);
        // Twice round: the first turn only forgets who was called.
        for _ in 0..queue.len() * 2 {
            let Some(idle) = queue.pop_front().and_then(|idle| idle.upgrade()) else { continue };
            if idle.called.swap(false, Ordering::Relaxed) {
                queue.push_back(Arc::downgrade(&idle));
                continue;
            }
            idle.queued.store(false, Ordering::Relaxed);
            let given_up = idle.take_all();
            if !given_up.is_empty() {
                return given_up;
            }
        }
        Vec::new()
    }

    fn enqueue(&self, idle: &Arc<Idle<T>>) {
        if idle.queued.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut queue = lock(&self.queue);
        // Revisions that are gone stay in the queue until it is long.
        if queue.len() >= self.places_max * 4 {
            queue.retain(|idle| idle.strong_count() > 0);
        }
        queue.push_back(Arc::downgrade(idle));
    }
}

impl<T> Idle<T> {
    pub(crate) fn on(shelf: &Arc<Shelf<T>>) -> Arc<Self> {
        Arc::new(Self {
            shelf: Arc::clone(shelf),
            waiting: Mutex::default(),
            called: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            last_call: AtomicU64::new(0),
        })
    }

    /// Counts a call, and says whether an instance that is made ahead now is likely to be there still for the next.
    ///
    /// Among thousands of functions most are called so seldom that others would take its place first, and making it was in vain.
    pub(crate) fn expects_another(&self) -> bool {
        let now = self.shelf.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.last_call.swap(now, Ordering::Relaxed);
        let far = self.shelf.places_max as u64 * CALLS_BETWEEN_PER_PLACE_MAX;
        self.shelf.free.load(Ordering::Relaxed) > 0 || now.saturating_sub(before) <= far
    }

    /// One that waits, the one used last first: its memory is warm.
    pub(crate) fn take(&self) -> Option<T> {
        if !self.called.load(Ordering::Relaxed) {
            self.called.store(true, Ordering::Relaxed);
        }
        let one = lock(&self.waiting).pop()?;
        self.shelf.give_back(1);
        Some(one)
    }

    /// Keeps one for the next call; what there is no room for comes back, to be dropped.
    pub(crate) fn keep(self: &Arc<Self>, one: T) -> Vec<T> {
        let mut given_up = Vec::new();
        let has_place = self.shelf.take_place() || {
            given_up = self.shelf.make_room();
            self.shelf.take_place()
        };
        if has_place {
            lock(&self.waiting).push(one);
            self.shelf.enqueue(self);
        } else {
            given_up.push(one);
        }
        given_up
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Takes all that wait.
    pub(crate) fn take_all(&self) -> Vec<T> {
        let all = std::mem::take(&mut *lock(&self.waiting));
        self.shelf.give_back(all.len());
        all
    }
}

impl<T> Drop for Idle<T> {
    fn drop(&mut self) {
        // Those that wait give their slots back before their places go.
        let all = std::mem::take(self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner));
        let places = all.len();
        drop(all);
        self.shelf.give_back(places);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_last_serves_next() {
        let idle = Idle::on(&Shelf::new(4));
        assert!(idle.keep(1).is_empty());
        assert!(idle.keep(2).is_empty());
        assert_eq!((idle.take(), idle.take(), idle.take()), (Some(2), Some(1), None));
    }

    #[test]
    fn a_full_shelf_takes_from_who_was_not_called() {
        let shelf = Shelf::new(2);
        let (cold, hot, new) = (Idle::on(&shelf), Idle::on(&shelf), Idle::on(&shelf));
        assert!(hot.keep(1).is_empty());
        assert!(cold.keep(2).is_empty());
        assert_eq!(hot.take(), Some(1));
        assert!(hot.keep(3).is_empty());
        assert_eq!(new.keep(4), [2]);
        assert_eq!((hot.len(), cold.len(), new.len(), shelf.len()), (1, 0, 1, 2));
    }

    #[test]
    fn on_a_full_shelf_only_who_is_called_often_gets_another() {
        let shelf = Shelf::new(2);
        let (often, seldom) = (Idle::on(&shelf), Idle::on(&shelf));
        assert!(seldom.expects_another(), "there is room");
        assert!(often.keep(1).is_empty() && often.keep(2).is_empty());
        for _ in 0..100 {
            assert!(often.expects_another());
        }
        assert!(!seldom.expects_another());
        assert!(seldom.expects_another(), "it was called a moment ago");
    }

    #[test]
    fn what_finds_no_place_comes_back() {
        let shelf = Shelf::new(0);
        assert_eq!(Idle::on(&shelf).keep(1), [1]);
    }

    #[test]
    fn revisions_that_are_gone_leave_neither_places_nor_an_ever_longer_queue() {
        let shelf = Shelf::new(2);
        for number in 0..1_000 {
            assert!(Idle::on(&shelf).keep(number).is_empty());
        }
        assert_eq!(shelf.len(), 0);
        assert!(lock(&shelf.queue).len() <= 8);
    }

    #[test]
    fn threads_that_share_a_shelf_lose_no_place() {
        let shelf = Shelf::new(2);
        let all: Vec<_> = (0..3).map(|_| Idle::on(&shelf)).collect();
        std::thread::scope(|scope| {
            for idle in &all {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        drop(idle.keep(()));
                        idle.take();
                    }
                });
            }
        });
        assert_eq!(shelf.len(), all.iter().map(|idle| idle.len()).sum::<usize>());
        drop(all);
        assert_eq!(
            (shelf.len(), shelf.take_place(), shelf.take_place(), shelf.take_place()),
            (0, true, true, false)
        );
    }

    proptest::proptest! {
        #[test]
        fn there_are_never_more_than_places_and_none_is_lost(
            places in 0_u32..5,
            steps in proptest::collection::vec((0_usize..6, 0_u8..8), 1..200),
        ) {
            let shelf = Shelf::new(places);
            let mut all: Vec<_> = (0..6).map(|_| Idle::on(&shelf)).collect();
            let mut held = 0_usize;
            for (who, step) in steps {
                match step {
                    0..4 => {
                        held += 1;
                        held -= all[who].keep(()).len();
                    }
                    4..6 => held -= usize::from(all[who].take().is_some()),
                    6 => held -= all[who].take_all().len(),
                    _ => {
                        held -= all[who].len();
                        all[who] = Idle::on(&shelf);
                    }
                }
                let waiting: usize = all.iter().map(|idle| idle.len()).sum();
                proptest::prop_assert_eq!(waiting, held);
                proptest::prop_assert_eq!(shelf.len(), held);
                proptest::prop_assert!(held <= places as usize);
            }
        }
    }
}
