//! Where sandboxes come from: the process that makes them, what it is ordered, and which of them have ended.
//! `process.rs` asks for them; one that stands is a `Sandbox` of `standing.rs`.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::spawner::SANDBOX_SPAWNER;
use super::spec::Spec;
use super::standing::Sandbox;
use super::wire::{self, End, Handles, News, Order, Protection, Step, Tell};

/// How long the spawner may take to say that it is there.
const HERE_MAX: Duration = Duration::from_secs(10);

/// How long the walls of a sandbox may take; a busy machine takes a hundredth of it.
const WALLS_MAX: Duration = Duration::from_secs(30);

/// Has sandboxes made; a cheap handle to share.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    /// What the groups of this server are named by.
    name: String,
    /// An empty folder on the disk of the layers.
    scratch: PathBuf,
    next: AtomicU64,
    // Async mutex: held while a spawner starts, so that there is one.
    spawner: tokio::sync::Mutex<Option<Arc<Spawner>>>,
    deaths: Arc<Deaths>,
}

/// Who waits for the death of which sandbox. Std mutex: held for one look, never over an await.
#[derive(Debug, Default)]
struct Deaths(Mutex<HashMap<u64, watch::Sender<Option<End>>>>);

/// The process that makes sandboxes.
#[derive(Debug)]
struct Spawner {
    wire: Wire,
    protections: Vec<Protection>,
    /// Dropped, it closes the wire, and the spawner ends with all sandboxes.
    _task: AbortOnDrop,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The machine or this server cannot have any.
    #[error("{0}")]
    Unusable(String),
    /// One could not be made, or its program not be started.
    #[error("{what}")]
    Step { step: Step, what: String },
    /// It ended before its program ran.
    #[error("the sandbox ended before its program ran")]
    Ended(Option<End>),
}

impl Sandboxes {
    /// Those of one server. `name` is that of its data directory, `scratch` an empty folder in it.
    pub(crate) fn new(program: PathBuf, name: String, scratch: PathBuf) -> Self {
        Self(Arc::new(Inner {
            program,
            name,
            scratch,
            next: AtomicU64::new(1),
            spawner: tokio::sync::Mutex::new(None),
            deaths: Arc::default(),
        }))
    }

    /// The walls that sandboxes have here, and those they have not.
    pub(crate) async fn protections(&self) -> Result<Vec<Protection>, Failed> {
        Ok(self.spawner().await?.protections.clone())
    }

    /// Makes a sandbox, and starts its program if that runs always. Dropping the future leaves nothing behind.
    pub(crate) async fn make(&self, mut spec: Spec) -> Result<Sandbox, Failed> {
        let spawner = self.spawner().await?;
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        spec.id = id;
        spec.scratch.clone_from(&self.0.scratch);
        let ended = self.0.deaths.expect(id);
        let ending = Ending { id, spawner: Arc::clone(&spawner), ended };
        let made = Self::order(&spawner, &spec).await.map_err(unusable);
        let (control, stdout, stderr) = made?;
        let mut making =
            Making { control, listeners: Vec::new(), handles: Vec::new(), what: Handles::default() };
        let begun = Instant::now();
        let times = match timeout(WALLS_MAX, making.until_started(begun)).await {
            Ok(Ok(times)) => times,
            Ok(Err(Failed::Ended(_))) => return Err(Failed::Ended(ending.end_soon().await)),
            Ok(Err(failed)) => return Err(failed),
            Err(_) => return Err(unusable(io::Error::other("the sandbox did not stand in time"))),
        };
        Ok(Sandbox::of(making, ending, stdout, stderr, times))
    }

