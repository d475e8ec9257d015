//! What the queue writes into the database: calls and deliveries, what was tried, and how they ended.
//! One form for all: a version, the length of a head in JSON, the head, and the body as it came.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use coracle_faces::callback::Form;
use coracle_model::{CallId, Digest, Principal, Problem, Reach, Scope, TokenId, Trace, code};
use coracle_store::Key;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ask::Callback;

/// The version that this program writes; it reads this one and those before.
const VERSION: u8 = 1;
/// The version, and the length of the head.
const PREFIX_BYTES: usize = 1 + 4;

/// A call or a delivery, as it is kept until it ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    /// Which call, or whose result.
    pub(crate) id: CallId,
    /// When it was accepted.
    pub(crate) accepted: Timestamp,
    /// When it is due first.
    pub(crate) due: Timestamp,
    /// How many calls led to it, each by its end: a bound keeps two functions from telling each other for ever.
    pub(crate) hops: u32,
    /// What is to be done.
    pub(crate) work: Work,
    /// What is sent.
    pub(crate) body: KeptBody,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// A function is called.
    Call(Box<KeptCall>),
    /// A result is posted.
    Delivery(Box<KeptDelivery>),
}

/// The head of a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeptCall {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) principal: Principal,
    pub(crate) client: Option<std::net::IpAddr>,
    /// The span of its acceptance: each attempt is a child of it.
    pub(crate) trace: Trace,
    pub(crate) callback: Option<Callback>,
    /// Where its idempotency key is kept.
    pub(crate) once: Option<Key>,
}

/// The head of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeptDelivery {
    pub(crate) url: Arc<str>,
    pub(crate) headers: HeaderMap,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeptBody {
    /// It stands in the message.
    Here(Bytes),
    /// It is an artifact, because it is too large for a message.
    Artifact {
        digest: Digest,
        bytes: u64,
        /// What tells the uses of one artifact apart: under it stands that it is needed.
        mark: String,
    },
}

impl KeptBody {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Artifact { bytes, .. } => *bytes,
        }
    }
}

impl Kept {
    pub(crate) fn encode(&self) -> Bytes {
        let (artifact, body) = match &self.body {
            KeptBody::Here(bytes) => (None, bytes.clone()),
            KeptBody::Artifact { digest, bytes, mark } => {
                let artifact = ArtifactForm { digest: *digest, bytes: *bytes, mark: mark.clone() };
                (Some(artifact), Bytes::new())
            }
        };
        let work = match &self.work {
            Work::Call(call) => WorkForm::Call {
                method: call.method.as_str().to_owned(),
                uri: call.uri.to_string(),
                headers: header_texts(&call.headers),
                principal: principal_form(&call.principal),
                client: call.client,
                traceparent: call.trace.to_string(),
                callback: call.callback.as_ref().map(CallbackForm::of),
                once: call.once.as_ref().map(|key| key.as_str().to_owned()),
            },
            Work::Delivery(delivery) => {
                WorkForm::Delivery { url: delivery.url.to_string(), headers: header_texts(&delivery.headers) }
            }
        };
        let head = HeadForm {
            id: self.id.as_str().to_owned(),
            accepted: self.accepted,
            due: self.due,
            hops: self.hops,
            artifact,
            work,
        };
        encode(&head, &body)
    }

    pub(crate) fn decode(payload: &Bytes) -> Result<Self, Unreadable> {
        let (head, body) = decode::<HeadForm>(payload)?;
        let work = match head.work {
            WorkForm::Call { method, uri, headers, principal, client, traceparent, callback, once } => {
                Work::Call(Box::new(KeptCall {
                    method: method.parse().map_err(|_| Unreadable::damaged("its method"))?,
                    uri: uri.parse().map_err(|_| Unreadable::damaged("its path"))?,
                    headers: headers_of(&headers)?,
                    principal: principal_of(principal),
                    client,
                    trace: trace_of(&traceparent)?,
                    callback: callback.map(CallbackForm::into_callback).transpose()?,
                    once: once.and_then(|key| Key::new(&key).ok()),
                }))
            }
            WorkForm::Delivery { url, headers } => {
                Work::Delivery(Box::new(KeptDelivery { url: url.into(), headers: headers_of(&headers)? }))
            }
        };
        Ok(Self {
            id: CallId::parse(&head.id).ok_or(Unreadable::damaged("its id"))?,
            accepted: head.accepted,
            due: head.due,
            hops: head.hops,
            work,
            body: match head.artifact {
                Some(ArtifactForm { digest, bytes, mark }) => KeptBody::Artifact { digest, bytes, mark },
                None => KeptBody::Here(body),
            },
        })
    }
}

