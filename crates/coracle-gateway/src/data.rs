//! Function traffic: which function a request is for, what the guest sees of it, and what the client gets back.
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
    Body, BodyError, Call, CallId, Contract, FunctionName, FunctionRef, NamespaceName, Principal, Problem,
    Revision,
};
use coracle_model::{Scope, Trace, code};
use coracle_runtime::random_bits;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower_service::Service;

use crate::auth::Authenticator;
use crate::listen::Client;
use crate::problem;

/// The front of the server: a cheap handle that answers requests.
#[derive(Debug, Clone)]
pub struct Front(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    catalog: Catalog,
    invoke: Invoke,
    authenticator: Authenticator,
    admin: Router,
}

const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
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

/// How much is read of a call that is refused already, and for how long.
const LINGER_BYTES_MAX: usize = 4 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Names under this one are functions: `NAME.NAMESPACE.localhost`.
const HOST_SUFFIX: &str = ".localhost";

/// Whom a request is for.
#[derive(Debug)]
enum Target {
    /// A function by its name; `/function/…` answers with our `X-Call-Id`, a host name does not.
    Named { function: FunctionRef, path: PathAndQuery, announces: bool },
    /// A function by a route of its manifest.
    Routed { revision: Arc<Revision>, path: PathAndQuery },
    /// Us.
    Admin,
}

