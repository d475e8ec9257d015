//! `cargo xtask bench wasm`: what a call costs, each figure beside a floor where there is one.
//! The chore's choice of parts stands here, what they measure in `parts.rs`.

use std::fs;
use std::path::PathBuf;

use super::figure::{self, Figure};
use super::results::{self, Section};
use super::{count, missed, parts, release, server};
use crate::surroundings::{report, say, target_dir};

pub(super) const USAGE: &str = "wasm [--rounds N] [--functions N] [--only PART]";

/// Rounds of load of which the median is taken.
const ROUNDS: usize = 5;

/// Functions that are called for the first time.
const FUNCTIONS: usize = 1_000;

const HOW: &str = "\
The server and the floor run on core 0, the load on core 1, one of them at a time, round about; a figure is the median of its rounds.
The floor is `bench/floor`: bare hyper with the same runtime settings, which answers the same bytes.
The bare embedding is `bench/bare`: the same with the engine and a fresh instance for each request, and no platform.";

/// How much is measured, and with what.
pub(super) struct Plan {
    pub(super) rounds: usize,
    pub(super) functions: usize,
    /// The program under test.
    pub(super) coracle: PathBuf,
    /// The programs beside it.
    pub(super) floor: PathBuf,
    pub(super) bare: PathBuf,
    /// A directory of this run's own.
    pub(super) dir: PathBuf,
}

/// A part of the measurement: its name, as `--only` takes it, and what it does.
struct Part {
    name: &'static str,
    measure: fn(&Plan) -> Result<Vec<Figure>, String>,
}

const PARTS: [Part; 5] = [
    Part { name: "calls", measure: parts::calls },
    Part { name: "first", measure: parts::first_calls },
    Part { name: "start", measure: parts::start },
    Part { name: "idle", measure: parts::idle },
    Part { name: "stream", measure: parts::stream },
];

/// Runs `cargo xtask bench wasm` with the options that follow it.
pub(super) fn run(options: &[String]) -> Result<(), String> {
    let usage = || format!("usage: cargo xtask bench {USAGE}");
    let (mut rounds, mut functions, mut only) = (ROUNDS, FUNCTIONS, None);
    for option in options.chunks(2) {
        match option {
            [flag, value] if flag == "--rounds" => rounds = count(value)?,
            [flag, value] if flag == "--functions" => functions = count(value)?,
            [flag, value] if flag == "--only" => only = Some(value.as_str()),
            _ => return Err(usage()),
        }
    }
    let parts: Vec<&Part> = PARTS.iter().filter(|part| only.is_none_or(|only| part.name == only)).collect();
    if parts.is_empty() {
        return Err(format!(
            "there is no such part\nhint: the parts are {}",
            PARTS.map(|part| part.name).join(", ")
        ));
    }

    server::install_tools()?;
    let [coracle, floor, bare] = release(["coracle", "floor", "bare"])?;
    server::pin_to_load_core()?;
    let dir = target_dir().join(format!("bench-{}", std::process::id()));
    let plan = Plan { rounds, functions, coracle, floor, bare, dir };
    let figures = measure(&plan, &parts);
    let _ = fs::remove_dir_all(&plan.dir); // What is left over is only in the way.
    let figures = figures?;

    let table = figure::table(&figures);
    report(&table);
    if only.is_none() {
        let command = [&["wasm".to_owned()], options].concat().join(" ");
        results::record(&Section { title: "Calls", command: &command, how: HOW, table: &table })?;
    }
    missed(&figures)
}

fn measure(plan: &Plan, parts: &[&Part]) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for part in parts {
        say(&format!("── {}", part.name));
        // Each part begins on a machine without leftovers of the one before.
        let _ = fs::remove_dir_all(&plan.dir);
        fs::create_dir_all(&plan.dir).map_err(|error| format!("create {}: {error}", plan.dir.display()))?;
        figures.extend((part.measure)(plan).map_err(|error| format!("{}: {error}", part.name))?);
    }
    Ok(figures)
}
