//! Machine code is made in a process of its own, with bounds on its memory and time.
//! A hostile or enormous component can so break one compile, never the server.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use coracle_model::{Contract, Problem, code};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::Semaphore;
use wasmtime::Engine;

use crate::wasm::{engine, inspect};

/// The argument that makes this program a compile process.
const WORKER_ARGUMENT: &str = "compile-worker";

/// What a compile process may say, in bytes: errors quote names out of the code.
const REPORT_BYTES_MAX: usize = 64 << 10;

/// How a compile process is lower in rank than the calls of its neighbours.
const NICE: i32 = 10;

/// The bounds of one compile.
#[derive(Debug, Clone, Copy)]
pub(super) struct CompileBounds {
    /// Memory of the process, in bytes. The largest guests measured, Python and JavaScript, need 380 MB.
    pub(super) memory_bytes: u64,
    /// Time on the clock; CPU time is bounded by as much for each core.
    pub(super) timeout: Duration,
}

/// Makes compile processes, a few at a time.
#[derive(Debug)]
pub(super) struct Compiler {
    program: PathBuf,
    bounds: CompileBounds,
    places: Semaphore,
}

/// What a compile process is asked to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    code: PathBuf,
    memory_bytes: u64,
    cpu_seconds: u64,
}

/// What a compile process says of the code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Compiled {
    pub(super) contract: Contract,
    pub(super) imports: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Done(Compiled),
    Refused { code: String, message: String, hint: Option<String> },
}

impl Compiler {
    /// `program` is this very binary.
    pub(super) fn new(program: PathBuf, bounds: CompileBounds, at_once: usize) -> Self {
        Self { program, bounds, places: Semaphore::new(at_once.max(1)) }
    }

    /// Compiles the open file `wasm` into the file `code`, which must not exist.
    pub(super) async fn compile(&self, wasm: File, code: &Path) -> Result<Compiled, Problem> {
        let internal = |what: &str, error: &dyn std::fmt::Display| {
            Problem::new(&code::INTERNAL, format!("{what} the compile process: {error}"))
        };
        let _place = self.places.acquire().await.map_err(|error| internal("wait for", &error))?;
        let cpu_seconds = self.bounds.timeout.as_secs().max(1)
            * std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let job = Job { code: code.to_owned(), memory_bytes: self.bounds.memory_bytes, cpu_seconds };
        let job = serde_json::to_string(&job).map_err(|error| internal("instruct", &error))?;
        let child = Command::new(&self.program)
            .arg(WORKER_ARGUMENT)
            .arg(job)
            .env_clear()
            .stdin(Stdio::from(wasm))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| internal("start", &error))?;
        let output = match tokio::time::timeout(self.bounds.timeout, child.wait_with_output()).await {
            Err(_) => return Err(self.over_bound("time", &coracle_model::Span(self.bounds.timeout))),
            Ok(output) => output.map_err(|error| internal("hear from", &error))?,
        };
        let said = &output.stdout[..output.stdout.len().min(REPORT_BYTES_MAX)];
        match serde_json::from_slice(said) {
            Ok(Report::Done(compiled)) if output.status.success() => Ok(compiled),
            Ok(Report::Refused { code: name, message, hint }) => {
                let code = Problem::code_named(&name).unwrap_or(&code::COMPILE_FAILED);
                let problem = Problem::new(code, message);
                Err(match hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                })
            }
            _ => Err(self.broke_off(output.status, &output.stderr)),
        }
    }

    fn over_bound(&self, what: &str, bound: &dyn std::fmt::Display) -> Problem {
        Problem::new(&code::COMPILE_LIMIT, format!("compiling needs more than {bound} of {what}"))
            .hint("deploy less code in one component: strip it, or build it with optimisation for size")
    }

    /// A process that ended without a report hit a bound of its own, or found a bug.
    fn broke_off(&self, status: std::process::ExitStatus, stderr: &[u8]) -> Problem {
        use std::os::unix::process::ExitStatusExt;
        const SIGXCPU: i32 = 24;
        const SIGXFSZ: i32 = 25;
        let said = String::from_utf8_lossy(stderr);
        let out_of_memory = said.contains("memory allocation of") || said.contains("Cannot allocate memory");
        match status.signal() {
            Some(SIGXCPU) => self.over_bound("time", &coracle_model::Span(self.bounds.timeout)),
            Some(SIGXFSZ) => self.over_bound("disk", &coracle_model::ByteSize(CODE_BYTES_MAX)),
            _ if out_of_memory => {
                self.over_bound("memory", &coracle_model::ByteSize(self.bounds.memory_bytes))
            }
            _ => {
                tracing::error!(%status, stderr = %said, "the compile process broke off");
                Problem::new(&code::COMPILE_FAILED, format!("the compile process broke off ({status})"))
                    .hint("the server's log has what it said; please report it with the component")
            }
        }
    }
}

/// The largest file of machine code, in bytes.
const CODE_BYTES_MAX: u64 = 1 << 30;

/// The whole of a compile process: reads code from standard input, and reports on standard output.
///
/// Called by the binary for its hidden argument `compile-worker` with the argument behind it, before anything else is set up.
pub fn compile_worker(job: &str) -> ExitCode {
    let Ok(job) = serde_json::from_str::<Job>(job) else { return ExitCode::from(2) };
    bound_myself(&job);
    let report = match work(&job) {
        Ok(compiled) => Report::Done(compiled),
        Err(problem) => {
            Report::Refused { code: problem.code.name.into(), message: problem.message, hint: problem.hint }
        }
    };
    let done = matches!(report, Report::Done(_));
    let written = serde_json::to_writer(std::io::stdout(), &report);
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

fn work(job: &Job) -> Result<Compiled, Problem> {
    let file = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Problem::new(&code::DISK_FULL, "write the compiled code: the disk is full")
        }
        _ => Problem::new(&code::INTERNAL, format!("keep the compiled code: {error}")),
    };
    let mut wasm = Vec::new();
    std::io::stdin().read_to_end(&mut wasm).map_err(file)?;
    let inspected = inspect::inspect(&wasm)?;
    let failed = |error: &dyn std::fmt::Display| {
        Problem::new(&code::COMPILE_FAILED, format!("the code cannot be compiled: {error}"))
    };
    let component = if inspected.is_core { wrap(&wasm).map_err(|error| failed(&error))? } else { wasm };
    let engine = Engine::new(&engine::code_config()).map_err(|error| failed(&error))?;
    let machine_code = engine.precompile_component(&component).map_err(|error| {
        // The validator's own words, without the engine's wrapping.
        Problem::new(
            &code::INVALID_WASM,
            format!("the file is not valid WebAssembly: {}", error.root_cause()),
        )
    })?;
    let mut out = File::create_new(&job.code).map_err(file)?;
    std::io::Write::write_all(&mut out, &machine_code).map_err(file)?;
    out.sync_all().map_err(file)?;
    Ok(Compiled { contract: inspected.contract, imports: inspected.imports })
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
