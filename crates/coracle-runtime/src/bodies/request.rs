//! The body of a call, on its way to the guest: counted, bounded, and watched.
//! What it saw decides whose fault it is when a call ends badly.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coracle_model::{Body, BodyError};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Why a guest gets no more of the body of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    /// It is over its bound, in bytes.
    #[error("it is over {0} bytes")]
    TooLarge(u64),
    /// Its sender went away.
    #[error("its sender went away")]
    Broken,
    /// Its sender was silent for too long.
    #[error("its sender was silent for too long")]
    Paused,
}

/// What happened to the body of a call so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    bytes: AtomicU64,
    too_large: AtomicBool,
    broken: AtomicBool,
    awaited: AtomicBool,
    paused: AtomicBool,
}

impl Seen {
    /// Bytes that the guest has read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there were more bytes than there may be.
    pub(crate) fn was_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// Whether its sender went away.
    pub(crate) fn was_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether its sender was silent for too long.
    pub(crate) fn was_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether it ended before its end, for whatever reason.
    pub(crate) fn was_cut(&self) -> bool {
        self.was_too_large() || self.was_broken() || self.was_paused()
    }

    /// Whether the guest waits for bytes that do not come.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }
}

/// The body as a guest reads it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Body,
    seen: Arc<Seen>,
    bytes_max: u64,
    pause_max: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(crate) fn new(body: Body, bytes_max: u64, pause_max: Duration) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        (Self { body, seen: Arc::clone(&seen), bytes_max, pause_max, pause: None }, seen)
    }

    /// The body of a call that has none.
    pub(crate) fn empty() -> Self {
        Self::new(Body::empty(), 0, Duration::ZERO).0
    }

    fn count(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Stop> {
        if let Some(data) = frame.data_ref() {
            let bytes = self.seen.bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
            if bytes > self.bytes_max {
                self.seen.too_large.store(true, Ordering::Relaxed);
                return Err(Stop::TooLarge(self.bytes_max));
            }
        }
        Ok(frame)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Stop;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stop>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.pause = None;
            self.seen.awaited.store(false, Ordering::Relaxed);
            return Poll::Ready(frame.map(|frame| match frame {
                Ok(frame) => self.count(frame),
                Err(BodyError::Problem(_) | BodyError::Broken(_)) => {
                    self.seen.broken.store(true, Ordering::Relaxed);
                    Err(Stop::Broken)
                }
            }));
        }
        self.seen.awaited.store(true, Ordering::Relaxed);
        let pause_max = self.pause_max;
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(pause_max)));
        ready!(pause.as_mut().poll(cx));
        self.seen.paused.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(Stop::Paused)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
