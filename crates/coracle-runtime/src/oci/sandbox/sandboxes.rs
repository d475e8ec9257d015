//! The server's hand on its sandboxes: it has them made, speaks with their first processes, freezes and ends them.
//! `process.rs` runs the programs of functions in them.

use std::collections::{HashMap, VecDeque};
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
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::group_files::GroupFiles;
use super::spawner::SANDBOX_SPAWNER;
use super::spec::Spec;
use super::wire::{self, Ask, End, Handles, News, Order, Protection, Status, Step, Tell};

/// How long the spawner may take to say that it is there.
const HERE_MAX: Duration = Duration::from_secs(10);

/// How long the walls of a sandbox may take; a busy machine takes a hundredth of it.
const WALLS_MAX: Duration = Duration::from_secs(30);

/// Sockets that are asked for at once, and how few are left when more are: each takes 4 KiB, also of an instance that sleeps.
const SOCKETS: usize = 4;
const SOCKETS_LOW: usize = 1;

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

#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

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
struct Wire(Arc<AsyncFd<OwnedFd>>);

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

    async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(tokio::io::Interest::WRITABLE, |wire| wire::send(wire, message, fds)).await
    }

    /// Only one at a time may receive.
    async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = Vec::new();
        self.0.async_io(tokio::io::Interest::READABLE, |wire| wire::receive(wire, &mut buffer)).await
    }
}

/// The end of a sandbox: who waits for it, and who brings it about.
#[derive(Debug)]
struct Ending {
    id: u64,
    spawner: Arc<Spawner>,
    ended: watch::Receiver<Option<End>>,
}

impl Ending {
    /// How it ended, of one that is about to.
    async fn end_soon(&self) -> Option<End> {
        let mut ended = self.ended.clone();
        let known = timeout(Duration::from_secs(1), ended.wait_for(Option::is_some)).await;
        known.ok().and_then(Result::ok).and_then(|end| *end)
    }

    async fn kill(&self) {
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
struct Making {
    control: Wire,
    listeners: Vec<OwnedFd>,
    handles: Vec<OwnedFd>,
    what: Handles,
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

/// A sandbox that stands. Dropped, it is ended at once.
#[derive(Debug)]
pub(crate) struct Sandbox {
    control: Wire,
    ending: Ending,
    group: GroupFiles,
    shared: Arc<Shared>,
    pub(crate) times: Times,
    _task: AbortOnDrop,
}

/// What comes with a sandbox, for its keeper to take.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    /// The sockets that listen inside, in the order that was asked for.
    pub(crate) listeners: Vec<OwnedFd>,
}

#[derive(Debug, Default)]
struct Shared {
    // Std mutex: held to move a few values, never over an await.
    state: Mutex<State>,
    /// There are more sockets, or it is over.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    sockets: VecDeque<OwnedFd>,
    asked_for_sockets: bool,
    streams: Option<Streams>,
    calls: HashMap<u64, oneshot::Sender<Result<Status, String>>>,
    next_call: u64,
    /// What the first process said before it ended.
    last_words: Option<LastWords>,
    over: bool,
}

/// How the program of a sandbox ended, as the sandbox tells it.
#[derive(Debug, Clone)]
pub(crate) enum LastWords {
    Exited(Status),
    Failed(Step, String),
}

/// How the program of a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ran {
    /// By itself, or by a signal.
    Ended(Status),
    /// It could not be started.
    NotStarted(String),
    /// The sandbox ended around it.
    SandboxGone,
}

impl Sandbox {
    fn of(
        making: Making,
        ending: Ending,
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
        times: Times,
    ) -> Self {
        let Making { control, listeners, handles, what } = making;
        let shared = Arc::<Shared>::default();
        shared.state().streams = Some(Streams { stdout, stderr, listeners });
        let task = tokio::spawn(hear(control.clone(), Arc::clone(&shared)));
        let group = GroupFiles::of(what, handles);
        Self { control, ending, group, shared, times, _task: AbortOnDrop(task) }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u64 {
        self.ending.id
    }

    /// What came with it; once.
    pub(crate) fn take_streams(&self) -> Option<Streams> {
        self.shared.state().streams.take()
    }

    /// Sockets that are made inside and connected to nothing, for a pool of connections to ask for.
    pub(crate) fn sockets(&self) -> Asking {
        Asking { control: self.control.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Runs the program for a call. Dropping the future ends it, and so does `cut`, whose end is told as any other.
    pub(crate) async fn run(
        &self,
        env: Vec<(String, String)>,
        streams: [OwnedFd; 3],
        cut: &Notify,
    ) -> io::Result<Ran> {
        let (done, mut ended) = oneshot::channel();
        let call = {
            let mut state = self.shared.state();
            if state.over {
                return Ok(Ran::SandboxGone);
            }
            state.next_call += 1;
            let call = state.next_call;
            state.calls.insert(call, done);
            call
        };
        let mut running = Running { call, control: &self.control, shared: &self.shared, over: false };
        let fds = streams.each_ref().map(AsFd::as_fd);
        self.control.send(&Ask::Run { call, env }, &fds).await?;
        // The program has its own now; ours would keep its streams open after its end.
        drop(streams);
        let ended = tokio::select! {
            biased;
            ended = &mut ended => ended,
            () = cut.notified() => {
                self.control.send(&Ask::Kill { call }, &[]).await?;
                ended.await
            }
        };
        running.over = true;
        Ok(match ended {
            Ok(Ok(status)) => Ran::Ended(status),
            Ok(Err(what)) => Ran::NotStarted(what),
            Err(_) => Ran::SandboxGone,
        })
    }

    /// Freezes it; says whether that is possible here.
    pub(crate) fn freeze(&self) -> bool {
        self.group.freeze(true)
    }

    /// Thaws it.
    pub(crate) fn thaw(&self) {
        self.group.freeze(false);
    }

    /// The memory that it uses, in bytes, where that is counted.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.group.memory_bytes()
    }

    /// The processor time that it has used, where that is counted.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        self.group.processor_time()
    }

    /// How often it ran out of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.group.oom_kills()
    }

