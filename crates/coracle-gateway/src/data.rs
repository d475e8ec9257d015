//! Function traffic: what the guest sees of a request, and what the client gets back.
//! `listen` hands every request here; what is for us, and not for a function, goes on to `admin`.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use coracle_catalog::Catalog;
use coracle_invoke::Invoke;
use coracle_model::{
    Body, BodyError, Call, CallId, Contract, FunctionRef, Principal, Problem, Revision, Scope, Trace, code,
};
use coracle_observe::Observe;
use coracle_runtime::{random_128, random_bits};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use tower_service::Service;

use crate::auth::Authenticator;
use crate::listen::Client;
use crate::problem;
use crate::submit::ClientAddress;
use crate::target::Target;

/// The front of the server: a cheap handle that answers requests.
#[derive(Debug, Clone)]
pub struct Front(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    catalog: Catalog,
    invoke: Invoke,
    observe: Observe,
    authenticator: Authenticator,
    admin: Router,
}

pub(crate) const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
const OURSELVES: HeaderValue = HeaderValue::from_static(concat!("coracle/", env!("CARGO_PKG_VERSION")));
const START_TIME: HeaderName = HeaderName::from_static("x-start-time");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers of one connection, which are not passed on: RFC 9110, section 7.6.1.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Headers that a request gets on its way to the guest.
const HEADERS_ADDED: usize = 6;

/// Headers that an answer by `/function/…` gets.
const HEADERS_ANNOUNCED: usize = 3;

/// How much is read of a call that is refused already, and for how long.
const LINGER_BYTES_MAX: usize = 4 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// An answer on its way.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Front {
    /// A front that sends calls to invoke and the rest to the routes of `admin`.
    pub fn new(
        catalog: Catalog,
        invoke: Invoke,
        observe: Observe,
        authenticator: Authenticator,
        admin: Router,
    ) -> Self {
        Self(Arc::new(Inner { catalog, invoke, observe, authenticator, admin }))
    }

    /// Answers one request.
    ///
    /// The future is in a box because hyper and we move it several times before it runs.
    pub(crate) fn answer(self, request: Request<Incoming>, client: Arc<Client>) -> Answer {
        match Target::of(&request, &self.0.catalog) {
            Err(problem) => {
                let refusal = problem::render(&problem, None, request.headers().get(header::ACCEPT));
                Box::pin(std::future::ready(refusal))
            }
            Ok(Target::Admin) => {
                let mut request = request;
                request.extensions_mut().insert(ClientAddress(client.address));
                Box::pin(ask(self.0.admin.clone(), request))
            }
            Ok(Target::Named { function, path, host, announces }) => {
                self.call(request, client, Called { function, path, revision: None, host, announces })
            }
            Ok(Target::Routed { revision, path, host }) => {
                let (function, revision) = (revision.function.clone(), Some(revision));
                self.call(request, client, Called { function, path, revision, host, announces: false })
            }
        }
    }

    /// Answers a call of a function.
    ///
    /// All that needs no waiting is done before there is a future: futures are moved, and requests are large.
    fn call(self, request: Request<Incoming>, client: Arc<Client>, called: Called) -> Answer {
        let inner = &self.0;
        let leaves_chores = may_leave_chores(&request);
        let (mut head, body) = request.into_parts();
        let caller = Caller::of(&head, called.announces.then(|| inner.observe.clock.now()));
        match self.prepared(&mut head, &client, called, &caller) {
            Ok(Prepared { revision, function, principal, trace }) => {
                let request = Box::new(Request::from_parts(head, Body::stream(Passing(body))));
                let (id, address) = (caller.id.clone(), Some(client.address));
                let call = Call { id, function, request, principal, trace, client: address };
                Box::pin(async move {
                    let after = leaves_chores.then_some(&client.after);
                    match self.0.invoke.call(call, revision, after).await {
                        Ok(reply) => caller.answer(reply),
                        Err(problem) => caller.refuse(&problem),
                    }
                })
            }
            Err(problem) => Box::pin(async move {
                linger(&head.headers, body).await;
                caller.refuse(&problem)
            }),
        }
    }

    /// What a call needs beside its request, whose head becomes what the guest sees; or why there is no call.
    fn prepared(
        &self,
        head: &mut http::request::Parts,
        client: &Client,
        called: Called,
        caller: &Caller,
    ) -> Result<Prepared, Problem> {
        let inner = &self.0;
        let Called { function, path, revision, host, .. } = called;
        let revision = revision
            .or_else(|| inner.catalog.resolve(&function))
            .ok_or_else(|| Problem::no_function(&function))?;
        let principal = admit(&inner.authenticator, &mut head.headers, &revision).inspect_err(|problem| {
            inner.observe.metrics.function(&function).turned_away(problem.code.status);
        })?;
        let parent = head.headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        let trace = Trace::of_call(parent, random_128(), random_bits());
        let protocol = other_protocol(head, &revision);
        prepare_head(head, path, host, &client.named, caller.id_value.clone())?;
        if let Some(protocol) = protocol {
            name_protocol(&mut head.headers, protocol);
        }
        if let Some(started) = &caller.announced {
            head.headers.insert(START_TIME, started.clone());
        }
        Ok(Prepared { revision, function, principal, trace })
    }
}

