//! The slope of ARCHITECTURE.md: arrows between crates only go down, and each outside world has one crate that knows it.
//! Read from cargo's own metadata, so that a new arrow in any Cargo.toml is seen here.
#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::path::Path;

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package};

/// Each crate and its level; a crate may only use those on lower ones.
const LEVELS: [(&str, u8); 13] = [
    ("coracle", 8),
    ("coracle-gateway", 7),
    ("coracle-events", 6),
    ("coracle-flow", 6),
    ("coracle-queue", 5),
    ("coracle-invoke", 4),
    ("coracle-catalog", 3),
    ("coracle-runtime", 3),
    ("coracle-store", 2),
    ("coracle-observe", 2),
    ("coracle-api", 2),
    ("coracle-faces", 2),
    ("coracle-model", 1),
];

/// Crates that stand beside the house, and use what they like.
const OUTSIDE: [&str; 5] = ["xtask", "floor", "bare", "proxy", "own-postgres"];

/// Arrows that go down, and still must not be.
const NEVER: [(&str, &str); 5] = [
    // Invoke knows no HTTP, neither that of others nor our own.
    ("coracle-invoke", "coracle-api"),
    ("coracle-invoke", "coracle-faces"),
    ("coracle-catalog", "coracle-api"),
    ("coracle-runtime", "coracle-api"),
    ("coracle-runtime", "coracle-faces"),
];

/// All that the model may use: data, and no I/O.
const MODEL_USES: [&str; 8] =
    ["bytes", "http", "http-body", "http-body-util", "jiff", "serde", "serde_json", "thiserror"];

/// An outside world, by the beginning of its crates' names, and the one crate that knows it.
const KNOWN_BY: [(&str, &str); 9] = [
    ("wasmtime", "coracle-runtime"),
    ("cranelift", "coracle-runtime"),
    ("libcontainer", "coracle-runtime"),
    ("rusqlite", "coracle-store"),
    ("tokio-postgres", "coracle-store"),
    ("axum", "coracle-gateway"),
    ("clap", "coracle"),
    ("ratatui", "coracle"),
    ("crossterm", "coracle"),
];

#[test]
fn every_crate_has_a_level() {
    for package in packages(&metadata()) {
        let name = package.name.as_str();
        assert!(
            OUTSIDE.contains(&name) || level(name).is_some(),
            "{name} has no level: give it one in DESIGN's section 4, and here"
        );
    }
}

#[test]
fn arrows_only_go_down() {
    for (from, dependency) in arrows(&metadata()) {
        let (Some(above), Some(below)) = (level(&from), level(&dependency.name)) else { continue };
        assert!(below < above, "{from} uses {}, which is not below it", dependency.name);
        assert!(
            !NEVER.contains(&(from.as_str(), dependency.name.as_str())),
            "{from} uses {}, of which it must not know",
            dependency.name
        );
    }
}

#[test]
fn the_model_touches_no_io() {
    for (from, dependency) in arrows(&metadata()) {
        assert!(
            from != "coracle-model" || MODEL_USES.contains(&dependency.name.as_str()),
            "the model uses {}: if that does no I/O, say so in MODEL_USES",
            dependency.name
        );
    }
}

#[test]
fn each_outside_world_is_known_by_one_crate() {
    for (from, dependency) in arrows(&metadata()) {
        for (prefix, owner) in KNOWN_BY {
            assert!(
                from == owner || !dependency.name.starts_with(prefix),
                "{from} uses {}, which is {owner}'s",
                dependency.name
            );
        }
        let serves = dependency.name.starts_with("hyper")
            && dependency.features.iter().any(|feature| feature.starts_with("server") || feature == "full");
        assert!(!serves || from == "coracle-gateway", "{from} serves HTTP, which is the gateway's");
    }
}

fn metadata() -> Metadata {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    MetadataCommand::new().current_dir(root).no_deps().exec().unwrap()
}

fn packages(metadata: &Metadata) -> Vec<&Package> {
    let packages = metadata.workspace_packages();
    assert!(packages.len() > OUTSIDE.len(), "no packages found");
    packages
}

/// What each crate of the house uses when it runs; tests may use more.
fn arrows(metadata: &Metadata) -> Vec<(String, Dependency)> {
    packages(metadata)
        .into_iter()
        .filter(|package| !OUTSIDE.contains(&package.name.as_str()))
        .flat_map(|package| {
            let used = package.dependencies.iter().filter(|used| used.kind != DependencyKind::Development);
            used.map(|used| (package.name.to_string(), used.clone()))
        })
        .collect()
}

fn level(name: &str) -> Option<u8> {
    LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
}
