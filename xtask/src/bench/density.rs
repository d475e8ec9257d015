//! `cargo xtask bench density`: ten thousand functions on one server, from their deploy to a restart.
//! The steps follow one another on one data directory, because each is about what the one before left.

mod bulk;
mod chance;
mod numbered;
mod steps;

use std::fs;
use std::path::PathBuf;

use self::numbered::NUMBERS_MAX;
use super::figure;
use super::results::{self, Section};
use super::{count, missed, release, server};
use crate::surroundings::{report, say};

pub(super) const USAGE: &str =
    "density [--functions N] [--rounds N] [--js FILE] [--python FILE] [--program FILE]";

/// The guest of which all functions are made.
const TINY: &str = "guests/built/tiny.wasm";

/// Functions that are deployed.
const FUNCTIONS: usize = 10_000;

/// Rounds of which the median is taken.
const ROUNDS: usize = 5;

/// Too few functions for a page to have a next one.
const FUNCTIONS_MIN: usize = 100;

const HOW: &str = "\
All steps are on one data directory, in this order: the server runs on core 0, compiling included, and whoever asks it on core 1.
The functions are `guests/built/tiny.wasm`, each with a number of its own in what it answers; each answer is checked.
They are called in an order that is seeded; the load draws them by Zipf's law, in proportion to 1 / rank, anew in each round.
The load on one function is the same script with as many lines; the two follow one another in each round.
A figure of rounds is their median.";

/// How much is measured, and with what.
struct Plan {
    functions: usize,
    rounds: usize,
    /// Guests in other languages, as files.
    guests: Vec<Guest>,
    /// The program under test.
    coracle: PathBuf,
    /// A directory of this run's own.
    dir: PathBuf,
}

/// A guest in another language: an answer as short as the tiny one's, and a runtime of megabytes.
struct Guest {
    language: Language,
    /// `None` if it was not built.
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    JavaScript,
    Python,
}

/// The directory of a run; with it goes all that was written there.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // What cannot be removed lies where the system clears up.
    }
}

/// Runs `cargo xtask bench density` with the options that follow it.
pub(super) fn run(options: &[String]) -> Result<(), String> {
    let (mut functions, mut rounds) = (FUNCTIONS, ROUNDS);
    let (mut js, mut python, mut program) = (None, None, None);
    for option in options.chunks(2) {
        match option {
            [flag, value] if flag == "--functions" => functions = count(value)?,
            [flag, value] if flag == "--rounds" => rounds = count(value)?,
            [flag, value] if flag == "--js" => js = Some(file(value)?),
            [flag, value] if flag == "--python" => python = Some(file(value)?),
            [flag, value] if flag == "--program" => program = Some(file(value)?),
            _ => return Err(format!("usage: cargo xtask bench {USAGE}")),
        }
    }
    if !(FUNCTIONS_MIN..=NUMBERS_MAX).contains(&functions) {
        return Err(format!("`--functions` is {functions}; it may be {FUNCTIONS_MIN} to {NUMBERS_MAX}"));
    }
    // Another program, or fewer functions, are for a look while one works.
    let is_whole = program.is_none() && functions >= FUNCTIONS;

    server::install_tools()?;
    let coracle = match program {
        Some(program) => program,
        None => {
            let [coracle] = release(["coracle"])?;
            coracle
        }
    };
    server::pin_to_load_core()?;
    let dir = Dir(std::env::temp_dir().join(format!("coracle-bench-{}", std::process::id())));
    fs::create_dir_all(&dir.0).map_err(|error| format!("create {}: {error}", dir.0.display()))?;
    let guests = vec![
        Guest { language: Language::JavaScript, file: js },
        Guest { language: Language::Python, file: python },
    ];
    let plan = Plan { functions, rounds, guests, coracle, dir: dir.0.clone() };
    let figures = steps::all(&plan)?;

    let table = figure::table(&figures);
    report(&table);
    let absent: String = plan.guests.iter().filter(|guest| guest.file.is_none()).map(not_built).collect();
    report(&absent);
    if is_whole {
        let command = [&["density".to_owned()], options].concat().join(" ");
        let how = format!("{HOW}{absent}");
        results::record(&Section { title: "Density", command: &command, how: &how, table: &table })?;
    } else {
        say("not written down: that takes the released program, and all functions");
    }
    say("── clear up");
    drop(dir);
    missed(&figures)
}

fn not_built(guest: &Guest) -> String {
    format!("\nThe {} guest was not built, so its figure is not here.", guest.language.name())
}

fn file(text: &str) -> Result<PathBuf, String> {
    // Now, and not after everything else was measured.
    fs::canonicalize(text).map_err(|error| format!("{text}: {error}"))
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        }
    }
}
