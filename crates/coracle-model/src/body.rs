//! The body of a call or of its outcome: nothing, one piece, or a stream.
//! An enum and not a box for all: most bodies are short, and a short one costs no allocation.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::Problem;

/// Bytes on their way, with an end that says whether all of them came.
#[derive(Debug, Default)]
pub struct Body(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Once(Bytes),
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// A body without bytes.
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body that is there already, in one piece.
    pub fn once(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Once(bytes)) }
    }

    /// What is there already, of a body in one piece; nothing of one that comes piece by piece.
    pub fn ready(&self) -> &[u8] {
        match &self.0 {
            Kind::Once(bytes) => bytes,
            Kind::Empty | Kind::Stream(_) => &[],
        }
    }

    /// A body that comes piece by piece.
    pub fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self(Kind::Stream(body.map_err(Into::into).boxed_unsync()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Once(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Once(_) => false,
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Once(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}

/// Why a body ended before its end.
#[derive(Debug)]
pub enum BodyError {
    /// The platform ended it, for the reason named: a bound, a deadline, a fault of the guest.
    Problem(Box<Problem>),
    /// Whoever was sending it went away or broke the protocol.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl BodyError {
    /// The sender went away or broke the protocol, as `source` tells.
    pub fn broken(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken(source.into())
    }
}

impl From<Problem> for BodyError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<std::convert::Infallible> for BodyError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => fmt::Display::fmt(problem, f),
            Self::Broken(source) => write!(f, "the sender of the body went away: {source}"),
        }
    }
}

impl std::error::Error for BodyError {}
