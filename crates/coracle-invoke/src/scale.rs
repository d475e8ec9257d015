//! How many instances a program should have: decided from numbers alone, by the calls that come.
//! The fleet asks here whenever a call comes or goes or an instance does, and acts on the answer.

use std::time::Duration;

use coracle_model::Scale;
use tokio::time::Instant;

/// What a fleet is asked to carry, and has to carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    /// Calls that run in instances which take more of them.
    pub(crate) in_flight: u32,
    /// Calls that wait for an instance.
    pub(crate) waiting: u32,
    /// Instances that take calls, frozen ones too.
    pub(crate) ready: u32,
    /// Instances that will.
    pub(crate) starting: u32,
    /// The most calls at once of late.
    pub(crate) recent: u32,
}

impl Load {
    /// Calls at once, now.
    pub(crate) fn calls(&self) -> u32 {
        self.in_flight.saturating_add(self.waiting)
    }

    fn running(&self) -> u32 {
        self.ready.saturating_add(self.starting)
    }
}

/// Instances that run without a call: what was asked for in place of the minimum, and what somebody waits for; none is none.
pub(crate) fn floor(min: u32, asked: Option<u32>, held: u32) -> u32 {
    match asked {
        Some(0) => 0,
        asked => asked.unwrap_or(min).max(held),
    }
}

/// Instances that the calls of this moment need.
pub(crate) fn wanted(load: &Load, scale: &Scale) -> u32 {
    within(load.calls(), scale)
}

/// Instances that calls are spread over, and that are worth keeping: the recent maximum, so that a short lull costs no start.
pub(crate) fn kept(load: &Load, scale: &Scale) -> u32 {
    within(load.calls().max(load.recent), scale)
}

/// Instances to start now, so that there are as many as wanted once all have started.
pub(crate) fn to_start(load: &Load, scale: &Scale) -> u32 {
    wanted(load, scale).saturating_sub(load.running())
}

/// Whether an instance that went away in the midst of calls is replaced before a call has to wait for it.
pub(crate) fn replaces(load: &Load, scale: &Scale) -> bool {
    load.running() < kept(load, scale)
}

/// Whether an instance that was idle for long enough may go.
pub(crate) fn may_stop(load: &Load, scale: &Scale) -> bool {
    load.ready > kept(load, scale)
}

fn within(calls: u32, scale: &Scale) -> u32 {
    // A minimum over the maximum is refused at deploy; if it came here all the same, the maximum would hold.
    calls.div_ceil(scale.target.max(1)).max(scale.min).min(scale.max)
}

/// The most calls at once within the last while, in slices: no timer, and no list of calls.
#[derive(Debug)]
pub(crate) struct Recent {
    slice_ms: u64,
    begun: Instant,
    /// The slice that was noted in last, counted from the beginning.
    last: u64,
    /// When that slice ends.
    ends: Instant,
    highest: [u32; SLICES],
    level: u32,
}

/// Parts that the while is cut into; the oldest is forgotten as a whole.
const SLICES: usize = 6;

impl Recent {
    /// Remembers the maximum for about so long.
    pub(crate) fn new(window: Duration, now: Instant) -> Self {
        let slice_ms = ((window / SLICES as u32).as_millis() as u64).max(1);
        let ends = now + Duration::from_millis(slice_ms);
        Self { slice_ms, begun: now, last: 0, ends, highest: [0; SLICES], level: 0 }
    }

    /// Notes that there are so many calls from now on.
    pub(crate) fn note(&mut self, calls: u32, now: Instant) {
        self.turn(now);
        self.level = calls;
        let slice = &mut self.highest[self.last as usize % SLICES];
        *slice = (*slice).max(calls);
    }

    /// The most calls at once of late, those of now among them.
    pub(crate) fn highest(&mut self, now: Instant) -> u32 {
        self.turn(now);
        self.highest.iter().copied().max().unwrap_or(0)
    }

