//! What a connection is doing: whether a request is being answered, and who writes now.
//! `listen` closes a connection that does nothing for long, and gives hyper's own bare refusals a code and a body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coracle_api::ProblemView;
use coracle_model::{Body, BodyError, Problem, code};
use http::{Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};

/// What a connection is doing; a clone is the same connection's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Requests that were read, ever.
    begun: AtomicU64,
    /// Pieces of answers that were taken, ever; on HTTP/1.1 also those of them that were written.
    taken: AtomicU64,
    /// Whether it speaks HTTP/1.1, where every byte that is written is of an answer.
    is_plain: AtomicBool,
    /// Requests whose answer is not in hyper's buffer yet.
    answering: AtomicU32,
    /// Those of them whose next piece waits for the client, who does not read.
    unread: AtomicU32,
    /// Who writes on a connection of HTTP/1.1. Its task polls the service too, so the order of changes is the program's.
    writer: AtomicU8,
}

/// The longest piece of an answer: hyper copies it behind what it has to write, and keeps the room as long as the connection.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// What is written now is hyper's own.
const HYPER: u8 = 0;
/// A request was read, and its answer is being written.
const ANSWER: u8 = 1;
/// All of the answer is in hyper's buffer.
const LAST_BYTES: u8 = 2;
/// The connection speaks another protocol from its last answer on; what is written is not HTTP.
const OTHER_PROTOCOL: u8 = 3;

impl Activity {
    /// A request was read; it is answered when what comes back is dropped.
    pub(crate) fn begin(&self, version: Version) -> Request {
        self.0.is_plain.store(version < Version::HTTP_2, Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.answering.fetch_add(1, Ordering::Relaxed);
        self.0.writer.store(ANSWER, Ordering::Relaxed);
        Request(self.clone())
    }

    /// Until the client neither asked for anything nor took of any answer for as long as this, or half as long again.
    pub(crate) async fn abandoned_for(&self, limit: Duration) {
        self.quiet_for(limit, |state| {
            state.answering.load(Ordering::Relaxed) == state.unread.load(Ordering::Relaxed)
        })
        .await;
    }

    /// Until there was nothing to answer for as long as this, or half as long again.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        self.quiet_for(limit, |state| state.answering.load(Ordering::Relaxed) == 0).await;
    }

    async fn quiet_for(&self, limit: Duration, is_quiet: impl Fn(&State) -> bool) {
        const LOOKS: u32 = 2;
        let (mut moved, mut quiet) = (0, 0);
        while quiet < LOOKS {
            tokio::time::sleep(limit / LOOKS).await;
            let now = self.0.begun.load(Ordering::Relaxed) + self.0.taken.load(Ordering::Relaxed);
            quiet = if now == moved && is_quiet(&self.0) { quiet + 1 } else { 0 };
            moved = now;
        }
    }

