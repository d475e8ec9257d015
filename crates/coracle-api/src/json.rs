//! Reading what a client sent: every mistake is a problem that says where it stands and what was meant.
//! The gateway reads bodies with it.

use coracle_model::{Problem, code, nearest};
use serde::de::DeserializeOwned;

/// The largest JSON body of a request, in bytes.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// Reads a JSON body.
///
/// # Errors
/// `bad-request`, with line and column, and the nearest known field for one that nobody knows.
pub fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let message = error.to_string();
        let problem =
            Problem::new(&code::BAD_REQUEST, format!("the body is not what was expected: {message}"));
        match nearest_field(&message) {
            Some(hint) => problem.hint(hint),
            None if bytes.is_empty() => problem.hint("send a JSON object as the body"),
            None => problem,
        }
    })
}

/// The hint for an error of serde that names an unknown field: the nearest one that is known.
///
/// Read from the text, because serde hands the field to its caller in no other way; a test keeps watch over the wording.
pub fn nearest_field(message: &str) -> Option<String> {
    let (_, rest) =
        message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    nearest(unknown, known).map(|known| format!("did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FunctionSpec, TokenRequest};
    use expect_test::{Expect, expect};

    fn check<T: DeserializeOwned>(json: &str, expected: Expect) {
        let problem = decode_json::<T>(json.as_bytes()).err().expect("a problem");
        expected.assert_eq(&format!("{problem:?}\nhint: {}", problem.hint.as_deref().unwrap_or("none")));
    }

    #[test]
    fn every_mistake_says_where_it_stands() {
        check::<FunctionSpec>(
            "",
            expect![[r#"
            bad-request: the body is not what was expected: EOF while parsing a value at line 1 column 0
            hint: send a JSON object as the body"#]],
        );
        check::<FunctionSpec>(
            "{\n  \"artifact\": \"00\"\n}",
            expect![[r#"
                bad-request: the body is not what was expected: a digest is 64 hexadecimal digits at line 3 column 1
                hint: none"#]],
        );
        check::<FunctionSpec>(
            "{\n  \"memmory\": \"64MiB\"\n}",
            expect![[r#"
                bad-request: the body is not what was expected: unknown field `memmory`, expected one of `artifact`, `image`, `contract`, `command`, `entrypoint`, `workdir`, `user`, `port`, `health`, `start_timeout`, `read_only`, `network`, `secrets_in_env`, `http2`, `cpu`, `processes`, `scale`, `queue`, `env`, `secrets`, `outbound`, `memory`, `timeout`, `stream_timeout`, `concurrency`, `waiting`, `request_body`, `response_body`, `log_rate`, `reuse`, `route`, `private`, `content_type`, `labels`, `annotations`, `original` at line 2 column 11
                hint: did you mean `memory`?"#]],
        );
        check::<FunctionSpec>(
            "{\"timeout\": 30}",
            expect![[r#"
            bad-request: the body is not what was expected: invalid type: integer `30`, expected a string at line 1 column 14
            hint: none"#]],
        );
        check::<TokenRequest>(
            "{\"scope\": \"deplay\"}",
            expect![[r#"
            bad-request: the body is not what was expected: unknown variant `deplay`, expected one of `call`, `deploy`, `admin` at line 1 column 18
            hint: did you mean `deploy`?"#]],
        );
    }
}
