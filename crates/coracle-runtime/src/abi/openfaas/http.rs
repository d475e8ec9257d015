//! Calls to a process that listens: bounded in time from their start to the end of their body.
//! `serve` sends them here, by the mode `http`.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_model::{Body, BodyError, Problem, code};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::line::Line;
use super::serve::nothing_used;
use super::settings::Watchdog;
use super::span::span;
use crate::oci::Ingress;
use crate::wasm::{Answer, Ended, Running, Work, before};

/// The header by which a caller lowers the time that its call may take.
const TIMEOUT: &str = "x-timeout";

/// Serves a call, as far as the head of its answer.
///
/// # Errors
/// The call itself, untouched, if the instance has ended.
pub(super) async fn serve(
    watchdog: &Watchdog,
    ingress: &Ingress,
    work: Work,
    line: &Line,
) -> Result<Answer, Work> {
    let Some(bound) = bound(watchdog, work.request.headers()) else {
        return ingress.serve(work).await.map(|answer| refused(answer, line));
    };
    let at = Instant::now() + bound.most();
    let answer = match before(at, ingress.serve(work)).await {
        Some(answer) => answer?,
        None => {
            let problem = Box::new(line.overran(bound));
            line.note(&problem);
            let ended = nothing_used(Some(problem.clone()));
            Answer { reply: Err(problem), running: Running::Over(ended) }
        }
    };
    Ok(refused(bounded(answer, at, line.overran(bound)), line))
}

/// How long a call may take, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// The environment of the watchdog.
    Own(Duration),
    /// The caller, who may only lower it.
    Callers(Duration),
}

impl Bound {
    fn most(self) -> Duration {
        match self {
            Self::Own(most) | Self::Callers(most) => most,
        }
    }
}

/// How long a call may take: what the watchdog lets it, or less if its caller says so.
fn bound(watchdog: &Watchdog, headers: &HeaderMap) -> Option<Bound> {
    let asked = headers.get(TIMEOUT).and_then(|value| span(value.to_str().ok()?));
    match (watchdog.exec_timeout, asked.filter(|asked| !asked.is_zero())) {
        (Some(most), Some(asked)) if most <= asked => Some(Bound::Own(most)),
        (_, Some(asked)) => Some(Bound::Callers(asked)),
        (most, None) => most.map(Bound::Own),
    }
}

/// The statuses that a problem of a function has behind a watchdog.
fn refused(mut answer: Answer, line: &Line) -> Answer {
    if let Err(problem) = &mut answer.reply {
        let status = if problem.code == &code::GUEST_TIMEOUT { 504 } else { 500 };
        line.refuse(problem, status);
    }
    answer
}

/// The same answer, whose body breaks off when its time is over.
fn bounded(answer: Answer, at: Instant, overran: Problem) -> Answer {
    let Answer { reply, running } = answer;
    match (reply, running) {
        (Ok(reply), Running::Still(guest)) => {
            let over = Arc::<OnceLock<Problem>>::default();
            let reply = reply.map(|body| {
                let clock = Box::pin(sleep_until(at));
                Body::stream(Bounded { body: Some(body), clock, overran, over: Arc::clone(&over) })
            });
            let guest = tokio::spawn(async move {
                match guest.await {
                    Ok(ended) => match over.get() {
                        Some(problem) => Ended { problem: Some(Box::new(problem.clone())), ..ended },
                        None => ended,
                    },
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            });
            Answer { reply: Ok(reply), running: Running::Still(guest) }
        }
        (reply, running) => Answer { reply, running },
    }
}

/// A body that has only so much time.
struct Bounded {
    /// `None` when its time is over: with it goes the connection that it comes on.
    body: Option<Body>,
    clock: Pin<Box<Sleep>>,
    overran: Problem,
    over: Arc<OnceLock<Problem>>,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        // The clock first: there may always be a next frame.
        match this.clock.as_mut().poll(cx) {
            Poll::Pending => Pin::new(body).poll_frame(cx),
            Poll::Ready(()) => {
                // Told before the body goes, whose end is the call's.
                let _ = this.over.set(this.overran.clone());
                this.body = None;
                Poll::Ready(Some(Err(this.overran.clone().into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_model::Settings;
    use http_body_util::BodyExt as _;
    use http_body_util::StreamBody;

    fn watchdog(exec_timeout: &str) -> Watchdog {
        let mut settings = Settings::default();
        let env = [
            ("fprocess", "x"),
            ("mode", "http"),
            ("http_upstream_url", "http://127.0.0.1:5000"),
            ("exec_timeout", exec_timeout),
        ];
        settings.env.extend(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Watchdog::parse(None, &settings).unwrap()
    }

    #[test]
    fn a_caller_may_lower_the_bound_and_not_raise_it() {
        let table = [
            ("10s", None, Some(10)),
            ("10s", Some("2s"), Some(2)),
            ("10s", Some("1m"), Some(10)),
            ("10s", Some("soon"), Some(10)),
            ("10s", Some("2"), Some(10)),
            ("10s", Some("0s"), Some(10)),
            ("0", None, None),
            ("0", Some("2s"), Some(2)),
        ];
        for (own, asked, expected) in table {
            let mut headers = HeaderMap::new();
            if let Some(asked) = asked {
                headers.insert(TIMEOUT, asked.parse().unwrap());
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(bound(&watchdog(own), &headers).map(Bound::most), expected, "{own} {asked:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_takes_longer_than_its_call_may_breaks_off() {
        let frames = futures_util::stream::unfold(0, |count| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"."))), count + 1))
        });
        let begun = Instant::now();
        let over = Arc::<OnceLock<Problem>>::default();
        let mut bounded = Bounded {
            body: Some(Body::stream(StreamBody::new(frames))),
            clock: Box::pin(sleep_until(begun + Duration::from_millis(2_500))),
            overran: Problem::new(&code::GUEST_TIMEOUT, "it took too long"),
            over: Arc::clone(&over),
        };
        assert!(bounded.frame().await.unwrap().is_ok() && bounded.frame().await.unwrap().is_ok());
        assert!(matches!(bounded.frame().await, Some(Err(BodyError::Problem(_)))));
        assert_eq!((begun.elapsed().as_millis(), over.get().is_some()), (2_500, true));
        assert!(bounded.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_always_has_more_breaks_off_too() {
        let frames =
            futures_util::stream::repeat_with(|| Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"."))));
        let mut bounded = Bounded {
            body: Some(Body::stream(StreamBody::new(frames))),
            clock: Box::pin(sleep_until(Instant::now() + Duration::from_secs(1))),
            overran: Problem::new(&code::GUEST_TIMEOUT, "it took too long"),
            over: Arc::default(),
        };
        assert!(bounded.frame().await.unwrap().is_ok());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(matches!(bounded.frame().await, Some(Err(BodyError::Problem(_)))));
    }
}
