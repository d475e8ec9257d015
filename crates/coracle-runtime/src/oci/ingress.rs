//! Calls to a program that listens: over its connections, to the head of its response and through its body.
//! The sandbox makes one `Ingress` for each instance, and tells it when the instance has ended.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use coracle_model::{Body, CallId, Owner, Problem, Revision, code};
use http::response::Parts;
use http::{Method, Request, Response, StatusCode};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bodies::request::{RequestBody, Seen};
use crate::bodies::response::promised_by;
use crate::fault;
use crate::oci::connection::{Failure, Line, Multiplexed, Source};
use crate::oci::guest_body::{Ahead, Reading, stream};
use crate::oci::http1::{Broken, Plain, Sending};
use crate::oci::pool::{Carried, Pool, Protocol, Sockets, Unconnected};
use crate::oci::{head, upgrade};
use crate::output::Output;
use crate::wasm::{Answer, Ended, Left, Running, Work, before};

/// How long a broken connection waits for the news that its instance has ended, which explains it better.
const END_KNOWN_WITHIN: Duration = Duration::from_millis(250);

/// The way into one instance; a cheap handle to share.
#[derive(Debug, Clone)]
pub(crate) struct Ingress(Arc<Inlet>);

#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) revision: Arc<Revision>,
    pub(super) pool: Pool,
    output: Output,
    /// Cancelled when the instance has ended.
    pub(super) ended: CancellationToken,
    /// Why it has ended.
    problem: OnceLock<Problem>,
}

impl Ingress {
    /// The way into an instance that listens, or will, on this port of its own loopback.
    pub(crate) fn new(
        revision: Arc<Revision>,
        output: Output,
        sockets: Sockets,
        port: u16,
        protocol: Protocol,
    ) -> Self {
        let pool = Pool::new(sockets, port, protocol);
        Self(Arc::new(Inlet {
            revision,
            pool,
            output,
            ended: CancellationToken::new(),
            problem: OnceLock::new(),
        }))
    }

    /// Serves a call, as far as the head of its response.
    ///
    /// Dropping the future, or the body of the reply, closes the call's connection.
    /// A request that asks for another protocol carries the client's `hyper::upgrade::OnUpgrade` in its extensions;
    /// once the guest has agreed with a 101 and the reply was written, both ends are joined for as long as the call runs.
    ///
    /// # Errors
    /// The call itself, untouched, if the instance has ended: another may serve it.
    pub(crate) async fn serve(&self, work: Work) -> Result<Answer, Work> {
        let inlet = &self.0;
        let line = before(work.deadline, inlet.pool.line());
        let line = tokio::select! {
            biased;
            () = inlet.ended.cancelled() => return Err(work),
            line = line => line,
        };
        // Who has ended does not accept any more, and the news of it may be on its way.
        if matches!(line, Some(Err(_))) && inlet.end().await.is_some() {
            return Err(work);
        }
        Ok(self.serve_on(line, work).await)
    }

