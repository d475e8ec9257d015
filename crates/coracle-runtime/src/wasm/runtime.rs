//! The runtime: one engine, its compiler, and the code that is mapped.
//! Invoke starts instances through it; the gateway prepares uploads with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_model::{Clock, Contract, Digest, Problem, Revision, code};
use coracle_store::Artifacts;
use tokio::time::Instant;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::host::Host;
use crate::oci::{Blueprint, Launched, Programs};
use crate::wasm::code_cache::{CodeCache, Mapped, NoCode};
use crate::wasm::compile::{CompileBounds, Compiled, Compiler};
use crate::wasm::engine::{self, Ticker};
use crate::wasm::guest::{Guest, Plan};
use crate::wasm::instance::Instance;
use crate::wasm::loaded::{Loaded, Program, linker};

/// Runs code; a cheap handle to share.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    engine: Engine,
    linker: Linker<Guest>,
    ticker: Arc<Ticker>,
    compiler: Compiler,
    cache: CodeCache,
    loaded: Loaded,
    artifacts: Artifacts,
    programs: Programs,
    host: Arc<dyn Host>,
    clock: Arc<dyn Clock>,
    bounds: Bounds,
    compiles: AtomicU64,
    compile_us: AtomicU64,
    rebuilt: AtomicU64,
}

/// The bounds of the runtime, for all functions together.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Instances that serve calls at once.
    pub instances: u32,
    /// Instances that wait for a call, beside those.
    pub idle: u32,
    /// Mapped machine code, in bytes.
    pub code_bytes: u64,
    /// Memory of one compile, in bytes.
    pub compile_memory_bytes: u64,
    /// Time of one compile.
    pub compile_timeout: Duration,
    /// Whether parts of compiled code are kept for the next revision of it: only where all who deploy trust each other.
    pub keep_parts: bool,
}

impl Bounds {
    /// The usual ones.
    pub const DEFAULT: Self = Self {
        instances: 1_000,
        idle: 64,
        code_bytes: 256 << 20,
        compile_memory_bytes: 2 << 30,
        compile_timeout: Duration::from_secs(180),
        keep_parts: false,
    };
}

/// Code that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// How it is spoken to.
    pub contract: Contract,
    /// The interfaces it imports.
    pub imports: Vec<String>,
}

/// An instance that was started.
#[derive(Debug)]
pub struct Started {
    /// It is ready for a call.
    pub instance: Instance,
    /// Whether its code was mapped already.
    pub was_mapped: bool,
}

/// What the runtime has and did so far.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Instances at once, at most.
    pub instances_max: u32,
    /// Components whose code is mapped.
    pub mapped: usize,
    /// Their bytes, and the bound on them.
    pub mapped_bytes: u64,
    /// The bound on those bytes.
    pub mapped_bytes_max: u64,
    /// Starts of an instance that found their code mapped.
    pub hits: u64,
    /// Starts that had to map it.
    pub misses: u64,
    /// Components that were let go for others.
    pub evictions: u64,
    /// Compiles, and the time they took.
    pub compiles: u64,
    /// The time that compiles took, on the clock.
    pub compile_time: Duration,
    /// Damaged files of code that were made anew.
    pub rebuilt: u64,
    /// Whether the kernel tells which pages an instance wrote, which makes a fresh instance twice as fast.
    pub pagemap_scan: bool,
}

impl Runtime {
    /// Starts the engine.
    ///
    /// `cache` is the folder for machine code, `program` this very binary, which is the compile process too.
    ///
    /// # Errors
    /// When the address space or the folder cannot be had.
    pub fn open(
        bounds: Bounds,
        artifacts: Artifacts,
        programs: Programs,
        cache: &Path,
        program: PathBuf,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Problem> {
        let no_engine = |error: wasmtime::Error| {
            Problem::new(
                &code::INTERNAL,
                format!("reserve room for {} instances: {error:#}", bounds.instances),
            )
            .hint("start with fewer, `--instances 100`: each reserves 4 GiB of address space, not of memory")
        };
        let engine = engine::new(bounds.instances.saturating_add(bounds.idle)).map_err(no_engine)?;
        let ticker = Ticker::start(&engine)
            .map_err(|error| Problem::new(&code::INTERNAL, format!("start the epoch thread: {error}")))?;
        let compile =
            CompileBounds { memory_bytes: bounds.compile_memory_bytes, timeout: bounds.compile_timeout };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self(Arc::new(Inner {
            linker: linker(&engine).map_err(no_engine)?,
            cache: CodeCache::open(cache, &engine)?,
            engine,
            ticker: Arc::new(ticker),
            compiler: Compiler::new(program, compile, cores.div_ceil(2)),
            loaded: Loaded::new(bounds.code_bytes),
            artifacts,
            programs,
            host,
            clock,
            bounds,
            compiles: AtomicU64::new(0),
            compile_us: AtomicU64::new(0),
            rebuilt: AtomicU64::new(0),
        })))
    }

