//! How many bytes of log a function may write in a second: a token bucket, pure.
//! The runtime keeps one per function and asks it before a line goes to the logs.

use std::time::{Duration, Instant};

const NANOS: u128 = 1_000_000_000;

/// A bucket of `burst` bytes that fills at `bytes_per_second`; it is full at first.
#[derive(Debug, Clone)]
pub struct RateLimit {
    bytes_per_second: u64,
    burst: u64,
    // In billionths of a byte, so that a trickle is not rounded away between two lines.
    missing: u128,
    filled_at: Option<Instant>,
    dry: bool,
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write it.
    Pass,
    /// Drop it.
    Drop {
        /// Whether this is the first of a dry spell: then say so in the log, once.
        first: bool,
    },
}

impl RateLimit {
    /// A full bucket; one of zero bytes drops everything but empty lines.
    pub fn new(bytes_per_second: u64, burst: u64) -> Self {
        Self { bytes_per_second, burst, missing: 0, filled_at: None, dry: false }
    }

    /// Takes what a line of `bytes` needs out of the bucket, if it is there.
    ///
    /// A dry spell is over when half of the burst is there again, not with the next line that happens to fit: a function that floods for an hour is told so once, not a thousand times a second.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Verdict {
        self.fill(now);
        let full = u128::from(self.burst) * NANOS;
        let wanted = u128::from(bytes) * NANOS;
        if self.missing + wanted <= full {
            self.missing += wanted;
            return Verdict::Pass;
        }
        let first = !self.dry;
        self.dry = true;
        Verdict::Drop { first }
    }

    fn fill(&mut self, now: Instant) {
        // An instant from before the last one (two threads, one bucket) fills nothing.
        let passed = self.filled_at.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        self.filled_at = Some(self.filled_at.map_or(now, |then| then.max(now)));
        let filled = passed.as_nanos().saturating_mul(u128::from(self.bytes_per_second));
        self.missing = self.missing.saturating_sub(filled);
        if filled > 0 && self.missing * 2 <= u128::from(self.burst) * NANOS {
            self.dry = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Drop, Pass};
    use super::*;
    use coracle_model::Clock;
    use proptest::prelude::*;

    /// Plays `(milliseconds since the start, bytes, verdict)` against a bucket of 100 bytes that fills at 10 bytes a second.
    fn check(steps: &[(u64, u64, Verdict)]) {
        let mut limit = RateLimit::new(10, 100);
        let start = crate::clock::Simulated::default().instant();
        for (row, &(at_ms, bytes, verdict)) in steps.iter().enumerate() {
            assert_eq!(limit.take(bytes, start + Duration::from_millis(at_ms)), verdict, "row {row}");
        }
    }

    #[test]
    fn a_burst_passes_and_the_byte_after_it_does_not() {
        check(&[(0, 60, Pass), (0, 40, Pass), (0, 1, Drop { first: true }), (0, 0, Pass)]);
    }

    #[test]
    fn the_bucket_fills_with_time_and_never_over_its_burst() {
        check(&[
            (0, 100, Pass),
            (999, 10, Drop { first: true }),
            (1000, 10, Pass),
            (1000, 1, Drop { first: false }),
            (3_600_000, 100, Pass),
            (3_600_000, 1, Drop { first: true }),
        ]);
    }

    #[test]
    fn a_trickle_is_not_rounded_away() {
        check(&[
            (0, 100, Pass),
            (50, 1, Drop { first: true }),
            (99, 1, Drop { first: false }),
            (100, 1, Pass),
        ]);
    }

    #[test]
    fn a_flood_is_announced_once_until_half_of_the_burst_is_back() {
        check(&[
            (0, 100, Pass),
            (100, 5, Drop { first: true }),
            (500, 5, Pass),
            (500, 5, Drop { first: false }),
            (5_499, 100, Drop { first: false }),
            (5_500, 100, Drop { first: true }),
        ]);
    }

    #[test]
    fn a_line_longer_than_the_burst_is_dropped_and_costs_nothing() {
        check(&[(0, 101, Drop { first: true }), (0, 100, Pass)]);
    }

    #[test]
    fn a_clock_read_out_of_order_fills_nothing_twice() {
        check(&[
            (0, 100, Pass),
            (1000, 10, Pass),
            (0, 1, Drop { first: true }),
            (1000, 1, Drop { first: false }),
        ]);
    }

    proptest! {
        #[test]
        fn what_passes_never_exceeds_the_burst_and_the_rate(
            rate in 0_u64..10_000,
            burst in 0_u64..10_000,
            lines in prop::collection::vec((0_u64..1_000, 0_u64..5_000), 1..100),
        ) {
            let mut limit = RateLimit::new(rate, burst);
            let start = crate::clock::Simulated::default().instant();
            let (mut ms, mut passed) = (0, 0);
            for (wait_ms, bytes) in lines {
                ms += wait_ms;
                if limit.take(bytes, start + Duration::from_millis(ms)) == Pass {
                    passed += bytes;
                }
                prop_assert!(passed <= burst + rate * ms / 1000);
            }
        }
    }
}
