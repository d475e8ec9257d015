//! The numbers of one function.
//! Whoever runs its calls holds them in an `Arc`; nothing here looks anything up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use super::histogram::Counts;
use super::window::{Marks, Recent, Window};
use super::{Answers, Counter, Gauge, Histogram};

/// Atomics only: counting never waits.
#[derive(Debug, Default)]
pub struct FunctionMetrics {
    /// Calls that began, those that were refused included.
    pub started: Counter,
    /// What the clients of its calls saw.
    pub answers: Answers,
    calls: [Counter; Class::ALL.len()],
    /// How long calls took, waiting included, until their bodies ended.
    pub(super) latency: Histogram,
    /// Calls that are running.
    pub in_flight: Gauge,
    /// Calls that wait to run.
    pub waiting: Gauge,
    /// Calls that had to wait for code to be mapped or an instance to start.
    pub cold_starts: Counter,
    /// Requests of a guest that its `outbound` list did not allow.
    pub outbound_denied: Counter,
    /// Lines of output that were not kept.
    pub log_lines_dropped: Counter,
    /// The most memory that the instance of the last call used; zero where that is not known.
    pub memory_bytes: Gauge,
    /// In a box of its own, because most functions are no programs.
    program: OnceLock<Box<ProgramMetrics>>,
    /// Likewise, because most functions are never called through the queue.
    queue: OnceLock<Box<QueueMetrics>>,
    marks: Marks,
}

/// The numbers that only a function has whose code is a program.
#[derive(Debug, Default)]
pub struct ProgramMetrics {
    /// Its instances by state, in the order of [`ProgramMetrics::STATES`].
    pub instances: [Gauge; ProgramMetrics::STATES.len()],
    /// Where the time of its starts went, in the order of [`ProgramMetrics::PHASES`].
    pub starts: [Histogram; ProgramMetrics::PHASES.len()],
}

/// The numbers that only a function has that is called through the queue.
#[derive(Debug, Default)]
pub struct QueueMetrics {
    /// Calls that wait: for their time, their turn or their next attempt. On all servers, as are the next.
    pub waiting: Gauge,
    /// How long ago the oldest of them was due, in seconds.
    pub oldest_s: Gauge,
    /// Calls that run.
    pub running: Gauge,
    /// Calls and deliveries that are not tried again.
    pub dead: Gauge,
    /// Results that wait to be delivered.
    pub deliveries: Gauge,
    /// Attempts that ended on this server.
    pub attempts: Counter,
    /// Calls that this server gave up.
    pub given_up: Counter,
    /// From when a call was due until it began, on this server.
    pub starts: Histogram,
}

impl ProgramMetrics {
    /// What an instance may be doing: the values of the label `state`.
    pub const STATES: [&str; 5] = ["starting", "ready", "busy", "frozen", "stopping"];
    /// The parts of a start, one after the other: the values of the label `phase`.
    pub const PHASES: [&str; 4] = ["image", "sandbox", "process", "ready"];
}

/// Counts of calls since the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) refused: u64,
}

/// How a call ended, as coarsely as a graph needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The guest answered.
    Ok,
    /// The guest failed, or says so by a status of 500 or more.
    Guest,
    /// The platform failed.
    Host,
    /// The platform would not run it: a limit, a right, a name nobody has.
    Refused,
    /// The client went away first.
    ClientGone,
}

impl Class {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Guest, Self::Host, Self::Refused, Self::ClientGone];

    /// The value of the label `outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Refused => "refused",
            Self::ClientGone => "client_gone",
        }
    }
}

/// What a person wants to know of a function at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
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
    /// Calls that are running.
    pub in_flight: u64,
    /// Calls that wait to run.
    pub waiting: u64,
    /// Calls that started cold.
    pub cold_starts: u64,
}

impl FunctionMetrics {
    /// Counts a call that was refused before it began, with what its client saw.
    ///
    /// Such calls are not among those that ended: nothing was asked of the function.
    pub fn turned_away(&self, status: u16) {
        self.started.increment();
        self.answers.count(status, Duration::ZERO);
    }

