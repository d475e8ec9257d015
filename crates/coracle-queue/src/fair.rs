//! Whose call is next: deficit round robin, first over namespaces and then over the lanes of one.
//! Pure: the worker says which lanes have something to start, and what starting it costs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// What a lane may spend each time it has its turn, and a namespace too; an ordinary call costs 1.
pub(crate) const QUANTUM: u32 = 4;

/// Bytes of a call that cost as much again as the call itself.
const BYTES_PER_COST: usize = 64 << 10;

/// What it costs to start a call of so many bytes.
pub(crate) fn cost_of(bytes: usize) -> u32 {
    u32::try_from(bytes / BYTES_PER_COST).unwrap_or(u32::MAX - 1) + 1
}

/// The lanes that have something to start, each in the room of its namespace.
#[derive(Debug)]
pub(crate) struct Fair<R, L> {
    rooms: Ring<R>,
    lanes: HashMap<R, Ring<L>>,
}

impl<R: Clone + Eq + Hash, L: Clone + Eq + Hash> Fair<R, L> {
    pub(crate) fn new() -> Self {
        Self { rooms: Ring::default(), lanes: HashMap::new() }
    }

    /// The lane has something to start; one that is here already keeps its place.
    pub(crate) fn enter(&mut self, room: &R, lane: &L) {
        self.rooms.enter(room);
        self.lanes.entry(room.clone()).or_default().enter(lane);
    }

    /// The lane that is next, given what its next call costs; one that has nothing to start leaves.
    pub(crate) fn next(&mut self, mut cost: impl FnMut(&L) -> Option<u32>) -> Option<L> {
        loop {
            let room = self.rooms.first()?.clone();
            let lanes = self.lanes.entry(room).or_default();
            let Some((lane, cost)) = lanes.choose(&mut cost) else {
                if let Some(gone) = self.rooms.leave() {
                    self.lanes.remove(&gone);
                }
                continue;
            };
            // A room that cannot pay yet keeps its lane's turn for when it can.
            if self.rooms.pay(cost) {
                lanes.pay(cost);
                return Some(lane);
            }
        }
    }

    /// How many lanes have something to start.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.lanes.values().map(|ring| ring.turns.len()).sum()
    }
}

/// Those who take turns, and what each may still spend; who leaves loses it.
#[derive(Debug)]
struct Ring<T> {
    turns: VecDeque<Turn<T>>,
    here: HashSet<T>,
}

#[derive(Debug)]
struct Turn<T> {
    who: T,
    deficit: u32,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), here: HashSet::new() }
    }
}

impl<T: Clone + Eq + Hash> Ring<T> {
    fn enter(&mut self, who: &T) {
        if self.here.insert(who.clone()) {
            self.turns.push_back(Turn { who: who.clone(), deficit: QUANTUM });
        }
    }

    fn first(&self) -> Option<&T> {
        self.turns.front().map(|turn| &turn.who)
    }

    fn leave(&mut self) -> Option<T> {
        let turn = self.turns.pop_front()?;
        self.here.remove(&turn.who);
        Some(turn.who)
    }

    /// The first one that has something and can pay for it, with what it costs; each that cannot yet has its turn later.
    fn choose(&mut self, cost: &mut impl FnMut(&T) -> Option<u32>) -> Option<(T, u32)> {
        loop {
            let turn = self.turns.front()?;
            match cost(&turn.who) {
                None => drop(self.leave()),
                Some(cost) if cost <= turn.deficit => return Some((turn.who.clone(), cost)),
                Some(_) => self.turn_over(),
            }
        }
    }

    /// Has the first one pay if it can; else the next one is first.
    fn pay(&mut self, cost: u32) -> bool {
        let Some(turn) = self.turns.front_mut() else { return false };
        match turn.deficit.checked_sub(cost) {
            Some(left) => {
                turn.deficit = left;
                true
            }
            None => {
                self.turn_over();
                false
            }
        }
    }

