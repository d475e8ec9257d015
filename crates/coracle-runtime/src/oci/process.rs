//! One instance of a program: a sandbox, the way to it, and what it prints.
//! `programs` launches it, invoke's fleets keep it, freeze it and run calls in it.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_model::{Network, Problem, code};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::abi::openfaas::{self, Place};
use crate::capabilities::outbound::Egress;
use crate::cgi;
use crate::fault;
use crate::host::Stream;
use crate::oci::blueprint::Blueprint;
use crate::oci::ingress::Ingress;
use crate::oci::pool::{Protocol, Sockets};
use crate::oci::relay::Relay;
use crate::oci::sandbox::{End, LastWords, Sandbox, Status, Step};
use crate::oci::stdio::{self, Manner};
use crate::output::Output;
use crate::wasm::{Answer, Work};

/// How much of a stream is read at once, in bytes.
const READ_BYTES: usize = 16 << 10;

/// One running copy of a program. Dropped, it is ended at once.
#[derive(Debug)]
pub struct Process {
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) sandbox: Arc<Sandbox>,
    output: Output,
    /// The way to a program that listens; none to one that runs for each call.
    ingress: Option<Ingress>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<Ended>>,
    watching: JoinHandle<()>,
    /// Whether it ends because it was told to.
    is_told_to: Arc<AtomicBool>,
    _relay: Option<Relay>,
}

/// What an instance uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Its memory now, in bytes; 0 where nobody counts.
    pub memory_bytes: u64,
    /// The processor time since its start; nothing where nobody counts.
    pub processor_time: Option<Duration>,
}

/// How a process ended: in words, and as a call that was in it hears it.
#[derive(Debug, Clone)]
struct Ended {
    words: String,
    problem: Problem,
}

/// A process that is ready, and where the time of its start went.
#[derive(Debug)]
pub struct Launched {
    /// The instance.
    pub process: Process,
    /// Until its files were there.
    pub image: Duration,
    /// Until its sandbox stood.
    pub sandbox: Duration,
    /// Until its program ran.
    pub program: Duration,
    /// Until it was ready for calls.
    pub ready: Duration,
}

impl Process {
    pub(super) fn new(blueprint: Arc<Blueprint>, sandbox: Sandbox, port: u16) -> Self {
        let sandbox = Arc::new(sandbox);
        let output = blueprint.output(sandbox.id());
        let ingress = blueprint.listens().then(|| {
            let sockets = sockets(&blueprint, &sandbox);
            let is_http2 = blueprint.revision.settings.program.http2;
            let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
            Ingress::new(Arc::clone(&blueprint.revision), output.clone(), sockets, port, protocol)
        });
        let mut relay = None;
        let mut printing = Vec::new();
        if let Some(streams) = sandbox.take_streams() {
            let ways = blueprint.routes.listen.iter().map(|(_, way)| way.clone());
            let listeners: Vec<_> = streams.listeners.into_iter().zip(ways).collect();
            let grants = blueprint.revision.settings.outbound.clone().into();
            let started = Relay::start(listeners, &Egress::new(grants, output.clone()));
            relay = started.inspect_err(|error| tracing::warn!(%error, "a sandbox has no way out")).ok();
            printing.push(tokio::spawn(print(streams.stdout, output.clone(), Stream::Stdout)));
            printing.push(tokio::spawn(print(streams.stderr, output.clone(), Stream::Stderr)));
        }
        let (tell, ended) = watch::channel(None);
        let is_told_to = Arc::<AtomicBool>::default();
        let watching = tokio::spawn(watch_over(
            Arc::clone(&sandbox),
            Arc::clone(&blueprint),
            output.clone(),
            ingress.clone(),
            printing,
            (tell, Arc::clone(&is_told_to)),
        ));
        Self { blueprint, sandbox, output, ingress, ended, watching, is_told_to, _relay: relay }
    }

    /// Serves a call, as far as the head of its response.
    ///
    /// # Errors
    /// The call itself, untouched, if this instance has ended: another may serve it.
    pub async fn serve(&self, work: Work) -> Result<Answer, Work> {
        if self.ingress.is_none() && self.ended.borrow().is_some() {
            return Err(work);
        }
        match (&self.blueprint.watchdog, &self.ingress) {
            (Ok(None) | Err(_), Some(ingress)) => ingress.serve(work).await,
            (Ok(None) | Err(_), None) => {
                let head = |head: &_, _: &_| cgi::variables(head);
                let serving = stdio::serve(&self.blueprint, &self.sandbox, work, Manner::OURS, head);
                Ok(Box::pin(serving).await)
            }
            (Ok(Some(watchdog)), ingress) => {
                let place =
                    Place { blueprint: &self.blueprint, sandbox: &self.sandbox, output: &self.output };
                Box::pin(openfaas::serve(watchdog, place, ingress.as_ref(), work)).await
            }
        }
    }

    /// Closes the connections that nobody uses, and freezes it, where the machine can.
    #[expect(clippy::unused_async, reason = "a machine may one day take its time for it")]
    pub async fn freeze(&self) {
        if let Some(ingress) = &self.ingress {
            ingress.close_idle();
        }
        self.sandbox.freeze();
    }

