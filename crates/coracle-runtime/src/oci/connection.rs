//! What carries a call to a guest, and the body of its response back.
//! `pool` opens lines, `ingress` asks on them, `guest_body` reads what comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::bodies::request::RequestBody;
use crate::oci::http1::{Broken, HEAD_BYTES_MAX, Plain, Sending};

/// What of a body may be under way in HTTP/2, in bytes: of one response, and of all in a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// What carries a call.
pub(super) enum Line {
    /// A connection of its own, for as long as the call takes.
    Plain(Box<Plain>),
    /// A stream of a connection that all calls share.
    Multiplexed(Multiplexed),
}

/// What calls of HTTP/2 are sent with.
pub(super) type Multiplexed = http2::SendRequest<RequestBody>;

/// What the body of a response comes on.
pub(super) enum Source {
    Plain(Box<Plain>),
    Multiplexed(Incoming),
}

/// Why an exchange came to no good end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Plain(#[from] Broken),
    #[error("{}", story(.0))]
    Multiplexed(#[from] hyper::Error),
}

impl Failure {
    /// Whether what the guest sent is not HTTP.
    pub(super) fn is_malformed(&self) -> bool {
        match self {
            Self::Plain(broken) => matches!(broken, Broken::Malformed(_)),
            Self::Multiplexed(error) => error.is_parse(),
        }
    }
}

impl Line {
    /// Sends a request, and waits for the head of its response.
    pub(super) async fn ask(self, head: Request<()>, body: RequestBody) -> Result<(Source, Parts), Failure> {
        match self {
            Self::Plain(mut plain) => {
                let head = plain.ask(Sending::new(&head, body)).await?;
                Ok((Source::Plain(plain), head))
            }
            Self::Multiplexed(mut sender) => {
                let (head, body) = sender.send_request(head.map(|()| body)).await?.into_parts();
                Ok((Source::Multiplexed(body), head))
            }
        }
    }
}

impl Source {
    /// Tells the guest that what it has sent so far came, for a task that waits for more of it.
    pub(super) fn acknowledge(&self) {
        if let Self::Plain(plain) = self {
            plain.acknowledge();
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match &mut *self {
            Self::Plain(plain) => plain.poll_frame(cx).map_err(Failure::from),
            Self::Multiplexed(body) => Pin::new(body).poll_frame(cx).map_err(Failure::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(plain) => plain.is_over(),
            Self::Multiplexed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Opens a connection of HTTP/2, which lives as long as somebody can send on it or waits for an answer.
pub(super) async fn open_multiplexed(stream: TcpStream) -> hyper::Result<Multiplexed> {
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    // How it ends, those who wait for an answer are told.
    tokio::spawn(driver);
    Ok(sender)
}

/// An error with its causes.
fn story(error: &hyper::Error) -> String {
    let mut story = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        story.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    story
}
