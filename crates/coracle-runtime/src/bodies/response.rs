//! The body of a response, on its way from the guest: counted, bounded, and ended by the guest's own end.
//! Every kind of sandbox streams its guests' bodies through it, beside a task that watches over the guest.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use coracle_model::{Body, BodyError, Problem};
use http_body::Frame;
use tokio::sync::Notify;

use crate::fault::{broken, too_large};

/// What the reader of a body and the task that runs its guest tell each other.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes that the reader took.
    pub(crate) bytes: AtomicU64,
    /// Why the guest failed, set before its end of the body closes.
    // Std mutex: set once and taken once.
    pub(crate) fault: Mutex<Option<Problem>>,
    /// Whether the reader waits for the guest, and not the guest for the reader.
    awaited: AtomicBool,
    /// Whether and how the reader was done with it.
    done: Mutex<Option<Done>>,
    pub(crate) wake: Notify,
}

/// How the reader of a body was done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// It read all.
    Read,
    /// It went away before.
    Gone,
    /// There were more bytes than there may be.
    TooLarge,
}

impl Progress {
    pub(crate) fn done(&self) -> Option<Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the reader waits for the guest; else there is something that it does not take.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    fn set_done(&self, how: Done) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(how);
        self.wake.notify_one();
    }

    pub(crate) fn fail(&self, problem: Problem) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }

    fn take_fault(&self) -> Option<Problem> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A body whose guest still runs.
pub(crate) struct Streamed<B> {
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
    pub(crate) fn body(body: B, progress: Arc<Progress>, bytes_max: u64, promised: Option<u64>) -> Body {
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
pub(crate) fn promised_by(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
