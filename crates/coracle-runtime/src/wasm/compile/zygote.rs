//! The zygote: a small process with one thread that forks a compile process for each artifact.
//! A fork is there in a millisecond, with the engine made; starting this program anew takes several.
//! Both ends of its wire stand here: [`Zygote`] is the server's, [`compile_worker`] the process's.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use tokio::process::Command;
use tokio::sync::oneshot;

use super::Job;
use super::worker::{self, Engines};

/// The argument that makes this program a zygote: the binary calls [`compile_worker`] for it.
pub const COMPILE_WORKER: &str = "compile-worker";

/// A zygote that nobody asks for this long ends, so that an idle server is one process.
const IDLE_MAX: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// How long the zygote may take to fork, or to start.
const FORK_MAX: Duration = Duration::from_secs(5);

/// The longest job, in bytes: a path and two numbers.
const JOB_BYTES_MAX: usize = 16 << 10;

/// What the zygote answers when a process is on its way.
const FORKED: u8 = b'+';
const NOT_FORKED: u8 = b'-';

/// The server's end: starts the zygote when it is needed.
#[derive(Debug)]
pub(super) struct Zygote {
    program: PathBuf,
    // Std mutex: held for one message and its answer, on a thread that may wait.
    wire: Mutex<Option<Wire>>,
}

/// The way to a zygote that runs. Dropped, it ends the zygote, also one that does not listen.
#[derive(Debug)]
struct Wire {
    stream: UnixStream,
    _end: oneshot::Sender<()>,
}

/// What a compile process says. Closed by the reader, it ends the process.
#[derive(Debug)]
pub(super) struct Voice {
    /// Its report, and behind it, in a line of its own, the status it ended with.
    pub(super) report: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Zygote {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, wire: Mutex::new(None) }
    }

    /// Has a process forked for a job, with `wasm` as its standard input. Waits for the zygote; call it within Tokio.
    pub(super) fn fork(&self, job: &Job, wasm: &File) -> io::Result<Voice> {
        let job = serde_json::to_vec(job)?;
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &mut *wire
            && let Ok(voice) = running.ask(&job, wasm)
        {
            return Ok(voice);
        }
        // It never ran, ended because it was idle, or does not answer.
        *wire = None;
        let mut anew = self.start()?;
        let voice = anew.ask(&job, wasm)?;
        *wire = Some(anew);
        Ok(voice)
    }

    fn start(&self) -> io::Result<Wire> {
        let (ours, its) = UnixStream::pair()?;
        ours.set_read_timeout(Some(FORK_MAX))?;
        ours.set_write_timeout(Some(FORK_MAX))?;
        let mut child = Command::new(&self.program)
            .arg(COMPILE_WORKER)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(its)))
            .stdout(Stdio::null())
            // Ctrl-C is for the server, which may still want to compile for the calls that it finishes.
            .process_group(0)
            .spawn()?;
        let (end, ended) = oneshot::channel::<()>();
        tokio::spawn(async move {
            tokio::select! {
                // It ended by itself, because nobody asked it for long.
                _ = child.wait() => {}
                // One that was stopped would not notice that its wire is closed.
                _ = ended => drop(child.kill().await),
            }
        });
        Ok(Wire { stream: ours, _end: end })
    }
}

impl Wire {
    fn ask(&mut self, job: &[u8], wasm: &File) -> io::Result<Voice> {
        // Made for each try: what an earlier one was given may still lie in a wire that nobody reads.
        let (report, report_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_out) = pipe_with(PipeFlags::CLOEXEC)?;
        send(&mut self.stream, job, &[wasm.as_fd(), report_out.as_fd(), stderr_out.as_fd()])?;
        Ok(Voice { report, stderr })
    }
}

fn send(wire: &mut UnixStream, job: &[u8], files: &[BorrowedFd<'_>; 3]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("no room for three descriptors"));
    }
    let sent = sendmsg(&*wire, &[IoSlice::new(job)], &mut control, SendFlags::NOSIGNAL)?;
    if sent != job.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut answer = [0];
    wire.read_exact(&mut answer)?;
    if answer == [FORKED] { Ok(()) } else { Err(io::Error::other("it cannot fork")) }
}

/// A process that compiles.
struct Running {
    pid: Pid,
    /// Hung up when the process is gone, however it went.
    alive: OwnedFd,
    /// Where its status is written; broken when nobody waits for it any more.
    report: File,
}

