//! The body of a guest's response: taken at once if it is short and there, else streamed and watched over.
//! `ingress` reads it; its end frees the connection for the next call.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_model::{Body, CallId, Problem};
use http_body::{Body as _, Frame};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::bodies::request::Seen;
use crate::bodies::response::{Done, Progress, Streamed};
use crate::fault::{self, gone};
use crate::oci::connection::{Failure, Source};
use crate::oci::ingress::{Inlet, ended};
use crate::wasm::Ended;

/// The longest body that is taken in one piece, in bytes.
const WHOLE_BYTES_MAX: usize = 64 << 10;

/// A body that is being read off its connection.
pub(super) struct Reading {
    inlet: Arc<Inlet>,
    /// `None` when the end was seen, and the connection given back.
    source: Option<Source>,
}

/// What of a body is there already.
pub(super) enum Ahead {
    /// All of it.
    Whole(Bytes),
    /// Less than all of it, or more than data.
    Rest(VecDeque<Frame<Bytes>>),
    /// It broke off.
    Broken(Failure),
}

impl Reading {
    pub(super) fn new(inlet: &Arc<Inlet>, source: Source) -> Self {
        Self { inlet: Arc::clone(inlet), source: Some(source) }
    }

    /// Takes what is there, without waiting.
    pub(super) fn take_ahead(&mut self, cx: &mut Context<'_>) -> Ahead {
        let mut whole = Bytes::new();
        let mut joined = BytesMut::new();
        let mut trailers = None;
        loop {
            match self.poll_frame(cx) {
                Poll::Ready(None) if trailers.is_none() => return Ahead::Whole(one_piece(whole, joined)),
                Poll::Ready(Some(Err(error))) => return Ahead::Broken(error),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if whole.is_empty() && joined.is_empty() => whole = data,
                    Ok(data) => {
                        if joined.is_empty() {
                            joined.extend_from_slice(&std::mem::take(&mut whole));
                        }
                        joined.extend_from_slice(&data);
                    }
                    Err(frame) => trailers = Some(frame),
                },
                Poll::Ready(None) | Poll::Pending => return rest(whole, joined, trailers),
            }
            if whole.len() + joined.len() >= WHOLE_BYTES_MAX {
                return rest(whole, joined, trailers);
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *source).poll_frame(cx);
        match &frame {
            Poll::Pending => source.acknowledge(),
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(_)) => {}
        }
        frame
    }

    fn give_back(&mut self) {
        if let Some(Source::Plain(plain)) = self.source.take() {
            self.inlet.pool.keep(plain);
        }
    }
}

impl Drop for Reading {
    /// A reader that has as many bytes as the head promised does not ask for the end.
    fn drop(&mut self) {
        if self.source.as_ref().is_some_and(Source::is_end_stream) {
            self.give_back();
        }
    }
}

fn one_piece(whole: Bytes, joined: BytesMut) -> Bytes {
    if joined.is_empty() { whole } else { joined.freeze() }
}

fn rest(whole: Bytes, joined: BytesMut, trailers: Option<Frame<Bytes>>) -> Ahead {
    let data = one_piece(whole, joined);
    let data = (!data.is_empty()).then(|| Frame::data(data));
    Ahead::Rest(data.into_iter().chain(trailers).collect())
}

/// Streams a body to its reader; the future ends with the call.
pub(super) fn stream(
    inlet: &Arc<Inlet>,
    id: CallId,
    reading: Reading,
    ahead: VecDeque<Frame<Bytes>>,
    seen: Arc<Seen>,
    promised: Option<u64>,
) -> (Body, impl Future<Output = Ended> + Send + use<>) {
    let progress = Arc::<Progress>::default();
    // The instance's end cuts all its bodies.
    let cut = inlet.ended.child_token();
    let body = GuestBody {
        reading: Some(reading),
        ahead,
        progress: Arc::clone(&progress),
        seen: Arc::clone(&seen),
        is_cut: Box::pin(cut.clone().cancelled_owned()),
        failing: None,
    };
    let bytes_max = inlet.revision.settings.limits.response_body_bytes;
    let body = Streamed::body(body, Arc::clone(&progress), bytes_max, promised);
    (body, follow(Arc::clone(inlet), id, progress, seen, cut))
}