/// A payload or a story that this program cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A newer program wrote it.
    Newer { version: u8 },
    /// It is broken.
    Damaged { what: String },
}

impl Unreadable {
    fn damaged(what: &str) -> Self {
        Self::Damaged { what: what.to_owned() }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { version } => write!(
                f,
                "a newer version of Coracle wrote it, in the form {version}; this one knows forms up to {VERSION}"
            ),
            Self::Damaged { what } => write!(f, "{what} cannot be read"),
        }
    }
}

impl From<Unreadable> for Problem {
    fn from(unreadable: Unreadable) -> Self {
        Self::new(&code::CALL_UNREADABLE, format!("the queued call cannot be run: {unreadable}"))
            .hint("if a newer version ran on this data before, use it again")
    }
}

#[derive(Serialize, Deserialize)]
struct HeadForm {
    id: String,
    accepted: Timestamp,
    due: Timestamp,
    #[serde(default, skip_serializing_if = "is_zero")]
    hops: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<ArtifactForm>,
    work: WorkForm,
}

#[derive(Serialize, Deserialize)]
struct ArtifactForm {
    digest: Digest,
    bytes: u64,
    mark: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "nearly all are calls, and each is here for a moment")]
enum WorkForm {
    Call {
        method: String,
        uri: String,
        headers: Vec<(String, String)>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        principal: Option<PrincipalForm>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<std::net::IpAddr>,
        traceparent: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        callback: Option<CallbackForm>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        once: Option<String>,
    },
    Delivery {
        url: String,
        headers: Vec<(String, String)>,
    },
}

#[derive(Serialize, Deserialize)]
struct PrincipalForm {
    id: TokenId,
    scope: Scope,
    reach: Reach,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CallbackForm {
    url: String,
    form: String,
}

impl CallbackForm {
    pub(crate) fn of(callback: &Callback) -> Self {
        Self { url: callback.url.to_string(), form: callback.form.as_str().to_owned() }
    }

