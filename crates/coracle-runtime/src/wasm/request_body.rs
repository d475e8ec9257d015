//! The body of a call, on its way to the guest: counted, bounded, and watched.
//! What it saw decides whose fault it is when a call ends badly.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_model::{Body, BodyError};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::Error;

/// What happened to the body of a call so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    bytes: AtomicU64,
    too_large: AtomicBool,
    broken: AtomicBool,
    awaited: AtomicBool,
}

impl Seen {
    /// Bytes that the guest has read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there were more bytes than there may be.
    pub(super) fn was_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// Whether its sender went away.
    pub(super) fn was_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether the guest waits for bytes that do not come.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }
}

/// The body as the WASI crates read it.
pub(super) struct RequestBody {
    body: Body,
    seen: Arc<Seen>,
    bytes_max: u64,
    pause_max: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(body: Body, bytes_max: u64, pause_max: Duration) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        (Self { body, seen: Arc::clone(&seen), bytes_max, pause_max, pause: None }, seen)
    }

    fn count(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        if let Some(data) = frame.data_ref() {
            let bytes = self.seen.bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
            if bytes > self.bytes_max {
                self.seen.too_large.store(true, Ordering::Relaxed);
                return Err(Error::HttpRequestBodySize(Some(self.bytes_max)));
            }
        }
        Ok(frame)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.pause = None;
            self.seen.awaited.store(false, Ordering::Relaxed);
            return Poll::Ready(frame.map(|frame| match frame {
                Ok(frame) => self.count(frame),
                Err(BodyError::Problem(_) | BodyError::Broken(_)) => {
                    self.seen.broken.store(true, Ordering::Relaxed);
                    Err(Error::ConnectionTerminated)
                }
            }));
        }
        self.seen.awaited.store(true, Ordering::Relaxed);
        let pause_max = self.pause_max;
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(pause_max)));
        pause.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
