//! Every metric, declared once: its name, what kind it is, what it means, and where its number comes from.
//! `/metrics` and the table in the reference are both made from this one. A new metric is a field and a row.

use super::function::{FunctionMetrics, QueueMetrics};
use super::server::{ServerMetrics, resident_bytes};

/// A metric, without its numbers.
#[derive(Debug)]
pub struct Row {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What may be done with it.
    pub kind: Kind,
    /// What it counts, for people.
    pub help: &'static str,
    pub(super) source: Source,
}

/// What may be done with a metric, in Prometheus' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows: look at its rate.
    Counter,
    /// It goes up and down: look at it as it is.
    Gauge,
    /// Durations by size: look at its quantiles.
    Histogram,
}

impl Kind {
    /// As it stands after `# TYPE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Where the number comes from, and so which labels it has.
#[derive(Debug)]
pub(super) enum Source {
    /// By namespace, function and outcome.
    Outcomes,
    /// By namespace, function and status.
    Answers,
    /// By namespace and function, in buckets.
    Latency,
    /// By namespace, function and state; of programs only.
    Instances,
    /// By namespace, function and phase, in buckets; of programs only.
    Starts,
    /// By namespace and function; of those that are called through the queue only.
    Queue(fn(&QueueMetrics) -> u64),
    /// Likewise, in buckets.
    QueueStarts,
    /// By namespace and function.
    Function(fn(&FunctionMetrics) -> u64),
    /// One number.
    Server(fn(&ServerMetrics) -> u64),
    /// One number, kept in microseconds and shown in seconds.
    ServerSeconds(fn(&ServerMetrics) -> u64),
}

impl Source {
    /// Whether each function has a number of its own.
    pub(super) fn is_of_functions(&self) -> bool {
        match self {
            Self::Outcomes
            | Self::Answers
            | Self::Latency
            | Self::Instances
            | Self::Starts
            | Self::Queue(_)
            | Self::QueueStarts
            | Self::Function(_) => true,
            Self::Server(_) | Self::ServerSeconds(_) => false,
        }
    }
}

/// Every metric there is, in the order in which they are shown.
pub fn table() -> &'static [Row] {
    &TABLE
}

