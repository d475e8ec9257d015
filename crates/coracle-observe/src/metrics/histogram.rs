//! How long things took: fixed buckets, from 50 µs (a warm Wasm call) to 60 s (a slow one).
//! Every function has one; the 99th percentile that people see is estimated from it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets, in microseconds, and as Prometheus writes them, in seconds.
pub(super) const BOUNDS: [(u64, &str); 19] = [
    (50, "0.00005"),
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
];

/// Durations, counted by size.
///
/// One set of atomics and no shards: an uncontended relaxed addition costs a nanosecond or two, and calls of one function contend on admission long before they contend here.
#[derive(Debug, Default)]
pub struct Histogram {
    // The last bucket is for what no bound holds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
    longest_ns: AtomicU64,
}

/// A histogram at one moment: how many in each bucket, their sum, and the longest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    pub(super) sum_ns: u64,
    pub(super) longest_ns: u64,
}

/// How many durations stayed within each of some bounds, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution<const N: usize> {
    /// For each bound, how many were no longer.
    pub within: [u64; N],
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|&(bound_us, _)| bound_us * 1_000 < took_ns);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(took_ns, Relaxed);
        // Read first: nearly no call is the longest.
        if took_ns > self.longest_ns.load(Relaxed) {
            self.longest_ns.fetch_max(took_ns, Relaxed);
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// How they are spread over other buckets, whose upper bounds are in microseconds, rise, and are all among our own.
    pub fn distribution<const N: usize>(&self, bounds_us: &[u64; N]) -> Distribution<N> {
        let counts = self.counts();
        let within = |bound_us: u64| {
            let until = BOUNDS.partition_point(|&(own, _)| own <= bound_us);
            counts.buckets[..until].iter().sum()
        };
        Distribution {
            within: bounds_us.map(within),
            count: counts.count(),
            sum: Duration::from_nanos(counts.sum_ns),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Relaxed)),
            sum_ns: self.sum_ns.load(Relaxed),
            longest_ns: self.longest_ns.load(Relaxed),
        }
    }
}

impl Counts {
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration that `percent` of all stayed within, as well as buckets can tell: linear within a bucket, and never more than the longest there was.
    pub(super) fn percentile(&self, percent: u32) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let longest = Duration::from_nanos(self.longest_ns);
        let rank = count as f64 * f64::from(percent) / 100.0;
        let (mut below, mut lower_us) = (0, 0);
        for (&in_bucket, &(upper_us, _)) in self.buckets.iter().zip(&BOUNDS) {
            if in_bucket > 0 && (below + in_bucket) as f64 >= rank {
                let share = (rank - below as f64) / in_bucket as f64;
                let us = lower_us as f64 + (upper_us - lower_us) as f64 * share;
                return Some(Duration::from_secs_f64(us / 1e6).min(longest));
            }
            below += in_bucket;
            lower_us = upper_us;
        }
        Some(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(micros: &[u64]) -> Counts {
        let histogram = Histogram::default();
        micros.iter().for_each(|&us| histogram.observe(Duration::from_micros(us)));
        histogram.counts()
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(50));
        histogram.observe(Duration::from_nanos(50_001));
        histogram.observe(Duration::from_secs(61));
        let counts = histogram.counts();
        assert_eq!((counts.buckets[0], counts.buckets[1], counts.buckets[BOUNDS.len()]), (1, 1, 1));
        assert_eq!(counts.sum_ns, 50_000 + 50_001 + 61_000_000_000);
    }

    #[test]
    fn the_bounds_rise_and_say_in_seconds_what_they_are_in_microseconds() {
        assert!(BOUNDS.is_sorted_by(|a, b| a.0 < b.0));
        for (us, seconds) in BOUNDS {
            assert_eq!(seconds.parse(), Ok(us as f64 / 1e6), "{seconds}");
        }
    }

    #[test]
    fn the_buckets_that_prometheus_has_by_default_are_read_exactly() {
        const THEIRS_US: [u64; 11] = [
            5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
            10_000_000,
        ];
        assert!(THEIRS_US.iter().all(|bound| BOUNDS.iter().any(|(own, _)| own == bound)));
        let histogram = Histogram::default();
        for us in [70, 4_000, 5_000, 5_001, 300_000, 10_000_000, 90_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let Distribution { within, count, sum } = histogram.distribution(&THEIRS_US);
        assert_eq!(within, [3, 4, 4, 4, 4, 4, 5, 5, 5, 5, 6]);
        assert_eq!((count, sum), (7, Duration::from_micros(100_314_071)));
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(of(&[]).percentile(99), None);
    }

    #[test]
    fn no_estimate_is_longer_than_the_longest() {
        assert_eq!(of(&[90_000_000]).percentile(50), Some(Duration::from_secs(90)));
        assert_eq!(of(&[300, 30_100]).percentile(99), Some(Duration::from_micros(30_100)));
    }

    proptest! {
        #[test]
        fn an_estimate_lies_in_the_bucket_of_the_true_percentile(
            mut micros in prop::collection::vec(1_u64..60_000_000, 1..200),
            percent in 1_u32..=100,
        ) {
            let estimate = of(&micros).percentile(percent).expect("not empty").as_secs_f64() * 1e6;
            micros.sort_unstable();
            let rank = (micros.len() * percent as usize).div_ceil(100);
            let truth = micros[rank - 1];
            let bucket = BOUNDS.partition_point(|&(bound, _)| bound < truth);
            let lower = if bucket == 0 { 0 } else { BOUNDS[bucket - 1].0 };
            prop_assert!(estimate >= lower as f64 - 1.0 && estimate <= BOUNDS[bucket].0 as f64 + 1.0, "{estimate} for {truth}");
        }
    }
}
