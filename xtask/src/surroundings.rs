//! What a chore stands in: the repository, the environment, the clock, the terminal, other programs.
//! All chores call it, so that each of these is touched in one place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// The cargo that runs us, to be run in the root of the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where compiled guest code is kept between runs.
pub(crate) fn cache_dir() -> Result<PathBuf, String> {
    if let Some(dir) = variable("CORACLE_CACHE") {
        return Ok(root().join(dir));
    }
    let home = variable("HOME").ok_or("neither CORACLE_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/coracle"))
}

/// Where a program lies, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let paths = variable("PATH")?;
    std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Runs a program to its end; its output goes where ours goes.
pub(crate) fn run_to_end(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_owned();
    let status = command.status().map_err(|error| format!("run {}: {error}", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", program.display())) }
}

/// Runs a program to its end, and returns what it printed to stdout.
pub(crate) fn output_of(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_owned();
    let output = command.output().map_err(|error| format!("run {}: {error}", program.display()))?;
    if !output.status.success() {
        let talk = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} ended with {}: {}", program.display(), output.status, talk.trim()));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("output of {}: {error}", program.display()))
}

/// Installs those of Debian's packages whose program is missing.
pub(crate) fn install_missing(programs: &[(&str, &str)]) -> Result<(), String> {
    let missing: Vec<&str> =
        programs.iter().filter(|(name, _)| program(name).is_none()).map(|&(_, package)| package).collect();
    install(&missing)
}

/// Installs some of Debian's packages.
pub(crate) fn install(packages: &[&str]) -> Result<(), String> {
    if packages.is_empty() {
        return Ok(());
    }
    say(&format!("installing {}", packages.join(", ")));
    let apt = |args: &[&str]| {
        run_to_end(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(args))
    };
    apt(&["update"])
        .and_then(|()| apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat()))
        .map_err(|error| format!("{error}\nhint: as root: apt-get install {}", packages.join(" ")))
}

/// A variable of the environment that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "a chore is a program of its own, and reads its environment here"
)]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The present moment, to measure from.
#[expect(
    clippy::disallowed_methods,
    reason = "a chore tells how long things took; nothing else depends on it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Talks to the person who runs the chore.
#[expect(clippy::print_stderr, reason = "talk goes to stderr")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Says a result, for a person or for a program that reads our output.
#[expect(clippy::print_stdout, reason = "results go to stdout")]
pub(crate) fn report(line: &str) {
    println!("{line}");
}
