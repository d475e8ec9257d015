//! `cargo xtask torture`: the torture test of the queue, for long, and with a seed of one's choice.
//! The test itself is `crates/coracle/tests/torture`; a short form of it is part of the test command.

use crate::surroundings::{cargo, run_to_end, say};

const USAGE: &str = "usage: cargo xtask torture [--seconds N] [--seed N] [--only sqlite|postgres]";

/// How long each world is tortured, if nobody says otherwise.
const SECONDS: u64 = 600;

/// The worlds, and the beginnings of the names of their tests.
const WORLDS: [(&str, &str); 2] =
    [("sqlite", "one_node_on_sqlite"), ("postgres", "three_nodes_on_postgresql")];

/// Runs `cargo xtask torture` with the options that follow it.
pub(crate) fn run(options: &[String]) -> Result<(), String> {
    let (mut seconds, mut seed, mut worlds) = (SECONDS, None, WORLDS.to_vec());
    for option in options.chunks(2) {
        match option {
            [flag, value] if flag == "--seconds" => seconds = number(value)?,
            [flag, value] if flag == "--seed" => seed = Some(number(value)?),
            [flag, value] if flag == "--only" => {
                worlds.retain(|(name, _)| name == value);
                if worlds.is_empty() {
                    return Err(format!("there is no such world: `{value}`\n{USAGE}"));
                }
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    // As the tests are built anyway, so that nothing is built twice.
    let mut command = cargo();
    command.args(["test", "--workspace", "--locked", "--test", "torture", "--"]);
    // One after the other: two worlds at once would share the cores.
    command.args(worlds.iter().map(|(_, test)| *test)).args(["--nocapture", "--test-threads=1"]);
    command.env("CORACLE_TORTURE_SECONDS", seconds.to_string());
    if let Some(seed) = seed {
        command.env("CORACLE_TORTURE_SEED", seed.to_string());
    }
    run_to_end(&mut command)?;
    say("every promise was kept");
    Ok(())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}
