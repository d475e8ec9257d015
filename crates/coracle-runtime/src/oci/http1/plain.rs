//! A connection of HTTP/1.1 to a guest, which carries one call at a time.
//! `pool` keeps it between calls; it has no task, so that a call needs no switch between tasks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Method, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::Broken;
use super::framing::Framing;
use super::head::Search;
use super::sending::{Sending, Unsendable};

/// What is read at once, in bytes: at first, and when the guest has filled that time and again.
const READ_BYTES_MIN: usize = 8 << 10;
const READ_BYTES_MAX: usize = 64 << 10;

/// Dropping it closes it, whatever it was doing.
#[derive(Debug)]
pub(in crate::oci) struct Plain {
    stream: TcpStream,
    /// What was read and not taken.
    buffer: BytesMut,
    /// What is read at once.
    read_bytes: usize,
    /// The request that is on its way, or was last.
    sending: Option<Sending>,
    /// Whether the guest takes no more of the request.
    is_refused: bool,
    receiving: Receiving,
}

/// What is expected from the guest.
#[derive(Debug)]
enum Receiving {
    /// Nothing: no call has begun, or the last one is over.
    Nothing,
    Head(Search),
    Body {
        framing: Framing,
        /// Whether the connection carries on after it.
        is_kept: bool,
    },
    /// Nothing that belongs to a call.
    Useless,
}

impl Plain {
    pub(in crate::oci) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            sending: None,
            is_refused: false,
            receiving: Receiving::Nothing,
        }
    }

    /// Sends a request, and waits for the head of its response.
    ///
    /// A guest may answer before it has read all of a request; the rest is sent while the body is read.
    pub(in crate::oci) async fn ask(&mut self, request: Sending) -> Result<Parts, Broken> {
        self.sending = Some(request);
        self.receiving = Receiving::Head(Search::default());
        std::future::poll_fn(|cx| self.poll_head(cx)).await
    }

    /// The request that got no answer, if it may be sent on another connection.
    pub(in crate::oci) fn take_unanswered(&mut self) -> Option<Sending> {
        self.sending.take()?.anew()
    }

    /// The next piece of the body.
    pub(in crate::oci) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = ready!(self.poll_piece(cx));
        if frame.is_err() {
            self.receiving = Receiving::Useless;
        }
        Poll::Ready(frame.transpose())
    }

    /// Whether there is no more of the body.
    pub(in crate::oci) fn is_over(&self) -> bool {
        match &self.receiving {
            Receiving::Nothing => true,
            Receiving::Body { framing, .. } => framing.is_over(),
            Receiving::Head(_) | Receiving::Useless => false,
        }
    }

    /// Whether another request can be sent at once: the last one is through, and the guest has not closed.
    pub(in crate::oci) fn is_free(&mut self) -> bool {
        let is_through = match &self.receiving {
            Receiving::Nothing => true,
            Receiving::Body { framing, is_kept } => *is_kept && framing.is_over(),
            Receiving::Head(_) | Receiving::Useless => false,
        };
        // What comes without being asked for is an answer to nothing. Where nothing came, the kernel is not asked.
        is_through
            && self.sending.as_ref().is_none_or(Sending::is_over)
            && self.buffer.is_empty()
            && self.stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Keeps no more memory than the next call is likely to need.
    pub(in crate::oci) fn rest(&mut self) {
        (self.sending, self.receiving) = (None, Receiving::Nothing);
        if self.read_bytes > READ_BYTES_MIN {
            (self.buffer, self.read_bytes) = (BytesMut::new(), READ_BYTES_MIN);
        }
    }

    /// Tells the guest at once that what it has sent so far came, for a task that waits for more of it.
    ///
    /// A server that writes its head and its body apart waits with the second for the word that the first came
    /// (Nagle's algorithm, RFC 896), which the kernel gives after 40 ms if nobody asks for it (RFC 1122, section 4.2.3.2).
    pub(in crate::oci) fn acknowledge(&self) {
        // Without it the answer is late, and no less right.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
    }

    /// The connection itself, when the guest has agreed to another protocol and the rest of the request is out.
    pub(in crate::oci) async fn into_other_protocol(
        mut self,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send, Broken> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await?;
        let (read, write) = self.stream.into_split();
        let first = io::Cursor::new(self.buffer.freeze());
        Ok(tokio::io::join(first.chain(read), write))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Broken>> {
        if let Poll::Ready(Err(broken)) = self.poll_send(cx) {
            return Poll::Ready(Err(broken));
        }
        let method = self.sending.as_ref().map_or(&Method::GET, Sending::method);
        loop {
            let Receiving::Head(search) = &mut self.receiving else {
                return Poll::Ready(Err(Broken::Ended));
            };
            match search.take(&mut self.buffer, method)? {
                // What comes before the answer proper is for the next hop alone, and nobody waits for it.
                Some(head) if is_interim(head.parts.status) => {}
                Some(head) => {
                    self.receiving = Receiving::Body { framing: head.framing, is_kept: head.is_kept };
                    return Poll::Ready(Ok(head.parts));
                }
                None => ready!(poll_read(&mut self.stream, &mut self.buffer, &mut self.read_bytes, cx))?,
            }
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        if let Poll::Ready(Err(broken)) = self.poll_send(cx) {
            return Poll::Ready(Err(broken));
        }
        loop {
            let Receiving::Body { framing, .. } = &mut self.receiving else {
                return Poll::Ready(if self.is_over() { Ok(None) } else { Err(Broken::Ended) });
            };
            let piece = framing.take(&mut self.buffer)?;
            if piece.is_some() || framing.is_over() {
                return Poll::Ready(Ok(piece));
            }
            match ready!(poll_read(&mut self.stream, &mut self.buffer, &mut self.read_bytes, cx)) {
                Ok(()) => {}
                Err(Broken::Ended) if *framing == Framing::Close => {
                    *framing = Framing::NONE;
                    return Poll::Ready(Ok(None));
                }
                Err(broken) => return Poll::Ready(Err(broken)),
            }
        }
    }

    /// Sends what is left of the request.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Some(sending) = self.sending.as_mut().filter(|sending| !sending.is_over()) else {
            return Poll::Ready(Ok(()));
        };
        if self.is_refused {
            return Poll::Ready(Ok(()));
        }
        match ready!(sending.poll_write(cx, &mut self.stream)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Unsendable::BrokeOff) => Poll::Ready(Err(Broken::Request)),
            // It may have answered all the same; if not, that is what a reader finds.
            Err(Unsendable::Refused) => {
                self.is_refused = true;
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Whether a head comes before the answer proper.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Reads what there is; an error at the end of the connection.
fn poll_read(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    read_bytes: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Broken>> {
    // Less room than half of it is not worth a system call.
    if buffer.capacity() - buffer.len() < *read_bytes / 2 {
        buffer.reserve(*read_bytes);
    }
    let room = buffer.capacity() - buffer.len();
    match ready!(poll_read_buf(Pin::new(stream), cx, buffer)) {
        Ok(0) | Err(_) => Poll::Ready(Err(Broken::Ended)),
        Ok(count) => {
            if count == room {
                *read_bytes = (*read_bytes * 2).min(READ_BYTES_MAX);
            }
            Poll::Ready(Ok(()))
        }
    }
}
