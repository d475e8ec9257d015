//! Queries and path segments: the client writes them, the gateway reads them.
//! One codec for both, so that what one writes the other reads.

use std::fmt::Write;

use coracle_model::{Problem, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::nearest_field;

/// Reads the part of a URL behind its `?`.
///
/// # Errors
/// `bad-request`, with the nearest known parameter for one that nobody knows.
pub fn decode_query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Problem> {
    serde_urlencoded::from_str(query.unwrap_or_default()).map_err(|error| {
        let message = error.to_string().replace("unknown field", "unknown parameter");
        let problem =
            Problem::new(&code::BAD_REQUEST, format!("the query is not what was expected: {message}"));
        match nearest_field(&error.to_string()) {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    })
}

/// Writes a query, with its `?` unless there is nothing to ask.
pub fn encode_query<T: Serialize>(query: &T) -> String {
    // Queries are flat structs of texts and numbers, which always have an encoding.
    match serde_urlencoded::to_string(query) {
        Ok(text) if !text.is_empty() => format!("?{text}"),
        _ => String::new(),
    }
}

/// Writes a text as one segment of a path: all but the unreserved characters of RFC 3986 is escaped.
pub fn encode_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}"); // A String takes every write.
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FunctionQuery, LogQuery};
    use expect_test::expect;

    #[test]
    fn a_query_reads_back_as_it_was_written() {
        let query = LogQuery {
            function: Some("resize".parse().unwrap()),
            call: Some("a&b=c".into()),
            tail: Some(7),
            since: Some("5m".parse().unwrap()),
            follow: true,
            ..LogQuery::default()
        };
        let text = encode_query(&query);
        expect!["?function=resize&call=a%26b%3Dc&tail=7&since=5m&follow=true"].assert_eq(&text);
        assert_eq!(decode_query::<LogQuery>(text.strip_prefix('?')).unwrap(), query);
        assert_eq!(encode_query(&LogQuery::default()), "");
        assert_eq!(decode_query::<LogQuery>(None).unwrap(), LogQuery::default());
    }

    #[test]
    fn a_wrong_query_names_what_was_meant() {
        let problem = |query| decode_query::<FunctionQuery>(Some(query)).unwrap_err();
        let shown = |query| format!("{:?} / {}", problem(query), problem(query).hint.unwrap_or_default());
        expect!["bad-request: the query is not what was expected: unknown parameter `limt`, expected one of `namespace`, `app`, `label`, `after`, `limit` / did you mean `limit`?"]
            .assert_eq(&shown("limt=3"));
        expect!["bad-request: the query is not what was expected: invalid digit found in string / "]
            .assert_eq(&shown("limit=x"));
        expect!["bad-request: the query is not what was expected: `UPPER` is not a name of a namespace: a name is 1 to 64 of the characters a-z 0-9 - / "].assert_eq(&shown("namespace=UPPER"));
    }

    #[test]
    fn a_segment_holds_any_text() {
        assert_eq!(encode_segment("order/17?é"), "order%2F17%3F%C3%A9");
    }
}
