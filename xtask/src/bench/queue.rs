//! `cargo xtask bench queue`: what it costs that calls are not lost, beside the same without it where there is such.
//! The chore's choice of parts stands here; each part starts servers of its own, and leaves nothing behind.

mod accept;
mod backlog;
mod drain;
mod ear;
mod pace;
mod stage;

use std::fs;
use std::path::PathBuf;

use super::figure::{self, Figure};
use super::results::{self, Section};
use super::{count, missed, release, server};
use crate::surroundings::{report, say, target_dir};

pub(super) const USAGE: &str = "queue [--program FILE] [--rounds N] [--calls N] [--only PART]…";

/// Rounds of which the median is taken.
const ROUNDS: usize = 5;

/// Calls that wait, where many do.
const CALLS: usize = 1_000_000;

const HOW: &str = "\
Calls are those of `/async-function/NAME` with bodies of 512 bytes; every 202 is durable: SQLite with `synchronous = FULL`, PostgreSQL as it is installed.
\"4 ms\" is `--commit-delay 4ms`, which has every commit take so much longer; no commit of a group is told before.
Loads as ever: the server on core 0, wrk with 64 connections on core 1, what is compared in turns within each round; all else has the server on all cores.
What is accepted in a load is due in a day, so that nothing else runs meanwhile; beside it stands the same with calls that run at once.
\"Without storing\" is the same gateway with `--queue-forgets`: it reads and checks a call, and answers 202.
A start is timed from outside: from the first byte of the request to the moment in which the function's own request reaches this program; a commit is what a 202 takes longer than `/healthz`.
A drain is timed from the first call that runs to the last that has ended, and nothing waits.";

/// How much is measured, and with what.
pub(super) struct Plan {
    rounds: usize,
    calls: usize,
    /// The program under test.
    coracle: PathBuf,
    /// A directory of this part's own.
    dir: PathBuf,
}

/// A part of the measurement: its name, as `--only` takes it, and what it does.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    measure: fn(&Plan) -> Result<Vec<Figure>, String>,
}

const PARTS: [Part; 6] = [
    Part { name: "slow-disk", measure: accept::on_a_slow_disk },
    Part { name: "accept", measure: accept::beside_forgetting },
    Part { name: "start", measure: pace::start },
    Part { name: "drain", measure: drain::on_sqlite },
    Part { name: "postgres", measure: drain::on_postgres },
    Part { name: "backlog", measure: backlog::measure },
];

/// Runs `cargo xtask bench queue` with the options that follow it.
pub(super) fn run(options: &[String]) -> Result<(), String> {
    let (mut rounds, mut calls, mut program, mut only) = (ROUNDS, CALLS, None, Vec::new());
    for option in options.chunks(2) {
        match option {
            [flag, value] if flag == "--rounds" => rounds = count(value)?,
            [flag, value] if flag == "--calls" => calls = count(value)?,
            // Now, and not after everything was built.
            [flag, value] if flag == "--program" => {
                program = Some(fs::canonicalize(value).map_err(|error| format!("{value}: {error}"))?);
            }
            [flag, value] if flag == "--only" => only.push(part(value)?),
            _ => return Err(format!("usage: cargo xtask bench {USAGE}")),
        }
    }
    let is_whole = only.is_empty() && rounds >= ROUNDS && calls >= CALLS;
    let parts = if only.is_empty() { PARTS.to_vec() } else { only };

    server::install_tools()?;
    let coracle = match program {
        Some(program) => program,
        None => release(["coracle"]).map(|[coracle]| coracle)?,
    };
    server::pin_to_load_core()?;
    // Not in memory: a commit is to cost what the disk costs.
    let dir = target_dir().join(format!("bench-{}", std::process::id()));
    let plan = Plan { rounds, calls, coracle, dir };
    let figures = measure(&plan, &parts);
    let _ = fs::remove_dir_all(&plan.dir); // What is left over is only in the way.
    let figures = figures?;

    let table = figure::table(&figures);
    report(&table);
    if is_whole {
        let command = [&["queue".to_owned()], options].concat().join(" ");
        results::record(&Section { title: "The queue", command: &command, how: HOW, table: &table })?;
    } else {
        say("not written down: that takes all parts, and no fewer rounds or calls");
    }
    missed(&figures)
}

fn measure(plan: &Plan, parts: &[Part]) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for part in parts {
        say(&format!("── {}", part.name));
        // Each part begins without leftovers of the one before.
        let _ = fs::remove_dir_all(&plan.dir);
        fs::create_dir_all(&plan.dir).map_err(|error| format!("create {}: {error}", plan.dir.display()))?;
        let measured = (part.measure)(plan).map_err(|error| format!("{}: {error}", part.name))?;
        measured.iter().for_each(|figure| say(&figure.row()));
        figures.extend(measured);
    }
    Ok(figures)
}

fn part(name: &str) -> Result<Part, String> {
    PARTS.iter().find(|part| part.name == name).copied().ok_or_else(|| {
        let names = PARTS.map(|part| part.name).join(", ");
        format!("there is no such part: `{name}`\nhint: the parts are {names}")
    })
}
