//! `cargo xtask bench wasm`: our figures, each beside a floor where there is one, on this machine.
//! The server runs on one core and the load on another; everything is on loopback and bounded in time.

mod client;
mod figure;
mod load;
mod parts;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::figure::Figure;
use crate::surroundings::{cargo, install_missing, output_of, report, root, run_to_end, say, target_dir};

const USAGE: &str = "usage: cargo xtask bench wasm [--rounds N] [--functions N] [--only PART]";

/// Rounds of load of which the median is taken.
const ROUNDS: usize = 5;

/// Functions that are called for the first time.
const FUNCTIONS: usize = 1_000;

/// Where the results of a whole run are kept.
const RESULTS: &str = "bench/RESULTS.md";

/// How much is measured, and with what.
struct Plan {
    rounds: usize,
    functions: usize,
    /// The program under test.
    coracle: PathBuf,
    /// The programs beside it.
    floor: PathBuf,
    bare: PathBuf,
    /// A directory of this run's own.
    dir: PathBuf,
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

/// Runs `cargo xtask bench` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let Some(("wasm", options)) = args.split_first().map(|(what, rest)| (what.as_str(), rest)) else {
        return Err(USAGE.to_owned());
    };
    let (mut rounds, mut functions, mut only) = (ROUNDS, FUNCTIONS, None);
    for option in options.chunks(2) {
        match option {
            [flag, value] if flag == "--rounds" => rounds = count(value)?,
            [flag, value] if flag == "--functions" => functions = count(value)?,
            [flag, value] if flag == "--only" => only = Some(value.as_str()),
            _ => return Err(USAGE.to_owned()),
        }
    }
    let parts: Vec<&Part> = PARTS.iter().filter(|part| only.is_none_or(|only| part.name == only)).collect();
    if parts.is_empty() {
        return Err(format!(
            "there is no such part\nhint: the parts are {}",
            PARTS.map(|part| part.name).join(", ")
        ));
    }

    install_missing(&[("wrk", "wrk"), ("taskset", "util-linux")])?;
    let programs = ["--package", "coracle", "--package", "floor", "--package", "bare"];
    run_to_end(cargo().args(["build", "--release", "--locked"]).args(programs))?;
    let release = target_dir().join("release");
    let plan = Plan {
        rounds,
        functions,
        coracle: release.join("coracle"),
        floor: release.join("floor"),
        bare: release.join("bare"),
        dir: target_dir().join(format!("bench-{}", std::process::id())),
    };
    server::pin_to_load_core()?;
    let figures = measure(&plan, &parts);
    let _ = fs::remove_dir_all(&plan.dir); // What is left over is only in the way.
    let figures = figures?;

    let table = figure::table(&figures);
    report(&table);
    if only.is_none() {
        let page = page(&table, args)?;
        fs::write(root().join(RESULTS), page).map_err(|error| format!("write {RESULTS}: {error}"))?;
        say(&format!("written to {RESULTS}"));
    }
    let missed: Vec<&str> =
        figures.iter().filter(|figure| !figure.is_met()).map(|figure| figure.what()).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("below what must be: {}", missed.join("; "))) }
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

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("`{text}` is not a number above 0"))
}

fn page(table: &str, args: &[String]) -> Result<String, String> {
    let git = |args: &[&str]| output_of(Command::new("git").current_dir(root()).args(args));
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = if git(&["status", "--porcelain"])?.is_empty() {
        ""
    } else {
        ", with changes that are not committed"
    };
    let date = output_of(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Ok(format!(
        "# Results\n\n\
         Made by `cargo xtask bench {}` on {}, at commit {}{changed}.\n\
         Machine: {}, {cores} core(s) visible to the load, Linux {}.\n\
         The server and the floor run on core 0, the load on core 1, one of them at a time, round about; a figure is the median of its rounds.\n\
         The floor is `bench/floor`: bare hyper with the same runtime settings, which answers the same bytes.\n\
         The bare embedding is `bench/bare`: the same with the engine and a fresh instance for each request, and no platform.\n\n\
         {table}",
        args.join(" "),
        date.trim(),
        commit.trim(),
        processor(Path::new("/proc/cpuinfo")),
        kernel.trim(),
    ))
}

fn processor(info: &Path) -> String {
    let text = fs::read_to_string(info).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("a processor without a name", |(_, name)| name).to_owned()
}
