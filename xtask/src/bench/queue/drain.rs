//! How many waiting calls a second are run to their end.
//! Two parts of `cargo xtask bench queue`: on SQLite, and on a PostgreSQL, which accepts too.

use std::process::Command;

use own_postgres::OwnPostgres;

use super::Plan;
use super::stage::{CONNECTIONS, Calls, Cores, IN_A_DAY, Stage};
use crate::bench::figure::{Bound, Figure, Unit, median};
use crate::surroundings::{now, output_of, say};

/// Calls that wait before a drain.
const CALLS: usize = 100_000;
/// The same on PostgreSQL.
const POSTGRES_CALLS: usize = 50_000;
/// How long filling may take: what is put is due only then.
const FILL_SECONDS: u32 = 60;
/// How long a round of accepting takes.
const ROUND_SECONDS: u32 = 3;

/// A tiny function on two cores.
pub(super) fn on_sqlite(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, "drain", Cores::All, &[])?;
    stage.deploy_tiny()?;
    let count = CALLS.min(plan.calls);
    let drained = rounds(plan, &stage, count)?;
    let what = format!("drain of {count} waiting calls to a tiny Wasm function, two cores");
    let bound = Bound::AtLeast { must: 4_000.0, aim: 12_000.0 };
    Ok(vec![Figure::alone(what, Unit::PerSecond, drained, bound)])
}

/// The same on a PostgreSQL of one's own, which syncs as it is installed.
pub(super) fn on_postgres(plan: &Plan) -> Result<Vec<Figure>, String> {
    let postgres = OwnPostgres::start().map_err(|error| format!("start PostgreSQL: {error}"))?;
    let stage = Stage::set(plan, "postgres", Cores::All, &["--store", &postgres.url()])?;
    stage.deploy_tiny()?;
    let mut accepted = Vec::new();
    stage.put("tiny", Some(IN_A_DAY), 1)?;
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        accepted.push(stage.put("tiny", Some(IN_A_DAY), ROUND_SECONDS)?.calls_per_second);
    }
    let bound = Bound::AtLeast { must: 2_000.0, aim: 6_000.0 };
    let what = format!("accept on PostgreSQL, one node, {CONNECTIONS} clients");
    let accept = Figure::alone(what, Unit::PerSecond, median(&accepted), bound);
    // On a database without what waits for tomorrow.
    drop(stage);
    let url = postgres.database("drain").map_err(|error| format!("make a database: {error}"))?;
    let stage = Stage::set(plan, "postgres-drain", Cores::All, &["--store", &url])?;
    stage.deploy_tiny()?;
    let count = POSTGRES_CALLS.min(plan.calls);
    let drained = rounds(plan, &stage, count)?;
    let what = format!("drain of {count} waiting calls on PostgreSQL, one node");
    Ok(vec![accept, Figure::alone(what, Unit::PerSecond, drained, bound)])
}

/// Calls a second from the first that runs to the last that has ended.
fn rounds(plan: &Plan, stage: &Stage<'_>, count: usize) -> Result<f64, String> {
    let mut drained = Vec::new();
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        let due = in_seconds(FILL_SECONDS)?;
        let count = stage.fill("tiny", Some(&due), count)?;
        let Calls { waiting, .. } = stage.until("the first to run", |calls| calls.waiting < count)?;
        let begun = now();
        stage.until("the last to end", Calls::is_none)?;
        drained.push(waiting as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(median(&drained))
}

/// The time so many seconds from now, as a header has it.
fn in_seconds(seconds: u32) -> Result<String, String> {
    let ahead = format!("+{seconds} seconds");
    let time = output_of(Command::new("date").args(["--utc", "--date", &ahead, "+%Y-%m-%dT%H:%M:%SZ"]))?;
    Ok(time.trim().to_owned())
}
