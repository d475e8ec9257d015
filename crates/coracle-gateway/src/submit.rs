//! Calls to be queued: what of a request the queue keeps, and what else its headers ask for.
//! `openfaas/queued.rs` and `admin/queued.rs` take such requests, each in the words of its clients.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_faces::cloudevents::{self, Identity};
use coracle_model::{Body, BodyError, ByteSize, Call, CallId, FunctionRef, Problem, Trace, code};
use coracle_queue::{Accepted, Callback, Delay, Form, Group, OnceKey, Submission};
use coracle_runtime::{random_128, random_bits};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::time::{Sleep, sleep};

use crate::admin::Admin;
use crate::admin::artifacts::linger;
use crate::data::{CALL_ID, TRACEPARENT, address_named, admit, prepare_head};

const CALLBACK: HeaderName = HeaderName::from_static("x-callback-url");
const DELAY: HeaderName = HeaderName::from_static("x-coracle-delay");
const GROUP: HeaderName = HeaderName::from_static("x-coracle-group");
const ONCE: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest silence within a body.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The largest event that is all in its body: it is read before anything is known of it.
pub(crate) const EVENT_BYTES_MAX: usize = 6 << 20;
/// How much is read of a call that is refused.
const LINGER_BYTES_MAX: u64 = 4 << 20;

/// Who sent a request, as far as its connection tells; `data` adds it to what it hands to our own routes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// A call as it is to be made.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) function: FunctionRef,
    /// The method that the function sees.
    pub(crate) method: Method,
    /// The path and query that the function sees.
    pub(crate) path: PathAndQuery,
    /// In whose words a callback is told.
    pub(crate) form: Form,
}

/// Has a request queued as a call; when this returns, it is durable.
pub(crate) async fn submit(
    admin: &Admin,
    request: Request<axum::body::Body>,
    wanted: Wanted,
) -> Result<Accepted, Problem> {
    let (mut head, mut body) = request.into_parts();
    let waits = head.headers.contains_key(header::EXPECT);
    match prepared(admin, &mut head, wanted).await {
        Ok(mut submission) => {
            let mut body = Body::stream(Paced { body, pause: None });
            if submission.once.is_none() {
                (submission.once, body) = event(&head.headers, body).await?;
            }
            *submission.call.request.headers_mut() = head.headers;
            *submission.call.request.body_mut() = body;
            admin.queue.put(submission).await
        }
        Err(problem) => {
            // Whoever waits for leave to send has sent nothing.
            if !waits {
                linger(&mut body, LINGER_BYTES_MAX).await;
            }
            Err(problem)
        }
    }
}

/// As [`prepare`], with an identity that nobody has: whoever chose one of another call gets one of ours.
async fn prepared(
    admin: &Admin,
    head: &mut http::request::Parts,
    wanted: Wanted,
) -> Result<Submission, Problem> {
    let theirs = head.headers.get(CALL_ID).and_then(|id| CallId::parse(id.to_str().ok()?));
    if let Some(id) = theirs
        && admin.queue.knows(&id).await?
    {
        head.headers.remove(CALL_ID);
    }
    prepare(admin, head, wanted)
}

/// Everything about a call but its headers and its body, which are still the request's.
fn prepare(admin: &Admin, head: &mut http::request::Parts, wanted: Wanted) -> Result<Submission, Problem> {
    let Wanted { function, method, path, form } = wanted;
    let revision = admin.catalog.resolve(&function).ok_or_else(|| Problem::no_function(&function))?;
    let principal = admit(&admin.authenticator, &mut head.headers, &revision)?;
    let now = admin.observe.clock.now();
    let delay = match text(&head.headers, &DELAY)? {
        Some(text) => Delay::parse(&text, now)?,
        None => Delay::None,
    };
    let group = text(&head.headers, &GROUP)?.map(|text| Group::parse(&text)).transpose()?;
    let once = text(&head.headers, &ONCE)?.map(|text| OnceKey::parse(&text)).transpose()?;
    let callback = text(&head.headers, &CALLBACK)?.map(|url| Callback::parse(&url, form)).transpose()?;
    let id = head
        .headers
        .get(CALL_ID)
        .and_then(|id| CallId::parse(id.to_str().ok()?))
        .unwrap_or_else(|| ours(now));
    let parent = head.headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let trace = Trace::of_call(parent, random_128(), random_bits());
    let client = head.extensions.get::<ClientAddress>().map(|client| client.0);
    let seen_as = client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let named = || Authority::try_from(head.headers.get(header::HOST)?.as_bytes()).ok();
    let host = head.uri.authority().cloned().or_else(named);
    prepare_head(head, path, host, &address_named(seen_as), HeaderValue::from_str(id.as_str()).ok())?;
    let mut request = Box::new(Request::new(Body::empty()));
    *request.method_mut() = method;
    *request.uri_mut() = head.uri.clone();
    let call = Call { id, function, request, principal, trace, client };
    Ok(Submission { call, delay, group, once, callback })
}

/// An identity that begins with the time and is random in its last 80 bits, as a UUID of version 7 is (RFC 9562, 5.7).
///
/// Calls that come together stand together in the indices of the queue: at random places, each would cost a page of its own.
fn ours(now: Timestamp) -> CallId {
    let milliseconds = u128::from(now.as_millisecond().cast_unsigned());
    CallId::from_bits(milliseconds << 80 | random_128() >> 48)
}

/// A header that is sent once, as text; what is no text is shown as if it were, and refused by whoever reads it.
fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(String::from_utf8_lossy(value.as_bytes()).into_owned())),
        (Some(_), Some(_)) => {
            let message = format!("the header `{name}` came more than once");
            Err(Problem::new(&code::BAD_REQUEST, message).hint("send it once, with one value"))
        }
    }
}

/// What makes an event the same when it is sent again, if this is one; an event that is all in its body is read first.
async fn event(headers: &HeaderMap, body: Body) -> Result<(Option<OnceKey>, Body), Problem> {
    let key = |identity: Option<Identity>| identity.map(|event| OnceKey::of_event(&event.source, &event.id));
    if !cloudevents::is_structured(headers) {
        return Ok((key(cloudevents::of_headers(headers)), body));
    }
    let bytes = read(body).await?;
    Ok((key(cloudevents::of_body(&bytes)), Body::once(bytes)))
}

async fn read(mut body: Body) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error {
            BodyError::Problem(problem) => *problem,
            broken => Problem::new(&code::BAD_REQUEST, broken.to_string()),
        })?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > EVENT_BYTES_MAX {
            let most = ByteSize(EVENT_BYTES_MAX as u64);
            let message = format!("an event that is all in its body may have {most}");
            return Err(Problem::new(&code::REQUEST_TOO_LARGE, message)
                .hint("send a larger one with its attributes as headers, as `ce-id` and `ce-source`"));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.into())
}

/// A body that may not pause for long: until it ends, its call is nowhere but in memory.
struct Paced {
    body: axum::body::Body,
    pause: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::broken)));
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE_MAX)));
        pause.as_mut().poll(cx).map(|()| {
            let message = format!("the body paused for more than {} s", PAUSE_MAX.as_secs());
            Some(Err(Problem::new(&code::REQUEST_TIMEOUT, message).into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_sort_by_time_and_differ_within_a_millisecond() {
        let at = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap();
        let [before, one, other, after] = [1_000, 2_000, 2_000, 2_001].map(|time| ours(at(time)));
        assert!(before.as_str() < one.as_str() && other.as_str() < after.as_str());
        assert_eq!(one.as_str()[..12], other.as_str()[..12], "the time is in the first 48 bits");
        assert_ne!(one, other);
    }
}