    /// Looks at an artifact and compiles it, so that it can be deployed. `before` is the one that it follows:
    /// where parts are kept, those of it that did not change are not compiled again.
    ///
    /// # Errors
    /// Why it cannot be a function, each reason with a code of its own.
    pub async fn prepare(&self, artifact: Digest, before: Option<Digest>) -> Result<Prepared, Problem> {
        let inner = &self.0;
        let known = blocking({
            let inner = Arc::clone(inner);
            move || inner.cache.known(&artifact)
        })
        .await?;
        let Compiled { contract, imports } = match known {
            Ok(compiled) => compiled,
            Err(_) => {
                self.load(artifact, before).await.map_err(|problem| *problem)?;
                let known = || {
                    let inner = Arc::clone(inner);
                    blocking(move || inner.cache.known(&artifact))
                };
                if known().await?.is_err() {
                    // It was mapped since before its files went away.
                    self.compile(artifact, before).await?;
                }
                known().await?.map_err(|_| {
                    Problem::new(&code::INTERNAL, "the compiled code went away while it was looked at")
                })?
            }
        };
        Ok(Prepared { contract, imports })
    }

    /// What all instances of a revision share; keep it as long as the revision is current.
    pub fn plan(&self, revision: Arc<Revision>) -> Plan {
        Plan::new(revision, Arc::clone(&self.0.host), Arc::clone(&self.0.clock))
    }

    /// Starts an instance; maps the code first, if it is not.
    ///
    /// # Errors
    /// When the guest cannot start, the code cannot be mapped, or there is no room.
    pub async fn start(&self, plan: &Arc<Plan>, deadline: Instant) -> Result<Started, Box<Problem>> {
        let artifact = plan.revision().code.digest();
        let (program, was_mapped) = match self.0.loaded.get(&artifact) {
            Some(program) => (program, true),
            None => (Box::pin(self.load(artifact, None)).await?, false),
        };
        let instance = Instance::start(plan, program, &self.0.ticker, deadline).await?;
        Ok(Started { instance, was_mapped })
    }

    /// What instances of a revision of a program are made by; keep it as long as the revision is current.
    pub fn blueprint(&self, revision: Arc<Revision>) -> Arc<Blueprint> {
        let inner = &self.0;
        Arc::new(inner.programs.blueprint(revision, Arc::clone(&inner.host), Arc::clone(&inner.clock)))
    }

    /// Starts an instance of a program: over when it is ready for calls. Dropping the future leaves nothing of it.
    ///
    /// # Errors
    /// Why it is not ready, in time or at all.
    pub async fn launch(&self, blueprint: &Arc<Blueprint>) -> Result<Launched, Box<Problem>> {
        self.0.programs.launch(blueprint).await
    }

    /// The programs that it runs, and their images.
    pub fn programs(&self) -> &Programs {
        &self.0.programs
    }

    /// Removes what was made of an artifact that is removed; what is mapped or mounted stays so while it is used.
    pub fn forget(&self, artifact: &Digest) {
        self.0.cache.discard(artifact);
        self.0.programs.forget(artifact);
    }

    /// What it has and did so far.
    pub fn status(&self) -> Status {
        let inner = &self.0;
        let (mapped, mapped_bytes) = inner.loaded.size();
        Status {
            instances_max: inner.bounds.instances,
            mapped,
            mapped_bytes,
            mapped_bytes_max: inner.bounds.code_bytes,
            hits: inner.loaded.hits.load(Ordering::Relaxed),
            misses: inner.loaded.misses.load(Ordering::Relaxed),
            evictions: inner.loaded.evictions.load(Ordering::Relaxed),
            compiles: inner.compiles.load(Ordering::Relaxed),
            compile_time: Duration::from_micros(inner.compile_us.load(Ordering::Relaxed)),
            rebuilt: inner.rebuilt.load(Ordering::Relaxed),
            pagemap_scan: engine::pagemap_scan_works(),
        }
    }

