//! Launches the programs of functions: from a blueprint to a process that is ready for calls.
//! The runtime has one; invoke's fleets launch through it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_model::{Clock, Code, Digest, Network, Problem, Program, Revision, Span, code};
use coracle_store::Artifacts;
use tokio::time::{Instant, timeout};

use crate::abi::openfaas::Watchdog;
use crate::host::{Host, text_of};
use crate::oci::blueprint::{Blueprint, Files};
use crate::oci::image::Images;
use crate::oci::process::{Launched, Process};
use crate::oci::readiness::Unready;
use crate::oci::sandbox::{Failed, Protection, Sandboxes, Step};

/// How long to wait for the last words of a program that ended before it was ready.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(250);

/// Launches programs; a cheap handle to share.
#[derive(Debug, Clone)]
pub struct Programs {
    images: Images,
    artifacts: Artifacts,
    sandboxes: Sandboxes,
}

impl Programs {
    /// The programs of one server: `folder` is one of its own, for what sandboxes are built on, and `program` this very binary.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(
        images: Images,
        artifacts: Artifacts,
        folder: &Path,
        program: PathBuf,
    ) -> Result<Self, Problem> {
        let cannot = |error: io::Error| {
            Problem::new(&code::DATA_UNUSABLE, format!("make the folder {}: {error}", folder.display()))
        };
        std::fs::create_dir_all(folder).map_err(cannot)?;
        let folder = folder.canonicalize().map_err(cannot)?;
        // Two servers have two data directories, and never the same groups.
        let name = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex()[..12].to_owned();
        Ok(Self { images, artifacts, sandboxes: Sandboxes::new(program, name, folder) })
    }

    /// The walls that sandboxes have here, each with how it stands or why it does not.
    ///
    /// # Errors
    /// Why this server can have no sandboxes.
    pub async fn protections(&self) -> Result<Vec<Protection>, Problem> {
        self.sandboxes.protections().await.map_err(|failed| unavailable(&failed.to_string()))
    }

    /// Unpacks a bundle, so that it can be deployed.
    ///
    /// # Errors
    /// Why it cannot be.
    pub async fn prepare(&self, artifact: Digest) -> Result<(), Problem> {
        self.bundle(artifact).await.map(drop)
    }

    /// Removes what was unpacked of a bundle.
    pub(crate) fn forget(&self, artifact: &Digest) {
        if let Err(problem) = self.images.forget_bundle(artifact) {
            tracing::warn!(%problem, "what was unpacked of a bundle stays");
        }
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    pub(crate) fn blueprint(
        &self,
        revision: Arc<Revision>,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
    ) -> Blueprint {
        let image = match &revision.code {
            // One that is not there is said by the launch.
            Code::Image { digest, .. } => self.images.get(*digest).ok(),
            Code::Bundle(_) | Code::Wasm(_) => None,
        };
        Blueprint::new(revision, image.map(|image| image.config).as_ref(), host, clock)
    }

    /// Starts an instance: over when it is ready for calls. Dropping the future leaves nothing of it.
    pub(crate) async fn launch(&self, blueprint: &Arc<Blueprint>) -> Result<Launched, Box<Problem>> {
        let begun = Instant::now();
        let revision = &blueprint.revision;
        let of_watchdog = match &blueprint.watchdog {
            Ok(watchdog) => watchdog.as_ref().and_then(Watchdog::port),
            Err(problem) => return Err(Box::new(problem.clone())),
        };
        let program = &revision.settings.program;
        let files = match &revision.code {
            Code::Bundle(artifact) => Files::Bundle(self.bundle(*artifact).await?),
            Code::Image { digest, .. } => {
                let image = self.images.get(*digest)?;
                Files::Image { layers: image.layers, config: image.config }
            }
            Code::Wasm(_) => {
                let what = format!("the code of `{}` is no program", revision.function);
                return Err(Box::new(Problem::new(&code::INTERNAL, what)));
            }
        };
        let image = begun.elapsed();
        let port = of_watchdog.map_or_else(|| port_of(program, &files), Ok).map_err(|error| {
            Problem::new(&code::INTERNAL, format!("find a free port for `{}`: {error}", revision.function))
        })?;
        let missing = std::cell::RefCell::new(Vec::new());
        let secrets = blueprint.secrets(|name| missing.borrow_mut().push(name.to_owned()));
        let missing = missing.into_inner();
        let in_env = program.secrets_in_env;
        let no_text = secrets.iter().filter(|file| in_env && text_of(&file.value).is_none());
        let no_text: Vec<_> = no_text.map(|file| file.name.clone()).collect();
        let spec = blueprint.spec(files, secrets, port);
        let start_timeout = program.start_timeout;
        let sandbox = match timeout(start_timeout, self.sandboxes.make(spec)).await {
            Ok(made) => made.map_err(|failed| Box::new(not_made(revision, failed)))?,
            Err(_) => return Err(Box::new(not_ready(revision, "its sandbox is not there"))),
        };
        let times = sandbox.times;
        let process = Process::new(Arc::clone(blueprint), sandbox, port);
        for name in missing {
            process.note(&format!("the secret `{name}` does not exist any more: it is not given"));
        }
        for name in no_text {
            process.note(&format!("the secret `{name}` is no text: it is a file, and no variable"));
        }
        let deadline = begun + start_timeout;
        if let Some(ingress) = process.ingress()
            && let Err(unready) = ingress.ready(deadline, blueprint.health().as_deref()).await
        {
            let problem = match (unready, timeout(LAST_WORDS_WITHIN, process.ended_with()).await) {
                (_, Ok(problem)) => problem,
                (Unready::Ended, Err(_)) => not_ready(revision, "it ended"),
                (missing, Err(_)) => not_ready(revision, &format!("{missing} (port {port})")),
            };
            let printed = process.last_printed();
            return Err(Box::new(match printed {
                Some(line) => {
                    Problem { message: format!("{}; it printed last: {line}", problem.message), ..problem }
                }
                None => problem,
            }));
        }
        let all = begun.elapsed();
        let (sandbox, program) = (times.walls, times.program);
        Ok(Launched {
            process,
            image,
            sandbox,
            program,
            ready: all.saturating_sub(image + sandbox + program),
        })
    }

    async fn bundle(&self, artifact: Digest) -> Result<PathBuf, Problem> {
        let artifacts = self.artifacts.clone();
        let opened = tokio::task::spawn_blocking(move || artifacts.open_file(&artifact)).await;
        let file = opened
            .map_err(|error| error.to_string())
            .and_then(|file| file.map_err(|error| error.to_string()))
            .map_err(|error| {
                Problem::new(&code::ARTIFACT_DAMAGED, format!("read the bundle: {error}"))
                    .hint("deploy it again")
            })?;
        self.images.bundle(artifact, file).await
    }
}

