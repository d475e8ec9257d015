//! Code that is mapped: on first call, shared by all that use the artifact, let go when others need the room.
//! Letting go takes long (0.4 ms for 160 KB, measured), so it is done off the call path.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use coracle_model::{Contract, Digest};
use wasmtime::component::Linker;
use wasmtime::{Engine, error::Context as _};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::wasm::code_cache::Mapped;
use crate::wasm::guest::Guest;

/// What a mapped component costs beside its file, in bytes: its structures, measured at some 40 KB for a small one.
const STRUCTURE_BYTES: u64 = 64 << 10;

/// Components that are mapped at most: each takes 3 or 4 of the 65,530 maps that a process may have by default.
const MAPPED_MAX: usize = 8_000;

/// Code that is mapped and linked.
pub(super) struct Program {
    pub(super) entry: Entry,
    bytes: u64,
    used: AtomicU64,
}

/// How mapped code is entered.
pub(super) enum Entry {
    Component(ProxyPre<Guest>),
    Command(CommandPre<Guest>),
}

impl Program {
    /// Links mapped code with all that the platform provides.
    pub(super) fn link(mapped: &Mapped, linker: &Linker<Guest>) -> wasmtime::Result<Self> {
        let pre = linker.instantiate_pre(&mapped.component).context("link")?;
        let entry = match mapped.contract {
            Contract::Component => Entry::Component(ProxyPre::new(pre)?),
            Contract::Stdio => Entry::Command(CommandPre::new(pre)?),
            Contract::Http | Contract::Watchdog => wasmtime::bail!("code of WebAssembly is no program"),
        };
        Ok(Self { entry, bytes: mapped.bytes + STRUCTURE_BYTES, used: AtomicU64::new(0) })
    }
}

/// A linker that provides the interfaces of `inspect`, and a place for the capabilities to come.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    // Streams again, as they are without the context of WASI, which no guest then has for them alone.
    linker.allow_shadowing(true);
    wasmtime_wasi_io::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(false);
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

/// The mapped code, bounded by bytes.
#[derive(Debug)]
pub(super) struct Loaded {
    bytes_max: u64,
    // Std lock: held for one look-up or insertion, never over the disk.
    programs: RwLock<foldhash::HashMap<Digest, Arc<Program>>>,
    bytes: AtomicU64,
    /// Advances with every load; a program remembers when it was used last.
    age: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) evictions: AtomicU64,
    /// One load at a time for each artifact.
    flights: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl Loaded {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            programs: RwLock::default(),
            bytes: AtomicU64::new(0),
            age: AtomicU64::new(1),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            flights: Mutex::default(),
        }
    }

    /// The program of an artifact, if it is mapped.
    pub(super) fn get(&self, artifact: &Digest) -> Option<Arc<Program>> {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
        let program = programs.get(artifact)?;
        let age = self.age.load(Ordering::Relaxed);
        if program.used.load(Ordering::Relaxed) != age {
            program.used.store(age, Ordering::Relaxed);
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(program))
    }

    /// Whoever holds it is the only one to load this artifact.
    pub(super) fn flight(&self, artifact: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        Arc::clone(flights.entry(*artifact).or_default())
    }

    /// Keeps a program, and gives those that must go for it: drop them off the call path.
    #[must_use]
    pub(super) fn insert(&self, artifact: Digest, program: Arc<Program>) -> Vec<Arc<Program>> {
        self.misses.fetch_add(1, Ordering::Relaxed);
        program.used.store(self.age.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let bytes = program.bytes;
        let mut programs = self.programs.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = programs.insert(artifact, program);
        let gone = replaced.as_ref().map_or(0, |old| old.bytes);
        let total = self.bytes.load(Ordering::Relaxed) + bytes - gone;
        self.bytes.store(total, Ordering::Relaxed);
        let mut let_go: Vec<_> = replaced.into_iter().collect();
        if total > self.bytes_max || programs.len() > MAPPED_MAX {
            // Somewhat below the bound, so that a full cache does not evict for every load.
            let target = Target { bytes: self.bytes_max / 10 * 9, programs: MAPPED_MAX / 10 * 9 };
            let_go.extend(self.evict(&mut programs, &artifact, &target));
        }
        let_go
    }

    /// Lets go of half of what is mapped, because the process has no room for another mapping.
    #[must_use]
    pub(super) fn halve(&self) -> Vec<Arc<Program>> {
        let mut programs = self.programs.write().unwrap_or_else(PoisonError::into_inner);
        let target = Target { bytes: self.bytes.load(Ordering::Relaxed) / 2, programs: programs.len() / 2 };
        let none = Digest::from_bytes([0; 32]);
        self.evict(&mut programs, &none, &target)
    }

    /// How many are mapped, and their bytes.
    pub(super) fn size(&self) -> (usize, u64) {
        (
            self.programs.read().unwrap_or_else(PoisonError::into_inner).len(),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    fn evict(
        &self,
        programs: &mut foldhash::HashMap<Digest, Arc<Program>>,
        keep: &Digest,
        target: &Target,
    ) -> Vec<Arc<Program>> {
        let mut by_age: Vec<_> = programs
            .iter()
            .filter(|(digest, _)| *digest != keep)
            .map(|(digest, program)| (program.used.load(Ordering::Relaxed), *digest))
            .collect();
        by_age.sort_unstable();
        let mut let_go = Vec::new();
        for (_, digest) in by_age {
            if self.bytes.load(Ordering::Relaxed) <= target.bytes && programs.len() <= target.programs {
                break;
            }
            if let Some(program) = programs.remove(&digest) {
                self.bytes.fetch_sub(program.bytes, Ordering::Relaxed);
                let_go.push(program);
            }
        }
        self.evictions.fetch_add(let_go.len() as u64, Ordering::Relaxed);
        let_go
    }
}

struct Target {
    bytes: u64,
    programs: usize,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
