//! One call as a watchdog tells of it: in its log, in the header that says how long it took, and in the head of an error.
//! `serve` begins one for each call, and ends it with the answer.

use std::time::Duration;

use coracle_model::{CallId, Problem, Span, code};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use tokio::time::Instant;

use super::http::Bound;
use super::settings::{Fork, Kind, Mode, Watchdog};
use crate::output::Output;
use crate::wasm::{Answer, Ended, Running};

/// How long the function took, in seconds.
const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");

/// What marks an error as one of the platform's.
pub(super) const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");

/// Whose questions are not worth a line.
const PROBER: &str = "kube-probe";

/// A call, from its start to its last word.
#[derive(Debug)]
pub(super) struct Line {
    id: CallId,
    method: Method,
    uri: Uri,
    begun: Instant,
    style: Style,
    names_call: bool,
    is_told: bool,
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Classic,
    Fork,
    Http,
}

impl Line {
    pub(super) fn begin<B>(watchdog: &Watchdog, output: &Output, id: &CallId, request: &Request<B>) -> Self {
        let style = match &watchdog.mode {
            Mode::Fork(Fork { kind: Kind::Classic, .. }) => Style::Classic,
            Mode::Fork(_) => Style::Fork,
            Mode::Http(_) => Style::Http,
        };
        let agent = request.headers().get(header::USER_AGENT);
        Self {
            id: id.clone(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            begun: Instant::now(),
            style,
            names_call: watchdog.logs_call,
            is_told: agent.is_none_or(|agent| !agent.as_bytes().starts_with(PROBER.as_bytes())),
            output: output.clone(),
        }
    }

    /// The call.
    pub(super) fn id(&self) -> &CallId {
        &self.id
    }

    /// That the call took longer than the watchdog lets it.
    pub(super) fn overran(&self, bound: Bound) -> Problem {
        let (what, hint) = match bound {
            Bound::Own(most) => (
                format!("the function did not answer within its `exec_timeout` of {}", Span(most)),
                "set `exec_timeout` in the environment of the function to give it longer",
            ),
            Bound::Callers(most) => (
                format!("the function did not answer within the {} of the caller's `X-Timeout`", Span(most)),
                "send a longer one, or none",
            ),
        };
        Problem::new(&code::GUEST_TIMEOUT, what).hint(hint)
    }

    /// Writes why there is no answer.
    pub(super) fn note(&self, problem: &Problem) {
        self.output.note_on(&self.id, format!("{}: {problem}", problem.code.name));
    }

    /// Has a problem answered with this status, if it is the function's.
    pub(super) fn refuse(&self, problem: &mut Problem, status: u16) {
        if problem.code.owner != coracle_model::Owner::Guest {
            return;
        }
        let mut headers = vec![(DURATION, self.seconds())];
        if self.style == Style::Http {
            headers.push((INTERNAL, HeaderValue::from_static("of-watchdog")));
        }
        *problem = problem.clone().answered(status, headers);
    }

    /// The answer with how long it took; its line is written when its body is out.
    pub(super) fn end(self, answer: Answer) -> Answer {
        let Answer { mut reply, mut running } = answer;
        if let (Err(problem), Running::Over(ended)) = (&reply, &mut running) {
            // The record of the call has what its caller hears.
            ended.problem = Some(problem.clone());
        }
        let status = match &mut reply {
            Ok(reply) => {
                reply.headers_mut().insert(DURATION, self.seconds());
                Some(reply.status().as_u16())
            }
            // It wrote nothing; what went wrong has its own line.
            Err(_) if self.style == Style::Classic => None,
            Err(problem) => Some(problem.status()),
        };
        let Some(status) = status.filter(|_| self.is_told) else { return Answer { reply, running } };
        let running = match running {
            Running::Over(ended) => {
                self.tell(status, &ended);
                Running::Over(ended)
            }
            Running::Still(guest) => Running::Still(tokio::spawn(async move {
                match guest.await {
                    Ok(ended) => {
                        self.tell(status, &ended);
                        ended
                    }
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            })),
        };
        Answer { reply, running }
    }

    fn tell(&self, status: u16, ended: &Ended) {
        let line = self.words(status, ended.bytes_out, self.begun.elapsed());
        self.output.note_on(&self.id, line);
    }

    fn words(&self, status: u16, bytes: u64, took: Duration) -> String {
        let took = took.as_secs_f64();
        if self.style == Style::Classic {
            return format!("Wrote {bytes} Bytes - Duration: {took:.6}s");
        }
        let path = self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut line = format!("{} {path} - {status} - ContentLength: {bytes}B ({took:.4}s)", self.method);
        if self.names_call {
            line.push_str(&format!(" [{}]", self.id.as_str()));
        }
        line
    }

    fn seconds(&self) -> HeaderValue {
        let seconds = format!("{:.6}", self.begun.elapsed().as_secs_f64());
        // Digits and a point.
        HeaderValue::from_str(&seconds).unwrap_or(HeaderValue::from_static("0"))
    }
}
