//! The head of a request to the forward proxy: what it asks for, and what of it the destination gets.
//! `proxy` reads until it is whole; nothing here does I/O.

use http::Uri;
use http::uri::Authority;

use crate::oci::proxy::Refusal;

/// The longest head, in bytes, and the most headers.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 100;

/// What a head asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) target: Target,
    /// The head as the destination gets it; `None` for a tunnel.
    pub(super) rewritten: Option<Vec<u8>>,
    /// The length of the head as it came.
    pub(super) head_bytes: usize,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `None` for a tunnel, in which anything may be spoken.
    pub(super) scheme: Option<&'static str>,
    pub(super) host: String,
    pub(super) port: u16,
}

/// What these bytes ask for; `None` while their head is not whole.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Asked>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, format!("the request has more than {HEADERS_MAX} headers")));
        }
        Err(error) => return Err(bad(format!("the request is not HTTP/1.1: {error}"))),
    };
    let (Some(method), Some(path)) = (request.method, request.path) else {
        return Err(bad("the request has no method or no target"));
    };
    let (target, rewritten) = if method == "CONNECT" {
        (tunnel(path)?, None)
    } else {
        let (target, authority, path) = forward(path)?;
        let head = rewrite(method, &path, &authority, request.headers)?;
        (target, Some(head))
    };
    Ok(Some(Asked { target, rewritten, head_bytes }))
}

/// `CONNECT host:port`.
fn tunnel(path: &str) -> Result<Target, Refusal> {
    let invalid = || bad(format!("`{}` is not HOST:PORT", shown(path)));
    let authority: Authority = path.parse().map_err(|_| invalid())?;
    let port = authority.port_u16().ok_or_else(invalid)?;
    Ok(Target { scheme: None, host: host_of(&authority)?, port })
}

/// `GET http://host/path`: the target, its authority for the header `Host`, and the path for the destination.
fn forward(path: &str) -> Result<(Target, Authority, String), Refusal> {
    let uri: Uri = path.parse().map_err(|_| bad(format!("`{}` is not an address", shown(path))))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(bad("this is a proxy: ask it for a whole address, or for a tunnel with CONNECT"));
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(bad(format!("ask for a tunnel with CONNECT to reach {}", shown(path))));
    }
    const HTTP: u16 = 80;
    let port = match authority.port() {
        None => HTTP,
        Some(_) => authority.port_u16().ok_or_else(|| bad("the port is not a number below 65536"))?,
    };
    let target = Target { scheme: Some("http"), host: host_of(authority)?, port };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((target, authority.clone(), path))
}

fn host_of(authority: &Authority) -> Result<String, Refusal> {
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(bad(format!("`{}` is not a host", shown(authority.as_str()))));
    }
    Ok(authority.host().to_owned())
}

