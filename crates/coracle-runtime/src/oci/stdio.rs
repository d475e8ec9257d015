//! A program that runs for one call: body in on stdin, body out on stdout, the head in the environment.
//! The sandbox is there already; its first process starts the program, and tells how it ended.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_model::{Body, Problem, Reply, code};
use http::request::Parts;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use crate::bodies::request::{RequestBody, Seen};
use crate::bodies::response::{Done, Progress, Streamed};
use crate::bodies::watch::{End, drive, read_out};
use crate::fault;
use crate::host::Stream;
use crate::oci::blueprint::Blueprint;
use crate::oci::prints::{Prints, READ_BYTES_MAX};
use crate::oci::process::in_words;
use crate::oci::sandbox::{Ran, Sandbox, Status};
use crate::output::Output;
use crate::wasm::{Answer, Ended, Left, Running, Work, before};

/// Output that is held back until the program ends, in bytes: below it, an exit code that says it failed becomes an error.
const HELD_BACK_BYTES_MAX: usize = 64 << 10;

/// Chunks of output on their way to the reader.
const CHUNKS_MAX: usize = 4;

/// How much of standard error is read at once, in bytes: most programs print little there.
const STDERR_AT_ONCE_BYTES: usize = 1 << 10;

/// How long output may still come after the end of the program that was started: from others that it started.
const AFTER_END: Duration = Duration::from_millis(100);

/// How the program of a call is run, where contracts differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Output that is held back until the program ends, in bytes: below it, an end that says it failed becomes an error.
    pub(crate) held_back_bytes_max: usize,
    /// Whether what it prints on standard error is part of its output.
    pub(crate) combines: bool,
    /// Whether an exit code can say that it failed.
    pub(crate) may_fail: bool,
    /// How long it may run.
    pub(crate) runs_at_most: Option<Duration>,
}

impl Manner {
    /// That of our own contract.
    pub(super) const OURS: Self = Self {
        held_back_bytes_max: HELD_BACK_BYTES_MAX,
        combines: false,
        may_fail: true,
        runs_at_most: None,
    };
}

/// How a program ended.
struct Exit {
    problem: Option<Problem>,
    /// Its end of the body closes when this goes, which must be after its fault is told.
    _stdout: mpsc::Sender<Bytes>,
}

/// How the run of a program was over.
enum Over {
    Ran(Ran),
    /// It ran longer than it may.
    Overdue,
    /// The body of its call broke off.
    Cut,
}

/// A program that runs, to its end.
type Program = Pin<Box<dyn Future<Output = Exit> + Send>>;