    fn turn_over(&mut self) {
        if let Some(mut turn) = self.turns.pop_front() {
            turn.deficit = turn.deficit.saturating_add(QUANTUM);
            self.turns.push_back(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Starts so many calls of lanes that never run dry, each of its cost, and says how often each was next.
    fn started(lanes: &[(&'static str, &'static str, u32)], starts: usize) -> BTreeMap<&'static str, u32> {
        let mut fair = Fair::new();
        let costs: HashMap<_, _> = lanes.iter().map(|(_, lane, cost)| (*lane, *cost)).collect();
        for (room, lane, _) in lanes {
            fair.enter(room, lane);
        }
        let mut counts = BTreeMap::new();
        for _ in 0..starts {
            *counts.entry(fair.next(|lane| costs.get(lane).copied()).unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn lanes_of_one_namespace_share_alike() {
        assert_eq!(started(&[("a", "x", 1), ("a", "y", 1)], 800), [("x", 400), ("y", 400)].into());
    }

    #[test]
    fn a_namespace_has_no_more_for_having_more_lanes() {
        let lanes = [("a", "x", 1), ("b", "1", 1), ("b", "2", 1), ("b", "3", 1), ("b", "4", 1)];
        let counts = started(&lanes, 800);
        assert_eq!(counts["x"], 400);
        assert!(["1", "2", "3", "4"].iter().all(|lane| counts[lane] == 100), "{counts:?}");
    }

    #[test]
    fn large_calls_have_fewer_turns() {
        let counts = started(&[("a", "small", 1), ("a", "large", 100)], 1_010);
        assert_eq!(counts["large"], 10);
    }

    #[test]
    fn one_that_comes_has_its_turn_soon() {
        let mut fair = Fair::new();
        (0..50).for_each(|lane| fair.enter(&"noisy", &lane));
        (0..777).for_each(|_| assert!(fair.next(|_| Some(1)).is_some()));
        fair.enter(&"quiet", &100);
        let before = (0..).take_while(|_| fair.next(|_| Some(1)) != Some(100)).count();
        assert!(before <= QUANTUM as usize, "{before}");
    }

    #[test]
    fn a_lane_without_calls_leaves_and_comes_back() {
        let mut fair = Fair::new();
        fair.enter(&"a", &"x");
        assert_eq!(fair.next(|_| None), None);
        assert_eq!(fair.len(), 0);
        fair.enter(&"a", &"x");
        fair.enter(&"a", &"x");
        assert_eq!(fair.next(|_| Some(1)), Some("x"));
        assert_eq!(fair.len(), 1);
    }

    #[test]
    fn a_call_costs_by_its_bytes() {
        assert_eq!([0, 1, 65_535, 65_536, 6 << 20].map(cost_of), [1, 1, 1, 2, 97]);
    }

    proptest! {
        #[test]
        fn every_call_is_started_once_and_no_lane_falls_behind_by_more_than_a_few_turns(
            lanes in proptest::collection::vec((0u8..3, 1u32..30, 1u32..100), 1..8)
        ) {
            let mut fair = Fair::new();
            let mut left: HashMap<usize, u32> = HashMap::new();
            for (lane, (room, calls, _)) in lanes.iter().enumerate() {
                fair.enter(room, &lane);
                left.insert(lane, *calls);
            }
            let mut spent = vec![0u32; lanes.len()];
            while let Some(lane) = fair.next(|lane| (left[lane] > 0).then(|| lanes[*lane].2)) {
                *left.get_mut(&lane).unwrap() -= 1;
                spent[lane] += lanes[lane].2;
                // Whoever still has calls has spent about as much as its neighbours of the same room.
                for (other, (room, _, _)) in lanes.iter().enumerate() {
                    if *room == lanes[lane].0 && left[&other] > 0 && left[&lane] > 0 {
                        let slack = QUANTUM + lanes.iter().map(|lane| lane.2).max().unwrap_or(0);
                        prop_assert!(spent[other] + 2 * slack >= spent[lane], "{spent:?}");
                    }
                }
            }
            prop_assert!(left.values().all(|left| *left == 0));
            prop_assert_eq!(fair.len(), 0);
        }
    }
}
