//! The body of a response, on its way from the guest: counted, bounded, and ended by the guest's own end.
//! A short one that is there already becomes one piece; a long one is streamed while the guest runs.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use coracle_model::{Body, BodyError, Problem, code};
use http_body::{Body as _, Frame};
use tokio::sync::Notify;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// What a guest has written when it is done.
pub(super) enum Written {
    /// All of it, in one piece.
    Whole(Bytes),
    /// The guest broke its own promise, such as its content-length.
    Broken,
    /// More than pieces of data, or an end that has not come.
    Rest(HyperOutgoingBody),
}

/// Takes what the guest has written already, without waiting.
pub(super) fn take_written(mut body: HyperOutgoingBody) -> Written {
    let mut cx = Context::from_waker(Waker::noop());
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(None) if joined.is_empty() => return Written::Whole(whole),
            Poll::Ready(None) => return Written::Whole(joined.freeze()),
            Poll::Ready(Some(Err(_))) => return Written::Broken,
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if whole.is_empty() && joined.is_empty() => whole = data,
                Ok(data) => {
                    if joined.is_empty() {
                        joined.extend_from_slice(&std::mem::take(&mut whole));
                    }
                    joined.extend_from_slice(&data);
                }
                Err(frame) => return Written::Rest(put_back(joined, whole, Some(frame), body)),
            },
            Poll::Pending => return Written::Rest(put_back(joined, whole, None, body)),
        }
    }
}

fn put_back(
    joined: BytesMut,
    whole: Bytes,
    last: Option<Frame<Bytes>>,
    rest: HyperOutgoingBody,
) -> HyperOutgoingBody {
    use http_body_util::BodyExt;
    let data = if joined.is_empty() { whole } else { joined.freeze() };
    let first = (!data.is_empty()).then(|| Frame::data(data));
    Resumed { taken: [first, last].into_iter().flatten().collect(), rest }.boxed_unsync()
}

/// A body of which some frames were taken already.
struct Resumed {
    taken: std::collections::VecDeque<Frame<Bytes>>,
    rest: HyperOutgoingBody,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.taken.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}

/// What the reader of a body and the task that runs its guest tell each other.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes that the reader took.
    pub(super) bytes: AtomicU64,
    /// Why the guest failed, set before its end of the body closes.
    // Std mutex: set once and taken once.
    pub(super) fault: Mutex<Option<Problem>>,
    /// Whether the reader waits for the guest, and not the guest for the reader.
    awaited: AtomicBool,
    /// Whether and how the reader was done with it.
    done: Mutex<Option<Done>>,
    pub(super) wake: Notify,
}

/// How the reader of a body was done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    /// It read all.
    Read,
    /// It went away before.
    Gone,
    /// There were more bytes than there may be.
    TooLarge,
}

impl Progress {
    pub(super) fn done(&self) -> Option<Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the reader waits for the guest; else there is something that it does not take.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    fn set_done(&self, how: Done) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(how);
        self.wake.notify_one();
    }

    pub(super) fn fail(&self, problem: Problem) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }

    fn take_fault(&self) -> Option<Problem> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A body whose guest still runs.
pub(super) struct Streamed<B> {
    body: B,
    progress: Arc<Progress>,
    bytes_max: u64,
    /// What the head promised: a reader that has as much does not ask for the end.
    promised: Option<u64>,
    /// Why the body broke off, while that waits its turn.
    failed: Option<Problem>,
}

impl<B> Streamed<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    pub(super) fn body(body: B, progress: Arc<Progress>, bytes_max: u64, promised: Option<u64>) -> Body {
        Body::stream(Self { body, progress, bytes_max, promised, failed: None })
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Streamed<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(problem) = self.failed.take() {
            return Poll::Ready(Some(Err(problem.into())));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.awaited.store(frame.is_pending(), Ordering::Relaxed);
        let Poll::Ready(frame) = frame else { return Poll::Pending };
        let failed = match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                let bytes = self.progress.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
                if bytes <= self.bytes_max {
                    if frame.is_trailers() || self.promised.is_some_and(|promised| bytes >= promised) {
                        self.progress.set_done(Done::Read);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                self.progress.set_done(Done::TooLarge);
                too_large(self.bytes_max)
            }
            Some(Err(_)) => {
                let fault = self.progress.take_fault().unwrap_or_else(broken);
                self.progress.fail(fault.clone());
                self.progress.set_done(Done::Read);
                fault
            }
            // The guest's fault is set before its end of the body closes, so a plain end is a good one.
            None => {
                self.progress.set_done(Done::Read);
                match self.progress.take_fault() {
                    None => return Poll::Ready(None),
                    Some(fault) => fault,
                }
            }
        };
        // A writer that meets an error drops what it has not sent; it sends that, the head too, while there is nothing more.
        self.failed = Some(failed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B> Drop for Streamed<B> {
    fn drop(&mut self) {
        self.progress.set_done(Done::Gone);
    }
}

/// The length that a head promises for its body.
pub(super) fn promised_by(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) fn too_large(bytes_max: u64) -> Problem {
    Problem::new(&code::RESPONSE_TOO_LARGE, format!("the function sent more than {bytes_max} bytes of body"))
        .hint("set `response_body` of the function to allow more")
}

pub(super) fn broken() -> Problem {
    Problem::new(
        &code::GUEST_INVALID_RESPONSE,
        "the function's body is not as long as its content-length says",
    )
}