/// Runs the program for a call, as far as the head of its response; `variables` makes its environment of the call's head.
pub(crate) async fn serve(
    blueprint: &Arc<Blueprint>,
    sandbox: &Arc<Sandbox>,
    work: Work,
    manner: Manner,
    variables: impl FnOnce(&Parts, &Body) -> Vec<(String, String)>,
) -> Answer {
    let Work { id, request, deadline } = work;
    let revision = &blueprint.revision;
    let limits = &revision.settings.limits;
    let output = blueprint.output(sandbox.id());
    output.serve(id);
    let (head, body) = request.into_parts();
    let env = variables(&head, &body);
    let (body, seen) = RequestBody::new(body, limits.request_body_bytes, limits.stream_timeout);
    let (chunk, mut chunks) = mpsc::channel(CHUNKS_MAX);
    let running = run(Arc::clone(blueprint), Arc::clone(sandbox), manner, env, body, chunk, output.clone());
    let mut running: Program = Box::pin(running);
    let mut held = BytesMut::new();
    let step = std::future::poll_fn(|cx| {
        // The program may end and leave output behind, so it is asked first and the output is emptied after.
        let ended = running.as_mut().poll(cx);
        while let Poll::Ready(Some(chunk)) = chunks.poll_recv(cx) {
            held.extend_from_slice(&chunk);
            if held.len() > manner.held_back_bytes_max && ended.is_pending() {
                break;
            }
        }
        match ended {
            Poll::Ready(exit) => Poll::Ready(Some(exit)),
            Poll::Pending if held.len() > manner.held_back_bytes_max => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    let step = before(deadline, step).await;
    let refuse = |problem: Problem| refused(&output, problem, &seen);
    if let Some(problem) = fault::cut_off(revision, Some(&seen)) {
        return refuse(problem);
    }
    match step {
        None => {
            drop(running);
            refuse(fault::late(revision, Some(&seen)))
        }
        Some(Some(Exit { problem: Some(problem), .. })) => {
            let problem = if manner.combines { told_by_output(problem, &held, &output) } else { problem };
            refuse(fault::blame(problem, revision, Some(&seen)))
        }
        Some(Some(_)) if held.len() as u64 > limits.response_body_bytes => {
            refuse(fault::too_large(limits.response_body_bytes))
        }
        Some(Some(_)) => {
            let ended = ended(None, &seen, held.len() as u64);
            Answer { reply: Ok(reply(blueprint, Body::once(held.freeze()))), running: Running::Over(ended) }
        }
        Some(None) => {
            let progress = Arc::<Progress>::default();
            let printed = Printed { held: Some(held.freeze()), chunks };
            let body = Streamed::body(printed, Arc::clone(&progress), limits.response_body_bytes, None);
            let rest = rest(Arc::clone(blueprint), running, progress, seen, output);
            Answer { reply: Ok(reply(blueprint, body)), running: Running::Still(tokio::spawn(rest)) }
        }
    }
}

/// Runs the program to its end, and carries its streams.
async fn run(
    blueprint: Arc<Blueprint>,
    sandbox: Arc<Sandbox>,
    manner: Manner,
    env: Vec<(String, String)>,
    body: RequestBody,
    chunk: mpsc::Sender<Bytes>,
    output: Output,
) -> Exit {
    let oom_kills = sandbox.oom_kills();
    let overdue = async {
        match manner.runs_at_most {
            Some(most) => sleep(most).await,
            None => std::future::pending().await,
        }
    };
    let ran = match Streams::new(manner.combines) {
        Ok((ours, theirs)) => {
            let Streams { stdin, mut stdout, mut stderr } = ours;
            let (mut is_fed, mut is_read) = (false, false);
            let ran = {
                let (cut, mut still_open) = (Notify::new(), None);
                let mut running = std::pin::pin!(sandbox.run(env, theirs, &cut));
                let mut feeding = std::pin::pin!(feed(body, stdin));
                let mut reading = std::pin::pin!(read(&mut stdout, &mut stderr, &chunk, &output));
                let mut overdue = std::pin::pin!(overdue);
                loop {
                    tokio::select! {
                        biased;
                        ran = &mut running => {
                            break ran.map(|ran| if still_open.is_some() { Over::Cut } else { Over::Ran(ran) });
                        }
                        fed = &mut feeding, if !is_fed => {
                            is_fed = true;
                            if let Fed::Part(stdin) = fed {
                                // It ends before its input does: it must not take a part of a body for the whole.
                                still_open = Some(stdin);
                                cut.notify_one();
                            }
                        }
                        () = &mut reading, if !is_read => is_read = true,
                        // All of its processes go with the future that runs it.
                        () = &mut overdue => break Ok(Over::Overdue),
                    }
                }
            };
            if !is_read && matches!(ran, Ok(Over::Ran(_))) {
                let end = Instant::now() + AFTER_END;
                read_left(&stdout, stderr.as_ref(), &chunk, &output).await;
                // What others still hold open is theirs to lose.
                let _ = timeout_at(end, read(&mut stdout, &mut stderr, &chunk, &output)).await;
            }
            ran
        }
        Err(error) => Err(error),
    };
    output.flush();
    let problem = match ran {
        Ok(Over::Overdue) => {
            manner.runs_at_most.map(|most| fault::overran(&blueprint.revision.function, most))
        }
        // Why it was cut off, the body itself has seen: see `fault::blame`.
        Ok(Over::Cut) => Some(fault::gone("the body of the request broke off")),
        Ok(Over::Ran(Ran::Ended(status))) if !manner.may_fail => {
            if status != Status::Exited(0) {
                output.note(format!("its program {}", in_words(status)));
            }
            None
        }
        Ok(Over::Ran(ran)) => judge(&blueprint, Ok(ran), sandbox.oom_kills() > oom_kills, &output),
        Err(error) => judge(&blueprint, Err(error), false, &output),
    };
    Exit { problem, _stdout: chunk }
}

fn judge(
    blueprint: &Blueprint,
    ran: io::Result<Ran>,
    out_of_memory: bool,
    output: &Output,
) -> Option<Problem> {
    let function = &blueprint.revision.function;
    let exited = |what: String| {
        let said = output.last_stderr().map_or_else(String::new, |line| format!(": {line}"));
        Problem::new(&code::GUEST_EXITED, format!("`{function}` {what}{said}")).hint(output.hint())
    };
    match ran {
        Ok(Ran::Ended(Status::Exited(0))) => None,
        Ok(Ran::Ended(Status::Signaled(libc::SIGKILL)) | Ran::SandboxGone) if out_of_memory => {
            Some(fault::out_of_memory(function, blueprint.revision.settings.limits.memory_bytes))
        }
        Ok(Ran::Ended(status)) => Some(exited(in_words(status))),
        Ok(Ran::SandboxGone) => Some(exited("ended with its sandbox".into())),
        Ok(Ran::NotStarted(what)) => Some(
            Problem::new(
                &code::PROGRAM_NOT_STARTED,
                format!("the program of `{function}` cannot be run: {what}"),
            )
            .hint(match &blueprint.watchdog {
                Ok(Some(_)) => "look at `fprocess` in the environment of the function; paths are those within its sandbox",
                Ok(None) | Err(_) => "look at `command` and `workdir` of the function; paths are those within its sandbox",
            }),
        ),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Some(
            Problem::new(&code::HEAD_TOO_LARGE, "the head of the call does not fit an environment")
                .hint("send less in headers, or let the function listen: `contract = \"http\"`"),
        ),
        Err(error) => {
            Some(Problem::new(&code::INTERNAL, format!("run the program of `{function}`: {error}")))
        }
    }
}

/// Both ends of the standard streams of a program.
struct Streams {
    stdin: pipe::Sender,
    stdout: Prints,
    /// `None` where it is the same as standard output.
    stderr: Option<Prints>,
}

/// The same problem, with what the program printed last, where that is part of its output.
fn told_by_output(problem: Problem, held: &[u8], output: &Output) -> Problem {
    output.write(Stream::Stderr, held);
    output.flush();
    match output.last_stderr() {
        Some(line) => Problem { message: format!("{}: {line}", problem.message), ..problem },
        None => problem,
    }
}

impl Streams {
    fn new(combines: bool) -> io::Result<(Self, [OwnedFd; 3])> {
        let (its_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, its_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, its_stderr) = if combines {
            (None, its_stdout.try_clone()?)
        } else {
            let (stderr, its_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
            (Some(Prints::of(stderr, STDERR_AT_ONCE_BYTES)?), its_stderr)
        };
        let ours = Self {
            stdin: pipe::Sender::from_owned_fd(stdin)?,
            stdout: Prints::of(stdout, READ_BYTES_MAX)?,
            stderr,
        };
        Ok((ours, [its_stdin, its_stdout, its_stderr]))
    }
}

/// How much of its body a program was given.
enum Fed {
    /// All that it wanted.
    All,
    /// What came until the body broke off; its input is still open.
    Part(pipe::Sender),
}

/// Writes the body of the call. A program that does not read it to its end is free to.
async fn feed(mut body: RequestBody, mut stdin: pipe::Sender) -> Fed {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Fed::Part(stdin) };
        if let Ok(data) = frame.into_data()
            && stdin.write_all(&data).await.is_err()
        {
            break;
        }
    }
    Fed::All
}

/// Reads what a program prints until nobody can print any more. Dropping the future loses nothing.
async fn read(
    stdout: &mut Prints,
    stderr: &mut Option<Prints>,
    chunk: &mpsc::Sender<Bytes>,
    output: &Output,
) {
    let carrying = async {
        // Whoever reads may have enough. Room first: what is read has its place.
        while let Ok(room) = chunk.reserve().await
            && let Some(bytes) = stdout.next().await
        {
            room.send(bytes);
        }
    };
    let printing = async {
        if let Some(stderr) = stderr {
            while let Some(bytes) = stderr.next().await {
                output.write(Stream::Stderr, &bytes);
            }
        }
    };
    tokio::join!(carrying, printing);
}

/// Reads what a program left when it ended, at the pace of whoever reads it.
async fn read_left(stdout: &Prints, stderr: Option<&Prints>, chunk: &mpsc::Sender<Bytes>, output: &Output) {
    if let Some(stderr) = stderr {
        let mut left = stderr.left();
        while let Some(bytes) = stderr.take(left) {
            left -= bytes.len();
            output.write(Stream::Stderr, &bytes);
        }
    }
    let mut left = stdout.left();
    while left > 0
        && let Ok(room) = chunk.reserve().await
        && let Some(bytes) = stdout.take(left)
    {
        left -= bytes.len();
        room.send(bytes);
    }
}

/// Runs a program beyond the head of its response.
async fn rest(
    blueprint: Arc<Blueprint>,
    mut running: Program,
    progress: Arc<Progress>,
    seen: Arc<Seen>,
    output: Output,
) -> Ended {
    let revision = &blueprint.revision;
    let end = drive(revision, &mut running, &progress, Some(&seen)).await;
    drop(running);
    let is_unread = matches!(end, End::Unread);
    if let End::Itself(exit) = end {
        // A program that stumbled over a reader who left is not to blame.
        if let Some(problem) = exit.problem
            && progress.done() != Some(Done::Gone)
        {
            progress.fail(fault::blame(problem, revision, Some(&seen)));
        }
        // Here its end of the body closes.
    }
    let problem = match is_unread {
        true => Some(fault::gone("the client stopped reading")),
        false => read_out(&progress, &revision.settings.limits).await,
    };
    if let Some(problem) = &problem {
        note(&output, problem);
    }
    ended(problem, &seen, progress.bytes.load(Ordering::Relaxed))
}

fn refused(output: &Output, problem: Problem, seen: &Seen) -> Answer {
    note(output, &problem);
    let ended = ended(Some(problem.clone()), seen, 0);
    Answer { reply: Err(Box::new(problem)), running: Running::Over(ended) }
}

/// Writes a fault of the guest into its log.
fn note(output: &Output, problem: &Problem) {
    if problem.code.owner == coracle_model::Owner::Guest {
        output.note(format!("{}: {problem}", problem.code.name));
    }
}

fn ended(problem: Option<Problem>, seen: &Seen, bytes_out: u64) -> Ended {
    let problem = problem.map(Box::new);
    Ended { problem, left: Left::Nothing, memory_bytes: 0, bytes_in: seen.bytes(), bytes_out }
}

fn reply(blueprint: &Blueprint, body: Body) -> Reply {
    let content_type = blueprint.revision.settings.content_type.as_deref();
    let content_type = content_type.and_then(|text| HeaderValue::from_str(text).ok());
    let mut reply = Response::new(body);
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    reply
}

/// The output of a program as a body: what was held back, then the rest.
struct Printed {
    held: Option<Bytes>,
    chunks: mpsc::Receiver<Bytes>,
}

impl http_body::Body for Printed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        self.chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::testing;

    #[tokio::test(start_paused = true)]
    async fn what_a_program_left_is_read_at_the_pace_of_its_reader() {
        let (stdout, its_stdout) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let printed = vec![b'x'; 60_000];
        assert_eq!(rustix::io::write(&its_stdout, &printed).unwrap(), printed.len());
        let stdout = Prints::of(stdout, READ_BYTES_MAX).unwrap();
        let (chunk, mut chunks) = mpsc::channel(1);
        chunk.send(Bytes::from_static(b"before")).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                sleep(AFTER_END * 5).await;
                match chunks.recv().await {
                    Some(bytes) => taken.push(bytes),
                    None => return taken.concat(),
                }
            }
        });
        // Another holds the pipe open: it is not waited for.
        read_left(&stdout, None, &chunk, &testing::output(&std::sync::Arc::default())).await;
        drop(chunk);
        assert_eq!(reading.await.unwrap(), [b"before".as_slice(), &printed].concat());
        drop(its_stdout);
    }
}