    async fn serve_on(&self, line: Option<Result<(Line, Carried), Unconnected>>, work: Work) -> Answer {
        let Work { id, mut request, deadline } = work;
        let inlet = &self.0;
        let client = head::prepare(&mut request, inlet.pool.protocol);
        let limits = &inlet.revision.settings.limits;
        let body = std::mem::take(request.body_mut());
        let (body, seen) = RequestBody::new(body, limits.request_body_bytes, limits.stream_timeout);
        let method = request.method().clone();
        let exchanged = match line {
            None => None,
            Some(Err(unconnected)) => Some(Err(Trouble::Unconnected(unconnected))),
            Some(Ok(line)) => {
                let exchange = before(deadline, inlet.exchange(line, request, body));
                tokio::select! {
                    biased;
                    exchanged = exchange => exchanged,
                    () = inlet.ended.cancelled() => Some(Err(Trouble::Ended)),
                }
            }
        };
        if let Some(problem) = fault::cut_off(&inlet.revision, Some(&seen)) {
            return inlet.refuse(&id, problem, &seen);
        }
        match exchanged {
            None => inlet.refuse(&id, fault::late(&inlet.revision, Some(&seen)), &seen),
            Some(Err(trouble)) => {
                let problem = inlet.explain(&trouble, &seen).await;
                inlet.refuse(&id, problem, &seen)
            }
            Some(Ok((source, head))) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                match (source, client) {
                    (Source::Plain(guest), Some(client)) => upgrade::join(inlet, id, *guest, head, client),
                    _ => {
                        let reason = "101 is an answer to a request for another protocol, which this was not";
                        let problem = fault::invalid_response(&inlet.revision.function, reason);
                        inlet.refuse(&id, problem, &seen)
                    }
                }
            }
            Some(Ok((source, head))) => inlet.answer(id, source, head, seen, &method).await,
        }
    }

    /// The instance has ended: calls that run fail with this problem, and so do those that come.
    pub(crate) fn ended(&self, problem: Problem) {
        // The first reason is the true one.
        let _ = self.0.problem.set(problem);
        self.0.ended.cancel();
        self.0.pool.close_idle();
    }

    /// Closes the connections that carry no call, before the instance is frozen.
    pub(crate) fn close_idle(&self) {
        self.0.pool.close_idle();
    }

    pub(super) fn inlet(&self) -> &Inlet {
        &self.0
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The instance has ended.
    Ended,
    Unconnected(Unconnected),
    Http(Failure),
}

impl Inlet {
    /// Sends a request on this connection, and on others if the guest has closed it.
    async fn exchange(
        &self,
        (line, carried): (Line, Carried),
        head: Box<Request<Body>>,
        body: RequestBody,
    ) -> Result<(Source, Parts), Trouble> {
        match line {
            Line::Plain(plain) => {
                let request = Sending::new(&head, body);
                drop(head);
                self.exchange_plain(plain, carried, request).await
            }
            // In a box, so that the usual call need not carry it along.
            Line::Multiplexed(sender) => {
                Box::pin(self.exchange_multiplexed(sender, carried, head.map(|_| body))).await
            }
        }
    }

    async fn exchange_plain(
        &self,
        mut plain: Box<Plain>,
        mut carried: Carried,
        mut request: Sending,
    ) -> Result<(Source, Parts), Trouble> {
        loop {
            let broken = match plain.ask(request).await {
                Ok(head) => return Ok((Source::Plain(plain), head)),
                Err(broken) => broken,
            };
            // The guest may close a connection while a request is on its way: nobody's fault, and no call's end.
            let may_retry = carried == Carried::Before && broken == Broken::Ended;
            request = match may_retry.then(|| plain.take_unanswered()).flatten() {
                Some(again) => again,
                None => return Err(Trouble::Http(broken.into())),
            };
            (plain, carried) = self.pool.plain().await.map_err(Trouble::Unconnected)?;
        }
    }