/// Where the program is to listen.
fn port_of(program: &Program, files: &Files) -> io::Result<u16> {
    if program.network == Network::Host {
        // The machine's ports are everybody's: each instance gets one that is free, and is told by `PORT`.
        return Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port());
    }
    let exposed = match files {
        Files::Image { config, .. } => config.port,
        Files::Bundle(_) => None,
    };
    Ok(program.port.or(exposed).unwrap_or(Program::PORT))
}

fn unavailable(why: &str) -> Problem {
    Problem::new(&code::SANDBOX_UNAVAILABLE, format!("this server cannot run programs: {why}"))
        .hint("`coracle status` shows what sandboxes have here; functions of WebAssembly need none of it")
}

fn not_made(revision: &Revision, failed: Failed) -> Problem {
    let function = &revision.function;
    match failed {
        Failed::Unusable(why) => unavailable(&why),
        Failed::Step { step: Step::Walls, what } => Problem::new(
            &code::SANDBOX_FAILED,
            format!("the sandbox of `{function}` could not be made: {what}"),
        )
        .hint("the log of the server may say more; `coracle status` shows what sandboxes have here"),
        Failed::Step { step: Step::Files, what } => Problem::new(
            &code::SANDBOX_FAILED,
            format!("the files of `{function}` could not be mounted: {what}"),
        )
        .hint("`coracle status` shows what sandboxes have here"),
        Failed::Step { step: Step::User, what } => {
            Problem::new(&code::PROGRAM_NOT_STARTED, format!("`{function}` cannot run as its user: {what}"))
                .hint("set `user` of the function to one that its image has, or to a number")
        }
        Failed::Step { step: Step::Program, what } => Problem::new(
            &code::PROGRAM_NOT_STARTED,
            format!("the program of `{function}` cannot be run: {what}"),
        )
        .hint("look at `command` and `workdir` of the function; paths are those within its sandbox"),
        Failed::Ended(end) => match end {
            Some(end) if end.out_of_memory => {
                crate::fault::out_of_memory(function, revision.settings.limits.memory_bytes)
            }
            _ => Problem::new(
                &code::SANDBOX_FAILED,
                format!("the sandbox of `{function}` ended before its program ran"),
            ),
        },
    }
}

fn not_ready(revision: &Revision, missing: &str) -> Problem {
    let Revision { function, settings, .. } = revision;
    let within = Span(settings.program.start_timeout);
    Problem::new(&code::GUEST_NOT_READY, format!("`{function}` was not ready within {within}: {missing}"))
        .hint("it must listen on its `port` of 127.0.0.1 or 0.0.0.0, which PORT tells it; `start_timeout` gives it longer")
}