    async fn order(spawner: &Spawner, spec: &Spec) -> io::Result<(Wire, pipe::Receiver, pipe::Receiver)> {
        let (ours, its) = wire::pair()?;
        let (stdout, its_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, its_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut text = File::from(rustix::fs::memfd_create("spec", rustix::fs::MemfdFlags::CLOEXEC)?);
        serde_json::to_writer(io::BufWriter::new(&mut text), spec)?;
        let fds = [text.as_fd(), its.as_fd(), its_stdout.as_fd(), its_stderr.as_fd()];
        spawner.wire.send(&Order::Make, &fds).await?;
        Ok((Wire::new(ours)?, pipe::Receiver::from_owned_fd(stdout)?, pipe::Receiver::from_owned_fd(stderr)?))
    }

    /// The spawner; a new one if there is none yet, or if it ended.
    async fn spawner(&self) -> Result<Arc<Spawner>, Failed> {
        let mut spawner = self.0.spawner.lock().await;
        if let Some(running) = &*spawner
            && !running._task.is_over()
        {
            return Ok(Arc::clone(running));
        }
        let new = Arc::new(self.start().await?);
        *spawner = Some(Arc::clone(&new));
        Ok(new)
    }

    async fn start(&self) -> Result<Spawner, Failed> {
        let inner = &self.0;
        let (ours, its) = wire::pair().map_err(unusable)?;
        let mut child = Command::new(&inner.program)
            // What it is called can be read in every sandbox, so that it names nothing of this machine.
            .arg0("coracle")
            .arg(SANDBOX_SPAWNER)
            .arg(&inner.name)
            .current_dir(&inner.scratch)
            .env_clear()
            .stdin(Stdio::from(its))
            .stdout(Stdio::null())
            // Ctrl-C is for the server, which ends its sandboxes in order.
            .process_group(0)
            .spawn()
            .map_err(unusable)?;
        let wire = Wire::new(ours).map_err(unusable)?;
        let here = timeout(HERE_MAX, wire.receive::<News>()).await;
        let protections = match here {
            Ok(Ok(Some((News::Here { unusable: None, protections }, _)))) => protections,
            Ok(Ok(Some((News::Here { unusable: Some(why), .. }, _)))) => return Err(Failed::Unusable(why)),
            _ => return Err(Failed::Unusable("the process that makes sandboxes does not answer".into())),
        };
        let (hearing, deaths) = (wire.clone(), Arc::clone(&inner.deaths));
        let task = tokio::spawn(async move {
            while let Ok(Some((News::Gone { id, end }, _))) = hearing.receive::<News>().await {
                deaths.tell(id, end);
            }
            // It is gone, and with it all that it made.
            deaths.tell_all();
            drop(child.wait().await);
        });
        Ok(Spawner { wire, protections, _task: AbortOnDrop(task) })
    }
}

fn unusable(error: io::Error) -> Failed {
    Failed::Unusable(error.to_string())
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub(super) tokio::task::JoinHandle<()>);

impl AbortOnDrop {
    fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Deaths {
    fn expect(&self, id: u64) -> watch::Receiver<Option<End>> {
        let (dead, ended) = watch::channel(None);
        self.map().insert(id, dead);
        ended
    }

    fn tell(&self, id: u64, end: End) {
        if let Some(dead) = self.map().remove(&id) {
            dead.send_replace(Some(end));
        }
    }

    /// A sender that is dropped is a death that nobody saw.
    fn tell_all(&self) {
        self.map().clear();
    }

    fn map(&self) -> MutexGuard<'_, HashMap<u64, watch::Sender<Option<End>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of a wire, for many to speak on.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<AsyncFd<OwnedFd>>);

impl Wire {
    #[expect(
        unsafe_code,
        reason = "the safe constructor is deprecated, because not every descriptor is owned"
    )]
    fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // SAFETY: it owns its descriptor, which stays the same and open until it is dropped.
        Ok(Self(Arc::new(unsafe { AsyncFd::register(fd)? })))
    }

    pub(super) async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(tokio::io::Interest::WRITABLE, |wire| wire::send(wire, message, fds)).await
    }

    /// Only one at a time may receive.
    pub(super) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = Vec::new();
        self.0.async_io(tokio::io::Interest::READABLE, |wire| wire::receive(wire, &mut buffer)).await
    }
}

/// The end of a sandbox: who waits for it, and who brings it about.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) id: u64,
    spawner: Arc<Spawner>,
    pub(super) ended: watch::Receiver<Option<End>>,
}

impl Ending {
    /// How it ended, of one that is about to.
    async fn end_soon(&self) -> Option<End> {
        let mut ended = self.ended.clone();
        let known = timeout(Duration::from_secs(1), ended.wait_for(Option::is_some)).await;
        known.ok().and_then(Result::ok).and_then(|end| *end)
    }

    pub(super) async fn kill(&self) {
        if self.ended.borrow().is_none() {
            // A spawner that is gone has ended it.
            let _ = self.spawner.wire.send(&Order::Kill { id: self.id }, &[]).await;
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.ended.borrow().is_some() || self.ended.has_changed().is_err() {
            return;
        }
        let (id, spawner) = (self.id, Arc::clone(&self.spawner));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { spawner.wire.send(&Order::Kill { id }, &[]).await });
        }
    }
}

/// A sandbox on its way.
pub(super) struct Making {
    pub(super) control: Wire,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) handles: Vec<OwnedFd>,
    pub(super) what: Handles,
}

/// How long the steps of a start took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Until the walls stood.
    pub(crate) walls: Duration,
    /// From then until the program ran.
    pub(crate) program: Duration,
}

impl Making {
    async fn until_started(&mut self, begun: Instant) -> Result<Times, Failed> {
        let mut times = Times::default();
        loop {
            match self.control.receive::<Tell>().await {
                Ok(Some((Tell::Born(what), fds))) => (self.what, self.handles) = (what, fds),
                Ok(Some((Tell::Sockets, fds))) => self.listeners.extend(fds),
                Ok(Some((Tell::Built, _))) => times.walls = begun.elapsed(),
                Ok(Some((Tell::Started, _))) => {
                    times.program = begun.elapsed().saturating_sub(times.walls);
                    return Ok(times);
                }
                Ok(Some((Tell::Failed { step, what }, _))) => return Err(Failed::Step { step, what }),
                Ok(Some((Tell::Ended { .. } | Tell::NotStarted { .. } | Tell::Exited { .. }, _)))
                | Ok(None) => {
                    return Err(Failed::Ended(None));
                }
                Err(error) => return Err(unusable(error)),
            }
        }
    }
}