/// An answer on its way.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Front {
    /// A front that sends calls to invoke and the rest to the routes of `admin`.
    pub fn new(catalog: Catalog, invoke: Invoke, authenticator: Authenticator, admin: Router) -> Self {
        Self(Arc::new(Inner { catalog, invoke, authenticator, admin }))
    }

    /// Answers one request.
    ///
    /// The future is in a box because hyper and we move it several times before it runs.
    pub(crate) fn answer(self, request: Request<Incoming>, client: Client) -> Answer {
        match self.target(&request) {
            Err(problem) => {
                let refusal = problem::render(&problem, None, request.headers().get(header::ACCEPT));
                Box::pin(std::future::ready(refusal))
            }
            Ok(Target::Admin) => Box::pin(ask(self.0.admin.clone(), request)),
            Ok(Target::Named { function, path, announces }) => {
                Box::pin(self.call(request, client, function, path, None, announces))
            }
            Ok(Target::Routed { revision, path }) => {
                let function = revision.function.clone();
                Box::pin(self.call(request, client, function, path, Some(revision), false))
            }
        }
    }

    fn target(&self, request: &Request<Incoming>) -> Result<Target, Problem> {
        check_host(request)?;
        let uri = request.uri();
        let path_and_query = || uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        if let Some(function) = function_of_host(host_of(request)) {
            return Ok(Target::Named { function: function?, path: path_and_query(), announces: false });
        }
        let path = uri.path();
        if let Some(rest) = path.strip_prefix("/function/") {
            let name = rest.split('/').next().unwrap_or_default();
            let function = function_named(name)?;
            let path = path_after(uri, "/function/".len() + name.len());
            return Ok(Target::Named { function, path, announces: true });
        }
        if is_ours(path) {
            return Ok(Target::Admin);
        }
        match self.0.catalog.route(path) {
            Some(routed) => Ok(Target::Routed { revision: routed.revision, path: path_and_query() }),
            None => Err(Problem::new(&code::ROUTE_NOT_FOUND, format!("no function answers `{}`", shown(path)))
                .hint("functions answer at `/function/NAME`, and at the routes of their manifests: see `coracle list`")),
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
        let client = client.address.ip();
        let (mut head, body) = request.into_parts();
        let sent = head.headers.get(CALL_ID).and_then(|id| CallId::parse(id.to_str().ok()?));
        let ours = sent.is_none();
        let id = sent.unwrap_or_else(|| {
            CallId::from_bits(u128::from(random_bits()) << 64 | u128::from(random_bits()))
        });
        let accept = head.headers.get(header::ACCEPT).cloned();
        let refuse = |problem: &Problem| problem::render(problem, Some(&id), accept.as_ref());

        let Some(revision) = revision.or_else(|| inner.catalog.resolve(&function)) else {
            linger(&head.headers, body).await;
            return refuse(&Problem::no_function(&function));
        };
        let principal = match admit(&inner.authenticator, &mut head.headers, &revision) {
            Ok(principal) => principal,
            Err(problem) => {
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
        let id_value = HeaderValue::from_str(id.as_str()).ok();
        let protocol = other_protocol(&head, &revision);
        if let Err(problem) = prepare_head(&mut head, path, client, id_value.clone()) {
            return refuse(&problem);
        }
        if let Some(protocol) = protocol {
            name_protocol(&mut head.headers, protocol);
        }
        let request = Request::from_parts(head, Body::stream(Passing(body)));
        let call = Call { id: id.clone(), function, request, principal, trace, client: Some(client) };
        match inner.invoke.call(call, revision, after).await {
            Ok(mut reply) => {
                let protocol = agreed_protocol(&reply);
                remove_hop_by_hop(reply.headers_mut());
                if let Some(protocol) = protocol {
                    name_protocol(reply.headers_mut(), protocol);
                }
                if announces
                    && ours
                    && let Some(value) = id_value
                {
                    reply.headers_mut().insert(CALL_ID, value);
                }
                reply
            }
            Err(problem) => refuse(&problem),
        }
    }
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
fn admit(
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
fn prepare_head(
    head: &mut http::request::Parts,
    path: PathAndQuery,
    client: IpAddr,
    id: Option<HeaderValue>,
) -> Result<(), Problem> {
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => head.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()),
    };
    let headers = &mut head.headers;
    remove_hop_by_hop(headers);
    let mut forwarded = client.to_canonical().to_string();
    if let Some(before) = headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
        forwarded = format!("{before}, {forwarded}");
    }
    if let Ok(value) = HeaderValue::from_str(&forwarded) {
        headers.insert(FORWARDED_FOR, value);
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

/// Which host is meant decides who answers, so it must be said once, and as a host: RFC 9112, section 3.2.
fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_sound = match (hosts.next(), hosts.next()) {
        (None, _) => request.uri().authority().is_some() || request.version() != Version::HTTP_11,
        (Some(host), None) => {
            host.is_empty()
                || Authority::try_from(host.as_bytes()).is_ok_and(|host| !host.as_str().contains('@'))
        }
        (Some(_), Some(_)) => false,
    };
    if is_sound {
        return Ok(());
    }
    Err(Problem::new(
        &code::BAD_REQUEST,
        "the request has no `Host` header, several, or one that names no host",
    ))
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

fn host_of<B>(request: &Request<B>) -> Option<&str> {
    let named = request.uri().authority().map(Authority::as_str);
    named.or_else(|| request.headers().get(header::HOST)?.to_str().ok())
}

/// The function that a host name stands for: `NAME.NAMESPACE.localhost`; `None` for every other host.
fn function_of_host(host: Option<&str>) -> Option<Result<FunctionRef, Problem>> {
    let host = host?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).strip_suffix(HOST_SUFFIX)?;
    let (function, namespace) = name.rsplit_once('.')?;
    Some(
        FunctionName::parse(function)
            .and_then(|name| Ok(FunctionRef { namespace: NamespaceName::parse(namespace)?, name }))
            .map_err(invalid_name),
    )
}

/// The function of `/function/NAME[.NAMESPACE]`.
fn function_named(name: &str) -> Result<FunctionRef, Problem> {
    if name.is_empty() {
        return Err(Problem::new(
            &code::FUNCTION_NOT_FOUND,
            "the path names no function: it is `/function/NAME`",
        )
        .hint("`coracle list` shows those that are deployed"));
    }
    FunctionRef::parse(name).map_err(invalid_name)
}

fn invalid_name(error: coracle_model::InvalidName) -> Problem {
    Problem::new(&code::INVALID_NAME, error.to_string())
        .hint("`coracle list` shows the functions that are deployed")
}

/// What is left of a path for the guest, with the query; at least `/`.
fn path_after(uri: &Uri, taken: usize) -> PathAndQuery {
    let whole = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let rest = whole.get(taken..).unwrap_or_default();
    let rest = if rest.starts_with('/') {
        PathAndQuery::try_from(rest)
    } else {
        PathAndQuery::try_from(format!("/{rest}"))
    };
    rest.unwrap_or(PathAndQuery::from_static("/"))
}

fn is_ours(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
    matches!(first, "v1" | "healthz" | "metrics")
}

/// What of a path is repeated in an error.
fn shown(path: &str) -> String {
    path.chars().take(200).collect()
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
    fn the_guest_sees_its_own_path() {
        let table = [
            ("/function/hello", "/"),
            ("/function/hello/", "/"),
            ("/function/hello?x=1", "/?x=1"),
            ("/function/hello/a/b?x=1", "/a/b?x=1"),
            ("/function/hello//a", "//a"),
        ];
        for (path, seen) in table {
            let uri: Uri = path.parse().unwrap();
            assert_eq!(path_after(&uri, "/function/hello".len()).as_str(), seen, "{path}");
        }
    }

    #[test]
    fn host_names_stand_for_functions() {
        let named = |host| {
            function_of_host(Some(host)).map(|function| function.map(|function| function.to_string()).ok())
        };
        assert_eq!(named("hello.default.localhost:8080"), Some(Some("hello.default".into())));
        assert_eq!(named("hello.default.localhost"), Some(Some("hello.default".into())));
        assert_eq!(named("localhost:8080"), None);
        assert_eq!(named("example.com"), None);
        assert_eq!(named("hello.localhost"), None);
        assert_eq!(named("a.b.c.localhost"), Some(None));
    }

    #[test]
    fn a_name_that_is_not_one_is_told_from_a_function_that_is_not_there() {
        let code = |name: &str| function_named(name).unwrap_err().code.name;
        assert_eq!(code(""), "function-not-found");
        assert_eq!(code("a b"), "invalid-name");
        assert_eq!(code(".."), "invalid-name");
        assert_eq!(code(&"a".repeat(300)), "invalid-name");
    }

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
