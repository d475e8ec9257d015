//! What a million waiting calls of one function cost: memory, a restart, and another function's patience.
//! A part of `cargo xtask bench queue`.

use std::thread;
use std::time::Duration;

use super::Plan;
use super::ear::Ear;
use super::pace::{QUIET, of_quiet};
use super::stage::{Cores, Stage};
use crate::bench::figure::{Bound, Figure, Unit, median, percentile};
use crate::surroundings::{now, say};

/// The function that has so many.
const BUSY: &str = "busy";
/// Calls of the other one, one after the other.
const QUIET_CALLS: usize = 1_000;
/// How long memory may take to settle.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn measure(plan: &Plan) -> Result<Vec<Figure>, String> {
    let (heard, held) = (Ear::answering()?, Ear::silent()?);
    let stage = Stage::set(plan, "backlog", Cores::All, &[])?;
    stage.deploy_asking(QUIET, heard.origin(), &[])?;
    // One runs, and never ends: all others wait, and are due.
    let one = ["--timeout", "24h", "--set", "queue.concurrency=1"];
    stage.deploy_asking(BUSY, held.origin(), &one)?;

    let usual = of_quiet(&stage, &heard, QUIET_CALLS)?;
    thread::sleep(SETTLE);
    let idle = stage.server.resident_mib()?;
    let count = stage.fill(&held.path(BUSY), None, plan.calls)?;
    let beside = of_quiet(&stage, &heard, QUIET_CALLS)?;
    thread::sleep(SETTLE);
    let full = stage.server.resident_mib()?;

    let (mut stage, mut firsts) = (stage, Vec::new());
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        held.clear();
        let begun = now();
        stage = stage.again()?;
        firsts.push(held.next()?.saturating_duration_since(begun).as_secs_f64() * 1e3);
    }
    thread::sleep(SETTLE);
    let restarted = stage.server.resident_mib()?;

    let p99 = |times: &[f64]| percentile(times, 99);
    let of_memory = |when: &str, mib: f64| {
        let what = format!("{count} waiting calls, resident memory {when}, above idle");
        Figure::above(what, Unit::MiB, mib, idle, Bound::AtMost { must: 200.0, aim: 16.0 })
    };
    let what = format!("kill -9 and restart with {count} waiting calls → the first one runs");
    let restart = Bound::AtMost { must: 2_000.0, aim: 300.0 };
    let what_beside = format!("a quiet function's accept → start, p99, beside one with {count} waiting");
    Ok(vec![
        of_memory("when they were put", full),
        of_memory("after a restart", restarted),
        Figure::alone(what, Unit::Milliseconds, median(&firsts), restart),
        Figure::beside(
            what_beside,
            Unit::Microseconds,
            p99(&beside),
            p99(&usual),
            Bound::AtMost { must: 3.0, aim: 1.2 },
        ),
    ])
}
