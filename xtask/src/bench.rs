//! `cargo xtask bench`: our figures on this machine, beside what they must be.
//! The server runs on one core and the load on another; everything is on loopback and bounded in time.

mod client;
mod density;
mod figure;
mod load;
mod parts;
mod queue;
mod results;
mod sandbox;
mod server;
mod wasm;

use std::path::PathBuf;

use self::figure::Figure;
use crate::surroundings::{cargo, run_to_end, target_dir};

/// Runs `cargo xtask bench` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    match args.split_first().map(|(what, options)| (what.as_str(), options)) {
        Some(("wasm", options)) => wasm::run(options),
        Some(("density", options)) => density::run(options),
        Some(("queue", options)) => queue::run(options),
        Some(("sandbox", options)) => sandbox::run(&sandbox::SANDBOX, options),
        Some(("openfaas", options)) => sandbox::run(&sandbox::OPENFAAS, options),
        _ => {
            let suites = [sandbox::SANDBOX.usage(), sandbox::OPENFAAS.usage()];
            let usages = [wasm::USAGE, density::USAGE, queue::USAGE, &suites[0], &suites[1]];
            Err(format!("usage: cargo xtask bench {}", usages.join("\n       cargo xtask bench ")))
        }
    }
}

/// Builds programs as they are released, and says where they lie.
fn release<const N: usize>(packages: [&str; N]) -> Result<[PathBuf; N], String> {
    let named = packages.iter().flat_map(|package| ["--package", package]);
    run_to_end(cargo().args(["build", "--release", "--locked"]).args(named))?;
    Ok(packages.map(|program| target_dir().join("release").join(program)))
}

/// An error that names the figures that are not what they must be.
fn missed(figures: &[Figure]) -> Result<(), String> {
    let missed: Vec<&str> =
        figures.iter().filter(|figure| !figure.is_met()).map(|figure| figure.what()).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("not what must be: {}", missed.join("; "))) }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("`{text}` is not a number above 0"))
}
