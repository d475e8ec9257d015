//! Every dependency may be used under a licence that `deny.toml` allows, and comes from crates.io.
//! A small part of what cargo-deny checks, which is not on every machine.

use std::path::Path;

use cargo_metadata::{CargoOpt, MetadataCommand};

const TARGET: &str = "x86_64-unknown-linux-gnu";

#[test]
fn every_dependency_is_permissive_and_from_the_registry() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let deny = std::fs::read_to_string(root.join("deny.toml")).unwrap();
    let allowed = allowed_licences(&deny);
    assert!(allowed.contains(&"Apache-2.0"), "deny.toml allows nothing");

    let metadata = MetadataCommand::new()
        .current_dir(&root)
        .features(CargoOpt::AllFeatures)
        .other_options(vec!["--locked".into(), "--filter-platform".into(), TARGET.into()])
        .exec()
        .unwrap();
    for package in &metadata.packages {
        let licence = package.license.as_deref().unwrap_or_default();
        assert!(is_allowed(licence, &allowed), "{} is under `{licence}`", package.name);
        let source = package.source.as_ref().map(|source| source.repr.as_str());
        assert!(
            source.is_none_or(|source| source == "registry+https://github.com/rust-lang/crates.io-index"),
            "{} comes from {source:?}",
            package.name
        );
    }
}

/// The strings of `allow = [ … ]` under `[licenses]`.
fn allowed_licences(deny: &str) -> Vec<&str> {
    let list = deny.split_once("[licenses]").and_then(|(_, rest)| rest.split_once("allow = ["));
    let list = list.and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split('"').skip(1).step_by(2).collect()
}

/// Whether an SPDX expression can be met with these licences. `OR` binds weaker than `AND`; an old `/` is an `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = expression.split_whitespace().peekable();
    any_of(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any_of(words, allowed);
        return words.next() == Some(")") && met;
    }
    let Some(licence) = words.next() else { return false };
    if words.next_if_eq(&"WITH").is_none() {
        return allowed.contains(&licence);
    }
    let exception = words.next().unwrap_or_default();
    allowed.contains(&format!("{licence} WITH {exception}").as_str())
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    for met in
        ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "MIT AND (GPL-3.0 OR ISC)", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(is_allowed(met, &allowed), "{met}");
    }
    for unmet in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "Apache-2.0", "MIT WITH ISC", "(MIT"]
    {
        assert!(!is_allowed(unmet, &allowed), "{unmet}");
    }
}