    /// Something was written.
    fn wrote(&self) {
        if self.0.is_plain.load(Ordering::Relaxed) {
            self.0.taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn writer_is(&self, whose: u8) -> bool {
        self.0.writer.load(Ordering::Relaxed) == whose
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Request(Activity);

impl Request {
    /// The answer, which carries the request to its end.
    pub(crate) fn answered_by(self, response: Response<Body>) -> Response<Answering> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.0.0.writer.store(OTHER_PROTOCOL, Ordering::Relaxed);
        }
        response.map(|body| {
            let mut answering = Answering { body, rest: Bytes::new(), is_unread: false, request: self };
            answering.set_unread(true);
            answering
        })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let state = &self.0.0;
        // One that changed its protocol stays changed.
        if state.writer.load(Ordering::Relaxed) != OTHER_PROTOCOL {
            state.writer.store(LAST_BYTES, Ordering::Relaxed);
        }
        state.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer on its way out.
#[derive(Debug)]
pub(crate) struct Answering {
    body: Body,
    /// What is left of a piece that was too long.
    rest: Bytes,
    /// Whether the next piece waits to be taken, and not we for the next piece.
    is_unread: bool,
    request: Request,
}

impl Answering {
    fn set_unread(&mut self, is_unread: bool) {
        if self.is_unread != is_unread {
            self.is_unread = is_unread;
            let unread = &self.request.0.0.unread;
            if is_unread {
                unread.fetch_add(1, Ordering::Relaxed);
            } else {
                unread.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// What comes next, and of that no more than a piece may have.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.set_unread(false);
    }
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.poll_piece(cx);
        self.set_unread(frame.is_ready());
        if frame.is_ready() {
            self.request.0.0.taken.fetch_add(1, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64) + self.body.size_hint()
    }
}

/// A socket that gives hyper's bare refusals a body, and keeps its place among the connections while it is open.
#[derive(Debug)]
pub(crate) struct Explaining<T, P> {
    io: T,
    activity: Activity,
    /// A connection that changes its protocol outlives the task that accepted it.
    _place: P,
    /// The refusal that goes out in place of hyper's, as far as it is not written.
    refusal: Option<Bytes>,
}

impl<T: Write + Unpin, P> Explaining<T, P> {
    pub(crate) fn new(io: T, activity: Activity, place: P) -> Self {
        Self { io, activity, _place: place, refusal: None }
    }

    /// Writes our refusal in place of hyper's, if these bytes are one; hyper comes back with them until they are taken.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.refusal.is_none() {
            self.refusal = self.activity.writer_is(HYPER).then(|| explained(bytes)).flatten();
        }
        let rest = self.refusal.as_mut()?;
        while !rest.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => drop(rest.split_to(written)),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        self.refusal = None;
        Some(Poll::Ready(Ok(bytes.len())))
    }
}

impl<T: Read + Unpin, P: Unpin> Read for Explaining<T, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: Write + Unpin, P: Unpin> Write for Explaining<T, P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_refusal(cx, bytes) {
            Some(written) => written,
            None => {
                let written = Pin::new(&mut self.io).poll_write(cx, bytes);
                if written.is_ready() {
                    self.activity.wrote();
                }
                written
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.first().map_or(&[][..], |part| part);
        match self.poll_refusal(cx, first) {
            Some(written) => written,
            None => {
                let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
                if written.is_ready() {
                    self.activity.wrote();
                }
                written
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        if self.activity.writer_is(LAST_BYTES) {
            self.activity.0.writer.store(HYPER, Ordering::Relaxed);
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The same refusal with a code and a body, if this is the head of one of hyper's: a status and `content-length: 0`.
fn explained(head: &[u8]) -> Option<Bytes> {
    const NO_BODY: &str = "content-length: 0\r\n";
    let head = str::from_utf8(head.strip_prefix(b"HTTP/1.1 ")?).ok()?;
    let problem = match head.get(..3)? {
        "400" => Problem::new(&code::BAD_REQUEST, "the head of the request is not valid HTTP"),
        "414" | "431" => Problem::new(&code::HEAD_TOO_LARGE, "the head of the request is too large")
            .hint("send fewer or shorter headers, or send what is long as a body"),
        _ => return None,
    };
    let (_, rest) = head.split_once("\r\n")?;
    let rest = rest.replacen(NO_BODY, "", 1);
    // Texts always have a JSON.
    let body = serde_json::to_string(&ProblemView::new(&problem, None)).unwrap_or_default();
    let status = http::StatusCode::from_u16(problem.code.status).ok()?;
    let (name, length) = (problem.code.name, body.len() + 1);
    let ours =
        format!("content-type: application/json\r\nx-coracle-error: {name}\r\ncontent-length: {length}");
    Some(format!("HTTP/1.1 {status}\r\n{ours}\r\n{rest}{body}\n").into())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn a_long_piece_goes_out_in_several_and_nothing_of_it_or_behind_it_is_lost() {
        let long: Bytes = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        let then = std::future::ready(Some(Ok(trailers.clone())));
        let body = Full::new(long.clone()).with_trailers(then);
        let answer =
            Activity::default().begin(Version::HTTP_11).answered_by(Response::new(Body::stream(body)));

        let (mut body, mut whole, mut seen) = (answer.into_body(), Vec::new(), None);
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(piece) => {
                    assert!(piece.len() <= PIECE_BYTES_MAX && !body.is_end_stream());
                    whole.extend_from_slice(&piece);
                    assert_eq!(body.size_hint().lower(), (long.len() - whole.len()) as u64);
                }
                Err(frame) => seen = frame.into_trailers().ok(),
            }
        }
        assert_eq!((whole, seen), (long.to_vec(), Some(trailers)));
    }
}
