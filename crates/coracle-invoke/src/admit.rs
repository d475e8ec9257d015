//! Admission: how many calls of a function are in flight, how many wait, and who is next.
//! Bounds come with every question, because the next revision may have others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The door of one function.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    // Std mutex: held to count and to queue, never over an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: u32,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// What a call is told at the door.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Go in.
    Now(Place),
    /// Wait until the place comes.
    Later(oneshot::Receiver<Place>),
    /// As many wait as may.
    Full,
}

/// A place among the calls in flight; the next one gets it when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` once it is given up without having been taken.
    gate: Option<Arc<Gate>>,
    in_flight_max: u32,
}

impl Gate {
    /// Asks for a place.
    pub(crate) fn enter(self: &Arc<Self>, in_flight_max: u32, waiting_max: u32) -> Admission {
        let mut state = self.lock();
        if let Some(place) = self.place(&mut state, in_flight_max) {
            return Admission::Now(place);
        }
        // Those whose caller gave up do not count.
        if state.waiting.len() >= waiting_max as usize {
            state.waiting.retain(|waiting| !waiting.is_closed());
        }
        if state.waiting.len() >= waiting_max as usize {
            return Admission::Full;
        }
        let (call, place) = oneshot::channel();
        state.waiting.push_back(call);
        Admission::Later(place)
    }

    /// A place that is free. Whoever gets none by this may ask for one to come.
    pub(crate) fn enter_now(self: &Arc<Self>, in_flight_max: u32) -> Option<Place> {
        self.place(&mut self.lock(), in_flight_max)
    }

    fn place(self: &Arc<Self>, state: &mut State, in_flight_max: u32) -> Option<Place> {
        let is_free = state.in_flight < in_flight_max;
        state.in_flight += u32::from(is_free);
        is_free.then(|| Place { gate: Some(Arc::clone(self)), in_flight_max })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives places that are free to those who wait longest.
    fn leave(self: &Arc<Self>, in_flight_max: u32) {
        let mut state = self.lock();
        state.in_flight -= 1;
        while state.in_flight < in_flight_max {
            let Some(next) = state.waiting.pop_front() else { break };
            let place = Place { gate: Some(Arc::clone(self)), in_flight_max };
            match next.send(place) {
                Ok(()) => state.in_flight += 1,
                // Its caller gave up: the place was never taken, so it is not left either.
                Err(mut unwanted) => drop(unwanted.gate.take()),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.leave(self.in_flight_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(admission: Admission) -> Place {
        match admission {
            Admission::Now(place) => place,
            other => panic!("{other:?}"),
        }
    }

    fn later(admission: Admission) -> oneshot::Receiver<Place> {
        match admission {
            Admission::Later(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn beyond_its_places_a_gate_lets_wait_and_beyond_that_refuses() {
        let gate = Arc::new(Gate::default());
        let first = now(gate.enter(1, 2));
        let mut second = later(gate.enter(1, 2));
        let mut third = later(gate.enter(1, 2));
        assert!(matches!(gate.enter(1, 2), Admission::Full));
        assert!(second.try_recv().is_err());
        drop(first);
        let second = second.try_recv().unwrap();
        assert!(third.try_recv().is_err());
        drop(second);
        drop(third.try_recv().unwrap());
        drop(now(gate.enter(1, 0)));
    }

    #[test]
    fn a_call_that_gave_up_takes_no_place() {
        let gate = Arc::new(Gate::default());
        let first = now(gate.enter(1, 2));
        drop(later(gate.enter(1, 2)));
        let mut third = later(gate.enter(1, 2));
        drop(first);
        drop(third.try_recv().unwrap());
        assert_eq!(gate.lock().in_flight, 0);
    }

    #[test]
    fn those_who_gave_up_make_room_for_others_to_wait() {
        let gate = Arc::new(Gate::default());
        let _first = now(gate.enter(1, 1));
        drop(later(gate.enter(1, 1)));
        later(gate.enter(1, 1));
    }

    #[test]
    fn a_place_that_is_given_and_not_taken_up_goes_to_the_next() {
        let gate = Arc::new(Gate::default());
        let first = now(gate.enter(1, 2));
        let second = later(gate.enter(1, 2));
        let mut third = later(gate.enter(1, 2));
        drop(first);
        // The place is on its way to the second call, which goes away before it looks.
        drop(second);
        drop(third.try_recv().unwrap());
        assert_eq!(gate.lock().in_flight, 0);
    }

    #[test]
    fn a_greater_bound_lets_in_those_who_wait() {
        let gate = Arc::new(Gate::default());
        let first = now(gate.enter(1, 5));
        let mut waiting: Vec<_> = (0..3).map(|_| later(gate.enter(1, 5))).collect();
        let wider = now(gate.enter(2, 5));
        drop(wider);
        drop(first);
        assert!(waiting[0].try_recv().is_ok());
    }
}
