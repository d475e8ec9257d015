//! Claims about bytes: what a hostile answer is taken for, and what a request looks like.

use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_model::{Body, Problem};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::framing::{Chunk, Framing};
use super::head::{Head, Search};
use super::{HEAD_BYTES_MAX, Malformed, Sending};
use crate::bodies::request::RequestBody;

/// Reads a head that comes in pieces of so many bytes; `None` if it is not whole at the end.
fn head(bytes: &[u8], method: &Method, piece: usize) -> Result<Option<(Head, usize)>, Malformed> {
    let (mut search, mut buffer) = (Search::default(), BytesMut::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        if let Some(head) = search.take(&mut buffer, method)? {
            return Ok(Some((head, buffer.len())));
        }
    }
    Ok(None)
}

fn told(bytes: &[u8], method: &Method, piece: usize) -> String {
    match head(bytes, method, piece) {
        Ok(None) => "more".into(),
        Ok(Some((head, _))) => {
            let kept = if head.is_kept { "kept" } else { "closed" };
            format!("{} {:?} {kept}", head.parts.status.as_u16(), head.framing)
        }
        Err(malformed) => format!("{malformed:?}"),
    }
}

#[test]
fn a_head_says_where_its_body_ends_or_is_refused() {
    let table: &[(&str, &str)] = &[
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "200 Length(5) kept"),
        ("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", "200 Length(5) kept"),
        ("HTTP/1.1 200 OK\ncontent-length: 5\n\n", "200 Length(5) kept"),
        ("HTTP/1.1 200 OK\r\n\r\n", "200 Close closed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: a, Close\r\n\r\n", "200 Length(0) closed"),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n", "200 Length(1) closed"),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: Keep-Alive\r\n\r\n", "200 Length(1) kept"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", "200 Chunked(Size) kept"),
        ("HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n", "204 Length(0) kept"),
        ("HTTP/1.1 304 Not\r\ncontent-length: 9\r\n\r\n", "304 Length(0) kept"),
        ("HTTP/1.1 103 Hints\r\nlink: <x>\r\n\r\n", "103 Length(0) kept"),
        ("HTTP/1.1 101 Yes\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "101 Length(0) closed"),
        // Both: the chunks say the truth.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            "200 Chunked(Size) kept",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", "200 Length(5) kept"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", "Length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n", "Length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", "Length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "Length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n\r\n", "Length"),
        ("HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n", "Length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n", "Length"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "Coding"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", "Coding"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n", "Coding"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: \u{b}chunked\r\n\r\n", "Head(HeaderValue)"),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "Coding"),
        ("HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\n", "Head(HeaderName)"),
        ("HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "Head(HeaderName)"),
        ("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", "Head(HeaderName)"),
        ("HTTP/1.1 200 OK\r\na: b\0\r\n\r\n", "Head(HeaderValue)"),
        ("HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n", "Head(HeaderValue)"),
        ("HTTP/1.1 099 Low\r\n\r\n", "Head(Status)"),
        ("HTTP/1.1 2000 High\r\n\r\n", "Head(Status)"),
        ("HTTP/2 200\r\n\r\n", "Head(Version)"),
        ("HTTP/1.2 200 OK\r\n\r\n", "Head(Version)"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "Head(Version)"),
        ("hello", "Head(Version)"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", "more"),
        ("HTTP/1.", "more"),
        ("", "more"),
    ];
    for (bytes, expected) in table {
        assert_eq!(told(bytes.as_bytes(), &Method::GET, usize::MAX), *expected, "{bytes:?}");
        // What is refused may be refused sooner, and never later, the fewer bytes come at once.
        assert_eq!(told(bytes.as_bytes(), &Method::GET, 1), *expected, "{bytes:?} byte by byte");
    }
    let promised = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(told(promised, &Method::HEAD, usize::MAX), "200 Length(0) kept");
}

#[test]
fn a_head_is_bounded() {
    let line = "a: b\r\n";
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", line.repeat(129));
    assert_eq!(told(many.as_bytes(), &Method::GET, usize::MAX), "Head(TooManyHeaders)");
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
    assert_eq!(told(long.as_bytes(), &Method::GET, 1_000), "HeadTooLarge");
    assert_eq!(told(long.as_bytes(), &Method::GET, usize::MAX), "HeadTooLarge");
}

#[test]
fn a_length_beside_chunks_is_not_passed_on_and_a_reason_is() {
    let bytes = b"HTTP/1.1 200 Fine\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nrest";
    let (head, left) = head(bytes, &Method::GET, usize::MAX).unwrap().unwrap();
    assert_eq!(left, "rest".len());
    assert!(!head.parts.headers.contains_key("content-length"));
    let reason = head.parts.extensions.get::<hyper::ext::ReasonPhrase>().unwrap();
    assert_eq!(reason.as_bytes(), b"Fine");
}

/// What a body is, as it comes in pieces of so many bytes, and what is left in the end.
fn body(mut framing: Framing, bytes: &[u8], piece: usize) -> String {
    let (mut buffer, mut whole) = (BytesMut::new(), String::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match framing.take(&mut buffer) {
                Err(malformed) => return format!("{malformed:?}"),
                Ok(None) => break,
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => whole.push_str(std::str::from_utf8(&data).unwrap()),
                    Err(frame) => whole.push_str(&format!("{:?}", frame.into_trailers().unwrap())),
                },
            }
        }
    }
    let end = if framing.is_over() { format!(" + {}", buffer.len()) } else { " …".into() };
    whole + &end
}

#[test]
fn a_body_ends_where_its_framing_says() {
    let chunks = || Framing::Chunked(Chunk::Size);
    let long_line = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(5_000));
    let long_trailers = format!("0\r\na: {}\r\n\r\n", "x".repeat(17_000));
    let table: &[(Framing, &str, &str)] = &[
        (Framing::Length(5), "hello", "hello + 0"),
        (Framing::Length(5), "hell", "hell …"),
        (Framing::NONE, "", " + 0"),
        (Framing::Close, "hello", "hello …"),
        (chunks(), "5\r\nhello\r\n0\r\n\r\n", "hello + 0"),
        (chunks(), "5;a=b\r\nhello\r\n00\r\n\r\n", "hello + 0"),
        (chunks(), "2\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n", "hello{\"a\": \"b\"} + 0"),
        (chunks(), "5\r\nhello\r\n", "hello …"),
        (chunks(), "5\r\nhello0\r\n\r\n", "Chunk"),
        (chunks(), "5\r\nhello\n0\r\n\r\n", "Chunk"),
        (chunks(), "-5\r\nhello\r\n", "Chunk"),
        (chunks(), "not a size\r\n", "Chunk"),
        (chunks(), "\r\n", "Chunk"),
        (chunks(), "fffffffffffffffff\r\n", "Chunk"),
        (chunks(), "0\r\na b\r\n\r\n", "Trailers"),
        (chunks(), &long_line, "Chunk"),
        (chunks(), &long_trailers, "Trailers"),
    ];
    for (framing, bytes, expected) in table {
        for piece in [usize::MAX, 3, 1] {
            assert_eq!(body(framing.clone(), bytes.as_bytes(), piece), *expected, "{bytes:?} by {piece}");
        }
    }
    assert_eq!(body(Framing::Length(5), b"hello, world", usize::MAX), "hello + 7");
    assert_eq!(body(chunks(), b"1\r\na\r\n0\r\n\r\nHTTP/1.1", usize::MAX), "a + 8");
}

