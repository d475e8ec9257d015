//! The heads of requests and responses on the last step to and from a guest.
//! The gateway has taken off what belongs to the client's connection; what belongs to the guest's is put on here.

use http::{HeaderValue, Method, Request, Version, header};
use hyper::upgrade::OnUpgrade;

use crate::bodies::request::RequestBody;
use crate::oci::pool::Protocol;

/// Prepares the head of a request for the guest; gives the client's end of the connection if it asks for another protocol.
pub(super) fn prepare<B>(request: &mut Request<B>, protocol: Protocol) -> Option<OnUpgrade> {
    let client = request.extensions_mut().remove::<OnUpgrade>();
    // What else stands there is the server's own.
    request.extensions_mut().clear();
    match protocol {
        Protocol::Http1 => {
            name_host(request);
            client.filter(|_| request.headers().contains_key(header::UPGRADE))
        }
        Protocol::Http2 => {
            prepare_http2(request);
            None
        }
    }
}

fn name_host<B>(request: &mut Request<B>) {
    // A client of HTTP/2 names the host beside its headers.
    if !request.headers().contains_key(header::HOST) {
        let host = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        let host = host.unwrap_or(HeaderValue::from_static("localhost"));
        request.headers_mut().insert(header::HOST, host);
    }
}

fn prepare_http2<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    for name in [header::HOST, header::CONNECTION, header::UPGRADE] {
        headers.remove(name);
    }
    // Servers of gRPC ask for it, and we do pass trailers on.
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// A copy of a request of HTTP/2 that may be sent twice: it changes nothing and has no body.
pub(super) fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if !is_safe || !http_body::Body::is_end_stream(request.body()) {
        return None;
    }
    let mut spare = Request::new(RequestBody::empty());
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.version_mut() = request.version();
    *spare.headers_mut() = request.headers().clone();
    Some(spare)
}
