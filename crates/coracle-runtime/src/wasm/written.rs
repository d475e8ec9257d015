//! What a guest has written of its response when it is done.
//! Both contracts ask: a short body that is there already becomes one piece; the rest of a long one is streamed.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// What a guest has written when it is done.
pub(super) enum Written {
    /// All of it, in one piece.
    Whole(Bytes),
    /// The guest broke its own promise, such as its content-length.
    Broken,
    /// More than pieces of data, or an end that has not come.
    Rest(HyperOutgoingBody),
}

/// Takes what the guest has written already, without waiting.
pub(super) fn take_written(mut body: HyperOutgoingBody) -> Written {
    let mut cx = Context::from_waker(Waker::noop());
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(None) if joined.is_empty() => return Written::Whole(whole),
            Poll::Ready(None) => return Written::Whole(joined.freeze()),
            Poll::Ready(Some(Err(_))) => return Written::Broken,
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if whole.is_empty() && joined.is_empty() => whole = data,
                Ok(data) => {
                    if joined.is_empty() {
                        joined.extend_from_slice(&std::mem::take(&mut whole));
                    }
                    joined.extend_from_slice(&data);
                }
                Err(frame) => return Written::Rest(put_back(joined, whole, Some(frame), body)),
            },
            Poll::Pending => return Written::Rest(put_back(joined, whole, None, body)),
        }
    }
}

fn put_back(
    joined: BytesMut,
    whole: Bytes,
    last: Option<Frame<Bytes>>,
    rest: HyperOutgoingBody,
) -> HyperOutgoingBody {
    use http_body_util::BodyExt;
    let data = if joined.is_empty() { whole } else { joined.freeze() };
    let first = (!data.is_empty()).then(|| Frame::data(data));
    Resumed { taken: [first, last].into_iter().flatten().collect(), rest }.boxed_unsync()
}

/// A body of which some frames were taken already.
struct Resumed {
    taken: std::collections::VecDeque<Frame<Bytes>>,
    rest: HyperOutgoingBody,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.taken.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}
