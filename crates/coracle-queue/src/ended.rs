//! How a call ended, as it is kept for a while: its outcome, what was tried, and its result.
//! Written in the commit that ends the call; `read.rs` shows it until it is trimmed.

use bytes::Bytes;
use coracle_model::{CallId, FunctionRef};
use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::payload::{Unreadable, decode, encode, header_texts, headers_of};
use crate::story::AttemptForm;
use crate::{CallResult, Kind, QueuedCall, State};

/// A queued call that ended, as it is kept.
pub(crate) fn encode_ended(call: &QueuedCall) -> Bytes {
    let (result, body) = match &call.result {
        Some(result) => (
            Some(ResultForm {
                status: result.status,
                headers: header_texts(&result.headers),
                body_bytes: result.body_bytes,
            }),
            result.body.clone(),
        ),
        None => (None, Bytes::new()),
    };
    let form = EndedForm {
        id: call.id.as_str().to_owned(),
        function: call.function.clone(),
        kind: KindForm::of(&call.kind),
        state: call.state.as_str().to_owned(),
        group: call.group.clone(),
        accepted: call.accepted,
        due: call.due,
        ended: call.ended.unwrap_or(call.accepted),
        callback: call.callback.clone(),
        body_bytes: call.body_bytes,
        attempts_made: call.attempts_made,
        attempts: call.attempts.iter().map(AttemptForm::of).collect(),
        reason: call.reason.clone(),
        result,
    };
    encode(&form, &body)
}

/// Reads what [`encode_ended`] wrote.
pub(crate) fn decode_ended(payload: &Bytes) -> Result<QueuedCall, Unreadable> {
    let damaged = |what: &str| Unreadable::Damaged { what: what.to_owned() };
    let (form, body) = decode::<EndedForm>(payload)?;
    let result = match form.result {
        Some(ResultForm { status, headers, body_bytes }) => {
            Some(CallResult { status, headers: headers_of(&headers)?, body, body_bytes })
        }
        None => None,
    };
    Ok(QueuedCall {
        id: CallId::parse(&form.id).ok_or_else(|| damaged("its id"))?,
        function: form.function,
        kind: form.kind.into_kind().ok_or_else(|| damaged("its method"))?,
        state: State::named(&form.state).ok_or_else(|| damaged("its state"))?,
        group: form.group,
        accepted: form.accepted,
        due: form.due,
        ended: Some(form.ended),
        callback: form.callback,
        body_bytes: form.body_bytes,
        attempts_made: form.attempts_made,
        attempts: form.attempts.into_iter().map(AttemptForm::into_attempt).collect(),
        reason: form.reason,
        result,
    })
}

#[derive(Serialize, Deserialize)]
struct EndedForm {
    id: String,
    function: FunctionRef,
    kind: KindForm,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    accepted: Timestamp,
    due: Timestamp,
    ended: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callback: Option<String>,
    body_bytes: u64,
    attempts_made: u32,
    attempts: Vec<AttemptForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<ResultForm>,
}

#[derive(Serialize, Deserialize)]
struct ResultForm {
    status: u16,
    headers: Vec<(String, String)>,
    body_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindForm {
    Call { method: String, path: String },
    Delivery { url: String },
}

impl KindForm {
    fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Call { method, path } => {
                Self::Call { method: method.as_str().to_owned(), path: path.clone() }
            }
            Kind::Delivery { url } => Self::Delivery { url: url.clone() },
        }
    }

    fn into_kind(self) -> Option<Kind> {
        Some(match self {
            Self::Call { method, path } => {
                Kind::Call { method: Method::from_bytes(method.as_bytes()).ok()?, path }
            }
            Self::Delivery { url } => Kind::Delivery { url },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::{Attempt, AttemptEnd};

    fn ended() -> QueuedCall {
        QueuedCall {
            id: CallId::parse("order-17").unwrap(),
            function: FunctionRef::parse("resize.shop").unwrap(),
            kind: Kind::Call { method: Method::POST, path: "/a?b".into() },
            state: State::Failed,
            group: Some("orders".into()),
            accepted: Timestamp::UNIX_EPOCH,
            due: Timestamp::UNIX_EPOCH,
            ended: Some("2026-11-22T00:00:00Z".parse().unwrap()),
            callback: Some("https://example.com/".into()),
            body_bytes: 7,
            attempts_made: 1,
            attempts: vec![Attempt {
                number: 1,
                node: "a".into(),
                started: Timestamp::UNIX_EPOCH,
                took: Duration::from_millis(3),
                end: AttemptEnd::Answered(400),
                log: Vec::new(),
            }],
            reason: Some("no".into()),
            result: Some(CallResult {
                status: 400,
                headers: HeaderMap::from_iter([(http::header::ALLOW, "GET".parse().unwrap())]),
                body: Bytes::from_static(b"what?"),
                body_bytes: 5,
            }),
        }
    }

    #[test]
    fn how_a_call_ended_reads_back_as_it_was_kept() {
        let mut call = ended();
        assert_eq!(decode_ended(&encode_ended(&call)), Ok(call.clone()));
        call.kind = Kind::Delivery { url: "https://example.com/".into() };
        call.result = None;
        assert_eq!(decode_ended(&encode_ended(&call)), Ok(call));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at in 0usize..400, byte: u8) {
            let _ = decode_ended(&bytes.into());
            let mut damaged = encode_ended(&ended()).to_vec();
            let at = at % damaged.len();
            damaged[at] = byte;
            let _ = decode_ended(&damaged.into());
        }
    }
}