/// What a process was forked for.
struct Work {
    job: Job,
    files: Files,
    /// Closed by the end of the process, and by nothing else.
    _alive: OwnedFd,
}

/// What comes with a job.
struct Files {
    wasm: OwnedFd,
    report: OwnedFd,
    stderr: OwnedFd,
}

/// The whole of the process, and of those that it forks.
///
/// Called by the binary for its hidden argument `compile-worker`, before anything else is set up: it must have one thread.
pub fn compile_worker() -> ExitCode {
    let Ok(wire) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::from(2) };
    let Ok(engines) = Engines::new() else { return ExitCode::FAILURE };
    match serve(UnixStream::from(wire)) {
        Ok(Some(work)) => work.run(&engines),
        // The server is gone, or needs no more of us; nobody is there to be told.
        Ok(None) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Forks on request, and tells how each process ended, until the server is gone. Comes back with work in each process that was forked.
fn serve(mut wire: UnixStream) -> io::Result<Option<Work>> {
    let mut running: Vec<Running> = Vec::new();
    loop {
        if !wait(&wire, &mut running)? {
            continue;
        }
        let Some((job, files)) = receive(&wire)? else { return Ok(None) };
        let (alive, its_alive) = pipe_with(PipeFlags::CLOEXEC)?;
        let answer = match fork() {
            Ok(Some(pid)) => {
                running.push(Running { pid, alive, report: File::from(files.report) });
                FORKED
            }
            // The ends that belong to the zygote and to the others are closed on the way out.
            Ok(None) => return Ok(Some(Work { job, files, _alive: its_alive })),
            Err(_) => NOT_FORKED,
        };
        wire.write_all(&[answer])?;
    }
}

/// Waits until something happened; says whether the server did it, or is tired of waiting for it.
fn wait(wire: &UnixStream, running: &mut Vec<Running>) -> io::Result<bool> {
    let mut fds = vec![PollFd::new(wire, PollFlags::IN)];
    for process in &*running {
        fds.push(PollFd::new(&process.alive, PollFlags::IN));
        fds.push(PollFd::new(&process.report, PollFlags::empty()));
    }
    if poll(&mut fds, running.is_empty().then_some(&IDLE_MAX))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let asked = !fds[0].revents().is_empty();
    let happened: Vec<_> = fds[1..].chunks(2).map(|pair| (pair[0].revents(), pair[1].revents())).collect();
    let mut happened = happened.into_iter();
    running.retain_mut(|process| {
        let (alive, report) = happened.next().unwrap_or((PollFlags::empty(), PollFlags::empty()));
        if !alive.is_empty() {
            process.tell_end();
            return false;
        }
        if report.contains(PollFlags::ERR) {
            // Nobody waits for it any more. Gone in this moment is as good.
            let _ = kill_process(process.pid, Signal::KILL);
        }
        true
    });
    Ok(asked)
}

impl Running {
    /// Writes the status of a process that is gone behind its report.
    fn tell_end(&mut self) {
        if let Ok(Some((_, status))) = waitpid(Some(self.pid), WaitOptions::empty()) {
            // Nobody may be there to hear it.
            let _ = write!(self.report, "\n{}", status.as_raw());
        }
    }
}

impl Work {
    fn run(self, engines: &Engines) -> ExitCode {
        #[cfg(target_os = "linux")]
        // Elsewhere an orphan still ends, by its bounds.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let Files { wasm, report, stderr } = &self.files;
        let ready = dup2_stdin(wasm).and_then(|()| dup2_stdout(report)).and_then(|()| dup2_stderr(stderr));
        match ready {
            Ok(()) => worker::run(&self.job, engines),
            Err(_) => ExitCode::from(2),
        }
    }
}

/// A job and its files; none when the server is gone.
fn receive(wire: &UnixStream) -> io::Result<Option<(Job, Files)>> {
    let mut bytes = vec![0; JOB_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(wire, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let mut files = rights.flatten();
    let (Some(wasm), Some(report), Some(stderr)) = (files.next(), files.next(), files.next()) else {
        return Ok(None);
    };
    Ok(Some((serde_json::from_slice(&bytes[..read.bytes])?, Files { wasm, report, stderr })))
}

/// Makes a copy of this process: its number, or nothing in the copy.
#[expect(unsafe_code, reason = "there is no other way to copy a process that is ready to work")]
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread: `compile_worker` is called before any other is made, and neither engines that have not
    // compiled nor anything here makes one. So the copy lacks no thread that could hold a lock, and goes on as any program may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}
