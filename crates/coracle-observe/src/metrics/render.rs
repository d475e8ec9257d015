//! The table and the numbers, written as Prometheus' text format 0.0.4.
//! `Metrics::text` begins one for each scrape.

use std::fmt::{self, Write};
use std::sync::Arc;

use coracle_model::FunctionRef;

use super::Metrics;
use super::function::{Class, FunctionMetrics, ProgramMetrics, QueueMetrics};
use super::histogram::{BOUNDS, Histogram};
use super::server::ServerMetrics;
use super::table::{Row, Source, table};

/// The size at which a piece of the text ends: it is as long as this, plus the lines of a few functions.
const PIECE_BYTES: usize = 64 << 10;
/// Functions of a row that are written before a look at the size.
const FUNCTIONS_AT_ONCE: usize = 16;

type Functions = [(FunctionRef, Arc<FunctionMetrics>)];

/// The text, piece by piece: with ten thousand functions it is some 25 MB, which nobody should hold or wait for.
#[derive(Debug)]
pub struct Text {
    metrics: Metrics,
    functions: Vec<(FunctionRef, Arc<FunctionMetrics>)>,
    /// The row that is written next, and its first function.
    row: usize,
    from: usize,
}

impl Text {
    pub(super) fn new(metrics: Metrics, functions: Vec<(FunctionRef, Arc<FunctionMetrics>)>) -> Self {
        Self { metrics, functions, row: 0, from: 0 }
    }

    fn write_some(&mut self, row: &Row, out: &mut String) -> fmt::Result {
        if self.from == 0 {
            writeln!(out, "# HELP {0} {1}\n# TYPE {0} {2}", row.name, row.help, row.kind.as_str())?;
        }
        let until = self.functions.len().min(self.from + FUNCTIONS_AT_ONCE);
        write_row(row, self.metrics.server(), &self.functions[self.from..until], out)?;
        if row.source.is_of_functions() && until < self.functions.len() {
            self.from = until;
        } else {
            (self.row, self.from) = (self.row + 1, 0);
        }
        Ok(())
    }
}

impl Iterator for Text {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut piece = String::new();
        while piece.len() < PIECE_BYTES
            && let Some(row) = table().get(self.row)
        {
            // Writing to a String cannot fail.
            let _ = self.write_some(row, &mut piece);
        }
        (!piece.is_empty()).then_some(piece)
    }
}

fn write_row(row: &Row, server: &ServerMetrics, functions: &Functions, out: &mut String) -> fmt::Result {
    let name = row.name;
    match row.source {
        Source::Server(read) => writeln!(out, "{name} {}", read(server)),
        Source::ServerSeconds(read) => writeln!(out, "{name} {}", Seconds(u128::from(read(server)) * 1_000)),
        Source::Function(read) => functions.iter().try_for_each(|(function, metrics)| {
            writeln!(out, "{name}{{{}}} {}", Labels(function), read(metrics))
        }),
        Source::Outcomes => functions.iter().try_for_each(|(function, metrics)| {
            Class::ALL.into_iter().try_for_each(|class| {
                writeln!(
                    out,
                    "{name}{{{},outcome=\"{}\"}} {}",
                    Labels(function),
                    class.as_str(),
                    metrics.calls(class)
                )
            })
        }),
        Source::Answers => functions.iter().try_for_each(|(function, metrics)| {
            metrics.answers.iter().try_for_each(|(status, took)| {
                write!(out, "{name}{{{},status=\"", Labels(function))?;
                match status {
                    Some(status) => write!(out, "{status}")?,
                    None => out.write_str("other")?,
                }
                writeln!(out, "\"}} {}", took.count())
            })
        }),
        Source::Latency => functions.iter().try_for_each(|(function, metrics)| {
            write_histogram(name, Labels(function), &metrics.latency, out)
        }),
        Source::Instances => of_programs(functions).try_for_each(|(function, program)| {
            ProgramMetrics::STATES.iter().zip(&program.instances).try_for_each(|(state, instances)| {
                writeln!(out, "{name}{{{},state=\"{state}\"}} {}", Labels(function), instances.get())
            })
        }),
        Source::Queue(read) => of_queues(functions).try_for_each(|(function, queue)| {
            writeln!(out, "{name}{{{}}} {}", Labels(function), read(queue))
        }),
        Source::QueueStarts => of_queues(functions)
            .try_for_each(|(function, queue)| write_histogram(name, Labels(function), &queue.starts, out)),
        Source::Starts => of_programs(functions).try_for_each(|(function, program)| {
            ProgramMetrics::PHASES.iter().zip(&program.starts).try_for_each(|(phase, took)| {
                let labels = format_args!("{},phase=\"{phase}\"", Labels(function)).to_string();
                write_histogram(name, labels, took, out)
            })
        }),
    }
}

