//! What a guest's end means: an error of the engine becomes a problem with an owner.
//! The whole error, with its backtrace, goes to the function's log; the caller is told what failed, not where.

use std::time::Duration;

use coracle_model::{CallId, FunctionRef, Owner, Problem, code};
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

use crate::wasm::guest::Plan;
use crate::wasm::request_body::Seen;

/// What is known of a call that ended in an error.
pub(super) struct Circumstances<'a> {
    pub(super) function: &'a FunctionRef,
    /// Whether the guest was refused memory.
    pub(super) out_of_memory: bool,
    pub(super) memory_bytes_max: u64,
    /// The last line it printed on standard error.
    pub(super) last_stderr: Option<String>,
}

/// What this error of the engine means.
pub(super) fn problem(error: &wasmtime::Error, at: &Circumstances<'_>) -> Problem {
    let function = at.function;
    if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        return exited(*status, at);
    }
    if at.out_of_memory {
        return out_of_memory(function, at.memory_bytes_max);
    }
    let what = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "it panicked or aborted".to_owned(),
        Some(Trap::StackOverflow) => "its stack overflowed".to_owned(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    Problem::new(&code::GUEST_TRAPPED, format!("`{function}` crashed: {what}")).hint(logs_of(function))
}

/// The guest needed more memory than it may have.
pub(super) fn out_of_memory(function: &FunctionRef, bytes_max: u64) -> Problem {
    let has = coracle_model::ByteSize(bytes_max);
    Problem::new(&code::GUEST_OUT_OF_MEMORY, format!("`{function}` needed more than its {has} of memory"))
        .hint(format!("set `memory` of the function above {has}, or make it use less"))
}

/// The guest ended itself before it had answered, or with a code that says it failed.
fn exited(status: i32, at: &Circumstances<'_>) -> Problem {
    let said = at.last_stderr.as_ref().map(|line| format!(": {line}")).unwrap_or_default();
    Problem::new(&code::GUEST_EXITED, format!("`{}` exited with code {status}{said}", at.function))
        .hint(logs_of(at.function))
}

/// The guest did not answer in time.
pub(super) fn timed_out(function: &FunctionRef, timeout: Duration) -> Problem {
    let timeout = coracle_model::Span(timeout);
    Problem::new(&code::GUEST_TIMEOUT, format!("`{function}` did not respond within {timeout}"))
        .hint("set `timeout` of the function to give it longer; `coracle logs` shows how far it came")
}

/// The guest was silent for too long within a body.
pub(super) fn paused(function: &FunctionRef, pause: Duration) -> Problem {
    let pause = coracle_model::Span(pause);
    Problem::new(&code::GUEST_STREAM_TIMEOUT, format!("the body of `{function}` did not move for {pause}"))
        .hint("set `stream_timeout` of the function to allow longer pauses")
}

/// The guest returned, but set no response.
pub(super) fn no_response(function: &FunctionRef) -> Problem {
    Problem::new(&code::GUEST_NO_RESPONSE, format!("`{function}` returned without a response"))
        .hint(logs_of(function))
}

/// The guest's response cannot be sent.
pub(super) fn invalid_response(function: &FunctionRef, reason: &str) -> Problem {
    Problem::new(&code::GUEST_INVALID_RESPONSE, format!("`{function}` sent an invalid response: {reason}"))
        .hint(logs_of(function))
}

/// The same problem, or the caller's: a guest that stumbled over a body which was too large or broke off is not to blame.
pub(super) fn blame(problem: Problem, plan: &Plan, seen: Option<&Seen>) -> Problem {
    if seen.is_some_and(Seen::was_broken) {
        return Problem::new(&code::CLIENT_GONE, "the body of the request broke off");
    }
    cut_off(plan, seen).unwrap_or(problem)
}

/// The call's body was over its bound and so was cut off: whatever the guest made of half a body is no answer to the whole.
pub(super) fn cut_off(plan: &Plan, seen: Option<&Seen>) -> Option<Problem> {
    let bytes_max = plan.revision.settings.limits.request_body_bytes;
    seen.is_some_and(Seen::was_too_large).then(|| request_too_large(bytes_max))
}

/// The body of a call is over its bound.
fn request_too_large(bytes_max: u64) -> Problem {
    Problem::new(&code::REQUEST_TOO_LARGE, format!("the body of the request is over {bytes_max} bytes"))
        .hint("set `request_body` of the function to allow more")
}

/// The deadline passed before there was a head: the guest's fault, unless it waited for a body that did not come.
pub(super) fn late(plan: &Plan, seen: Option<&Seen>) -> Problem {
    if seen.is_some_and(Seen::is_awaited) {
        return Problem::new(&code::REQUEST_TIMEOUT, "the body of the request did not come in time");
    }
    timed_out(&plan.revision.function, plan.revision.settings.limits.timeout)
}

/// An error of the engine with its backtrace, for the function's log; frames that have no names are counted and not listed.
pub(super) fn story(error: &wasmtime::Error) -> String {
    fold(&format!("{error:?}"))
}

fn fold(text: &str) -> String {
    let mut story = String::new();
    let mut nameless = 0;
    for line in text.lines() {
        if line.contains("<unknown>!<wasm function") {
            nameless += 1;
            continue;
        }
        end_fold(&mut story, &mut nameless);
        story.push_str(line);
        story.push('\n');
    }
    end_fold(&mut story, &mut nameless);
    story
}

fn end_fold(story: &mut String, nameless: &mut usize) {
    if *nameless > 0 {
        story.push_str(&format!(
            "    … {nameless} frames without names: build without stripping to see them\n"
        ));
        *nameless = 0;
    }
}

/// Which instance served which call.
pub(super) struct Served {
    pub(super) instance: u64,
    pub(super) call: CallId,
}

/// Writes a fault of the guest into its log.
pub(super) fn note(plan: &Plan, served: &Served, problem: &Problem) {
    if problem.code.owner == Owner::Guest {
        let output = plan.output(served.instance);
        output.serve(served.call.clone());
        output.note(format!("{}: {problem}", problem.code.name));
    }
}

fn logs_of(function: &FunctionRef) -> String {
    format!("`coracle logs {function}` shows what it printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_names_are_counted() {
        let text = "error while executing at wasm backtrace:\n    0: 0x1 - <unknown>!<wasm function 7>\n    \
                    1: 0x2 - <unknown>!<wasm function 8>\n    2: 0x3 - app!handle\n\nCaused by:\n    unreachable";
        assert_eq!(
            fold(text),
            "error while executing at wasm backtrace:\n    … 2 frames without names: build without stripping to see \
             them\n    2: 0x3 - app!handle\n\nCaused by:\n    unreachable\n"
        );
    }
}
