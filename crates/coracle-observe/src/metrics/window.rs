//! How a function did of late: the last seconds, out of the numbers since the start.
//! Counting costs a comparison; `GET /v1/stats` does the subtraction for whoever watches.
//!
//! The first call that ends in a second marks what the numbers were before it.
//! What happened since then is the difference to the numbers of now: nothing ticks, and a function that nobody calls costs nothing.

use std::sync::atomic::{
    AtomicI64, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

use jiff::Timestamp;

use super::FunctionMetrics;
use super::histogram::{BOUNDS, Counts};

/// Whole seconds of a window; the second that is not over yet comes on top.
pub const WINDOW_SECONDS: i64 = 5;

/// One for each second that a window may reach into.
const MARKS: usize = WINDOW_SECONDS as usize + 1;

/// The last seconds before a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    from: i64,
    until: i64,
    seconds: f64,
}

impl Window {
    /// The window that ends now, and begins no earlier than the server, which is up since `uptime`.
    pub fn ending(now: Timestamp, uptime: Duration) -> Self {
        let until = now.as_second();
        let seconds = WINDOW_SECONDS as f64 + f64::from(now.subsec_nanosecond()) / 1e9;
        Self { from: until - WINDOW_SECONDS, until, seconds: seconds.min(uptime.as_secs_f64()) }
    }

    /// How long it is.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// How many there were a second, where there were so many within it.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

/// What happened within a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recent {
    /// All calls that ended.
    pub calls: u64,
    /// Those of them that the guest or the platform failed.
    pub errors: u64,
    /// Those of them that were not run.
    pub refused: u64,
    /// Half of the calls took no longer; an estimate, `None` without calls.
    pub p50: Option<Duration>,
    /// 99 of 100 calls took no longer; an estimate, `None` without calls.
    pub p99: Option<Duration>,
}

/// What the numbers were when each of the last seconds began.
#[derive(Debug)]
pub(super) struct Marks {
    /// The second that was marked last.
    latest: AtomicI64,
    marks: [Mark; MARKS],
}

/// Counts that wrap around: only their difference over a few seconds is ever looked at.
#[derive(Debug)]
struct Mark {
    second: AtomicI64,
    calls: AtomicU32,
    errors: AtomicU32,
    refused: AtomicU32,
    buckets: [AtomicU32; BOUNDS.len() + 1],
}

/// A second that never was.
const NEVER: i64 = i64::MIN;

impl Default for Marks {
    fn default() -> Self {
        Self { latest: AtomicI64::new(NEVER), marks: std::array::from_fn(|_| Mark::default()) }
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self {
            second: AtomicI64::new(NEVER),
            calls: AtomicU32::default(),
            errors: AtomicU32::default(),
            refused: AtomicU32::default(),
            buckets: std::array::from_fn(|_| AtomicU32::default()),
        }
    }
}

impl Marks {
    /// Marks what the numbers are, if no call ended in this second yet; must come before the call is counted.
    ///
    /// Of two calls that end at once in a new second, one marks; the other may be counted before the mark, and so be missing in the window. It is never missing in the totals.
    pub(super) fn begin(&self, now: Timestamp, metrics: &FunctionMetrics) {
        let second = now.as_second();
        let latest = self.latest.load(Relaxed);
        if latest == second || self.latest.compare_exchange(latest, second, Relaxed, Relaxed).is_err() {
            return;
        }
        let mark = self.of(second);
        mark.second.store(NEVER, Release);
        let (totals, latency) = metrics.totals();
        mark.calls.store(wrapped(totals.calls), Relaxed);
        mark.errors.store(wrapped(totals.errors), Relaxed);
        mark.refused.store(wrapped(totals.refused), Relaxed);
        for (marked, count) in mark.buckets.iter().zip(latency.buckets) {
            marked.store(wrapped(count), Relaxed);
        }
        mark.second.store(second, Release);
    }

    /// What happened within a window, where the numbers are these now.
    pub(super) fn since(&self, window: &Window, metrics: &FunctionMetrics) -> Recent {
        let seconds = window.from..=window.until;
        // The first second of the window in which a call ended: before that nothing happened in it.
        let first = seconds.map(|second| (second, self.of(second)));
        let Some((_, mark)) = first.into_iter().find(|(second, mark)| mark.second.load(Acquire) == *second)
        else {
            return Recent::default();
        };
        let (totals, latency) = metrics.totals();
        let since = |now: u64, then: &AtomicU32| u64::from(wrapped(now).wrapping_sub(then.load(Relaxed)));
        let buckets = std::array::from_fn(|i| since(latency.buckets[i], &mark.buckets[i]));
        let latency = Counts { buckets, ..latency };
        Recent {
            calls: since(totals.calls, &mark.calls),
            errors: since(totals.errors, &mark.errors),
            refused: since(totals.refused, &mark.refused),
            p50: latency.percentile(50),
            p99: latency.percentile(99),
        }
    }

    fn of(&self, second: i64) -> &Mark {
        &self.marks[usize::try_from(second.rem_euclid(MARKS as i64)).unwrap_or(0)]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the difference of two is what counts, modulo 2^32")]
fn wrapped(count: u64) -> u32 {
    count as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Class;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_millisecond((seconds * 1e3) as i64).expect("a time")
    }

    fn window(seconds: f64) -> Window {
        Window::ending(at(seconds), Duration::from_secs(3_600))
    }

    fn ended(metrics: &FunctionMetrics, seconds: f64, class: Class, ms: u64) {
        metrics.ended(class, Duration::from_millis(ms), at(seconds));
    }

    #[test]
    fn calls_leave_the_window_as_time_goes_by() {
        let metrics = FunctionMetrics::default();
        for seconds in [0.1, 0.2, 3.0, 3.9, 4.5] {
            ended(&metrics, seconds, Class::Ok, 1);
        }
        let calls = |seconds| metrics.recent(&window(seconds)).calls;
        assert_eq!(
            [calls(4.6), calls(5.9), calls(6.0), calls(8.9), calls(9.0), calls(10.0)],
            [5, 5, 3, 3, 1, 0]
        );
    }

    #[test]
    fn a_function_that_pauses_begins_anew() {
        let metrics = FunctionMetrics::default();
        ended(&metrics, 1.0, Class::Guest, 900);
        ended(&metrics, 100.0, Class::Ok, 2);
        ended(&metrics, 101.0, Class::Refused, 0);
        let recent = metrics.recent(&window(101.5));
        assert_eq!((recent.calls, recent.errors, recent.refused), (2, 0, 1));
        assert!(recent.p99.is_some_and(|took| took < Duration::from_millis(3)), "{recent:?}");
    }

    #[test]
    fn a_window_is_never_longer_than_the_server_is_up() {
        let young = Window::ending(at(50.25), Duration::from_secs(2));
        assert_eq!((window(50.25).seconds(), young.seconds()), (5.25, 2.0));
        assert_eq!(young.per_second(7), 3.5);
        assert_eq!(Window::ending(at(0.0), Duration::ZERO).per_second(7), 0.0);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_seconds_and_no_more() {
        let metrics = FunctionMetrics::default();
        ended(&metrics, 1_000.0, Class::Ok, 1);
        ended(&metrics, 10.0, Class::Ok, 1);
        ended(&metrics, 11.0, Class::Ok, 1);
        assert_eq!(metrics.recent(&window(11.5)).calls, 2);
        assert_eq!(metrics.snapshot().calls, 3);
    }
}