    fn into_callback(self) -> Result<Callback, Unreadable> {
        let form = Form::named(&self.form).ok_or_else(|| Unreadable::damaged("the form of its callback"))?;
        Ok(Callback { url: self.url.into(), form })
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn principal_form(principal: &Principal) -> Option<PrincipalForm> {
    match principal {
        Principal::Anonymous => None,
        Principal::Token { id, scope, reach } => {
            Some(PrincipalForm { id: id.clone(), scope: *scope, reach: reach.clone() })
        }
    }
}

fn principal_of(form: Option<PrincipalForm>) -> Principal {
    match form {
        None => Principal::Anonymous,
        Some(PrincipalForm { id, scope, reach }) => Principal::Token { id, scope, reach },
    }
}

/// The span that a `traceparent` names, without a parent of its own.
fn trace_of(traceparent: &str) -> Result<Trace, Unreadable> {
    // A child of it has it as its parent.
    let child = Trace::of_call(Some(traceparent), 0, 0);
    let span = child.parent.ok_or(Unreadable::damaged("its trace"))?;
    Ok(Trace { span, parent: None, ..child })
}

/// Headers as text, a character for each byte: values may hold any.
pub(crate) fn header_texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| match value.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    };
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

pub(crate) fn headers_of(texts: &[(String, String)]) -> Result<HeaderMap, Unreadable> {
    let mut headers = HeaderMap::with_capacity(texts.len());
    for (name, text) in texts {
        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        match (name.parse::<HeaderName>(), value) {
            (Ok(name), Some(value)) => drop(headers.append(name, value)),
            _ => return Err(Unreadable::damaged("its headers")),
        }
    }
    Ok(headers)
}

/// Writes a head and a body as one.
pub(crate) fn encode(head: &impl Serialize, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(512 + body.len()).writer();
    let begun: &mut BytesMut = out.get_mut();
    begun.put_u8(VERSION);
    begun.put_u32_le(0);
    // Texts, numbers and lists of them: nothing that JSON cannot say.
    serde_json::to_writer(&mut out, head).expect("a head is JSON");
    let mut whole = out.into_inner();
    let length = u32::try_from(whole.len() - PREFIX_BYTES).expect("a head is shorter than 4 GiB");
    whole[1..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    whole.extend_from_slice(body);
    whole.freeze()
}

/// Reads what [`encode`] wrote; the body is a part of the same memory.
pub(crate) fn decode<H: DeserializeOwned>(whole: &Bytes) -> Result<(H, Bytes), Unreadable> {
    let version = *whole.first().ok_or(Unreadable::damaged("an empty message"))?;
    if version > VERSION {
        return Err(Unreadable::Newer { version });
    }
    let length: [u8; 4] = whole
        .get(1..PREFIX_BYTES)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Unreadable::damaged("its head"))?;
    let length = u32::from_le_bytes(length) as usize;
    let end = PREFIX_BYTES.checked_add(length).filter(|end| *end <= whole.len());
    let end = end.ok_or(Unreadable::damaged("its head"))?;
    let head = serde_json::from_slice(&whole[PREFIX_BYTES..end])
        .map_err(|error| Unreadable::Damaged { what: format!("its head ({error})") })?;
    Ok((head, whole.slice(end..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call() -> Kept {
        let mut headers = HeaderMap::new();
        headers.append("accept", "text/plain".parse().unwrap());
        headers.append("accept", "text/html".parse().unwrap());
        headers.insert("x-bytes", HeaderValue::from_bytes(b"caf\xc3\xa9 \xff").unwrap());
        Kept {
            id: CallId::parse("order-17").unwrap(),
            accepted: "2026-11-22T00:00:00.123456789Z".parse().unwrap(),
            due: "2026-11-22T01:00:00Z".parse().unwrap(),
            hops: 2,
            work: Work::Call(Box::new(KeptCall {
                method: Method::PUT,
                uri: "http://shop.localhost/a%20b?c=d&c=e".parse().unwrap(),
                headers,
                principal: Principal::Token {
                    id: TokenId("t".into()),
                    scope: Scope::Call,
                    reach: Reach::Function(coracle_model::FunctionRef::parse("resize.shop").unwrap()),
                },
                client: Some("10.0.0.1".parse().unwrap()),
                trace: Trace { trace: 7, span: 9, parent: None, flags: 1 },
                callback: Some(Callback::parse("https://example.com/done", Form::OpenFaas).unwrap()),
                once: Some(Key::new("queue/once/default/f/00").unwrap()),
            })),
            body: KeptBody::Here(Bytes::from_static(b"\x00body\xff")),
        }
    }

    #[test]
    fn a_call_reads_back_as_it_was_kept() {
        let mut call = call();
        assert_eq!(Kept::decode(&call.encode()), Ok(call.clone()));
        call.body =
            KeptBody::Artifact { digest: Digest::from_bytes([7; 32]), bytes: 1 << 33, mark: "0f".into() };
        assert_eq!(Kept::decode(&call.encode()), Ok(call));
    }

    #[test]
    fn a_delivery_reads_back_as_it_was_kept() {
        let delivery = KeptDelivery {
            url: "https://example.com/done?x=1".into(),
            headers: HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("*/*"))]),
        };
        let kept = Kept { work: Work::Delivery(Box::new(delivery)), ..call() };
        assert_eq!(Kept::decode(&kept.encode()), Ok(kept));
    }

    #[test]
    fn what_a_newer_version_wrote_is_said_and_not_guessed() {
        let mut newer = call().encode().to_vec();
        newer[0] = VERSION + 1;
        let unreadable = Kept::decode(&newer.into()).unwrap_err();
        assert_eq!(unreadable, Unreadable::Newer { version: VERSION + 1 });
        let problem = Problem::from(unreadable);
        assert_eq!(problem.code.name, "call-unreadable");
        assert!(problem.message.contains("newer version"), "{problem}");
    }

    #[test]
    fn what_is_broken_says_what() {
        let table: [(&[u8], &str); 5] = [
            (b"", "an empty message"),
            (b"\x01\x02", "its head"),
            (b"\x01\xff\xff\xff\xff{}", "its head"),
            (b"\x01\x02\x00\x00\x00{}", "missing field"),
            (b"\x01\x02\x00\x00\x00no", "its head"),
        ];
        for (bytes, why) in table {
            let said = Kept::decode(&Bytes::copy_from_slice(bytes)).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Kept::decode(&bytes.into());
        }

        #[test]
        fn any_head_is_read_without_a_panic(at in 0usize..600, byte: u8) {
            let mut bytes = call().encode().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Kept::decode(&bytes.into());
        }

        #[test]
        fn any_body_and_any_value_of_a_header_come_back(
            body: Vec<u8>, value in proptest::collection::vec(0x20u8..0x7f, 0..50), high in proptest::collection::vec(0x80u8.., 0..50),
        ) {
            let mut kept = call();
            kept.body = KeptBody::Here(body.into());
            if let Work::Call(call) = &mut kept.work {
                let value = HeaderValue::from_bytes(&[value, high].concat()).unwrap();
                call.headers.append("x-any", value);
            }
            prop_assert_eq!(Kept::decode(&kept.encode()), Ok(kept));
        }
    }
}