static TABLE: [Row; 30] = [
    counter(
        "coracle_calls_started_total",
        "Calls that began, those that were refused included.",
        Source::Function(|f| f.started.get()),
    ),
    counter("coracle_calls_total", "Calls that ended, by how they ended.", Source::Outcomes),
    counter(
        "coracle_answers_total",
        "Answers by status, as the client saw them: those of the function, and those of the platform for it.",
        Source::Answers,
    ),
    Row {
        name: "coracle_call_seconds",
        kind: Kind::Histogram,
        help: "How long calls took, from admission to the end of the body; refused calls are left out.",
        source: Source::Latency,
    },
    gauge("coracle_calls_in_flight", "Calls that are running.", Source::Function(|f| f.in_flight.get())),
    gauge("coracle_calls_waiting", "Calls that wait to run.", Source::Function(|f| f.waiting.get())),
    counter(
        "coracle_cold_starts_total",
        "Calls that waited for code to be mapped or an instance to start.",
        Source::Function(|f| f.cold_starts.get()),
    ),
    counter(
        "coracle_outbound_denied_total",
        "Requests of a guest that its outbound list did not allow.",
        Source::Function(|f| f.outbound_denied.get()),
    ),
    counter(
        "coracle_log_lines_dropped_total",
        "Lines of output that were not kept: over the rate, the queue full, or the disk.",
        Source::Function(|f| f.log_lines_dropped.get()),
    ),
    gauge(
        "coracle_program_instances",
        "Instances of a function's program, by what they do.",
        Source::Instances,
    ),
    Row {
        name: "coracle_program_start_seconds",
        kind: Kind::Histogram,
        help: "How long the parts of a program's start took: its image, its sandbox, its process, and until it was ready.",
        source: Source::Starts,
    },
    gauge(
        "coracle_queue_waiting",
        "Queued calls that wait: for their time, their turn or their next attempt; on all servers.",
        Source::Queue(|q| q.waiting.get()),
    ),
    gauge(
        "coracle_queue_oldest_seconds",
        "How long ago the oldest of them was due.",
        Source::Queue(|q| q.oldest_s.get()),
    ),
    gauge(
        "coracle_queue_running",
        "Queued calls that run, on all servers.",
        Source::Queue(|q| q.running.get()),
    ),
    gauge(
        "coracle_queue_dead",
        "Queued calls and deliveries that are not tried again, and are kept.",
        Source::Queue(|q| q.dead.get()),
    ),
    gauge(
        "coracle_queue_deliveries",
        "Results of queued calls that wait to be delivered.",
        Source::Queue(|q| q.deliveries.get()),
    ),
    counter(
        "coracle_queue_attempts_total",
        "Attempts of queued calls and deliveries that ended on this server.",
        Source::Queue(|q| q.attempts.get()),
    ),
    counter(
        "coracle_queue_given_up_total",
        "Queued calls and deliveries that this server gave up.",
        Source::Queue(|q| q.given_up.get()),
    ),
    Row {
        name: "coracle_queue_start_seconds",
        kind: Kind::Histogram,
        help: "How long queued calls waited, from when they were due until they began on this server; first attempts only.",
        source: Source::QueueStarts,
    },
    gauge("coracle_instances", "Instances that exist.", Source::Server(|s| s.instances.get())),
    gauge(
        "coracle_instances_idle",
        "Those of them that wait for a call: made ahead of demand, or kept for reuse.",
        Source::Server(|s| s.instances_idle.get()),
    ),
    gauge(
        "coracle_instances_waiting",
        "Calls of all functions that wait for an instance.",
        Source::Server(|s| s.instances_waiting.get()),
    ),
    gauge(
        "coracle_connections",
        "Connections of clients that are open.",
        Source::Server(|s| s.connections.get()),
    ),
    counter(
        "coracle_compilations_total",
        "Components that were compiled.",
        Source::Server(|s| s.compilations.get()),
    ),
    counter(
        "coracle_compile_seconds_total",
        "Time spent on compiling components.",
        Source::ServerSeconds(|s| s.compile_us.get()),
    ),
    gauge(
        "coracle_code_bytes",
        "Compiled code that is mapped, in bytes.",
        Source::Server(|s| s.code_bytes.get()),
    ),
    counter(
        "coracle_code_hits_total",
        "Starts of an instance that found their code mapped.",
        Source::Server(|s| s.code_hits.get()),
    ),
    counter(
        "coracle_code_misses_total",
        "Starts of an instance that had to map their code first.",
        Source::Server(|s| s.code_misses.get()),
    ),
    counter(
        "coracle_code_evictions_total",
        "Compiled code that was let go to make room.",
        Source::Server(|s| s.code_evictions.get()),
    ),
    // Prometheus' own name for it, which every dashboard knows.
    gauge(
        "process_resident_memory_bytes",
        "Memory of this process in RAM, in bytes.",
        Source::Server(|_| resident_bytes()),
    ),
];

const fn counter(name: &'static str, help: &'static str, source: Source) -> Row {
    Row { name, kind: Kind::Counter, help, source }
}

const fn gauge(name: &'static str, help: &'static str, source: Source) -> Row {
    Row { name, kind: Kind::Gauge, help, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions_of_prometheus() {
        let mut names: Vec<_> = table().iter().map(|row| row.name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for row in table() {
            assert_eq!(row.name.ends_with("_total"), row.kind == Kind::Counter, "{}", row.name);
            assert!(row.help.ends_with('.') && !row.help.contains(['\n', '\\']), "{}", row.name);
        }
    }
}