/// A call as its request names it.
struct Called {
    function: FunctionRef,
    path: PathAndQuery,
    /// The revision, where a route of it was called.
    revision: Option<Arc<Revision>>,
    host: Option<Authority>,
    /// Whether its answer says when it began and who served it, as OpenFaaS does.
    announces: bool,
}

/// A call that may be made.
struct Prepared {
    revision: Arc<Revision>,
    function: FunctionRef,
    principal: Principal,
    trace: Trace,
}

/// Whom an answer is for, and what every one of them says, whichever it is.
struct Caller {
    id: CallId,
    id_value: Option<HeaderValue>,
    is_id_ours: bool,
    accept: Option<HeaderValue>,
    /// When the call began, where its answer says so.
    announced: Option<HeaderValue>,
}

impl Caller {
    fn of(head: &http::request::Parts, announced: Option<Timestamp>) -> Self {
        let sent = head.headers.get(CALL_ID).and_then(|id| CallId::parse(id.to_str().ok()?));
        let is_id_ours = sent.is_none();
        let id = sent.unwrap_or_else(|| CallId::from_bits(random_128()));
        Self {
            id_value: HeaderValue::from_str(id.as_str()).ok(),
            id,
            is_id_ours,
            accept: head.headers.get(header::ACCEPT).cloned(),
            announced: announced.map(nanoseconds),
        }
    }

    fn answer(self, mut reply: Response<Body>) -> Response<Body> {
        let protocol = agreed_protocol(&reply);
        remove_hop_by_hop(reply.headers_mut());
        if let Some(protocol) = protocol {
            name_protocol(reply.headers_mut(), protocol);
        }
        self.announce(reply.headers_mut());
        reply
    }

    fn refuse(self, problem: &Problem) -> Response<Body> {
        let mut refusal = problem::render(problem, Some(&self.id), self.accept.as_ref());
        self.announce(refusal.headers_mut());
        refusal
    }

    fn announce(self, headers: &mut HeaderMap) {
        let Some(started) = self.announced else { return };
        headers.reserve(HEADERS_ANNOUNCED);
        headers.insert(START_TIME, started);
        headers.insert(SERVED_BY, OURSELVES);
        if self.is_id_ours
            && let Some(id) = self.id_value
        {
            headers.insert(CALL_ID, id);
        }
    }
}

/// What is said of every answer to a client of OpenFaaS: when it was begun, and who served it.
pub(crate) fn announce(headers: &mut HeaderMap, begun: Timestamp) {
    headers.insert(START_TIME, nanoseconds(begun));
    headers.insert(SERVED_BY, OURSELVES);
}

/// A moment in nanoseconds since 1970.
fn nanoseconds(at: Timestamp) -> HeaderValue {
    // Until the year 2554 they fit.
    u64::try_from(at.as_nanosecond()).unwrap_or_default().into()
}

/// Requests of HTTP/2 are answered by tasks of their own, which the connection does not wait for.
fn may_leave_chores(request: &Request<Incoming>) -> bool {
    request.version() < Version::HTTP_2
}

/// Reads on for a moment after a call is refused: a client that sends all before it reads would else see a broken connection.
async fn linger(headers: &HeaderMap, mut body: Incoming) {
    // Whoever waits for leave to send has sent nothing.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let read = async {
        let mut left = LINGER_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // A slow client has had its chance.
    let _ = tokio::time::timeout(LINGER_TIME, read).await;
}

/// Asks a router of ours.
pub(crate) async fn ask(mut router: Router, request: Request<Incoming>) -> Response<Body> {
    // It is always ready: it has no bound of its own.
    match router.call(request.map(axum::body::Body::new)).await {
        Ok(response) => response.map(|body| Body::stream(Passing(body))),
        Err(never) => match never {},
    }
}

