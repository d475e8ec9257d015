//! The two clocks: the machine's, and one that tests move by hand.
//! The binary makes one of them at start and hands it to everybody who needs the time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use coracle_model::Clock;
use jiff::{SignedDuration, Timestamp};

/// The time of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A time that stands still until somebody moves it.
#[derive(Debug)]
pub struct Simulated {
    // Std mutex: held for a few additions, never over an await.
    time: Mutex<Time>,
}

#[derive(Debug, Clone, Copy)]
struct Time {
    now: Timestamp,
    instant: Instant,
}

impl Simulated {
    /// A clock that stands at `now`.
    #[expect(
        clippy::disallowed_methods,
        reason = "an `Instant` has no zero to start from; only differences are ever seen"
    )]
    pub fn new(now: Timestamp) -> Self {
        Self { time: Mutex::new(Time { now, instant: Instant::now() }) }
    }

    /// Lets time pass, for both faces of the clock.
    pub fn advance(&self, by: Duration) {
        self.change(|time| {
            let by_signed = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
            time.now = time.now.checked_add(by_signed).unwrap_or(Timestamp::MAX);
            time.instant += by;
        });
    }

    /// Sets the time of day, as an administrator or NTP would: the monotonic instant does not move.
    pub fn set(&self, now: Timestamp) {
        self.change(|time| time.now = now);
    }

    fn change(&self, change: impl FnOnce(&mut Time)) {
        change(&mut self.time.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn time(&self) -> Time {
        *self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Simulated {
    /// The beginning of 1970.
    fn default() -> Self {
        Self::new(Timestamp::UNIX_EPOCH)
    }
}

impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        self.time().now
    }

    fn instant(&self) -> Instant {
        self.time().instant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_stands_still_until_it_is_moved() {
        let clock = Simulated::default();
        let (now, instant) = (clock.now(), clock.instant());
        assert_eq!((clock.now(), clock.instant()), (now, instant));
        clock.advance(Duration::from_secs(3));
        assert_eq!(clock.now().duration_since(now), SignedDuration::from_secs(3));
        assert_eq!(clock.instant() - instant, Duration::from_secs(3));
    }

    #[test]
    fn setting_the_time_of_day_does_not_move_the_instant() {
        let clock = Simulated::default();
        let instant = clock.instant();
        let later = Timestamp::from_second(1_700_000_000).expect("a time");
        clock.set(later);
        assert_eq!((clock.now(), clock.instant()), (later, instant));
    }

    #[test]
    fn the_clock_of_the_machine_never_runs_backwards() {
        let first = System.instant();
        assert!(System.instant() >= first);
        assert!(System.now() > Timestamp::from_second(1_700_000_000).expect("a time"));
    }
}
