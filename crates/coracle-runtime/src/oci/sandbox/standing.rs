//! A sandbox that stands: the programs that run in it, the sockets that are made in it, its sleep and its end.
//! `sandboxes.rs` has it made; `process.rs` keeps it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::group_files::GroupFiles;
use super::sandboxes::{AbortOnDrop, Ending, Making, Times, Wire};
use super::wire::{Ask, End, Status, Step, Tell};

/// Sockets that are asked for at once, and how few are left when more are: each takes 4 KiB, also of an instance that sleeps.
const SOCKETS: usize = 4;
const SOCKETS_LOW: usize = 1;

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
    pub(super) fn of(
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
