//! Instances that are frozen: what a call pays for their thaw, and what they cost while nobody calls.
//! The server says in its metrics that they are.

use std::thread;
use std::time::Duration;

use super::Plan;
use super::stage::{Cores, Stage, available_kib, call_us, path_of};
use crate::bench::figure::{Bound, Figure, Unit, median};
use crate::surroundings::say;

/// Calls of a round that find the instance warm, and that find it frozen.
const WARM_CALLS: usize = 500;
const FROZEN_CALLS: usize = 20;

/// Instances that are frozen at once, and those before them that are not counted.
const INSTANCES: usize = 500;
const BEFORE: usize = 10;

/// How long the machine is left alone before its memory is read: pages that were freed are counted late.
const SETTLE: Duration = Duration::from_secs(3);

/// A call of a frozen instance beside one of the same instance warm.
pub(super) fn thawed(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::All)?;
    stage.deploy_many(1)?;
    let path = path_of(0);
    let mut connection = stage.connect()?;
    call_us(&mut connection, &path)?;
    let (mut frozen, mut warm) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        let times = (0..WARM_CALLS).map(|_| call_us(&mut connection, &path));
        warm.push(median(&times.collect::<Result<Vec<f64>, String>>()?));
        let times = (0..FROZEN_CALLS).map(|_| {
            stage.await_frozen(1)?;
            call_us(&mut connection, &path)
        });
        frozen.push(median(&times.collect::<Result<Vec<f64>, String>>()?));
    }
    stage.clear()?;
    let bound = Bound::AtMost { must: 1_000.0, aim: 300.0 };
    let what = "call of a frozen instance beside a warm one, p50";
    Ok(vec![Figure::above(what, Unit::Microseconds, median(&frozen), median(&warm), bound)])
}

/// What frozen instances take of the machine's memory beyond their programs' own.
pub(super) fn memory(plan: &Plan) -> Result<Vec<Figure>, String> {
    let mut costs = Vec::new();
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        costs.push(cost_kib(plan)?);
    }
    let what = format!("{INSTANCES} frozen instances: memory of the machine beyond their own PSS, for each");
    Ok(vec![Figure::alone(what, Unit::KiB, median(&costs), Bound::AtMost { must: 1_024.0, aim: 300.0 })])
}

/// A function for each instance, on a server of its own: none has an instance that another round left.
fn cost_kib(plan: &Plan) -> Result<f64, String> {
    let stage = Stage::set(plan, Cores::All)?;
    stage.deploy_many(BEFORE + INSTANCES)?;
    let mut connection = stage.connect()?;
    let mut call = |numbers: std::ops::Range<usize>| -> Result<(f64, f64), String> {
        let count = numbers.end;
        for number in numbers {
            call_us(&mut connection, &path_of(number))?;
        }
        stage.await_frozen(count)?;
        thread::sleep(SETTLE);
        Ok((available_kib()?, stage.programs_kib(count)?))
    };
    // The first ones pay for what all use: they are there before it begins.
    let (available_before, own_before) = call(0..BEFORE)?;
    let (available, own) = call(BEFORE..BEFORE + INSTANCES)?;
    stage.clear()?;
    let _ = std::fs::remove_dir_all(plan.dir.join("data")); // The next round deploys anew.
    Ok((available_before - available - (own - own_before)) / INSTANCES as f64)
}
