//! What a guest prints, cut into lines and bounded.
//! The two standard streams of an instance share one `Output`; whole lines go to the platform's log.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use coracle_model::{CallId, FunctionRef};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::host::{Host, Printed, Stream};
use crate::wasm::guest::LogBucket;

/// The longest line, in bytes; a longer one is kept as several.
const LINE_BYTES_MAX: usize = 16 << 10;

/// What a guest may write at once, in bytes.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The output of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: Arc<dyn Host>,
    bucket: Arc<LogBucket>,
    function: FunctionRef,
    revision: u32,
    instance: u64,
    // Std mutex: held to append a few bytes, never over an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    call: Option<CallId>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The end of what was printed on standard error, for the message of a failure.
    last_stderr: String,
}

impl Output {
    pub(super) fn new(
        host: Arc<dyn Host>,
        bucket: Arc<LogBucket>,
        function: FunctionRef,
        revision: u32,
        instance: u64,
    ) -> Self {
        Self(Arc::new(Shared { host, bucket, function, revision, instance, state: Mutex::default() }))
    }

    /// Names the call that is served from now on.
    pub(super) fn serve(&self, call: CallId) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.call = Some(call);
        state.last_stderr.clear();
    }

    /// Says something about the guest, beside what it prints itself.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        let call = self.0.state.lock().unwrap_or_else(PoisonError::into_inner).call.clone();
        for line in text.as_ref().lines().filter(|line| !line.trim().is_empty()) {
            self.0.log(Stream::Platform, call.clone(), line.to_owned());
        }
    }

    /// Counts a connection that was refused.
    pub(crate) fn denied(&self) {
        self.0.host.denied(&self.0.function);
    }

    /// Sends on what stands in the buffers without the end of a line: the call is over.
    pub(super) fn flush(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        for (stream, rest) in [(Stream::Stdout, &mut state.stdout), (Stream::Stderr, &mut state.stderr)] {
            if !rest.is_empty() {
                self.0.line(stream, state.call.as_ref(), rest, &mut state.last_stderr);
                rest.clear();
            }
        }
    }

    /// The last line of standard error, if there was one.
    pub(super) fn last_stderr(&self) -> Option<String> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        (!state.last_stderr.is_empty()).then(|| state.last_stderr.clone())
    }

    /// A stream for the guest to print on.
    pub(super) fn stream(&self, stream: Stream) -> GuestStream {
        GuestStream { shared: Arc::clone(&self.0), stream }
    }
}

impl Shared {
    fn write(&self, stream: Stream, mut bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { call, stdout, stderr, last_stderr } = &mut *state;
        let pending = if stream == Stream::Stdout { stdout } else { stderr };
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            if pending.is_empty() {
                self.line(stream, call.as_ref(), line, last_stderr);
            } else {
                pending.extend_from_slice(line);
                self.line(stream, call.as_ref(), pending, last_stderr);
                pending.clear();
            }
        }
        for part in bytes.chunks(LINE_BYTES_MAX) {
            if pending.len() + part.len() > LINE_BYTES_MAX {
                self.line(stream, call.as_ref(), pending, last_stderr);
                pending.clear();
            }
            pending.extend_from_slice(part);
        }
    }

    fn line(&self, stream: Stream, call: Option<&CallId>, line: &[u8], last_stderr: &mut String) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for part in line.chunks(LINE_BYTES_MAX).chain(line.is_empty().then_some(line)) {
            match self.bucket.take(part.len() + 1) {
                Ok(()) => {
                    let text = String::from_utf8_lossy(part).into_owned();
                    if stream == Stream::Stderr {
                        last_stderr.clone_from(&text);
                    }
                    self.log(stream, call.cloned(), text);
                }
                Err(note) => {
                    if let Some(note) = note {
                        self.log(Stream::Platform, call.cloned(), note);
                    }
                }
            }
        }
    }

    fn log(&self, stream: Stream, call: Option<CallId>, text: String) {
        let Self { function, revision, instance, .. } = self;
        self.host.log(Printed {
            function: function.clone(),
            revision: *revision,
            instance: *instance,
            call,
            stream,
            text,
        });
    }
}

/// One of a guest's standard streams.
#[derive(Debug, Clone)]
pub(super) struct GuestStream {
    shared: Arc<Shared>,
    stream: Stream,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

// Printing never waits: what is too much is dropped and counted.
#[wasmtime_wasi::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.shared.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