/// The functions that are programs: the others have no numbers of one.
fn of_programs(functions: &Functions) -> impl Iterator<Item = (&FunctionRef, &ProgramMetrics)> {
    functions.iter().filter_map(|(function, metrics)| Some((function, metrics.known_program()?)))
}

/// The functions that are called through the queue, likewise.
fn of_queues(functions: &Functions) -> impl Iterator<Item = (&FunctionRef, &QueueMetrics)> {
    functions.iter().filter_map(|(function, metrics)| Some((function, metrics.known_queue()?)))
}

/// A function that was never called has no histogram: with thousands of them, empty buckets would be most of the text.
fn write_histogram(name: &str, labels: impl fmt::Display, took: &Histogram, out: &mut String) -> fmt::Result {
    let counts = took.counts();
    if counts.count() == 0 {
        return Ok(());
    }
    let mut within = 0;
    for (in_bucket, bound) in
        counts.buckets.iter().zip(BOUNDS.iter().map(|(_, seconds)| *seconds).chain(["+Inf"]))
    {
        within += in_bucket;
        writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {within}")?;
    }
    writeln!(out, "{name}_sum{{{labels}}} {}", Seconds(u128::from(counts.sum_ns)))?;
    // The count is the last bucket, and not an atomic of its own: the two must never disagree.
    writeln!(out, "{name}_count{{{labels}}} {within}")
}

struct Labels<'a>(&'a FunctionRef);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = (Escaped(self.0.namespace.as_str()), Escaped(self.0.name.as_str()));
        write!(f, "namespace=\"{namespace}\",function=\"{name}\"")
    }
}

