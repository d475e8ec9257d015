//! Builds the WebAssembly guests: the functions of `examples/`, the fixtures of `guests/`.
//! Called as `cargo xtask guests`, and by `cargo xtask test`, whose tests run what it built.
//!
//! Everything comes from the registries (Debian, crates.io, npm, PyPI) and is kept by the hash of its sources and tools.

mod list;
mod project;
mod rust;
mod shelf;
mod sources;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use self::list::{GUESTS, Guest, Recipe};
use self::shelf::Shelf;
use self::tools::{Toolbox, Tools};
use crate::surroundings::{cache_dir, now, root, say, target_dir};

const USAGE: &str = "\
usage: cargo xtask guests [--check | --check-sources | --out DIR]

  (nothing)        build all guests, write the committed files, and lay all of them out for the tests
  --check          build all guests and compare the committed files, byte for byte
  --check-sources  build nothing; say whether the sources changed since the committed files were built
  --out DIR        build all guests into DIR, and leave the committed files alone";

/// The digests of the sources that the committed files were built from, one guest a line.
const COMMITTED_SOURCES: &str = "guests/built/sources.sha256";

/// Runs `cargo xtask guests` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => {
            let built = build_all()?;
            write_committed(&built)?;
            lay_out(&built, &for_tests())
        }
        ["--check"] => compare_committed(&build_all()?),
        ["--check-sources"] => compare_sources(),
        ["--out", dir] => lay_out(&build_all()?, Path::new(dir)),
        _ => Err(USAGE.to_owned()),
    }
}

/// Where the tests look for guests that are not committed.
pub(crate) fn for_tests() -> PathBuf {
    target_dir().join("guests")
}

/// The guests, each with its bytes.
type Built = Vec<(&'static Guest, Vec<u8>)>;

/// Builds every guest, or takes those that were built before from the same sources by the same tools.
fn build_all() -> Result<Built, String> {
    let start = now();
    let cache = cache_dir()?.join("guests");
    let shelf = Shelf::new(&cache);
    let mut toolbox = Toolbox::new(&cache);
    let mut built = Built::new();
    let mut kept = 0;
    for guest in &GUESTS {
        let tools = guest.recipe.language().map(|language| toolbox.of(language)).transpose()?;
        let key = shelf::key(guest, tools.map_or("", |tools| &tools.version))?;
        let wasm = match shelf.take(guest.name, &key) {
            Some(wasm) => {
                kept += 1;
                wasm
            }
            None => {
                // One at a time on this machine: what is built, is built in folders that are kept for the next time.
                let _turn = shelf.turn()?;
                match shelf.take(guest.name, &key) {
                    Some(wasm) => wasm,
                    None => {
                        let wasm = build(guest, tools, &cache)?;
                        shelf.put(guest.name, &key, &wasm)?;
                        wasm
                    }
                }
            }
        };
        built.push((guest, wasm));
    }
    let (all, seconds) = (GUESTS.len(), start.elapsed().as_secs_f32());
    say(&format!("{all} guests in {seconds:.1} s, {kept} of them built before"));
    Ok(built)
}

fn build(guest: &Guest, tools: Option<&Tools>, cache: &Path) -> Result<Vec<u8>, String> {
    say(&format!("building {}", guest.name));
    let start = now();
    let wasm = match (&guest.recipe, tools) {
        (Recipe::Rust { package, kind }, Some(tools)) => rust::build(package, *kind, tools, cache),
        (Recipe::Project { folder, language }, Some(tools)) => {
            project::build(&root().join(folder), tools, &cache.join(format!("workshop-{language:?}")))
        }
        (Recipe::Text { source }, _) => {
            wat::parse_file(root().join(source)).map_err(|error| error.to_string())
        }
        (_, None) => Err("its language has no tools".to_owned()),
    };
    let wasm = wasm.map_err(|error| format!("build {}: {error}", guest.name))?;
    let (bytes, seconds) = (wasm.len(), start.elapsed().as_secs_f32());
    say(&format!("built {}: {bytes} bytes in {seconds:.1} s", guest.name));
    Ok(wasm)
}

/// The guests that are committed as built, each with its file.
fn committed() -> impl Iterator<Item = (&'static Guest, &'static str)> {
    GUESTS.iter().filter_map(|guest| Some((guest, guest.committed?)))
}

fn write_committed(built: &Built) -> Result<(), String> {
    for (guest, wasm) in built {
        if let Some(file) = guest.committed {
            write(&root().join(file), wasm)?;
        }
    }
    write(&root().join(COMMITTED_SOURCES), committed_sources()?.as_bytes())
}

fn compare_committed(built: &Built) -> Result<(), String> {
    let differing: Vec<&str> = built
        .iter()
        .filter_map(|(guest, wasm)| Some((guest.committed?, wasm)))
        .filter(|(file, wasm)| fs::read(root().join(file)).ok().as_ref() != Some(wasm))
        .map(|(file, _)| file)
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(format!("not what their sources build to: {}\nhint: cargo xtask guests", differing.join(", ")))
}

fn compare_sources() -> Result<(), String> {
    let then = fs::read_to_string(root().join(COMMITTED_SOURCES)).unwrap_or_default();
    let now = committed_sources()?;
    let changed: Vec<&str> = now
        .lines()
        .filter(|line| !then.lines().any(|old| old == *line))
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let changed = changed.join(", ");
    Err(format!(
        "the sources changed since the committed files were built: {changed}\nhint: cargo xtask guests"
    ))
}

fn committed_sources() -> Result<String, String> {
    committed().map(|(guest, _)| Ok(format!("{}  {}\n", sources::digest(guest)?, guest.name))).collect()
}

fn lay_out(built: &Built, dir: &Path) -> Result<(), String> {
    for (guest, wasm) in built {
        write(&dir.join(format!("{}.wasm", guest.name)), wasm)?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("read {}: {error}", file.display()))
}

/// Writes a file whole or not at all, with the directories it needs.
fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let partial = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&partial, bytes))
        .and_then(|()| fs::rename(&partial, file));
    written.map_err(|error| format!("write {}: {error}", file.display()))
}