/// The head as the destination gets it: its own path, its own host, and nothing of this connection.
fn rewrite(
    method: &str,
    path: &str,
    authority: &Authority,
    headers: &[httparse::Header<'_>],
) -> Result<Vec<u8>, Refusal> {
    check_host(authority, headers)?;
    check_length(headers)?;
    let named = named_by_connection(headers);
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        let is_ours =
            matches!(name.as_str(), "host" | "connection" | "keep-alive" | "te" | "trailer" | "upgrade")
                || name.starts_with("proxy-");
        // What says where the body ends is kept whatever else is said of it.
        let is_framing = matches!(name.as_str(), "content-length" | "transfer-encoding");
        if is_ours || (named.contains(&name) && !is_framing) {
            continue;
        }
        head.extend_from_slice(header.name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(header.value);
        head.extend_from_slice(b"\r\n");
    }
    // The next request may be for another host, and so needs another connection.
    head.extend_from_slice(b"connection: close\r\n\r\n");
    Ok(head)
}

/// A host that differs from the address would reach another site than the one that is checked.
fn check_host(authority: &Authority, headers: &[httparse::Header<'_>]) -> Result<(), Refusal> {
    let mut hosts = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let (first, second) = (hosts.next(), hosts.next());
    let is_same = first.is_none_or(|host| {
        let host = str::from_utf8(host.value).ok().and_then(|host| host.trim().parse::<Authority>().ok());
        host.is_some_and(|host| {
            host.host().eq_ignore_ascii_case(authority.host())
                && host.port_u16().unwrap_or(80) == authority.port_u16().unwrap_or(80)
        })
    });
    if is_same && second.is_none() {
        return Ok(());
    }
    Err(bad(format!("the header `Host` does not name {authority}, which the address does")))
}

/// A body whose end is said twice could be taken for two requests.
fn check_length(headers: &[httparse::Header<'_>]) -> Result<(), Refusal> {
    let count = |name: &str| headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count();
    if count("content-length") + count("transfer-encoding") > 1 {
        return Err(bad("the length of the body is said more than once"));
    }
    Ok(())
}

fn named_by_connection(headers: &[httparse::Header<'_>]) -> Vec<String> {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("connection"))
        .filter_map(|header| str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

fn bad(what: impl Into<String>) -> Refusal {
    Refusal::new(400, what)
}

/// What of a target is repeated in an error.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(head: &str) -> String {
        match parse(head.as_bytes()) {
            Ok(None) => "more".into(),
            Err(refusal) => format!("{} {}", refusal.status, refusal.what),
            Ok(Some(Asked { target: Target { host, port, .. }, rewritten, .. })) => {
                let head = rewritten.map(|head| String::from_utf8(head).unwrap());
                format!("{host}:{port} {}", head.as_deref().unwrap_or("tunnel").trim_end())
            }
        }
    }

    #[test]
    fn each_request_is_passed_on_or_refused() {
        let table = [
            ("CONNECT a.example:443 HTTP/1.1\r\n", "more"),
            ("CONNECT a.example:443 HTTP/1.1\r\n\r\n", "a.example:443 tunnel"),
            ("CONNECT [::1]:443 HTTP/1.1\r\nhost: x\r\n\r\n", "[::1]:443 tunnel"),
            ("CONNECT a.example HTTP/1.1\r\n\r\n", "400 `a.example` is not HOST:PORT"),
            ("CONNECT u@a.example:1 HTTP/1.1\r\n\r\n", "400 `u@a.example:1` is not a host"),
            ("CONNECT a.example:70000 HTTP/1.1\r\n\r\n", "400 `a.example:70000` is not HOST:PORT"),
            (
                "GET http://a.example/x?y HTTP/1.1\r\nHost: A.example:80\r\nProxy-Authorization: s\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\nX-Kept: 2\r\n\r\n",
                "a.example:80 GET /x?y HTTP/1.1\r\nhost: a.example\r\nX-Kept: 2\r\nconnection: close",
            ),
            (
                "POST http://a.example:8080 HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
                "a.example:8080 POST / HTTP/1.1\r\nhost: a.example:8080\r\nContent-Length: 3\r\nconnection: close",
            ),
            (
                "GET http://a.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                "400 the header `Host` does not name a.example, which the address does",
            ),
            (
                "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
                "400 the header `Host` does not name a.example, which the address does",
            ),
            (
                "POST http://a.example/ HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                "400 the length of the body is said more than once",
            ),
            (
                "GET https://a.example/ HTTP/1.1\r\n\r\n",
                "400 ask for a tunnel with CONNECT to reach https://a.example/",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
                "400 this is a proxy: ask it for a whole address, or for a tunnel with CONNECT",
            ),
            ("\x16\x03\x01", "400 the request is not HTTP/1.1: invalid token"),
        ];
        for (head, expected) in table {
            assert_eq!(told(head), expected, "{head}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_a_refusal(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_passed_on_is_for_the_host_that_was_checked(
            host in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}",
            port in proptest::option::of(1u16..),
            path in "(/[a-z%?&=.]{0,8}){0,3}",
            headers in proptest::collection::vec(
                ("[A-Za-z-]{1,12}", "[ -~]{0,16}").prop_map(|(name, value)| format!("{name}: {value}\r\n")), 0..6),
        ) {
            let port_text = port.map(|port| format!(":{port}")).unwrap_or_default();
            let head = format!("GET http://{host}{port_text}{path} HTTP/1.1\r\n{}\r\n", headers.concat());
            let Ok(Some(asked)) = parse(head.as_bytes()) else { return Ok(()) };
            prop_assert_eq!(&asked.target.host, &host);
            prop_assert_eq!(asked.target.port, port.unwrap_or(80));
            prop_assert_eq!(asked.head_bytes, head.len());
            let rewritten = asked.rewritten.unwrap();
            let mut parsed = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut request = httparse::Request::new(&mut parsed);
            prop_assert!(request.parse(&rewritten).unwrap().is_complete());
            prop_assert!(request.path.unwrap().starts_with('/'));
            let named: Vec<&[u8]> = request.headers.iter()
                .filter(|header| header.name.eq_ignore_ascii_case("host")).map(|header| header.value).collect();
            let expected = format!("{host}{port_text}");
            prop_assert_eq!(named, vec![expected.as_bytes()]);
        }
    }
}
