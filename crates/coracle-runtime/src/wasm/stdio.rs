//! The contract of a program: one process a call, body in on stdin, body out on stdout, the head in the environment.
//! `wasi:cli/run` commands, and core wasip1 modules, which the compile process wraps into one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use coracle_model::Body;
use http::{HeaderValue, Response, header};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use wasmtime::Store;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};

use crate::bodies::request::{RequestBody, Seen};
use crate::bodies::response::{Progress, Streamed};
use crate::cgi;
use crate::fault;
use crate::host::Stream;
use crate::wasm::component::refused;
use crate::wasm::engine::{Ticking, take_turns};
use crate::wasm::guest::{Guest, Plan};
use crate::wasm::instance::{Answer, Ended, Left, Running, Work, before};
use crate::wasm::loaded::{Entry, Program};
use crate::wasm::pump::{Exit, Guesting, Remains, pump};
use crate::wasm::stream::GuestStream;
use crate::wasm::trap::{self, Circumstances, Served};

/// Output that is held back until the program ends, in bytes: below it, an exit code that says it failed becomes an error.
const HELD_BACK_BYTES_MAX: usize = 64 << 10;

/// Chunks of output on their way to the reader.
const CHUNKS_MAX: usize = 4;

/// The program's name, as it sees it.
const ARGV0: &str = "function";

