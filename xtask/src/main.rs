//! Chores of the project, one file each: `cargo xtask test`, `bench`, `torture`, `generate`, `guests`, `deny`.
//! People call them, and `.ci/run` calls the first.

mod bench;
mod deny;
mod generate;
mod guests;
mod surroundings;
mod tally;
mod test;
mod torture;

use std::process::ExitCode;

use crate::surroundings::say;

const USAGE: &str = "\
usage: cargo xtask CHORE

  test [--only STEP]       formatting, lints, guests, generated files, all tests
  generate                 write again what is made from the code: openapi.json, tables under docs/
  guests                   build the WebAssembly guests, for the tests, and write the committed files
  bench wasm [--rounds N] [--functions N] [--only PART]
                           measure beside a floor; all parts together write bench/RESULTS.md
  bench density [--functions N] [--rounds N] [--js FILE] [--python FILE] [--program FILE]
                           measure ten thousand functions on one server, in bench/RESULTS.md too
  bench sandbox [--program FILE] [--rounds N] [--only PART]…
                           measure programs and images in sandboxes, in bench/RESULTS.md too
  bench queue [--program FILE] [--rounds N] [--only PART]…
                           measure the durable queue, in bench/RESULTS.md too
  torture [--seconds N] [--seed N] [--only sqlite|postgres]
                           kill nodes and their database for long, and see that every promise was kept
  deny                     licences, advisories and sources of all dependencies";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((chore, rest)) => match chore.as_str() {
            "test" => test::run(rest),
            "generate" => generate::run(rest),
            "guests" => guests::run(rest),
            "bench" => bench::run(rest),
            "torture" => torture::run(rest),
            "deny" => deny::run(rest),
            _ => Err(USAGE.to_owned()),
        },
        None => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}