/// Who calls; a private function answers only those who may. A token of ours never reaches the guest.
pub(crate) fn admit(
    authenticator: &Authenticator,
    headers: &mut HeaderMap,
    revision: &Revision,
) -> Result<Principal, Problem> {
    if !headers.contains_key(header::AUTHORIZATION) && !revision.settings.private {
        return Ok(Principal::Anonymous);
    }
    let principal = authenticator.principal(headers);
    if let Ok(Principal::Token { .. }) = &principal {
        headers.remove(header::AUTHORIZATION);
    }
    if !revision.settings.private {
        // Whatever else stands there is between the client and the guest.
        return Ok(principal.unwrap_or(Principal::Anonymous));
    }
    authenticator.require_on(principal?, Scope::Call, &revision.function)
}

/// What the guest sees of the head: its own path, and who forwarded it.
pub(crate) fn prepare_head(
    head: &mut http::request::Parts,
    path: PathAndQuery,
    host: Option<Authority>,
    client: &HeaderValue,
    id: Option<HeaderValue>,
) -> Result<(), Problem> {
    let headers = &mut head.headers;
    remove_hop_by_hop(headers);
    // At once, and while there are few to move: what is put in here, and the trace.
    headers.reserve(HEADERS_ADDED);
    let before = headers.insert(FORWARDED_FOR, client.clone());
    if let (Some(before), Ok(client)) =
        (before.as_ref().and_then(|value| value.to_str().ok()), client.to_str())
        && let Ok(both) = HeaderValue::from_str(&format!("{before}, {client}"))
    {
        headers.insert(FORWARDED_FOR, both);
    }
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(id) = id {
        headers.insert(CALL_ID, id);
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(host.unwrap_or(Authority::from_static("localhost")));
    parts.path_and_query = Some(path);
    head.uri = Uri::from_parts(parts).map_err(|error| {
        Problem::new(&code::BAD_REQUEST, format!("the address of the request is invalid: {error}"))
    })?;
    Ok(())
}

/// The address of a client as guests are told it.
pub(crate) fn address_named(client: IpAddr) -> HeaderValue {
    // Digits, dots and colons are always valid there.
    HeaderValue::from_str(&client.to_canonical().to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// The protocol that a client asks for in place of HTTP, if the function's code could speak it: it has a connection of its own.
///
/// The client's end of the connection, hyper's `OnUpgrade`, travels in the extensions of the request.
fn other_protocol(head: &http::request::Parts, revision: &Revision) -> Option<HeaderValue> {
    let may_listen = matches!(revision.contract, Contract::Http | Contract::Watchdog);
    let is_possible = may_listen && head.extensions.get::<hyper::upgrade::OnUpgrade>().is_some();
    let is_asked = || {
        let named = head.headers.get_all(header::CONNECTION).iter();
        named
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
    };
    if is_possible && is_asked() { head.headers.get(header::UPGRADE).cloned() } else { None }
}

/// The protocol that a guest agreed to.
fn agreed_protocol(reply: &Response<Body>) -> Option<HeaderValue> {
    let has_agreed = reply.status() == StatusCode::SWITCHING_PROTOCOLS;
    if has_agreed { reply.headers().get(header::UPGRADE).cloned() } else { None }
}

/// Names another protocol on this connection.
fn name_protocol(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // The header `connection` names more of them.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    // Most messages have none, and a look at the few names they have is cheaper than a look-up for each of ours.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// A body of hyper's or axum's, as one of ours.
struct Passing<B>(B);

impl<B> http_body::Body for Passing<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.0).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_not_the_guests_unless_both_sides_changed_its_protocol() {
        let reply = |status: u16| {
            let mut reply = Response::builder()
                .status(status)
                .header("connection", "Upgrade, x-mine")
                .header("x-mine", "1")
                .header("upgrade", "websocket")
                .body(Body::empty())
                .unwrap();
            let protocol = agreed_protocol(&reply);
            remove_hop_by_hop(reply.headers_mut());
            if let Some(protocol) = protocol {
                name_protocol(reply.headers_mut(), protocol);
            }
            reply.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect::<Vec<_>>()
        };
        assert_eq!(reply(101), ["connection: \"upgrade\"", "upgrade: \"websocket\""]);
        assert!(reply(426).is_empty());
    }
}
