//! Numbers under the names that OpenFaaS' dashboards ask for, in Prometheus' text format 0.0.4.
//! The gateway writes them beside ours, a family after the other and within it some functions at a time.
//!
//! Sources: faas:gateway/metrics/metrics.go, faas:gateway/metrics/exporter.go, client_golang:prometheus/histogram.go.

use std::fmt::{self, Write};
use std::time::Duration;

use coracle_model::FunctionRef;

use super::name;

/// The upper ends of the buckets of [`Family::Seconds`], as a number and as it is written; above the last is infinity.
pub const BOUNDS: [(Duration, &str); 11] = [
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1"),
    (Duration::from_millis(2_500), "2.5"),
    (Duration::from_secs(5), "5"),
    (Duration::from_secs(10), "10"),
];
/// The buckets, that of infinity among them.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// A family of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Calls that ended, by the status that their client was sent.
    Invocations,
    /// How long they took.
    Seconds,
    /// Calls that began.
    Started,
    /// Instances that are wanted.
    Replicas,
}

impl Family {
    /// All of them, in the order they are written.
    pub const ALL: [Self; 4] = [Self::Invocations, Self::Seconds, Self::Started, Self::Replicas];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invocations => "gateway_function_invocation_total",
            Self::Seconds => "gateway_functions_seconds",
            Self::Started => "gateway_function_invocation_started",
            Self::Replicas => "gateway_service_count",
        }
    }

    /// Writes the lines that come before those of its functions.
    pub fn write_head(self, out: &mut String) {
        let (kind, help) = match self {
            Self::Invocations => ("counter", "Calls that ended, by the status that was answered."),
            Self::Seconds => ("histogram", "How long calls took, by the status that was answered."),
            Self::Started => ("counter", "Calls that began."),
            Self::Replicas => ("gauge", "Instances of a function that are wanted."),
        };
        written(writeln!(out, "# HELP {0} {help}\n# TYPE {0} {kind}", self.name()));
    }
}

/// How long calls took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Took {
    /// Calls by the first of [`BOUNDS`] that they did not exceed, and the slower ones; a call is in one of them.
    pub buckets: [u64; BUCKETS],
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
}

/// The bucket of a call that took so long.
pub fn bucket_of(took: Duration) -> usize {
    BOUNDS.partition_point(|(bound, _)| *bound < took)
}

/// Writes the calls of a function that were answered with a status: [`Family::Invocations`].
pub fn write_invocations(function: &FunctionRef, status: u16, calls: u64, out: &mut String) {
    let name = Family::Invocations.name();
    written(writeln!(out, "{name}{{{},code=\"{status}\"}} {calls}", Label(function)));
}

/// Writes how long they took: [`Family::Seconds`].
pub fn write_seconds(function: &FunctionRef, status: u16, took: &Took, out: &mut String) {
    written(try_write_seconds(function, status, took, out));
}

fn try_write_seconds(function: &FunctionRef, status: u16, took: &Took, out: &mut String) -> fmt::Result {
    let (name, label) = (Family::Seconds.name(), Label(function));
    let mut within: u64 = 0;
    for (calls, bound) in took.buckets.iter().zip(BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"])) {
        within = within.saturating_add(*calls);
        writeln!(out, "{name}_bucket{{{label},code=\"{status}\",le=\"{bound}\"}} {within}")?;
    }
    let (seconds, nanos) = (took.sum_ns / 1_000_000_000, took.sum_ns % 1_000_000_000);
    writeln!(out, "{name}_sum{{{label},code=\"{status}\"}} {seconds}.{nanos:09}")?;
    writeln!(out, "{name}_count{{{label},code=\"{status}\"}} {within}")
}

/// Writes the calls of a function that began: [`Family::Started`].
pub fn write_started(function: &FunctionRef, calls: u64, out: &mut String) {
    written(writeln!(out, "{}{{{}}} {calls}", Family::Started.name(), Label(function)));
}

/// Writes the instances of a function that are wanted: [`Family::Replicas`].
pub fn write_replicas(function: &FunctionRef, replicas: u32, out: &mut String) {
    written(writeln!(out, "{}{{{}}} {replicas}", Family::Replicas.name(), Label(function)));
}

/// Names hold nothing that a label's value would have to escape.
struct Label<'a>(&'a FunctionRef);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FunctionRef { name, namespace } = self.0;
        write!(f, "function_name=\"{name}.{}\"", name::of_namespace(namespace))
    }
}

fn written(result: fmt::Result) {
    result.expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_what_the_dashboards_ask_for() {
        let (hello, shop) =
            (FunctionRef::parse("hello").unwrap(), FunctionRef::parse("resize.shop").unwrap());
        let mut took = Took { sum_ns: 12_000_000_005, ..Took::default() };
        for call in [Duration::from_millis(5), Duration::from_millis(6), Duration::from_secs(12)] {
            took.buckets[bucket_of(call)] += 1;
        }
        let mut out = String::new();
        for family in Family::ALL {
            family.write_head(&mut out);
            match family {
                Family::Invocations => {
                    write_invocations(&hello, 200, 3, &mut out);
                    write_invocations(&hello, 429, 1, &mut out);
                }
                Family::Seconds => write_seconds(&hello, 200, &took, &mut out),
                Family::Started => write_started(&hello, 4, &mut out),
                Family::Replicas => write_replicas(&shop, 2, &mut out),
            }
        }
        expect![[r##"
            # HELP gateway_function_invocation_total Calls that ended, by the status that was answered.
            # TYPE gateway_function_invocation_total counter
            gateway_function_invocation_total{function_name="hello.openfaas-fn",code="200"} 3
            gateway_function_invocation_total{function_name="hello.openfaas-fn",code="429"} 1
            # HELP gateway_functions_seconds How long calls took, by the status that was answered.
            # TYPE gateway_functions_seconds histogram
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="0.005"} 1
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="0.01"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="0.025"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="0.05"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="0.1"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="0.25"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="0.5"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="1"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="2.5"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="5"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="10"} 2
            gateway_functions_seconds_bucket{function_name="hello.openfaas-fn",code="200",le="+Inf"} 3
            gateway_functions_seconds_sum{function_name="hello.openfaas-fn",code="200"} 12.000000005
            gateway_functions_seconds_count{function_name="hello.openfaas-fn",code="200"} 3
            # HELP gateway_function_invocation_started Calls that began.
            # TYPE gateway_function_invocation_started counter
            gateway_function_invocation_started{function_name="hello.openfaas-fn"} 4
            # HELP gateway_service_count Instances of a function that are wanted.
            # TYPE gateway_service_count gauge
            gateway_service_count{function_name="resize.shop"} 2
        "##]]
        .assert_eq(&out);
    }

    proptest! {
        #[test]
        fn a_call_is_in_the_first_bucket_that_holds_it(ns in 0u64..20_000_000_000) {
            let took = Duration::from_nanos(ns);
            let bucket = bucket_of(took);
            prop_assert!(BOUNDS.get(bucket).is_none_or(|(bound, _)| took <= *bound));
            prop_assert!(bucket == 0 || BOUNDS[bucket - 1].0 < took);
        }
    }

    #[test]
    fn bounds_are_written_as_they_are() {
        for (bound, text) in BOUNDS {
            assert_eq!(bound.as_secs_f64(), text.parse::<f64>().unwrap());
        }
    }
}
