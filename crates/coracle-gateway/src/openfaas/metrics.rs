//! The numbers of functions under the names that OpenFaaS' dashboards know, beside ours on `/metrics`.
//! In pieces, as ours are: with ten thousand functions nobody should hold or wait for the whole.

use std::sync::Arc;

use coracle_faces::openfaas::metrics::{
    BOUNDS, BUCKETS, Family, Took, write_invocations, write_replicas, write_seconds, write_started,
};
use coracle_model::{FunctionRef, Revision};
use coracle_observe::metrics::{FunctionMetrics, Histogram};

use super::instances::Replicas;
use crate::admin::Shared;

/// The size at which a piece ends: it is as long as this, plus the lines of one function.
const PIECE_BYTES: usize = 64 << 10;

/// The status that stands for all those for which there was no room.
const OTHER: u16 = 0;

/// The numbers of this moment.
pub(crate) fn text(admin: &Shared) -> impl Iterator<Item = String> + use<> {
    let mut deployed = admin.catalog.current();
    deployed.sort_by(|a, b| a.function.cmp(&b.function));
    Text { admin: Arc::clone(admin), called: admin.observe.metrics.functions(), deployed, family: 0, next: 0 }
}

struct Text {
    admin: Shared,
    called: Vec<(FunctionRef, Arc<FunctionMetrics>)>,
    deployed: Vec<Arc<Revision>>,
    /// The family that is written, and the function in it that comes next.
    family: usize,
    next: usize,
}

impl Iterator for Text {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut piece = String::new();
        while piece.len() < PIECE_BYTES
            && let Some(family) = Family::ALL.get(self.family)
        {
            self.write_some(*family, &mut piece);
        }
        (!piece.is_empty()).then_some(piece)
    }
}

impl Text {
    fn write_some(&mut self, family: Family, out: &mut String) {
        if self.next == 0 {
            family.write_head(out);
        }
        let is_there = match family {
            Family::Replicas => self.deployed.get(self.next).map(|current| {
                write_replicas(&current.function, Replicas::of(&self.admin, current).wanted, out);
            }),
            _ => self.called.get(self.next).map(|(function, metrics)| {
                write_calls(family, function, metrics, out);
            }),
        };
        match is_there {
            Some(()) => self.next += 1,
            None => (self.family, self.next) = (self.family + 1, 0),
        }
    }
}

fn write_calls(family: Family, function: &FunctionRef, metrics: &FunctionMetrics, out: &mut String) {
    if family == Family::Started {
        return write_started(function, metrics.started.get(), out);
    }
    for (status, took) in metrics.answers.iter() {
        let status = status.unwrap_or(OTHER);
        match family {
            Family::Seconds => write_seconds(function, status, &spread(took), out),
            _ => write_invocations(function, status, took.count(), out),
        }
    }
}

/// How long calls took, in the buckets of the face; all of its bounds are among ours.
fn spread(took: &Histogram) -> Took {
    let bounds_us = BOUNDS.map(|(bound, _)| u64::try_from(bound.as_micros()).unwrap_or(u64::MAX));
    let spread = took.distribution(&bounds_us);
    let mut buckets = [0; BUCKETS];
    let mut below = 0;
    for (bucket, within) in buckets.iter_mut().zip(spread.within.into_iter().chain([spread.count])) {
        *bucket = within - below;
        below = within;
    }
    Took { buckets, sum_ns: u64::try_from(spread.sum.as_nanos()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_call_is_in_one_bucket_of_the_face() {
        let took = Histogram::default();
        for us in [70, 5_000, 5_001, 300_000, 10_000_000, 90_000_000] {
            took.observe(Duration::from_micros(us));
        }
        let Took { buckets, sum_ns } = spread(&took);
        assert_eq!(buckets, [2, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1]);
        assert_eq!(sum_ns, 100_310_071_000);
    }
}
