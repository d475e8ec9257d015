//! Machine code is made in a process of its own, with bounds on its memory and time.
//! A hostile or enormous component can so break one compile, never the server.

mod parts;
mod worker;
mod zygote;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::{ByteSize, Contract, Problem, Span, code};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Semaphore;

pub use self::zygote::{COMPILE_WORKER, compile_worker};
use self::zygote::{Voice, Zygote};

/// What a compile process may say, in bytes: errors quote names out of the code.
const REPORT_BYTES_MAX: u64 = 1 << 20;

/// What a process says that finds no memory: for its data, for a mapping, for the stack of a thread.
const OUT_OF_MEMORY: [&str; 3] =
    ["memory allocation of", "Cannot allocate memory", "Resource temporarily unavailable"];

/// The largest file of machine code, in bytes.
const CODE_BYTES_MAX: u64 = 1 << 30;

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
    zygote: Arc<Zygote>,
    bounds: CompileBounds,
    places: Semaphore,
}

/// What a compile process is asked to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    code: PathBuf,
    parts: Option<PartFiles>,
    memory_bytes: u64,
    cpu_seconds: u64,
}

/// Files of parts of machine code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PartFiles {
    /// Of a compile before, of code that is likely to be similar.
    pub(super) before: Option<PathBuf>,
    /// To be written.
    pub(super) now: PathBuf,
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
        Self { zygote: Arc::new(Zygote::new(program)), bounds, places: Semaphore::new(at_once.max(1)) }
    }

    /// Compiles the open file `wasm` into the file `code`, which must not exist, with the parts of a compile before if there are any.
    pub(super) async fn compile(
        &self,
        wasm: File,
        code: &Path,
        parts: Option<PartFiles>,
    ) -> Result<Compiled, Problem> {
        let internal = |what: &str, error: &dyn std::fmt::Display| {
            Problem::new(&code::INTERNAL, format!("{what} the compile process: {error}"))
        };
        let _place = self.places.acquire().await.map_err(|error| internal("wait for", &error))?;
        let cpu_seconds = self.bounds.timeout.as_secs().max(1)
            * std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let job = Job { code: code.to_owned(), parts, memory_bytes: self.bounds.memory_bytes, cpu_seconds };
        let (job, wasm) = (Arc::new(job), Arc::new(wasm));
        let said = match self.run(&job, &wasm).await? {
            Some(said) => said,
            // The zygote was ended, as when the machine had no memory left: no fault of the code, which has one more try.
            None => {
                self.run(&job, &wasm).await?.ok_or_else(|| internal("keep", &"it was ended from outside"))?
            }
        };
        match serde_json::from_str(&said.report) {
            Ok(Report::Done(compiled)) if said.status.success() => Ok(compiled),
            Ok(Report::Refused { code: name, message, hint }) => {
                let code = Problem::code_named(&name).unwrap_or(&code::COMPILE_FAILED);
                let problem = Problem::new(code, message);
                Err(match hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                })
            }
            _ => Err(self.broke_off(&said)),
        }
    }

    /// Runs a process to its end; none is one that was ended from outside.
    async fn run(&self, job: &Arc<Job>, wasm: &Arc<File>) -> Result<Option<Said>, Problem> {
        let internal = |what: &str, error: &dyn std::fmt::Display| {
            Problem::new(&code::INTERNAL, format!("{what} the compile process: {error}"))
        };
        // A process that was ended may have read some of it, or written some of the code.
        let begin = |(zygote, job, wasm): (Arc<Zygote>, Arc<Job>, Arc<File>)| {
            io::Seek::seek(&mut &*wasm, io::SeekFrom::Start(0))?;
            match std::fs::remove_file(&job.code) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            zygote.fork(&job, &wasm)
        };
        let with = (Arc::clone(&self.zygote), Arc::clone(job), Arc::clone(wasm));
        let voice = tokio::task::spawn_blocking(move || begin(with))
            .await
            .map_err(|error| internal("wait for", &error))?
            .map_err(|error| internal("start", &error))?;
        // A process that nobody listens to any more is ended.
        match tokio::time::timeout(self.bounds.timeout, Said::hear(voice)).await {
            Err(_) => Err(over_bound("time", &Span(self.bounds.timeout))),
            Ok(said) => said.map_err(|error| internal("hear from", &error)),
        }
    }

    /// A process that ended without a report hit a bound of its own, or found a bug.
    fn broke_off(&self, Said { status, stderr, .. }: &Said) -> Problem {
        const SIGXCPU: i32 = 24;
        const SIGXFSZ: i32 = 25;
        let out_of_memory = OUT_OF_MEMORY.iter().any(|said| stderr.contains(said));
        match status.signal() {
            Some(SIGXCPU) => over_bound("time", &Span(self.bounds.timeout)),
            Some(SIGXFSZ) => over_bound("disk", &ByteSize(CODE_BYTES_MAX)),
            _ if out_of_memory => over_bound("memory", &ByteSize(self.bounds.memory_bytes)),
            _ => {
                tracing::error!(%status, %stderr, "the compile process broke off");
                Problem::new(&code::COMPILE_FAILED, format!("the compile process broke off ({status})"))
                    .hint("the server's log has what it said; please report it with the component")
            }
        }
    }
}

fn over_bound(what: &str, bound: &dyn std::fmt::Display) -> Problem {
    Problem::new(&code::COMPILE_LIMIT, format!("compiling needs more than {bound} of {what}"))
        .hint("strip the component, or build it for size; the server's bounds are flags of `coracle up`")
}

/// What a compile process said, and how it ended.
struct Said {
    report: String,
    stderr: String,
    status: ExitStatus,
}

impl Said {
    /// Listens until the process is gone; none, if nobody was left to say how.
    async fn hear(Voice { report, stderr }: Voice) -> io::Result<Option<Self>> {
        async fn text(pipe: OwnedFd) -> io::Result<String> {
            let mut bytes = Vec::new();
            Receiver::from_owned_fd(pipe)?.take(REPORT_BYTES_MAX).read_to_end(&mut bytes).await?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        let (report, stderr) = tokio::try_join!(text(report), text(stderr))?;
        // The last line is the zygote's; without it, the zygote was ended, and the process with it.
        let (report, status) = report.rsplit_once('\n').unwrap_or((&report, ""));
        let said = |status| Self { report: report.to_owned(), stderr, status: ExitStatus::from_raw(status) };
        Ok(status.parse().ok().map(said))
    }
}