    /// Lets it go on.
    #[expect(clippy::unused_async, reason = "as above")]
    pub async fn thaw(&self) {
        self.sandbox.thaw();
    }

    /// Whether it is well: its port accepts, and its health path answers 2xx.
    pub async fn is_healthy(&self) -> bool {
        match &self.ingress {
            Some(ingress) => ingress.is_ready(self.blueprint.health().as_deref()).await,
            None => self.ended.borrow().is_none(),
        }
    }

    /// How it ended by itself, in the user's words; pending while it lives.
    pub async fn ended(&self) -> String {
        self.end().await.words
    }

    /// Ends it: asks it to, and makes it after the grace. Over when nothing of it is left.
    pub async fn stop(&self, grace: Duration) {
        self.is_told_to.store(true, Ordering::Relaxed);
        self.sandbox.stop(grace).await;
    }

    /// What it uses, as its control groups count it.
    pub fn used(&self) -> Used {
        Used {
            memory_bytes: self.sandbox.memory_bytes().unwrap_or(0),
            processor_time: self.sandbox.processor_time(),
        }
    }

    pub(super) fn ingress(&self) -> Option<&Ingress> {
        self.ingress.as_ref()
    }

    pub(super) async fn ended_with(&self) -> Problem {
        self.end().await.problem
    }

    /// The last line that it printed on standard error, or what it said last at all.
    pub(super) fn last_printed(&self) -> Option<String> {
        self.output.last_stderr()
    }

    pub(super) fn note(&self, text: &str) {
        self.output.note(text);
    }

    async fn end(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()) {
            Some(ended) => ended,
            // Whoever watches over it is gone only with it.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it holds of the sandbox would keep that alive.
        self.watching.abort();
    }
}

/// Sockets that reach the program: made in its network by its first process, or here where the network is the machine's.
fn sockets(blueprint: &Blueprint, sandbox: &Sandbox) -> Sockets {
    if blueprint.revision.settings.program.network == Network::Host {
        return Arc::new(|| Box::pin(async { Ok(socket()?) }));
    }
    let asking = sandbox.sockets();
    Arc::new(move || {
        let asking = asking.clone();
        Box::pin(async move { asking.socket().await })
    })
}

fn socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Passes on what a program prints, until nobody is left to print.
async fn print(stream: pipe::Receiver, output: Output, which: Stream) {
    // Most instances are silent for most of their time: none holds a buffer that it has nothing for.
    while stream.readable().await.is_ok() {
        let mut buffer = vec![0; READ_BYTES];
        match stream.try_read(&mut buffer) {
            Ok(length @ 1..) => output.write(which, &buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => break,
        }
    }
    output.flush();
}

/// Waits for the end of a process, and tells all who want to know.
async fn watch_over(
    sandbox: Arc<Sandbox>,
    blueprint: Arc<Blueprint>,
    output: Output,
    ingress: Option<Ingress>,
    printing: Vec<JoinHandle<()>>,
    (tell, is_told_to): (watch::Sender<Option<Ended>>, Arc<AtomicBool>),
) {
    let end = sandbox.ended().await;
    // What it printed last is why it ended, often.
    for stream in printing {
        // A panic has printed itself.
        let _ = stream.await;
    }
    let ended = story(&blueprint, &output, end, sandbox.last_words().await);
    if is_told_to.load(Ordering::Relaxed) {
        output.note("the instance was stopped");
    } else {
        output.note(format!("the instance {}", ended.words));
    }
    if let Some(ingress) = ingress {
        ingress.ended(ended.problem.clone());
    }
    tell.send_replace(Some(ended));
}

fn story(blueprint: &Blueprint, output: &Output, end: Option<End>, last_words: Option<LastWords>) -> Ended {
    let function = &blueprint.revision.function;
    let memory = blueprint.revision.settings.limits.memory_bytes;
    let hint = output.hint();
    if end.is_some_and(|end| end.out_of_memory) {
        let problem = fault::out_of_memory(function, memory);
        return Ended {
            words: format!("needed more than its {} of memory", coracle_model::ByteSize(memory)),
            problem,
        };
    }
    let words = match (last_words, end.map(|end| end.status)) {
        (Some(LastWords::Exited(status)), _) => in_words(status),
        (Some(LastWords::Failed(Step::Program, what)), _) => format!("could not run its program: {what}"),
        (Some(LastWords::Failed(_, what)), _) => format!("failed: {what}"),
        (None, Some(status)) => format!("was ended from outside ({})", in_words(status)),
        (None, None) => "ended with the process that made it".into(),
    };
    let problem =
        Problem::new(&code::GUEST_EXITED, format!("the program of `{function}` {words}")).hint(hint);
    Ended { words, problem }
}

/// How a program ended, as a person would say it.
pub(super) fn in_words(status: Status) -> String {
    match status {
        Status::Exited(code) => format!("exited with code {code}"),
        Status::Signaled(signal) => match name_of(signal) {
            Some(name) => format!("was ended by {name}"),
            None => format!("was ended by signal {signal}"),
        },
    }
}

fn name_of(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXCPU => "SIGXCPU",
        _ => return None,
    })
}