    fn turn(&mut self, now: Instant) {
        // Asked several times for each call, and nearly always within the same slice.
        if now < self.ends {
            return;
        }
        let elapsed_ms = now.saturating_duration_since(self.begun).as_millis();
        let current = (elapsed_ms / u128::from(self.slice_ms)) as u64;
        // The level held on through every slice in which nothing was noted.
        for passed in (self.last + 1..=current).take(SLICES) {
            self.highest[passed as usize % SLICES] = self.level;
        }
        if current > self.last {
            // After a long silence the loop stopped early, but has written all slices there are.
            self.last = current;
            self.ends = self.begun + Duration::from_millis((current + 1) * self.slice_ms);
            self.highest[current as usize % SLICES] = self.level;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scale(min: u32, max: u32, target: u32) -> Scale {
        Scale { min, max, target, idle: Duration::from_secs(300), ..Scale::default() }
    }

    fn load(in_flight: u32, waiting: u32, ready: u32, starting: u32) -> Load {
        Load { in_flight, waiting, ready, starting, recent: 0 }
    }

    #[test]
    fn calls_that_wait_start_what_the_target_asks_for() {
        let scale = scale(0, 20, 10);
        for (what, load, starts) in [
            ("nothing to do", load(0, 0, 0, 0), 0),
            ("the first call", load(0, 1, 0, 0), 1),
            ("the second, while the first one's starts", load(0, 2, 0, 1), 0),
            ("twenty at once", load(0, 20, 0, 0), 2),
            ("one more than two can take", load(0, 21, 0, 2), 1),
            ("all are full", load(20, 1, 2, 0), 1),
            ("none is full", load(15, 0, 2, 0), 0),
            ("more than there may be", load(200, 500, 20, 0), 0),
            ("up to the bound", load(180, 500, 18, 1), 1),
        ] {
            assert_eq!(to_start(&load, &scale), starts, "{what}");
        }
    }

    #[test]
    fn what_was_asked_for_takes_the_place_of_the_minimum() {
        // The minimum, what was asked for, what somebody waits for, and what runs.
        let table = [
            (2, None, 0, 2),
            (0, None, 1, 1),
            (2, Some(1), 0, 1),
            (2, Some(5), 1, 5),
            (0, Some(1), 3, 3),
            (2, Some(0), 0, 0),
            (2, Some(0), 1, 0),
        ];
        for (min, asked, held, runs) in table {
            assert_eq!(floor(min, asked, held), runs, "{min} {asked:?} {held}");
        }
    }

    #[test]
    fn the_minimum_runs_without_a_call() {
        assert_eq!(to_start(&load(0, 0, 0, 0), &scale(2, 20, 10)), 2);
        assert_eq!(to_start(&load(0, 0, 1, 1), &scale(2, 20, 10)), 0);
    }

    #[test]
    fn the_recent_maximum_is_kept_and_does_not_start_any() {
        let (scale, busy) = (scale(0, 20, 10), Load { recent: 35, ..load(3, 0, 4, 0) });
        assert_eq!((wanted(&busy, &scale), kept(&busy, &scale), to_start(&busy, &scale)), (1, 4, 0));
        assert!(!may_stop(&busy, &scale));
        assert!(may_stop(&Load { recent: 30, ..busy }, &scale));
        assert!(replaces(&Load { ready: 3, ..busy }, &scale));
    }

    #[test]
    fn a_maximum_is_forgotten_after_its_while_and_not_before() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut recent = Recent::new(Duration::from_secs(60), begun);
        recent.note(30, at(5));
        recent.note(2, at(6));
        assert_eq!([30, 50, 59].map(|seconds| recent.highest(at(seconds))), [30; 3]);
        assert_eq!(recent.highest(at(66)), 2);
        recent.note(0, at(67));
        assert_eq!(recent.highest(at(3_600)), 0);
    }

    #[test]
    fn what_held_on_through_a_slice_was_there_in_it() {
        let begun = Instant::now();
        let mut recent = Recent::new(Duration::from_secs(60), begun);
        recent.note(9, begun);
        recent.note(1, begun + Duration::from_secs(600));
        assert_eq!(recent.highest(begun + Duration::from_secs(630)), 9);
        assert_eq!(recent.highest(begun + Duration::from_secs(670)), 1);
    }

    proptest! {
        #[test]
        fn never_above_the_maximum_nor_below_the_minimum(
            (min, more) in (0_u32..50, 0_u32..50),
            target in 1_u32..100,
            in_flight in 0_u32..10_000, waiting in 0_u32..10_000,
            ready in 0_u32..100, starting in 0_u32..100, recent in 0_u32..20_000,
        ) {
            let scale = scale(min, min + more, target);
            let load = Load { in_flight, waiting, ready, starting, recent };
            let (wanted, kept, starts) = (wanted(&load, &scale), kept(&load, &scale), to_start(&load, &scale));
            prop_assert!(wanted >= scale.min && wanted <= scale.max && kept >= wanted && kept <= scale.max);
            prop_assert!(starts == 0 || ready + starting + starts <= scale.max);
            prop_assert!(ready + starting + starts >= scale.min);
            // Enough for all calls, unless the maximum forbids it; and not one instance more than that.
            prop_assert!(wanted == scale.max || wanted * target >= load.calls());
            prop_assert!(wanted == scale.min || (wanted - 1) * target < load.calls());
        }

        #[test]
        fn a_recent_maximum_is_that_of_a_list_but_for_a_slice(
            steps in prop::collection::vec((0_u64..40, 0_u32..50), 1..60),
        ) {
            let begun = Instant::now();
            let mut recent = Recent::new(Duration::from_secs(60), begun);
            let (mut seconds, mut list) = (0, vec![(0, 0)]);
            for (after, calls) in steps {
                seconds += after;
                recent.note(calls, begun + Duration::from_secs(seconds));
                list.push((seconds, calls));
                // What holds at a moment is what was noted last before it, so each entry lasts until the next.
                let since = |window: u64| {
                    let ends = list.iter().skip(1).map(|(end, _)| *end).chain([u64::MAX]);
                    list.iter().zip(ends).filter(|(_, end)| end.saturating_add(window) > seconds).map(|((_, calls), _)| *calls).max()
                };
                let highest = recent.highest(begun + Duration::from_secs(seconds));
                prop_assert!(Some(highest) >= since(50) && Some(highest) <= since(61).max(Some(0)));
            }
        }
    }
}