/// A label's value. Names hold nothing to escape today; a face that widens them must not break the text.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Nanoseconds, shown as seconds without rounding.
struct Seconds(u128);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;
    use expect_test::{Expect, expect};
    use std::time::Duration;

    /// The text of a server, without the resident memory, which no test can know.
    fn check(metrics: &Metrics, expected: Expect) {
        let text: String = metrics.text().collect();
        let known: Vec<_> = text.lines().filter(|line| !line.starts_with("process_resident")).collect();
        expected.assert_eq(&(known.join("\n") + "\n"));
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        let shop = metrics.function(&FunctionRef::parse("resize.shop").expect("a name"));
        let hello = metrics.function(&FunctionRef::parse("hello").expect("a name"));
        let at = jiff::Timestamp::UNIX_EPOCH;
        hello.ended(Class::Ok, Duration::from_micros(70), at);
        hello.ended(Class::Guest, Duration::from_secs(90), at);
        shop.ended(Class::Refused, Duration::ZERO, at);
        hello.started.add(2);
        hello.answers.count(200, Duration::from_micros(70));
        hello.answers.count(502, Duration::from_secs(90));
        shop.turned_away(401);
        shop.waiting.set(3);
        metrics.server().compiled_so_far(1, Duration::from_millis(1_250));
        metrics.server().code_bytes.set(4096);
        check(
            &metrics,
            expect![[r##"
                # HELP coracle_calls_started_total Calls that began, those that were refused included.
                # TYPE coracle_calls_started_total counter
                coracle_calls_started_total{namespace="default",function="hello"} 2
                coracle_calls_started_total{namespace="shop",function="resize"} 1
                # HELP coracle_calls_total Calls that ended, by how they ended.
                # TYPE coracle_calls_total counter
                coracle_calls_total{namespace="default",function="hello",outcome="ok"} 1
                coracle_calls_total{namespace="default",function="hello",outcome="guest"} 1
                coracle_calls_total{namespace="default",function="hello",outcome="host"} 0
                coracle_calls_total{namespace="default",function="hello",outcome="refused"} 0
                coracle_calls_total{namespace="default",function="hello",outcome="client_gone"} 0
                coracle_calls_total{namespace="shop",function="resize",outcome="ok"} 0
                coracle_calls_total{namespace="shop",function="resize",outcome="guest"} 0
                coracle_calls_total{namespace="shop",function="resize",outcome="host"} 0
                coracle_calls_total{namespace="shop",function="resize",outcome="refused"} 1
                coracle_calls_total{namespace="shop",function="resize",outcome="client_gone"} 0
                # HELP coracle_answers_total Answers by status, as the client saw them: those of the function, and those of the platform for it.
                # TYPE coracle_answers_total counter
                coracle_answers_total{namespace="default",function="hello",status="200"} 1
                coracle_answers_total{namespace="default",function="hello",status="502"} 1
                coracle_answers_total{namespace="shop",function="resize",status="401"} 1
                # HELP coracle_call_seconds How long calls took, from admission to the end of the body; refused calls are left out.
                # TYPE coracle_call_seconds histogram
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.00005"} 0
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.0001"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.00025"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.0005"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.001"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.0025"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.005"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.01"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.025"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.05"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.1"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.25"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="0.5"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="1"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="2.5"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="5"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="10"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="30"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="60"} 1
                coracle_call_seconds_bucket{namespace="default",function="hello",le="+Inf"} 2
                coracle_call_seconds_sum{namespace="default",function="hello"} 90.000070000
                coracle_call_seconds_count{namespace="default",function="hello"} 2
                # HELP coracle_calls_in_flight Calls that are running.
                # TYPE coracle_calls_in_flight gauge
                coracle_calls_in_flight{namespace="default",function="hello"} 0
                coracle_calls_in_flight{namespace="shop",function="resize"} 0
                # HELP coracle_calls_waiting Calls that wait to run.
                # TYPE coracle_calls_waiting gauge
                coracle_calls_waiting{namespace="default",function="hello"} 0
                coracle_calls_waiting{namespace="shop",function="resize"} 3
                # HELP coracle_cold_starts_total Calls that waited for code to be mapped or an instance to start.
                # TYPE coracle_cold_starts_total counter
                coracle_cold_starts_total{namespace="default",function="hello"} 0
                coracle_cold_starts_total{namespace="shop",function="resize"} 0
                # HELP coracle_outbound_denied_total Requests of a guest that its outbound list did not allow.
                # TYPE coracle_outbound_denied_total counter
                coracle_outbound_denied_total{namespace="default",function="hello"} 0
                coracle_outbound_denied_total{namespace="shop",function="resize"} 0
                # HELP coracle_log_lines_dropped_total Lines of output that were not kept: over the rate, the queue full, or the disk.
                # TYPE coracle_log_lines_dropped_total counter
                coracle_log_lines_dropped_total{namespace="default",function="hello"} 0
                coracle_log_lines_dropped_total{namespace="shop",function="resize"} 0
                # HELP coracle_program_instances Instances of a function's program, by what they do.
                # TYPE coracle_program_instances gauge
                # HELP coracle_program_start_seconds How long the parts of a program's start took: its image, its sandbox, its process, and until it was ready.
                # TYPE coracle_program_start_seconds histogram
                # HELP coracle_queue_waiting Queued calls that wait: for their time, their turn or their next attempt; on all servers.
                # TYPE coracle_queue_waiting gauge
                # HELP coracle_queue_oldest_seconds How long ago the oldest of them was due.
                # TYPE coracle_queue_oldest_seconds gauge
                # HELP coracle_queue_running Queued calls that run, on all servers.
                # TYPE coracle_queue_running gauge
                # HELP coracle_queue_dead Queued calls and deliveries that are not tried again, and are kept.
                # TYPE coracle_queue_dead gauge
                # HELP coracle_queue_deliveries Results of queued calls that wait to be delivered.
                # TYPE coracle_queue_deliveries gauge
                # HELP coracle_queue_attempts_total Attempts of queued calls and deliveries that ended on this server.
                # TYPE coracle_queue_attempts_total counter
                # HELP coracle_queue_given_up_total Queued calls and deliveries that this server gave up.
                # TYPE coracle_queue_given_up_total counter
                # HELP coracle_queue_start_seconds How long queued calls waited, from when they were due until they began on this server; first attempts only.
                # TYPE coracle_queue_start_seconds histogram
                # HELP coracle_instances Instances that exist.
                # TYPE coracle_instances gauge
                coracle_instances 0
                # HELP coracle_instances_idle Those of them that wait for a call: made ahead of demand, or kept for reuse.
                # TYPE coracle_instances_idle gauge
                coracle_instances_idle 0
                # HELP coracle_instances_waiting Calls of all functions that wait for an instance.
                # TYPE coracle_instances_waiting gauge
                coracle_instances_waiting 0
                # HELP coracle_connections Connections of clients that are open.
                # TYPE coracle_connections gauge
                coracle_connections 0
                # HELP coracle_compilations_total Components that were compiled.
                # TYPE coracle_compilations_total counter
                coracle_compilations_total 1
                # HELP coracle_compile_seconds_total Time spent on compiling components.
                # TYPE coracle_compile_seconds_total counter
                coracle_compile_seconds_total 1.250000000
                # HELP coracle_code_bytes Compiled code that is mapped, in bytes.
                # TYPE coracle_code_bytes gauge
                coracle_code_bytes 4096
                # HELP coracle_code_hits_total Starts of an instance that found their code mapped.
                # TYPE coracle_code_hits_total counter
                coracle_code_hits_total 0
                # HELP coracle_code_misses_total Starts of an instance that had to map their code first.
                # TYPE coracle_code_misses_total counter
                coracle_code_misses_total 0
                # HELP coracle_code_evictions_total Compiled code that was let go to make room.
                # TYPE coracle_code_evictions_total counter
                coracle_code_evictions_total 0
                # HELP process_resident_memory_bytes Memory of this process in RAM, in bytes.
                # TYPE process_resident_memory_bytes gauge
            "##]],
        );
    }

    #[test]
    fn the_pieces_of_many_functions_are_small_and_every_line_is_there_once() {
        let (metrics, count) = (Metrics::default(), 1_000);
        for number in 0..count {
            let function = FunctionRef::parse(&format!("f{number}")).expect("a name");
            metrics.function(&function).ended(
                Class::Ok,
                Duration::from_micros(70),
                jiff::Timestamp::UNIX_EPOCH,
            );
        }
        let pieces: Vec<String> = metrics.text().collect();
        assert!(pieces.len() > 10, "{}", pieces.len());
        assert!(pieces.iter().all(|piece| piece.len() < 2 * PIECE_BYTES));
        let text = pieces.concat();
        let mut names: Vec<_> =
            text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
        let lines = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), lines);
        // By outcome 5, of the histogram 22, and one for each of 6 others.
        let of_functions = names.iter().filter(|name| name.contains("function=")).count();
        assert_eq!(of_functions, count * (5 + 22 + 6));
    }

    #[test]
    fn a_program_has_its_instances_by_state_and_its_starts_by_phase() {
        let metrics = Metrics::default();
        let hello = metrics.function(&FunctionRef::parse("hello").expect("a name"));
        hello.program().instances[3].set(2);
        hello.program().starts[1].observe(Duration::from_millis(7));
        let text: String = metrics.text().collect();
        for line in [
            r#"coracle_program_instances{namespace="default",function="hello",state="frozen"} 2"#,
            r#"coracle_program_instances{namespace="default",function="hello",state="busy"} 0"#,
            r#"coracle_program_start_seconds_bucket{namespace="default",function="hello",phase="sandbox",le="0.01"} 1"#,
            r#"coracle_program_start_seconds_count{namespace="default",function="hello",phase="sandbox"} 1"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line}");
        }
        assert!(!text.contains(r#"phase="image""#), "nothing was measured");
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(Escaped("a\\b\"c\nd").to_string(), r#"a\\b\"c\nd"#);
    }

    #[test]
    fn seconds_are_not_rounded() {
        assert_eq!(Seconds(1).to_string(), "0.000000001");
        assert_eq!(Seconds(61_000_000_005).to_string(), "61.000000005");
    }
}