    /// Counts a call that ended now, and how long it took.
    ///
    /// A refused call has no latency: it took no time, and would make the others look fast.
    pub fn ended(&self, class: Class, took: Duration, now: Timestamp) {
        self.marks.begin(now, self);
        self.calls[class as usize].increment();
        if class != Class::Refused {
            self.latency.observe(took);
        }
    }

    /// The numbers of its program, made when asked for first.
    pub fn program(&self) -> &ProgramMetrics {
        self.program.get_or_init(Box::default)
    }

    /// The numbers of its program, if it ever had one.
    pub(super) fn known_program(&self) -> Option<&ProgramMetrics> {
        self.program.get().map(|program| &**program)
    }

    /// The numbers of its queue, made when asked for first.
    pub fn queue(&self) -> &QueueMetrics {
        self.queue.get_or_init(Box::default)
    }

    /// The numbers of its queue, if it was ever called through one.
    pub fn known_queue(&self) -> Option<&QueueMetrics> {
        self.queue.get().map(|queue| &**queue)
    }

    /// Counts a call as running until the guard is dropped.
    pub fn run(self: &Arc<Self>) -> Hold {
        Hold::new(self, |metrics| &metrics.in_flight)
    }

    /// Counts a call as waiting until the guard is dropped.
    pub fn wait(self: &Arc<Self>) -> Hold {
        Hold::new(self, |metrics| &metrics.waiting)
    }

    /// Calls that ended in this way.
    pub fn calls(&self, class: Class) -> u64 {
        self.calls[class as usize].get()
    }

    /// The numbers at a glance.
    pub fn snapshot(&self) -> Snapshot {
        let (Totals { calls, errors, refused }, latency) = self.totals();
        Snapshot {
            calls,
            errors,
            refused,
            p50: latency.percentile(50),
            p99: latency.percentile(99),
            in_flight: self.in_flight.get(),
            waiting: self.waiting.get(),
            cold_starts: self.cold_starts.get(),
        }
    }

    /// How it did within a window that ends now.
    pub fn recent(&self, window: &Window) -> Recent {
        self.marks.since(window, self)
    }

    pub(super) fn totals(&self) -> (Totals, Counts) {
        let totals = Totals {
            calls: self.calls.iter().map(Counter::get).sum(),
            errors: self.calls(Class::Guest) + self.calls(Class::Host),
            refused: self.calls(Class::Refused),
        };
        (totals, self.latency.counts())
    }
}

/// One more in a gauge, for as long as this lives: a call that is cancelled cannot forget to leave.
#[derive(Debug)]
pub struct Hold {
    metrics: Arc<FunctionMetrics>,
    gauge: fn(&FunctionMetrics) -> &Gauge,
}

impl Hold {
    fn new(metrics: &Arc<FunctionMetrics>, gauge: fn(&FunctionMetrics) -> &Gauge) -> Self {
        gauge(metrics).add(1);
        Self { metrics: Arc::clone(metrics), gauge }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).add(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_leaves_its_gauges_when_it_is_dropped() {
        let metrics = Arc::new(FunctionMetrics::default());
        let waiting = metrics.wait();
        let running = metrics.run();
        assert_eq!((metrics.waiting.get(), metrics.in_flight.get()), (1, 1));
        drop((waiting, running));
        assert_eq!((metrics.waiting.get(), metrics.in_flight.get()), (0, 0));
    }

    #[test]
    fn a_snapshot_counts_only_our_faults_and_the_guests_as_errors() {
        let metrics = FunctionMetrics::default();
        for class in Class::ALL {
            metrics.ended(class, Duration::from_millis(1), Timestamp::UNIX_EPOCH);
        }
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot.calls, snapshot.errors, snapshot.refused), (5, 2, 1));
    }

    #[test]
    fn refused_calls_do_not_make_a_function_look_fast() {
        let metrics = FunctionMetrics::default();
        metrics.ended(Class::Refused, Duration::ZERO, Timestamp::UNIX_EPOCH);
        assert_eq!(metrics.snapshot().p50, None);
    }

    #[test]
    fn every_class_has_its_own_counter() {
        let metrics = FunctionMetrics::default();
        for class in Class::ALL {
            metrics.ended(class, Duration::ZERO, Timestamp::UNIX_EPOCH);
            assert_eq!(metrics.calls(class), 1, "{class:?}");
        }
    }
}
