//! Reading what a client sent: every mistake is a problem that says where it stands and what was meant.
//! The gateway reads bodies with it; the CLI borrows [`nearest`] for manifests and names.

use coracle_model::{Problem, code};
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

/// Of the words that are known, the one that was probably meant, if any is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong; more is a guess.
    let reach = (word.chars().count() / 3).clamp(1, 4);
    let near = known.into_iter().map(|known| (distance(word, known), known));
    near.filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The longest words that are compared, in letters: the effort grows with their product.
const WORD_LETTERS_MAX: usize = 80;

/// How many letters must be added, dropped, changed or swapped with their neighbour to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| -> Vec<char> {
        word.chars().take(WORD_LETTERS_MAX).map(|c| c.to_ascii_lowercase()).collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
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
                bad-request: the body is not what was expected: unknown field `memmory`, expected one of `artifact`, `image`, `contract`, `command`, `entrypoint`, `workdir`, `user`, `port`, `health`, `start_timeout`, `read_only`, `network`, `secrets_in_env`, `http2`, `cpu`, `processes`, `scale`, `env`, `secrets`, `outbound`, `memory`, `timeout`, `stream_timeout`, `concurrency`, `waiting`, `request_body`, `response_body`, `log_rate`, `reuse`, `route`, `private`, `content_type`, `labels`, `annotations`, `original` at line 2 column 11
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

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not_guessed() {
        let known = ["timeout", "memory", "route", "env"];
        let table = [
            ("timout", Some("timeout")),
            ("timeuot", Some("timeout")),
            ("Memory", Some("memory")),
            ("routes", Some("route")),
            ("evn", Some("env")),
            ("colour", None),
            ("", None),
        ];
        for (word, meant) in table {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