    /// Asks its programs to end, and ends them if they do not.
    pub(crate) async fn stop(&self, grace: Duration) -> Option<End> {
        self.thaw();
        if self.control.send(&Ask::Stop, &[]).await.is_ok() {
            let mut ended = self.ending.ended.clone();
            // Whether it was in time is seen below.
            let _ = timeout(grace, ended.wait_for(Option::is_some)).await;
        }
        self.ending.kill().await;
        self.ended().await
    }

    /// Waits for its end; nothing where nobody saw how.
    pub(crate) async fn ended(&self) -> Option<End> {
        let mut ended = self.ending.ended.clone();
        ended.wait_for(Option::is_some).await.ok().and_then(|end| *end)
    }

    /// What its first process said of the program's end, once it has ended itself.
    pub(crate) async fn last_words(&self) -> Option<LastWords> {
        loop {
            let news = self.shared.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            {
                let state = self.shared.state();
                if state.over {
                    return state.last_words.clone();
                }
            }
            news.await;
        }
    }
}

/// A program that runs for a call; dropped before its end, it is ended.
struct Running<'a> {
    call: u64,
    control: &'a Wire,
    shared: &'a Shared,
    over: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.shared.state().calls.remove(&self.call);
        let (control, call) = (self.control.clone(), self.call);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { control.send(&Ask::Kill { call }, &[]).await });
        }
    }
}

/// Asks a sandbox for sockets; a cheap handle to share.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    control: Wire,
    shared: Arc<Shared>,
}

impl Asking {
    pub(crate) async fn socket(&self) -> io::Result<OwnedFd> {
        loop {
            let more = self.shared.news.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let (socket, ask) = {
                let mut state = self.shared.state();
                if state.over {
                    return Err(io::ErrorKind::NotConnected.into());
                }
                let socket = state.sockets.pop_front();
                let ask = state.sockets.len() < SOCKETS_LOW && !state.asked_for_sockets;
                state.asked_for_sockets |= ask;
                (socket, ask)
            };
            if ask {
                self.control.send(&Ask::Sockets(SOCKETS), &[]).await?;
            }
            match socket {
                Some(socket) => return Ok(socket),
                None => more.await,
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears what a first process tells, until it ends.
async fn hear(control: Wire, shared: Arc<Shared>) {
    while let Ok(Some((tell, fds))) = control.receive::<Tell>().await {
        let mut state = shared.state();
        match tell {
            Tell::Sockets => {
                state.asked_for_sockets = false;
                state.sockets.extend(fds);
                shared.news.notify_waiters();
            }
            Tell::Ended { call, status } => {
                if let Some(done) = state.calls.remove(&call) {
                    // Whoever waited may have gone.
                    let _ = done.send(Ok(status));
                }
            }
            Tell::NotStarted { call, what } => {
                if let Some(done) = state.calls.remove(&call) {
                    let _ = done.send(Err(what)); // As above.
                }
            }
            Tell::Exited { status } => state.last_words = Some(LastWords::Exited(status)),
            Tell::Failed { step, what } => {
                for (_, done) in state.calls.drain() {
                    let _ = done.send(Err(what.clone())); // As above.
                }
                state.last_words = Some(LastWords::Failed(step, what));
            }
            Tell::Born(_) | Tell::Built | Tell::Started => {}
        }
    }
    let mut state = shared.state();
    state.over = true;
    state.calls.clear();
    shared.news.notify_waiters();
}
