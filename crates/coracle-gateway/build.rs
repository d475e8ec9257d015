//! Names the commit that a release was built of, for `openfaas/info.rs`.
//! Cargo runs it; only a release asks git, so that nobody who develops builds anew because of a commit.

#![expect(clippy::disallowed_methods, reason = "cargo tells a build script of its build in the environment")]

use std::path::Path;
use std::process::Command;

/// Where this lies in our own checkout: in another one, as that of a distribution, the commit says nothing of us.
const PLACE: &str = "crates/coracle-gateway/";

fn main() {
    println!("cargo::rerun-if-env-changed=CORACLE_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let is_named = std::env::var_os("CORACLE_COMMIT").is_some();
    let is_release = std::env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    if is_named || !is_release || git(&["rev-parse", "--show-prefix"]).as_deref() != Some(PLACE) {
        return;
    }
    let branch = git(&["symbolic-ref", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // A file that is not there would have this run at every build.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        println!("cargo::rustc-env=CORACLE_COMMIT={commit}");
    }
}

/// What git says; nothing where it is not there, or has nothing to say.
fn git(words: &[&str]) -> Option<String> {
    let said = Command::new("git").args(words).output().ok().filter(|said| said.status.success())?;
    let text = String::from_utf8(said.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
