//! Watches over a guest that still writes its body: who ends it, and how it came to its end.
//! Guests that are futures of ours run in it: those of Wasm, and the programs that run for one call.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coracle_model::{Limits, Problem, Revision};
use tokio::time::{Instant, timeout};

use crate::bodies::request::Seen;
use crate::bodies::response::{Done, Progress};
use crate::fault::{self, gone, too_large};

/// How a guest came to its end.
pub(crate) enum End<E> {
    /// By itself.
    Itself(E),
    /// Its reader is gone, or its body paused for too long.
    CutOff,
    /// Its reader takes nothing of what there is.
    Unread,
}

/// Runs a guest beyond the head of its response, until it ends or nobody waits for it.
pub(crate) async fn drive<G: Future + Unpin>(
    revision: &Revision,
    guest: &mut G,
    progress: &Progress,
    seen: Option<&Seen>,
) -> End<G::Output> {
    let pause_max = revision.settings.limits.stream_timeout;
    let moved = || progress.bytes.load(Ordering::Relaxed) + seen.map_or(0, Seen::bytes);
    let (mut last, mut since) = (moved(), Instant::now());
    let mut look = std::pin::pin!(tokio::time::sleep(pace_of(pause_max)));
    loop {
        tokio::select! {
            biased;
            () = progress.wake.notified() => {
                if matches!(progress.done(), Some(Done::Gone | Done::TooLarge)) {
                    return End::CutOff;
                }
            }
            exit = &mut *guest => return End::Itself(exit),
            () = &mut look => {
                let now = moved();
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() >= pause_max {
                    if progress.is_awaited() {
                        progress.fail(fault::paused(&revision.function, pause_max));
                        return End::CutOff;
                    }
                    progress.fail(gone("the client stopped reading"));
                    return End::Unread;
                }
                look.as_mut().reset(Instant::now() + pace_of(pause_max));
            }
        }
    }
}

/// Until the reader has taken what is left, or is gone; gives what went wrong.
pub(crate) async fn read_out(progress: &Progress, limits: &Limits) -> Option<Problem> {
    let fault = || progress.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
    loop {
        match progress.done() {
            Some(Done::Read) => return fault(),
            Some(Done::TooLarge) => return Some(too_large(limits.response_body_bytes)),
            Some(Done::Gone) => return fault().or_else(|| Some(gone("the client went away"))),
            None => {}
        }
        let bytes = progress.bytes.load(Ordering::Relaxed);
        let woken = timeout(limits.stream_timeout, progress.wake.notified()).await.is_ok();
        if !woken && progress.bytes.load(Ordering::Relaxed) == bytes && progress.done().is_none() {
            return fault().or_else(|| Some(gone("the client stopped reading")));
        }
    }
}

/// How often a body's pace is looked at: often enough that a pause is noticed within a quarter of its bound.
fn pace_of(pause_max: Duration) -> Duration {
    (pause_max / 4).max(Duration::from_millis(1))
}