/// A body on its way to a reader who is told, by `Progress`, why it broke off.
struct GuestBody {
    /// `None` when it broke off.
    reading: Option<Reading>,
    /// What was taken before.
    ahead: VecDeque<Frame<Bytes>>,
    progress: Arc<Progress>,
    seen: Arc<Seen>,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    failing: Option<Pin<Box<dyn Future<Output = Problem> + Send>>>,
}

/// A body ended before its end; `Progress` knows why.
#[derive(Debug)]
struct BrokeOff;

impl http_body::Body for GuestBody {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        let this = &mut *self;
        if let Some(frame) = this.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(reading) = &mut this.reading {
            match reading.poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
                Poll::Ready(Some(Err(error))) => this.fail(Some(error)),
                Poll::Pending => {
                    ready!(this.is_cut.as_mut().poll(cx));
                    this.fail(None);
                }
            }
        }
        if let Some(failing) = &mut this.failing {
            let problem = ready!(failing.as_mut().poll(cx));
            this.failing = None;
            this.progress.fail(problem);
        }
        Poll::Ready(Some(Err(BrokeOff)))
    }
}

impl GuestBody {
    /// Lets go of the connection, and finds out why it broke off.
    fn fail(&mut self, error: Option<Failure>) {
        let Some(reading) = self.reading.take() else { return };
        let (inlet, seen) = (Arc::clone(&reading.inlet), Arc::clone(&self.seen));
        match error {
            Some(error) => {
                self.failing = Some(Box::pin(async move { inlet.explain_body(&error, &seen).await }));
            }
            // Cut by the instance's end, or by whoever watches over it, who has said why.
            None if inlet.ended.is_cancelled() => {
                self.failing = Some(Box::pin(async move { inlet.end().await.unwrap_or_else(fault::broken) }));
            }
            None => {}
        }
    }
}

/// Watches over a body until its reader is done, and cuts it off when nothing moves.
async fn follow(
    inlet: Arc<Inlet>,
    id: CallId,
    progress: Arc<Progress>,
    seen: Arc<Seen>,
    cut: CancellationToken,
) -> Ended {
    let limits = &inlet.revision.settings.limits;
    let moved = || progress.bytes.load(Ordering::Relaxed) + seen.bytes();
    let (mut last, mut since) = (moved(), Instant::now());
    let pace = (limits.stream_timeout / LOOKS).max(Duration::from_millis(1));
    let mut look = std::pin::pin!(tokio::time::sleep(pace));
    while progress.done().is_none() {
        tokio::select! {
            biased;
            () = progress.wake.notified() => {}
            () = &mut look => {
                let now = moved();
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() >= limits.stream_timeout {
                    if cut.is_cancelled() || !progress.is_awaited() {
                        // Its reader takes nothing: not even the news that it is cut off.
                        progress.fail(gone("the client stopped reading"));
                        break;
                    }
                    progress.fail(fault::paused(&inlet.revision.function, limits.stream_timeout));
                    cut.cancel();
                    since = Instant::now();
                }
                look.as_mut().reset(Instant::now() + pace);
            }
        }
    }
    let fault = || progress.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let problem = match progress.done() {
        Some(Done::Read) | None => fault(),
        Some(Done::TooLarge) => Some(fault::too_large(limits.response_body_bytes)),
        Some(Done::Gone) => fault().or_else(|| Some(gone("the client went away"))),
    };
    if let Some(problem) = &problem {
        inlet.note(&id, problem);
    }
    ended(problem.map(Box::new), seen.bytes(), progress.bytes.load(Ordering::Relaxed))
}

/// How often it is looked within the longest pause.
const LOOKS: u32 = 4;
