//! What makes a CloudEvent the same event when it is sent twice: its source and its id.
//! The gateway asks for every call that is queued, so that an event is queued once.
//!
//! Sources: cloudevents:cloudevents/spec.md, cloudevents/bindings/http-protocol-binding.md, cloudevents/formats/json-format.md.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

const SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
const ID: HeaderName = HeaderName::from_static("ce-id");
const SOURCE: HeaderName = HeaderName::from_static("ce-source");

/// The media type of an event that is all in its body.
const STRUCTURED: &str = "application/cloudevents+json";

/// What two events that are the same have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Where it happened.
    pub source: String,
    /// Which one of that source it is.
    pub id: String,
}

/// The identity of an event whose attributes are headers; `None` if they tell of no event.
pub fn of_headers(headers: &HeaderMap) -> Option<Identity> {
    let text = |name| headers.get(name).and_then(decoded).filter(|text| !text.is_empty());
    is_known(&text(SPECVERSION)?).then_some(())?;
    Some(Identity { source: text(SOURCE)?, id: text(ID)? })
}

/// Whether the body is an event, attributes and all.
pub fn is_structured(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(STRUCTURED)
}

/// The identity of an event that is all in its body; `None` if it is none.
pub fn of_body(body: &[u8]) -> Option<Identity> {
    let event: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| event.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    is_known(&text("specversion")?).then_some(())?;
    Some(Identity { source: text("source")?, id: text("id")? })
}

fn is_known(specversion: &str) -> bool {
    specversion == "1.0" || specversion.starts_with("1.0.")
}

/// The text of a header: what no header may hold stands there in `%XX`, and what is quoted loses its quotes.
fn decoded(value: &HeaderValue) -> Option<String> {
    let mut text = value.to_str().ok()?.trim();
    let mut bytes = Vec::with_capacity(text.len());
    let is_quoted = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    if is_quoted {
        text = &text[1..text.len() - 1];
    }
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' if is_quoted => rest.next()?,
            b'%' => {
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                high << 4 | low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn identity(source: &str, id: &str) -> Option<Identity> {
        Some(Identity { source: source.into(), id: id.into() })
    }

    #[test]
    fn an_event_is_the_same_in_its_headers_and_in_its_body() {
        let binary = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-type", "order.paid"),
            ("ce-source", "/shop/%C3%A4pfel%20%22rot%22"),
            ("ce-id", "17"),
        ]);
        let body = r#"{"specversion":"1.0","type":"order.paid","source":"/shop/äpfel \"rot\"","id":"17"}"#;
        assert_eq!(of_headers(&binary), identity("/shop/äpfel \"rot\"", "17"));
        assert_eq!(of_body(body.as_bytes()), of_headers(&binary));
        let quoted = headers(&[("ce-specversion", "1.0"), ("ce-source", r#""a \"b\"""#), ("ce-id", "1")]);
        assert_eq!(of_headers(&quoted), identity("a \"b\"", "1"));
    }

    #[test]
    fn what_is_no_event_has_no_identity() {
        let incomplete: [&[(&str, &str)]; 5] = [
            &[],
            &[("ce-specversion", "1.0"), ("ce-id", "17")],
            &[("ce-specversion", "1.0"), ("ce-source", "/shop"), ("ce-id", "")],
            &[("ce-specversion", "0.3"), ("ce-source", "/shop"), ("ce-id", "17")],
            &[("ce-specversion", "1.0"), ("ce-source", "%zz"), ("ce-id", "17")],
        ];
        for pairs in incomplete {
            assert_eq!(of_headers(&headers(pairs)), None, "{pairs:?}");
        }
        for body in ["", "[]", "{}", r#"{"specversion":"1.0","source":"/shop","id":17}"#] {
            assert_eq!(of_body(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn an_event_that_is_all_in_its_body_says_so() {
        let table = [
            ("application/cloudevents+json", true),
            ("Application/CloudEvents+JSON; charset=utf-8", true),
            ("application/cloudevents-batch+json", false),
            ("application/json", false),
        ];
        for (kind, expected) in table {
            assert_eq!(is_structured(&headers(&[("content-type", kind)])), expected, "{kind}");
        }
        assert!(!is_structured(&HeaderMap::new()));
    }

    proptest::proptest! {
        #[test]
        fn any_header_and_any_body_is_an_event_or_none(text in "\\PC{0,20}", body: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_str(&text) {
                let _ = decoded(&value);
            }
            let _ = of_body(&body);
        }
    }
}