#[test]
fn a_long_piece_is_not_copied() {
    let mut buffer = BytesMut::from(&[7; 10_000][..]);
    let at = buffer.as_ptr();
    let frame = Framing::Length(9_000).take(&mut buffer).unwrap().unwrap();
    let data = frame.into_data().unwrap();
    assert_eq!((data.len(), data.as_ptr(), buffer.len()), (9_000, at, 1_000));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, piece in 1_usize..9) {
        let _ = told(&bytes, &Method::GET, piece);
        let _ = told(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat(), &Method::GET, piece);
        let mut framing = Framing::Chunked(Chunk::Size);
        let _ = framing.take(&mut BytesMut::from(&bytes[..]));
    }
}

/// What is written of a request when the guest takes so many bytes at a time.
async fn written(request: Request<Body>, window: usize) -> String {
    let (head, body) = request.into_parts();
    let (body, _) = RequestBody::new(body, 1 << 20, Duration::from_secs(30));
    let mut sending = Sending::new(&Request::from_parts(head, ()), body);
    let (mut near, mut far) = tokio::io::duplex(window);
    let sent = async {
        let sent = std::future::poll_fn(|cx| sending.poll_write(cx, &mut near)).await;
        drop(near);
        sent.is_ok() && sending.is_over()
    };
    let mut heard = String::new();
    let (sent, read) = tokio::join!(sent, far.read_to_string(&mut heard));
    read.unwrap();
    heard + if sent { "" } else { "…" }
}

