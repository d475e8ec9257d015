//! Calling a function, as any HTTP client would, once or many times, and seeing how long the parts took.
//! `coracle call` uses it; what a function answers is never an error here, whatever its status.

use std::time::Duration;

use coracle_model::{Body, FunctionRef};
use http::{HeaderMap, Method, Request, response};
use tokio::time::Instant;

use super::transport::Line;
use super::{Chunks, Client, ClientError};
use crate::FunctionView;

/// A call to make.
#[derive(Debug)]
pub struct FunctionCall {
    /// The function.
    pub function: FunctionRef,
    /// The method.
    pub method: Method,
    /// The function's own path and query, as in `/thumb?w=64`; empty for none.
    pub path: String,
    /// Headers beside those that every request has, which they override.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// What a function answers.
#[derive(Debug)]
pub struct FunctionReply {
    /// Status and headers.
    pub head: response::Parts,
    /// The body, as it comes.
    pub body: Chunks,
    /// How long it took so far.
    pub timings: Timings,
    began: Instant,
}

/// How long the parts of a call took, as its client saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Until the connection stood.
    pub connect: Duration,
    /// From the beginning until the head of the response was there.
    pub first_byte: Duration,
}

impl FunctionReply {
    /// How long it took from the beginning until now; asked when the body has ended, the whole.
    pub fn total(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Client {
    /// Calls a function on a connection of its own. Waits for the head of its response as long as the function's own timeout lets it.
    ///
    /// # Errors
    /// [`ClientError`], but not for a response that tells of an error: that is a reply.
    pub async fn call(&self, call: FunctionCall) -> Result<FunctionReply, ClientError> {
        self.caller().call(call).await
    }

    /// One who makes many calls, one after the other on the same connection.
    pub fn caller(&self) -> Caller {
        Caller { client: self.clone(), line: None }
    }

    fn request_of(&self, call: FunctionCall) -> Result<Request<Body>, ClientError> {
        let slash = if call.path.is_empty() || call.path.starts_with(['/', '?']) { "" } else { "/" };
        let path = format!("{}{slash}{}", FunctionView::path_of(&call.function), call.path);
        let mut request = self.request(call.method, &path, call.body)?;
        add_headers(request.headers_mut(), call.headers);
        Ok(request)
    }
}

/// Lays headers over those that every request has.
pub(super) fn add_headers(headers: &mut HeaderMap, more: HeaderMap) {
    let mut last = None;
    for (name, value) in more {
        // A name comes once, with its first value; without it, it is the one before.
        if let Some(name) = name {
            headers.insert(name.clone(), value);
            last = Some(name);
        } else if let Some(name) = &last {
            headers.append(name.clone(), value);
        }
    }
}

/// One who makes calls one after the other, on a connection that is kept while the server keeps it.
#[derive(Debug)]
pub struct Caller {
    client: Client,
    line: Option<Line>,
}

impl Caller {
    /// Makes a call. The body of the reply before must have been read or dropped: dropped half read, it costs its connection.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call(&mut self, call: FunctionCall) -> Result<FunctionReply, ClientError> {
        let request = self.client.request_of(call)?;
        let began = Instant::now();
        let kept = match self.line.take() {
            Some(mut line) => line.ready().await.is_ok().then_some(line),
            None => None,
        };
        let mut line = match kept {
            Some(line) => line,
            None => self.client.line().await?,
        };
        let connect = began.elapsed();
        let reply = line.send_request(request).await.map_err(|error| self.client.protocol(error))?;
        let timings = Timings { connect, first_byte: began.elapsed() };
        self.line = Some(line);
        let (head, body) = reply.into_parts();
        Ok(FunctionReply { head, body: Chunks::new(self.client.url(), body), timings, began })
    }
}
