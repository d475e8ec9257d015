//! Calls to a process of their own: the head in its environment, the body on its input, its output as the answer.
//! `serve` sends them here, by the modes that start a process for each call.

use std::sync::Arc;

use coracle_model::code;
use http::{HeaderMap, HeaderValue, header};
use tokio::time::Instant;

use super::cgi;
use super::line::Line;
use super::settings::{Fork, Kind, Watchdog};
use crate::oci::{Blueprint, Manner, Sandbox, serve_once};
use crate::output::Output;
use crate::wasm::{Answer, Work};

/// The most output that waits for the end of its process, in bytes: what is longer is streamed, and cannot become an error.
const WHOLE_BYTES_MAX: usize = 8 << 20;

/// Bytes of output that are looked at to tell whether it is text.
const LOOKED_AT_BYTES_MAX: usize = 512;

/// What a program is run in.
pub(crate) struct Place<'a> {
    pub(crate) blueprint: &'a Arc<Blueprint>,
    pub(crate) sandbox: &'a Arc<Sandbox>,
    pub(crate) output: &'a Output,
}

/// Runs the process of a call, as far as the head of its answer.
pub(super) async fn serve(
    watchdog: &Watchdog,
    fork: &Fork,
    place: Place<'_>,
    work: Work,
    line: &Line,
) -> Answer {
    let Place { blueprint, sandbox, output } = place;
    // Of two bounds, the nearer one ends it.
    let now = Instant::now();
    let is_nearer = watchdog.exec_timeout.is_some_and(|most| now + most <= work.deadline);
    let manner = Manner {
        held_back_bytes_max: if fork.kind == Kind::Streaming { 0 } else { WHOLE_BYTES_MAX },
        combines: fork.combines,
        may_fail: fork.kind != Kind::Streaming,
        runs_at_most: watchdog.exec_timeout,
    };
    if fork.kind == Kind::Classic {
        output.note_on(&work.id, "Forking fprocess.");
    }
    let content_type = content_type(fork, work.request.headers());
    let mut answer = serve_once(blueprint, sandbox, work, manner, |head, body| match fork.has_head {
        true => cgi::variables(head, body, fork.kind),
        false => Vec::new(),
    })
    .await;
    match &mut answer.reply {
        Ok(reply) => {
            if fork.logs_answer {
                output.note_on(line.id(), String::from_utf8_lossy(reply.body().ready()));
            }
            let content_type = content_type.unwrap_or_else(|| kind_of(reply.body().ready()));
            reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        Err(problem) => {
            let is_late = problem.code == &code::GUEST_TIMEOUT;
            let end = match (is_late, is_nearer) {
                (false, _) => End::Failed,
                (true, false) => End::Late,
                (true, true) => End::Killed,
            };
            if end == End::Killed {
                problem.message.push_str(" (Killed process.)");
            }
            line.refuse(problem, status_of(fork.kind, end));
        }
    }
    answer
}

/// How a process came to its end that gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By itself, or it could not be started.
    Failed,
    /// It ran longer than its watchdog lets it.
    Killed,
    /// The function's own time was over.
    Late,
}

fn status_of(kind: Kind, end: End) -> u16 {
    match (kind, end) {
        (_, End::Failed) | (Kind::Serializing, End::Killed) => 500,
        (Kind::Classic, End::Killed) => 408,
        (Kind::Streaming, End::Killed) | (_, End::Late) => 504,
    }
}

/// What the answer is said to be, where its settings or the call tell.
fn content_type(fork: &Fork, asked: &HeaderMap) -> Option<HeaderValue> {
    match &fork.content_type {
        Some(own) => HeaderValue::from_str(own).ok(),
        None => asked.get(header::CONTENT_TYPE).cloned(),
    }
}

/// What output is that nobody says anything of.
fn kind_of(output: &[u8]) -> HeaderValue {
    let begins = &output[..output.len().min(LOOKED_AT_BYTES_MAX)];
    let is_text = |text: &str| text.chars().all(|c| !c.is_control() || c.is_whitespace() || c == '\x1b');
    let text = match std::str::from_utf8(begins) {
        Ok(text) => text,
        // A letter may be cut in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&begins[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return OCTETS,
    };
    if !begins.is_empty() && is_text(text) { TEXT } else { OCTETS }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_nobody_names_is_text_or_octets() {
        let table: [(&[u8], HeaderValue); 6] = [
            (b"hello\n", TEXT),
            ("\x1b[31mré\x1b[0m".as_bytes(), TEXT),
            (b"", OCTETS),
            (b"\x00\x01", OCTETS),
            (b"\xff\xd8\xff\xe0", OCTETS),
            (&[b"x".repeat(511), "é".into()].concat(), TEXT),
        ];
        for (output, expected) in table {
            assert_eq!(kind_of(output), expected, "{:?}", &output[..output.len().min(20)]);
        }
    }

    #[test]
    fn each_watchdog_has_its_own_status_for_a_process_without_an_answer() {
        for (kind, statuses) in [
            (Kind::Classic, [500, 408, 504]),
            (Kind::Serializing, [500, 500, 504]),
            (Kind::Streaming, [500, 504, 504]),
        ] {
            assert_eq!(
                [End::Failed, End::Killed, End::Late].map(|end| status_of(kind, end)),
                statuses,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn the_content_type_is_that_of_the_settings_else_that_of_the_call() {
        let mut fork = Fork {
            kind: Kind::Classic,
            content_type: None,
            combines: true,
            has_head: true,
            logs_answer: false,
        };
        let mut asked = HeaderMap::new();
        assert_eq!(content_type(&fork, &asked), None);
        asked.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
        assert_eq!(content_type(&fork, &asked).unwrap(), "image/png");
        fork.content_type = Some("text/html".into());
        assert_eq!(content_type(&fork, &asked).unwrap(), "text/html");
    }
}
