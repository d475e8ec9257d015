//! `cargo xtask test`: everything that must hold before a change is taken, one step after the other.
//! `.ci/run` calls it on a fresh machine, so it installs what the steps need and is missing.

use std::process::Command;

use crate::guests;
use crate::surroundings::{cache_dir, cargo, install_missing, now, program, report, root, run_to_end, say};
use crate::tally::{self, Tally};

const USAGE: &str = "usage: cargo xtask test [--only STEP]";

/// Programs that tests run, and Debian's packages that have them.
///
/// Those with a path are run in sandboxes, which have the `/usr` of the machine and not what else is in PATH.
/// `cc -static` links with the library that comes with the headers.
const PROGRAMS: [(&str, &str); 9] = [
    ("strace", "strace"),
    ("wrk", "wrk"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/node", "nodejs"),
    ("cc", "gcc"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("pg_ctlcluster", "postgresql"),
    ("openssl", "openssl"),
    ("script", "bsdutils"),
];

/// Workspaces of their own, beside ours.
const GUEST_WORKSPACES: [&str; 3] = ["examples", "examples/hello-rust", "guests"];

/// A step: its name, as `--only` takes it, and what it does.
struct Step {
    name: &'static str,
    run: fn() -> Result<Tally, String>,
}

/// In the order of what is found soonest. Generated files, licences and the slope are compared by the tests.
const STEPS: [Step; 6] = [
    Step { name: "install", run: || install_missing(&PROGRAMS).map(|()| Tally::default()) },
    Step { name: "format", run: || format().map(|()| Tally::default()) },
    Step { name: "lint", run: || lint().map(|()| Tally::default()) },
    Step { name: "guests", run: || build_guests().map(|()| Tally::default()) },
    Step { name: "tests", run: run_tests },
    Step { name: "doctests", run: run_doctests },
];

/// Runs `cargo xtask test` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let steps: Vec<&Step> = match args[..] {
        [] => STEPS.iter().collect(),
        ["--only", name] => STEPS.iter().filter(|step| step.name == name).collect(),
        _ => return Err(USAGE.to_owned()),
    };
    if steps.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(format!("there is no such step\nhint: the steps are {}", names.join(", ")));
    }

    let mut total = Tally::default();
    let mut times = Vec::new();
    let mut failed_steps = Vec::new();
    for step in steps {
        say(&format!("── {}", step.name));
        let start = now();
        // A failed step does not hide what the later ones have to say.
        match (step.run)() {
            Ok(tally) => {
                if tally.failed > 0 {
                    failed_steps.push(step.name);
                }
                total = total.add(tally);
            }
            Err(error) => {
                say(&format!("{}: {error}", step.name));
                failed_steps.push(step.name);
                total.failed += 1;
            }
        }
        times.push((step.name, start.elapsed().as_secs()));
    }

    report("");
    for (name, seconds) in times {
        let end = if failed_steps.contains(&name) { "  failed" } else { "" };
        report(&format!("{name:<10} {:>3} min {:02} s{end}", seconds / 60, seconds % 60));
    }
    // The last line, by itself: the CI reads it.
    report(&format!("{} passed, {} failed", total.passed, total.failed));
    if failed_steps.is_empty() { Ok(()) } else { std::process::exit(1) }
}

fn format() -> Result<(), String> {
    // The short form names the files, which is enough to run the formatter.
    let check = ["fmt", "--all", "--check", "--message-format", "short"];
    let mut done = run_to_end(cargo().args(check));
    for workspace in GUEST_WORKSPACES {
        let mut command = cargo();
        command.current_dir(root().join(workspace)).args(check);
        done = done.and(run_to_end(&mut command));
    }
    done.map_err(|error| {
        format!("{error}\nhint: cargo fmt --all, also in {}", GUEST_WORKSPACES.join(" and "))
    })
}

fn lint() -> Result<(), String> {
    let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run_to_end(cargo().args(args))
}

/// Builds the examples that are not committed, which the tests call, and shows that the committed guests still build.
fn build_guests() -> Result<(), String> {
    let sources = guests::run(&["--check-sources".to_owned()]);
    guests::run(&["--out".to_owned(), guests::for_tests().display().to_string()]).and(sources)
}

fn run_tests() -> Result<Tally, String> {
    let mut command = cargo();
    if program("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--no-tests=pass"]);
    } else {
        // What nextest would run: the doctests are a step of their own.
        command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--all-targets"]);
    }
    tested(&mut command)
}

fn run_doctests() -> Result<Tally, String> {
    tested(cargo().args(["test", "--workspace", "--locked", "--no-fail-fast", "--doc"]))
}

fn tested(command: &mut Command) -> Result<Tally, String> {
    command.env("CORACLE_CACHE", cache_dir()?);
    let (tally, succeeded) = tally::run(command)?;
    if succeeded || tally.failed > 0 {
        return Ok(tally);
    }
    // No test failed, and yet the run did: it did not build.
    Err("the tests could not be run".to_owned())
}
