//! What goes wrong between a guest and its caller, and whose fault it is.
//! Every kind of sandbox says it in these words; what only one kind can suffer stands beside that kind.

use std::time::Duration;

use coracle_model::{FunctionRef, Problem, Revision, code};

use crate::bodies::request::Seen;

/// The guest needed more memory than it may have.
pub(crate) fn out_of_memory(function: &FunctionRef, bytes_max: u64) -> Problem {
    let has = coracle_model::ByteSize(bytes_max);
    Problem::new(&code::GUEST_OUT_OF_MEMORY, format!("`{function}` needed more than its {has} of memory"))
        .hint(format!("set `memory` of the function above {has}, or make it use less"))
}

/// The guest did not answer in time.
pub(crate) fn timed_out(function: &FunctionRef, timeout: Duration) -> Problem {
    let timeout = coracle_model::Span(timeout);
    Problem::new(&code::GUEST_TIMEOUT, format!("`{function}` did not respond within {timeout}"))
        .hint("set `timeout` of the function to give it longer; `coracle logs` shows how far it came")
}

/// The process of a call ran longer than its contract lets it.
pub(crate) fn overran(function: &FunctionRef, most: Duration) -> Problem {
    let most = coracle_model::Span(most);
    Problem::new(&code::GUEST_TIMEOUT, format!("`{function}` was ended: it ran longer than {most}"))
        .hint(logs_of(function))
}

/// The guest was silent for too long within a body.
pub(crate) fn paused(function: &FunctionRef, pause: Duration) -> Problem {
    let pause = coracle_model::Span(pause);
    Problem::new(&code::GUEST_STREAM_TIMEOUT, format!("the body of `{function}` did not move for {pause}"))
        .hint("set `stream_timeout` of the function to allow longer pauses")
}

/// The guest returned, but set no response.
pub(crate) fn no_response(function: &FunctionRef) -> Problem {
    Problem::new(&code::GUEST_NO_RESPONSE, format!("`{function}` returned without a response"))
        .hint(logs_of(function))
}

/// The guest's response cannot be sent.
pub(crate) fn invalid_response(function: &FunctionRef, reason: &str) -> Problem {
    Problem::new(&code::GUEST_INVALID_RESPONSE, format!("`{function}` sent an invalid response: {reason}"))
        .hint(logs_of(function))
}

/// The same problem, or the caller's: a guest that stumbled over a body which was too large or broke off is not to blame.
pub(crate) fn blame(problem: Problem, revision: &Revision, seen: Option<&Seen>) -> Problem {
    if seen.is_some_and(Seen::was_broken) {
        return Problem::new(&code::CLIENT_GONE, "the body of the request broke off");
    }
    if seen.is_some_and(Seen::was_paused) {
        return request_late();
    }
    cut_off(revision, seen).unwrap_or(problem)
}

/// The call's body was over its bound and so was cut off: whatever the guest made of half a body is no answer to the whole.
pub(crate) fn cut_off(revision: &Revision, seen: Option<&Seen>) -> Option<Problem> {
    let bytes_max = revision.settings.limits.request_body_bytes;
    seen.is_some_and(Seen::was_too_large).then(|| request_too_large(bytes_max))
}

/// The body of a call is over its bound.
fn request_too_large(bytes_max: u64) -> Problem {
    Problem::new(&code::REQUEST_TOO_LARGE, format!("the body of the request is over {bytes_max} bytes"))
        .hint("set `request_body` of the function to allow more")
}

/// The deadline passed before there was a head: the guest's fault, unless it waited for a body that did not come.
pub(crate) fn late(revision: &Revision, seen: Option<&Seen>) -> Problem {
    if seen.is_some_and(Seen::is_awaited) {
        return request_late();
    }
    timed_out(&revision.function, revision.settings.limits.timeout)
}

fn request_late() -> Problem {
    Problem::new(&code::REQUEST_TIMEOUT, "the body of the request did not come in time")
}

/// The body of a response is over its bound.
pub(crate) fn too_large(bytes_max: u64) -> Problem {
    Problem::new(&code::RESPONSE_TOO_LARGE, format!("the function sent more than {bytes_max} bytes of body"))
        .hint("set `response_body` of the function to allow more")
}

/// The body of a response ended before or after its promised end.
pub(crate) fn broken() -> Problem {
    Problem::new(
        &code::GUEST_INVALID_RESPONSE,
        "the function's body is not as long as its content-length says",
    )
}

/// The caller did not wait for the end.
pub(crate) fn gone(why: &str) -> Problem {
    Problem::new(&code::CLIENT_GONE, why)
}

/// Where to look for what a guest printed.
pub(crate) fn logs_of(function: &FunctionRef) -> String {
    format!("`coracle logs {function}` shows what it printed")
}
