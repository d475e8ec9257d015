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
use coracle_runtime::random_bits;
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
    pub(crate) fn answer(self, request: Request<Incoming>, client: Client) -> Answer {
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
            Ok(Target::Named { function, path, announces }) => {
                Box::pin(self.call(request, client, function, path, None, announces))
            }
            Ok(Target::Routed { revision, path }) => {
                let function = revision.function.clone();
                Box::pin(self.call(request, client, function, path, Some(revision), false))
            }
        }
    }

    async fn call(
        self,
        request: Request<Incoming>,
        client: Client,
        function: FunctionRef,
        path: PathAndQuery,
        revision: Option<Arc<Revision>>,
        announces: bool,
    ) -> Response<Body> {
        let inner = &self.0;
        let after = may_leave_chores(&request).then_some(&client.after);
        let (mut head, body) = request.into_parts();
        let sent = head.headers.get(CALL_ID).and_then(|id| CallId::parse(id.to_str().ok()?));
        let ours = sent.is_none();
        let id = sent.unwrap_or_else(|| {
            CallId::from_bits(u128::from(random_bits()) << 64 | u128::from(random_bits()))
        });
        let accept = head.headers.get(header::ACCEPT).cloned();
        let id_value = HeaderValue::from_str(id.as_str()).ok();
        let announced = announces.then(|| Announced {
            started: nanoseconds(inner.observe.clock.now()),
            id: id_value.clone().filter(|_| ours),
        });
        let refuse = |problem: &Problem| {
            let mut refusal = problem::render(problem, Some(&id), accept.as_ref());
            if let Some(announced) = &announced {
                announced.write_to(refusal.headers_mut());
            }
            refusal
        };

        let Some(revision) = revision.or_else(|| inner.catalog.resolve(&function)) else {
            linger(&head.headers, body).await;
            return refuse(&Problem::no_function(&function));
        };
        let principal = match admit(&inner.authenticator, &mut head.headers, &revision) {
            Ok(principal) => principal,
            Err(problem) => {
                inner.observe.metrics.function(&function).turned_away(problem.code.status);
                linger(&head.headers, body).await;
                return refuse(&problem);
            }
        };
        let parent = head.headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        let trace = Trace::of_call(
            parent,
            u128::from(random_bits()) << 64 | u128::from(random_bits()),
            random_bits(),
        );
        let protocol = other_protocol(&head, &revision);
        if let Err(problem) = prepare_head(&mut head, path, &client.named, id_value) {
            return refuse(&problem);
        }
        if let Some(protocol) = protocol {
            name_protocol(&mut head.headers, protocol);
        }
        if let Some(announced) = &announced {
            head.headers.insert(START_TIME, announced.started.clone());
        }
        let request = Request::from_parts(head, Body::stream(Passing(body)));
        let call = Call { id: id.clone(), function, request, principal, trace, client: Some(client.address) };
        match inner.invoke.call(call, revision, after).await {
            Ok(mut reply) => {
                let protocol = agreed_protocol(&reply);
                remove_hop_by_hop(reply.headers_mut());
                if let Some(protocol) = protocol {
                    name_protocol(reply.headers_mut(), protocol);
                }
                if let Some(announced) = &announced {
                    announced.write_to(reply.headers_mut());
                }
                reply
            }
            Err(problem) => refuse(&problem),
        }
    }
}

/// What an answer by `/function/…` says of its call.
struct Announced {
    started: HeaderValue,
    /// `None` when it is the caller's own.
    id: Option<HeaderValue>,
}

impl Announced {
    fn write_to(&self, headers: &mut HeaderMap) {
        headers.insert(START_TIME, self.started.clone());
        headers.insert(SERVED_BY, OURSELVES);
        if let Some(id) = &self.id {
            headers.insert(CALL_ID, id.clone());
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
    client: &HeaderValue,
    id: Option<HeaderValue>,
) -> Result<(), Problem> {
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => head.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()),
    };
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