/// Runs one program, as far as the head of its response.
pub(super) async fn serve(
    plan: &Arc<Plan>,
    program: &Arc<Program>,
    id: u64,
    work: Work,
    ticking: Ticking,
) -> Answer {
    let limits = &plan.revision.settings.limits;
    let served = Served { instance: id, call: work.id.clone() };
    let output = plan.output(id);
    output.serve(work.id);
    let (head, body) = work.request.into_parts();
    let (body, seen) = RequestBody::new(body, limits.request_body_bytes, limits.stream_timeout);
    let (stdout, mut chunks) = mpsc::channel(CHUNKS_MAX);
    let mut context = plan.context(&output);
    // What the function was given is not the caller's to say.
    let own = &plan.revision.settings.env;
    for (name, value) in cgi::variables(&head).into_iter().filter(|(name, _)| !own.contains_key(name)) {
        context.env(name, value);
    }
    context
        .stdin(Stdin::new(body))
        .stdout(Stdout(stdout))
        .stderr(GuestStream::new(&output, Stream::Stderr))
        .arg(ARGV0);
    let guest = Guest::with(plan, Some(&mut context), output);
    let mut running: Guesting = Box::pin(run(Arc::clone(plan), Arc::clone(program), guest));

    let mut held = Held::default();
    let step = std::future::poll_fn(|cx| {
        // The program may end and leave output behind, so it is asked first and the output is emptied after.
        let ended = running.as_mut().poll(cx);
        while let Poll::Ready(Some(chunk)) = chunks.poll_recv(cx) {
            held.push(chunk);
            if held.bytes.len() > HELD_BACK_BYTES_MAX && ended.is_pending() {
                break;
            }
        }
        match ended {
            Poll::Ready(exit) => Poll::Ready(Some(exit)),
            Poll::Pending if held.bytes.len() > HELD_BACK_BYTES_MAX => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    let step = before(work.deadline, step).await;
    if let Some(problem) = fault::cut_off(&plan.revision, Some(&seen)) {
        return refused(problem, seen.bytes(), 0);
    }
    match step {
        None => {
            drop(running);
            let problem = fault::late(&plan.revision, Some(&seen));
            trap::note(plan, &served, &problem);
            refused(problem, seen.bytes(), 0)
        }
        Some(Some(exit)) => over(plan, &served, exit, held, &seen),
        Some(None) => stream(plan, served, running, held, chunks, seen, ticking),
    }
}

async fn run(plan: Arc<Plan>, program: Arc<Program>, guest: Guest) -> Exit {
    let Entry::Command(pre) = &program.entry else { unreachable!("only commands are run here") };
    let mut store = Store::new(pre.engine(), guest);
    store.limiter(|guest| &mut guest.limiter);
    store.set_epoch_deadline(1);
    take_turns(&mut store);
    let result = match pre.instantiate_async(&mut store).await {
        Ok(command) => command.wasi_cli_run().call_run(&mut store).await,
        Err(error) => Err(error),
    };
    let guest = store.data();
    guest.output.flush();
    let at = Circumstances {
        function: &plan.revision.function,
        out_of_memory: guest.limiter.was_refused(),
        memory_bytes_max: plan.revision.settings.limits.memory_bytes,
        last_stderr: guest.output.last_stderr(),
    };
    let failed = match result {
        Ok(Ok(())) => None,
        Ok(Err(())) => Some(wasmtime::Error::from(wasmtime_wasi::I32Exit(1))),
        Err(error) => match error.downcast_ref() {
            Some(wasmtime_wasi::I32Exit(0)) => None,
            _ => Some(error),
        },
    };
    let problem = failed.map(|error| {
        if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_none() {
            guest.output.note(trap::story(&error));
        }
        trap::problem(&error, &at)
    });
    let memory_bytes = guest.limiter.peak();
    Exit { problem, memory_bytes, remains: Remains::Program { store: Box::new(store) } }
}

fn over(plan: &Plan, served: &Served, exit: Exit, held: Held, seen: &Seen) -> Answer {
    let limits = &plan.revision.settings.limits;
    if let Some(problem) = exit.problem {
        let problem = fault::blame(problem, &plan.revision, Some(seen));
        trap::note(plan, served, &problem);
        return refused(problem, seen.bytes(), exit.memory_bytes);
    }
    let bytes_out = held.bytes.len() as u64;
    if bytes_out > limits.response_body_bytes {
        let problem = fault::too_large(limits.response_body_bytes);
        return refused(problem, seen.bytes(), exit.memory_bytes);
    }
    let ended = Ended {
        problem: None,
        left: Left::Nothing,
        memory_bytes: exit.memory_bytes,
        bytes_in: seen.bytes(),
        bytes_out,
    };
    Answer { reply: Ok(reply(plan, Body::once(held.bytes.freeze()))), running: Running::Over(ended) }
}

fn reply(plan: &Plan, body: Body) -> Response<Body> {
    let content_type =
        plan.revision.settings.content_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    let mut reply = Response::new(body);
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    reply
}

fn stream(
    plan: &Arc<Plan>,
    served: Served,
    running: Guesting,
    held: Held,
    chunks: mpsc::Receiver<Bytes>,
    seen: Arc<Seen>,
    ticking: Ticking,
) -> Answer {
    let limits = &plan.revision.settings.limits;
    let progress = Arc::<Progress>::default();
    let printed = Printed { held: Some(held.bytes.freeze()), chunks };
    let body = Streamed::body(printed, Arc::clone(&progress), limits.response_body_bytes, None);
    let rest = pump(Arc::clone(plan), served, running, progress, Some(seen), ticking);
    Answer { reply: Ok(reply(plan, body)), running: Running::Still(tokio::spawn(rest)) }
}

#[derive(Default)]
struct Held {
    bytes: BytesMut,
}

impl Held {
    fn push(&mut self, chunk: Bytes) {
        self.bytes.extend_from_slice(&chunk);
    }
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

/// The body of a call as standard input; all its handles read from one place.
#[derive(Clone)]
struct Stdin(Arc<Mutex<Reading>>);

struct Reading {
    body: RequestBody,
    left: Bytes,
}

impl Stdin {
    fn new(body: RequestBody) -> Self {
        Self(Arc::new(Mutex::new(Reading { body, left: Bytes::new() })))
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while reading.left.is_empty() {
            match ready!(Pin::new(&mut reading.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error.to_string()))),
                Some(Ok(frame)) => reading.left = frame.into_data().unwrap_or_default(),
            }
        }
        let length = reading.left.len().min(into.remaining());
        into.put_slice(&reading.left[..length]);
        reading.left.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// Standard output as chunks of a body.
#[derive(Clone)]
struct Stdout(mpsc::Sender<Bytes>);

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Writing(PollSender::new(self.0.clone())))
    }
}

struct Writing(PollSender<Bytes>);

impl AsyncWrite for Writing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.0.poll_reserve(cx)).map_err(|_| gone())?;
        self.0.send_item(Bytes::copy_from_slice(bytes)).map_err(|_| gone())?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