fn pieces(pieces: &[&'static str]) -> Body {
    let frames: Vec<_> = pieces
        .iter()
        .map(|piece| Ok::<_, Problem>(Frame::data(Bytes::from_static(piece.as_bytes()))))
        .collect();
    Body::stream(StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test]
async fn a_request_says_of_its_body_what_the_body_is() {
    let request =
        |method: &str| Request::builder().method(method).uri("http://x.localhost/a?b").header("host", "x");
    let table = [
        (request("GET").body(Body::empty()), "GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n"),
        (
            request("POST").header("content-length", "0").body(Body::empty()),
            "POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            request("POST").header("content-length", "99").body(Body::once("hello")),
            "POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            request("POST").header("transfer-encoding", "gzip").body(pieces(&["hello", "", "you"])),
            "POST /a?b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n",
        ),
        (
            request("PUT").body(pieces(&[])),
            "PUT /a?b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ];
    for (request, expected) in table {
        let request = request.unwrap();
        let window = if expected.len() % 2 == 0 { 1 } else { 1 << 10 };
        assert_eq!(written(request, window).await, expected);
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_is_not_sent_as_if_it_were() {
    struct Liar(u64, Option<Frame<Bytes>>);
    impl http_body::Body for Liar {
        type Data = Bytes;
        type Error = Problem;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Problem>>> {
            std::task::Poll::Ready(self.1.take().map(Ok))
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.0)
        }
    }
    for promised in [4, 6] {
        let body = Body::stream(Liar(promised, Some(Frame::data(Bytes::from_static(b"hello")))));
        let heard =
            written(Request::post("http://x/").header("host", "x").body(body).unwrap(), 1 << 10).await;
        assert!(heard.ends_with('…'), "{heard}");
    }
}

#[test]
fn only_what_changes_nothing_is_sent_twice_once_it_was_begun() {
    let table = [
        ("GET", "", true),
        ("HEAD", "", true),
        ("DELETE", "", false),
        ("GET", "x", false),
        ("POST", "x", false),
    ];
    for (method, content, is_repeatable) in table {
        let request = || {
            let (body, _) = RequestBody::new(Body::once(content), 1 << 20, Duration::ZERO);
            Sending::new(&Request::builder().method(method).uri("http://x/").body(()).unwrap(), body)
        };
        assert!(request().anew().is_some(), "{method} of which nothing was sent");
        let mut begun = request();
        let (mut sink, mut cx) = (tokio::io::sink(), Context::from_waker(Waker::noop()));
        assert!(begun.poll_write(&mut cx, &mut sink).is_ready());
        assert_eq!(begun.anew().is_some(), is_repeatable, "{method} {content:?}");
    }
    let upgrade = Request::get("http://x/").header("upgrade", "x").body(()).unwrap();
    let mut begun = Sending::new(&upgrade, RequestBody::empty());
    let _ = begun.poll_write(&mut Context::from_waker(Waker::noop()), &mut tokio::io::sink());
    assert!(begun.anew().is_none());
}
