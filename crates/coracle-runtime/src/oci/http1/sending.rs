//! A request on its way to a guest: its head, then its body, in as few writes as that takes.
//! `plain` writes it; one of which nothing was taken may go to another connection.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use crate::bodies::request::RequestBody;

/// What ends a chunk, and a body of chunks.
const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A request, as far as it is not written.
#[derive(Debug)]
pub(in crate::oci) struct Sending {
    method: Method,
    /// Whether it changes nothing, and may be sent anew if nobody answers.
    is_repeatable: bool,
    /// Whether anything of it was written.
    is_begun: bool,
    /// The head, or the line before a chunk.
    lead: Vec<u8>,
    /// A piece of the body, and what ends it.
    piece: Bytes,
    tail: &'static [u8],
    /// How many bytes of the three are written.
    written: usize,
    /// The rest of the body; `None` when the three have its end.
    body: Option<RequestBody>,
    length: Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// So many bytes are to come.
    Known(u64),
    /// Nobody knows: in chunks.
    Chunks,
}

/// Why a request does not go on.
#[derive(Debug)]
pub(super) enum Unsendable {
    /// The guest takes no more.
    Refused,
    /// There is no more of it, and no end of it either.
    BrokeOff,
}

impl Sending {
    /// A request that is to be sent, and its body; its head names the host, and nothing that is another connection's.
    pub(in crate::oci) fn new<B>(head: &Request<B>, body: RequestBody) -> Self {
        let length = body.size_hint().exact().map_or(Length::Chunks, Length::Known);
        let body = (length != Length::Known(0)).then_some(body);
        let is_safe = matches!(*head.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
        let is_repeatable = is_safe && body.is_none() && !head.headers().contains_key(header::UPGRADE);
        Self {
            is_repeatable,
            is_begun: false,
            lead: written_out(head, length),
            piece: Bytes::new(),
            tail: b"",
            written: 0,
            body,
            length,
            method: head.method().clone(),
        }
    }

    /// The method of the request.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// The same request for another connection; `None` if the guest may have begun with it, and it changes something.
    pub(super) fn anew(self) -> Option<Self> {
        (!self.is_begun || self.is_repeatable).then(|| Self { is_begun: false, written: 0, ..self })
    }

    /// Whether all of it is written.
    pub(super) fn is_over(&self) -> bool {
        self.body.is_none() && self.left() == 0
    }

    /// Writes on, until all is written.
    pub(super) fn poll_write<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), Unsendable>>
    where
        W: AsyncWrite + Unpin,
    {
        loop {
            // A head waits for no body, but takes along what is there of it.
            let filled = self.poll_fill(cx)?;
            if self.left() == 0 {
                match filled {
                    Poll::Ready(()) if self.body.is_none() => return Poll::Ready(Ok(())),
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            let written = ready!(self.poll_some(cx, to)).map_err(|_| Unsendable::Refused)?;
            self.written += written;
            self.is_begun = true;
        }
    }

    fn left(&self) -> usize {
        self.lead.len() + self.piece.len() + self.tail.len() - self.written
    }

    /// Takes the next piece of the body, if the one before is written.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsendable>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        if self.written == self.lead.len() + self.piece.len() + self.tail.len() {
            self.lead.clear();
            (self.piece, self.tail, self.written) = (Bytes::new(), b"", 0);
        } else if !self.piece.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(body).poll_frame(cx)) {
            // Trailers would have to be announced, and the gateway's own server reads none.
            Some(Ok(frame)) => self.put(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => Poll::Ready(Err(Unsendable::BrokeOff)),
            None => Poll::Ready(self.end()),
        }
    }

    fn put(&mut self, piece: Bytes) -> Poll<Result<(), Unsendable>> {
        if piece.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.length {
            Length::Known(left) => {
                let Some(rest) = left.checked_sub(piece.len() as u64) else {
                    return Poll::Ready(Err(Unsendable::BrokeOff));
                };
                *left = rest;
                if rest == 0 {
                    self.body = None;
                }
            }
            Length::Chunks => {
                // Writing to memory does not fail.
                let _ = write!(self.lead, "{:x}\r\n", piece.len());
                self.tail = CHUNK_END;
            }
        }
        self.piece = piece;
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) -> Result<(), Unsendable> {
        self.body = None;
        match self.length {
            Length::Known(_) => Err(Unsendable::BrokeOff),
            Length::Chunks => {
                self.lead.extend_from_slice(LAST_CHUNK);
                Ok(())
            }
        }
    }

    fn poll_some<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<usize>>
    where
        W: AsyncWrite + Unpin,
    {
        let written = if self.piece.is_empty() {
            // Most requests are a head, and one buffer costs the kernel less than a list of one.
            ready!(Pin::new(to).poll_write(cx, &self.lead[self.written..]))?
        } else {
            let mut parts = [IoSlice::new(&self.lead), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
            let mut parts = &mut parts[..];
            IoSlice::advance_slices(&mut parts, self.written);
            ready!(Pin::new(to).poll_write_vectored(cx, parts))?
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }
}

/// A head in bytes; what it says of its body is what the body is.
fn written_out<B>(head: &Request<B>, length: Length) -> Vec<u8> {
    const LINE_BYTES: usize = 16;
    let path = head.uri().path_and_query().map_or("/", |path| path.as_str());
    let fields = || head.headers().iter().filter(|(name, _)| !is_of_body(name));
    let bytes: usize = fields().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    let mut lines = Vec::with_capacity(bytes + path.len() + 4 * LINE_BYTES);
    for part in [head.method().as_str(), " ", path, " HTTP/1.1\r\n"] {
        lines.extend_from_slice(part.as_bytes());
    }
    for (name, value) in fields() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    match length {
        Length::Known(0) if !head.headers().contains_key(header::CONTENT_LENGTH) => {}
        // Writing to memory does not fail.
        Length::Known(bytes) => {
            let _ = write!(lines, "content-length: {bytes}\r\n");
        }
        Length::Chunks => lines.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    lines.extend_from_slice(b"\r\n");
    lines
}

fn is_of_body(name: &http::HeaderName) -> bool {
    *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING
}