    async fn exchange_multiplexed(
        &self,
        mut sender: Multiplexed,
        mut carried: Carried,
        mut request: Request<RequestBody>,
    ) -> Result<(Source, Parts), Trouble> {
        loop {
            let spare = if carried == Carried::Before { head::spare(&request) } else { None };
            // A connection that is gone says so when it is sent to.
            let _ = sender.ready().await;
            let mut unsent = match sender.try_send_request(request).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    return Ok((Source::Multiplexed(body), head));
                }
                Err(unsent) => unsent,
            };
            let never_sent = unsent.take_message().filter(|_| carried == Carried::Before);
            let error = unsent.into_error();
            request = match never_sent.or(spare.filter(|_| is_closed(&error))) {
                Some(again) => again,
                None => return Err(Trouble::Http(error.into())),
            };
            (sender, carried) = self.pool.multiplexed().await.map_err(Trouble::Unconnected)?;
        }
    }

    async fn answer(
        self: &Arc<Self>,
        id: CallId,
        source: Source,
        head: Parts,
        seen: Arc<Seen>,
        method: &Method,
    ) -> Answer {
        let bytes_max = self.revision.settings.limits.response_body_bytes;
        let promised = promised_by(&head.headers).filter(|_| *method != Method::HEAD);
        if promised.is_some_and(|promised| promised > bytes_max) {
            return self.refuse(&id, fault::too_large(bytes_max), &seen);
        }
        let mut reading = Reading::new(self, source);
        let ahead = poll_fn(|cx| Poll::Ready(reading.take_ahead(cx))).await;
        match ahead {
            Ahead::Whole(bytes) if bytes.len() as u64 > bytes_max => {
                self.refuse(&id, fault::too_large(bytes_max), &seen)
            }
            Ahead::Whole(bytes) => {
                let ended = ended(None, seen.bytes(), bytes.len() as u64);
                let reply = Response::from_parts(head, Body::once(bytes));
                Answer { reply: Ok(reply), running: Running::Over(ended) }
            }
            Ahead::Broken(error) => {
                drop(reading);
                let problem = self.explain_body(&error, &seen).await;
                self.refuse(&id, problem, &seen)
            }
            Ahead::Rest(frames) => {
                let (body, running) = stream(self, id, reading, frames, seen, promised);
                let reply = Response::from_parts(head, body);
                Answer { reply: Ok(reply), running: Running::Still(tokio::spawn(running)) }
            }
        }
    }

    /// An answer without a response.
    fn refuse(&self, id: &CallId, problem: Problem, seen: &Seen) -> Answer {
        self.note(id, &problem);
        let problem = Box::new(problem);
        let ended = ended(Some(problem.clone()), seen.bytes(), 0);
        Answer { reply: Err(problem), running: Running::Over(ended) }
    }

    /// Writes a fault of the guest into its log.
    pub(super) fn note(&self, id: &CallId, problem: &Problem) {
        if problem.code.owner == Owner::Guest {
            self.output.note_on(id, format!("{}: {problem}", problem.code.name));
        }
    }

    /// Why there is no response, and whose fault that is.
    async fn explain(&self, trouble: &Trouble, seen: &Seen) -> Problem {
        let function = &self.revision.function;
        let problem = match trouble {
            Trouble::Unconnected(Unconnected::NoSocket(error)) => {
                let what = format!("`{function}` cannot be reached: {error}");
                self.end().await.unwrap_or_else(|| Problem::new(&code::INTERNAL, what))
            }
            Trouble::Http(failure) | Trouble::Unconnected(Unconnected::Http(failure))
                if failure.is_malformed() =>
            {
                fault::invalid_response(function, &failure.to_string())
            }
            Trouble::Http(_) if seen.was_cut() => no_response(self, "did not take the whole request"),
            Trouble::Ended | Trouble::Http(_) | Trouble::Unconnected(_) => {
                self.end().await.unwrap_or_else(|| match trouble {
                    Trouble::Unconnected(Unconnected::Refused(_)) => {
                        no_response(self, "does not accept connections any more")
                    }
                    _ => no_response(self, "closed the connection without a response"),
                })
            }
        };
        fault::blame(problem, &self.revision, Some(seen))
    }

    /// Why a body broke off, and whose fault that is.
    pub(super) async fn explain_body(&self, failure: &Failure, seen: &Seen) -> Problem {
        let function = &self.revision.function;
        let problem = if failure.is_malformed() {
            fault::invalid_response(function, &failure.to_string())
        } else if seen.was_cut() {
            fault::broken()
        } else {
            self.end().await.unwrap_or_else(|| fault::invalid_response(function, "its body broke off"))
        };
        fault::blame(problem, &self.revision, Some(seen))
    }

    /// Why the instance has ended, if it did or does so in a moment.
    pub(super) async fn end(&self) -> Option<Problem> {
        // An instance that runs on has no end to tell of.
        let _ = timeout(END_KNOWN_WITHIN, self.ended.cancelled()).await;
        self.problem.get().cloned()
    }
}

/// How a call ended whose instance goes on.
pub(super) fn ended(problem: Option<Box<Problem>>, bytes_in: u64, bytes_out: u64) -> Ended {
    Ended { problem, left: Left::Nothing, memory_bytes: 0, bytes_in, bytes_out }
}

fn no_response(inlet: &Inlet, what: &str) -> Problem {
    let function = &inlet.revision.function;
    Problem::new(&code::GUEST_NO_RESPONSE, format!("`{function}` {what}")).hint(fault::logs_of(function))
}

/// Whether an error is the end of a connection, before anything came back.
fn is_closed(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_io(error)
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

#[cfg(test)]
mod tests;
