//! Rules of style that a program can hold: how files open, what they are not called, where `unsafe` may stand.
//! Runs over every Rust file of the repository, the guests' own included.
#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::path::{Path, PathBuf};

/// Where our Rust files are.
const PLACES: [&str; 5] = ["bench", "crates", "examples", "guests", "xtask"];

/// Names that say a file has no idea yet.
const NAMELESS: [&str; 8] = ["common", "helper", "helpers", "manager", "misc", "util", "utils", "stuff"];

/// Where `unsafe` may stand: where code is mapped, and in guests, which have no host of ours.
const UNSAFE_PLACES: [&str; 3] = ["crates/coracle-runtime", "examples", "guests"];

#[test]
fn every_file_opens_with_what_it_is_for() {
    for file in rust_files() {
        assert!(text(&file).starts_with("//!"), "{} opens without `//!`", file.display());
    }
}

#[test]
fn no_file_is_called_by_a_name_that_says_nothing() {
    for file in rust_files() {
        for part in file.strip_prefix(root()).unwrap() {
            let name = Path::new(part).file_stem().unwrap_or_default();
            assert!(!NAMELESS.iter().any(|&nameless| name == nameless), "{} needs a name", file.display());
        }
    }
}

#[test]
fn unsafe_code_stands_in_the_runtime_alone() {
    for file in rust_files() {
        let place = file.strip_prefix(root()).unwrap();
        if !UNSAFE_PLACES.iter().any(|allowed| place.starts_with(allowed)) {
            assert_eq!(unsafe_line(&text(&file)), None, "{}", place.display());
        }
    }
}

/// The first line with the keyword, outside comments and strings.
fn unsafe_line(text: &str) -> Option<&str> {
    text.lines().find(|line| {
        let code = line.split("//").next().unwrap_or_default();
        // Every second part is within quotes: near enough, as this only has to find what nobody hides.
        let mut code = code.split('"').step_by(2);
        code.any(|code| {
            code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == concat!("un", "safe"))
        })
    })
}

#[test]
fn the_keyword_is_found_in_code_and_nowhere_else() {
    assert_eq!(unsafe_line("let a = 1;\nunsafe { b() }"), Some("unsafe { b() }"));
    assert_eq!(unsafe_line("// unsafe is not here\nlet unsafe_code = \"unsafe\";"), None);
}

/// Each example stands alone, so some have files in common; what is mended in one is mended in all.
#[test]
fn what_examples_have_in_common_is_the_same_in_all() {
    let copies = [
        (
            "hello-python",
            "csv-to-json",
            ["build.sh", "requirements.txt", "src/handler.py", "world.wit"].as_slice(),
        ),
        ("hello-js", "fetch", ["build.js", "package.json"].as_slice()),
    ];
    for (one, other, files) in copies {
        for file in files {
            let read = |example: &str| text(&root().join("examples").join(example).join(file));
            assert_eq!(read(one).replace(one, other), read(other), "{file} of {one} and {other}");
        }
    }
}

fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for place in PLACES {
        collect(&root().join(place), &mut files);
    }
    assert!(files.len() > PLACES.len(), "too few files found");
    files
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
