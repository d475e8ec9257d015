//! `cargo xtask generate`: writes again every checked-in file that is made from the code.
//! The tests that compare these files also write them, when `UPDATE_EXPECT` is set; so nothing of the workspace is linked here.

use crate::surroundings::{cargo, run_to_end};

/// The tests that own a generated file, in the order in which one reads what the other wrote.
const OWNERS: [&[&str]; 2] = [
    // docs/openapi.json; by the module, since a test that is renamed would be passed over without a word.
    &["--package", "coracle-api", "--lib", "paths::"],
    // docs/reference.md (which reads the one above), docs/metrics.md, docs/errors/README.md
    &["--package", "xtask", "--test", "generated"],
];

/// Runs `cargo xtask generate`.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err("usage: cargo xtask generate".to_owned());
    }
    for owner in OWNERS {
        run_to_end(cargo().env("UPDATE_EXPECT", "1").args(["test", "--quiet"]).args(owner))?;
    }
    Ok(())
}
