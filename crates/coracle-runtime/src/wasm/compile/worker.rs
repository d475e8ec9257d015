//! What a compile process does: bounds itself, looks at the code, compiles it, and says how that went.
//! The zygote forks it, for one artifact; what it reads is whatever a stranger uploaded.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use coracle_model::{ByteSize, Problem, code};
use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::{CacheStore, Engine};

use super::parts::Parts;
use super::{CODE_BYTES_MAX, Compiled, Job, PartFiles, Report, over_bound};
use crate::wasm::{engine, inspect};

/// How a compile process is lower in rank than the calls of its neighbours.
const NICE: i32 = 10;

/// Code up to this many bytes is compiled by one thread: for so little, two take longer to begin than to work.
const ONE_THREAD_BYTES_MAX: usize = 256 << 10;

/// What is repeated of an error, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Engines that compile, made once and shared by the processes that are forked.
pub(super) struct Engines {
    one_thread: Engine,
    threads: Engine,
}

impl Engines {
    pub(super) fn new() -> wasmtime::Result<Self> {
        let engine = |parallel| Engine::new(engine::code_config().parallel_compilation(parallel));
        Ok(Self { one_thread: engine(false)?, threads: engine(true)? })
    }
}

/// Compiles what stands on standard input, and reports on standard output.
pub(super) fn run(job: &Job, engines: &Engines) -> ExitCode {
    bound_myself(job);
    let report = match work(job, engines) {
        Ok(compiled) => Report::Done(compiled),
        Err(problem) => {
            // Names in it are the code's, and may be as long as the code.
            let message = problem.message.chars().take(MESSAGE_CHARS_MAX).collect();
            Report::Refused { code: problem.code.name.into(), message, hint: problem.hint }
        }
    };
    let done = matches!(report, Report::Done(_));
    let mut out = io::stdout();
    let written =
        serde_json::to_writer(&mut out, &report).map_err(io::Error::from).and_then(|()| out.flush());
    if done && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Takes away from this process what a compile does not need.
fn bound_myself(job: &Job) {
    let bounds = [
        (Resource::Data, job.memory_bytes),
        (Resource::Cpu, job.cpu_seconds),
        (Resource::Fsize, CODE_BYTES_MAX),
        (Resource::Core, 0),
        (Resource::Nofile, 64),
    ];
    for (resource, bound) in bounds {
        // A bound that is lower already stays as it is.
        let _ = setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) });
    }
    // Refused where it is lower already.
    let _ = rustix::process::nice(NICE);
}

fn work(job: &Job, engines: &Engines) -> Result<Compiled, Problem> {
    let file = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull => {
            Problem::new(&code::DISK_FULL, "write the compiled code: the disk is full")
        }
        io::ErrorKind::OutOfMemory => over_bound("memory", &ByteSize(job.memory_bytes)),
        _ => Problem::new(&code::INTERNAL, format!("keep the compiled code: {error}")),
    };
    let mut wasm = Vec::new();
    io::stdin().read_to_end(&mut wasm).map_err(file)?;
    let inspected = inspect::inspect(&wasm)?;
    let component = if inspected.is_core {
        wrap(&wasm).map_err(|error| {
            Problem::new(&code::COMPILE_FAILED, format!("the code cannot be compiled: {error}"))
        })?
    } else {
        wasm
    };
    let parts = job.parts.as_ref().map(|files| (files, Arc::new(read_parts(files))));
    let engine = match &parts {
        Some((_, parts)) => &engine_with(parts).map_err(|error| {
            Problem::new(&code::INTERNAL, format!("compile with the parts of the last revision: {error:#}"))
        })?,
        None if component.len() <= ONE_THREAD_BYTES_MAX => &engines.one_thread,
        None => &engines.threads,
    };
    let machine_code = engine.precompile_component(&component).map_err(|error| {
        // The validator's own words, without the engine's wrapping.
        Problem::new(
            &code::INVALID_WASM,
            format!("the file is not valid WebAssembly: {}", error.root_cause()),
        )
    })?;
    // Not synced: what a crash leaves of it does not match its seal, and is made anew.
    File::create_new(&job.code).and_then(|mut out| out.write_all(&machine_code)).map_err(file)?;
    if let Some((files, parts)) = parts {
        // They would only save time; half of them would only take room.
        if parts.write(&files.now).is_err() {
            let _ = std::fs::remove_file(&files.now);
        }
    }
    Ok(Compiled { contract: inspected.contract, imports: inspected.imports })
}

fn read_parts(files: &PartFiles) -> Parts {
    files.before.as_deref().map(Parts::read).unwrap_or_default()
}

fn engine_with(parts: &Arc<Parts>) -> wasmtime::Result<Engine> {
    let mut config = engine::code_config();
    config.enable_incremental_compilation(Arc::clone(parts) as Arc<dyn CacheStore>)?;
    Engine::new(&config)
}

/// Makes a component of a core wasip1 program.
fn wrap(module: &[u8]) -> Result<Vec<u8>, String> {
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    };
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}
