//! `cargo xtask deny`: licences, advisories and sources of all dependencies, as `deny.toml` allows them.
//! Not a step of `cargo xtask test`: it wants a program that takes minutes to build, and advisories from the network.

use crate::surroundings::{cargo, program, run_to_end};

/// Runs `cargo xtask deny` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    if program("cargo-deny").is_none() {
        return Err("cargo-deny is not installed\nhint: cargo install --locked cargo-deny".to_owned());
    }
    run_to_end(cargo().args(["deny", "check"]).args(args))
}
