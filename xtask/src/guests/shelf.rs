//! Guests that were built, in the cache of this machine: a folder for each, a file for each state of its sources and tools.
//! `guests.rs` looks here before it builds. Editing one guest leaves the others where they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::list::{Guest, Recipe};
use super::{sources, write};

/// Of each guest, the states that are kept: branches take turns, and the large ones have 20 MB each.
const STATES_MAX: usize = 4;

/// The part of the cache that is ours.
pub(super) struct Shelf {
    dir: PathBuf,
}

/// The right to build, until it is dropped.
pub(super) struct Turn {
    _lock: File,
}

impl Shelf {
    pub(super) fn new(cache: &Path) -> Self {
        Self { dir: cache.join("built") }
    }

    /// What was built before under this key.
    pub(super) fn take(&self, name: &str, key: &str) -> Option<Vec<u8>> {
        fs::read(self.file(name, key)).ok()
    }

    /// Keeps what was built, and lets go of the oldest state.
    pub(super) fn put(&self, name: &str, key: &str, wasm: &[u8]) -> Result<(), String> {
        write(&self.file(name, key), wasm)?;
        let folder = self.dir.join(name);
        forget_oldest(&folder).map_err(|error| format!("clear up {}: {error}", folder.display()))
    }

    /// Waits until nobody else on this machine builds.
    pub(super) fn turn(&self) -> Result<Turn, String> {
        let file = self.dir.join("turn");
        let taken = fs::create_dir_all(&self.dir).and_then(|()| File::create(&file)).and_then(|lock| {
            lock.lock()?;
            Ok(Turn { _lock: lock })
        });
        taken.map_err(|error| format!("lock {}: {error}", file.display()))
    }

    fn file(&self, name: &str, key: &str) -> PathBuf {
        self.dir.join(name).join(format!("{key}.wasm"))
    }
}

fn forget_oldest(folder: &Path) -> std::io::Result<()> {
    let mut states: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        states.push((entry.metadata()?.modified()?, entry.path()));
    }
    states.sort();
    let surplus = states.len().saturating_sub(STATES_MAX);
    states.iter().take(surplus).try_for_each(|(_, file)| fs::remove_file(file))
}

/// What a guest is kept under: its sources, the tools, and how they are used.
pub(super) fn key(guest: &Guest, tools: &str) -> Result<String, String> {
    let (way, kind) = match &guest.recipe {
        Recipe::Rust { kind, .. } => (include_str!("rust.rs"), format!("{kind:?}")),
        Recipe::Project { .. } => (include_str!("project.rs"), String::new()),
        Recipe::Text { .. } => ("", String::new()),
    };
    let sources = sources::digest(guest)?;
    Ok(digest([sources.as_bytes(), tools.as_bytes(), way.as_bytes(), kind.as_bytes()]))
}

/// One digest of several parts.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(Sha256::digest(part));
    }
    hex(&hasher.finalize())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