    /// Maps the code of an artifact; makes it first if it is missing or damaged.
    async fn load(&self, artifact: Digest, before: Option<Digest>) -> Result<Arc<Program>, Box<Problem>> {
        let inner = &self.0;
        let flight = inner.loaded.flight(&artifact);
        let _alone = flight.lock().await;
        if let Some(program) = inner.loaded.get(&artifact) {
            return Ok(program);
        }
        let program = match self.map(artifact).await? {
            Ok(program) => program,
            Err(reason) => {
                if let NoCode::Damaged(what) = &reason {
                    tracing::warn!(%artifact, reason = %what, "compiled code is damaged: it is made anew");
                    inner.rebuilt.fetch_add(1, Ordering::Relaxed);
                    inner.cache.discard(&artifact);
                }
                self.compile(artifact, before).await?;
                self.map(artifact).await?.map_err(|reason| Box::new(unmappable(artifact, &reason)))?
            }
        };
        let let_go = inner.loaded.insert(artifact, Arc::clone(&program));
        if !let_go.is_empty() {
            tokio::task::spawn_blocking(move || drop(let_go));
        }
        Ok(program)
    }

    /// Maps and links code; without room for it, others are let go first.
    async fn map(&self, artifact: Digest) -> Result<Result<Arc<Program>, NoCode>, Problem> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let mapped = match inner.cache.map(&artifact, &inner.engine) {
                Err(NoCode::NoRoom(error)) => {
                    tracing::warn!(%error, "no room for another mapping: half of the mapped code is let go");
                    drop(inner.loaded.halve());
                    inner.cache.map(&artifact, &inner.engine)
                }
                mapped => mapped,
            };
            let mapped: Mapped = match mapped {
                Ok(mapped) => mapped,
                Err(reason) => return Ok(Err(reason)),
            };
            let program = Program::link(&mapped, &inner.linker).map_err(|error| {
                Problem::new(
                    &code::UNKNOWN_IMPORT,
                    format!("the code does not fit what is provided: {:#}", error.root_cause()),
                )
                .hint("build it against WASI 0.2 as published, with current tools")
            })?;
            Ok(Ok(Arc::new(program)))
        })
        .await?
    }

    async fn compile(&self, artifact: Digest, before: Option<Digest>) -> Result<(), Problem> {
        let inner = &self.0;
        // The artifact is checked against its name first: what was damaged on disk must not become code.
        let wasm = {
            let inner = Arc::clone(inner);
            blocking(move || {
                inner.artifacts.verify(&artifact)?;
                inner.artifacts.open_file(&artifact)
            })
            .await?
            .map_err(|error| {
                Problem::new(&code::ARTIFACT_DAMAGED, format!("read the code {}: {error}", artifact.short()))
                    .hint("deploy the function again, or restore a backup")
            })?
        };
        let draft = inner.cache.draft(&artifact);
        let begun = inner.clock.instant();
        let parts = inner.bounds.keep_parts.then(|| inner.cache.part_files(&draft, before.as_ref()));
        let compiled = inner.compiler.compile(wasm, &draft, parts.clone()).await;
        let took = inner.clock.instant().duration_since(begun);
        inner.compiles.fetch_add(1, Ordering::Relaxed);
        inner.compile_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let inner = Arc::clone(inner);
        blocking(move || {
            let kept = compiled.and_then(|compiled| {
                inner.cache.keep(&artifact, &draft, compiled).map_err(|error| match error.kind() {
                    std::io::ErrorKind::StorageFull => {
                        Problem::new(&code::DISK_FULL, "keep the compiled code: the disk is full")
                    }
                    _ => Problem::new(&code::INTERNAL, format!("keep the compiled code: {error}")),
                })
            });
            if kept.is_err() {
                // It may never have been made.
                let _ = std::fs::remove_file(&draft);
            }
            if let Some(parts) = parts {
                inner.cache.keep_parts(&artifact, &parts, kept.is_ok());
            }
            kept
        })
        .await?
    }
}

fn unmappable(artifact: Digest, reason: &NoCode) -> Problem {
    let what = match reason {
        NoCode::Missing => "it is missing".to_owned(),
        NoCode::Damaged(what) => what.clone(),
        NoCode::NoRoom(error) => format!("{error:#}"),
    };
    Problem::new(&code::ARTIFACT_DAMAGED, format!("map the code of {}: {what}", artifact.short()))
        .hint("if maps are short, raise `sysctl vm.max_map_count`")
}

/// Does work that waits for the disk, beside the threads that serve calls.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::new(&code::INTERNAL, format!("work on the disk broke off: {error}")))
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
