//! One request on one connection, and its answer: a head and a body on its way, or an error.
//! The other files of the client say what to ask; this one asks it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use coracle_model::Body;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Client, ClientError, InvalidUrl};
use crate::ProblemView;

/// How long to try to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for an answer of `/v1`; a large component may take a while to compile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// The largest answer that is read into memory.
const ANSWER_BYTES_MAX: usize = 64 << 20;

const NAME: HeaderValue = HeaderValue::from_static(concat!("coracle/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A connection that takes one request after the other.
pub(super) type Line = hyper::client::conn::http1::SendRequest<Body>;

/// Where a server is.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    url: String,
    host: String,
    port: u16,
    /// As in the `Host` header.
    authority: HeaderValue,
}

impl Origin {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = |reason| InvalidUrl::new(text, reason);
        if text.starts_with("https://") {
            return Err(invalid(
                "TLS is not built in yet: reach the server by http://, through a tunnel if it is far away",
            ));
        }
        if !text.starts_with("http://") {
            return Err(invalid("write it with a scheme, as in `http://127.0.0.1:8080`"));
        }
        let uri: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it holds a password: give the token apart from it"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("it has a path: give the address of the server alone"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(invalid("it names no host"));
        }
        Ok(Self {
            url: text.trim_end_matches('/').to_owned(),
            host,
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| invalid("it is not a URL"))?,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

impl Client {
    /// Asks `/v1` without a body.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        let answer = self.answer(self.request(method, path, Body::empty())?).await?;
        self.read(answer).await
    }

    /// Asks `/v1` with a JSON body.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        json: &impl Serialize,
    ) -> Result<T, ClientError> {
        let answer = self.answer(self.json_request(method, path, json)?).await?;
        self.read(answer).await
    }

    /// Asks `/v1` for something whose answer says nothing but that it is done.
    pub(super) async fn tell(&self, method: Method, path: &str) -> Result<(), ClientError> {
        self.answer(self.request(method, path, Body::empty())?).await.map(drop)
    }

    pub(super) fn json_request(
        &self,
        method: Method,
        path: &str,
        json: &impl Serialize,
    ) -> Result<Request<Body>, ClientError> {
        let json = serde_json::to_vec(json).map_err(|error| self.protocol(error))?;
        let mut request = self.request(method, path, Body::once(json))?;
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        Ok(request)
    }

    /// A request with what every request has: the host, our name, and the token.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Request<Body>, ClientError> {
        let path: Uri = path.parse().map_err(|_| InvalidUrl::new(path, "it is not a path"))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path;
        let headers = request.headers_mut();
        headers.insert(HOST, self.origin.authority.clone());
        headers.insert(USER_AGENT, NAME);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    /// Sends a request to `/v1`; what is not a success becomes an error.
    pub(super) async fn answer(&self, request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        self.answer_in_time(request, ANSWER_TIMEOUT).await
    }

    /// The same, for what takes its time.
    pub(super) async fn answer_in_time(
        &self,
        request: Request<Body>,
        time: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let answer = timeout(time, self.exchange(request)).await;
        let answer =
            answer.map_err(|_| self.protocol(format!("no answer within {} s", time.as_secs())))??;
        if answer.status().is_success() { Ok(answer) } else { Err(self.problem(answer).await) }
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let address = (self.origin.host.as_str(), self.origin.port);
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let connected = connected.and_then(|io| io.set_nodelay(true).map(|()| io));
        connected.map_err(|source| ClientError::Unreachable { url: self.url().to_owned(), source })
    }

    /// A connection to ask on.
    pub(super) async fn line(&self) -> Result<Line, ClientError> {
        let io = self.connect().await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
        let (line, connection) = handshake.map_err(|error| self.protocol(error))?;
        // It ends when nobody asks any more and the last answer was read or dropped; what fails on it fails the answer too.
        tokio::spawn(connection);
        Ok(line)
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        self.line().await?.send_request(request).await.map_err(|error| self.protocol(error))
    }

    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        answer: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let bytes = self.collect(answer.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.protocol(error))
    }

    async fn problem(&self, answer: Response<Incoming>) -> ClientError {
        let status = answer.status();
        let bytes = match self.collect(answer.into_body()).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ProblemView>(&bytes) {
            Ok(problem) => ClientError::Problem(Box::new(ProblemView { status: status.as_u16(), ..problem })),
            Err(_) => self.protocol(format!("it is {status} and says not why: is this a Coracle server?")),
        }
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let collected = timeout(ANSWER_TIMEOUT, Limited::new(body, ANSWER_BYTES_MAX).collect()).await;
        let collected = collected.map_err(|_| self.protocol("it does not end"))?;
        Ok(collected.map_err(|error| self.protocol(error))?.to_bytes())
    }

    pub(super) fn protocol(&self, reason: impl ToString) -> ClientError {
        ClientError::Protocol { url: self.url().to_owned(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_url_that_cannot_be_used_says_why() {
        let errors = [
            "https://example.com",
            "example.com",
            "http://",
            "http://a b",
            "http://user:pw@host",
            "http://host/path",
        ]
        .map(|url| Origin::parse(url).unwrap_err().to_string());
        expect![[r#"
            cannot use `https://example.com`: TLS is not built in yet: reach the server by http://, through a tunnel if it is far away
            cannot use `example.com`: write it with a scheme, as in `http://127.0.0.1:8080`
            cannot use `http://`: it is not a URL
            cannot use `http://a b`: it is not a URL
            cannot use `http://user:pw@host`: it holds a password: give the token apart from it
            cannot use `http://host/path`: it has a path: give the address of the server alone"#]].assert_eq(&errors.join("\n"));
    }

    #[test]
    fn a_url_names_a_host_and_a_port() {
        for (url, host, port) in [
            ("http://127.0.0.1:8080/", "127.0.0.1", 8080),
            ("http://[::1]:81", "::1", 81),
            ("http://box", "box", 80),
        ] {
            let origin = Origin::parse(url).unwrap();
            assert_eq!((origin.host.as_str(), origin.port), (host, port), "{url}");
        }
    }
}
