//! What a guest's end means: an error of the engine becomes a problem with an owner.
//! The whole error, with its backtrace, goes to the function's log; the caller is told what failed, not where.

use coracle_model::{CallId, FunctionRef, Owner, Problem, code};
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

use crate::bodies::request::Stop;
use crate::fault::{logs_of, out_of_memory};
use crate::wasm::guest::Plan;

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

/// The guest ended itself before it had answered, or with a code that says it failed.
fn exited(status: i32, at: &Circumstances<'_>) -> Problem {
    let said = at.last_stderr.as_ref().map(|line| format!(": {line}")).unwrap_or_default();
    Problem::new(&code::GUEST_EXITED, format!("`{}` exited with code {status}{said}", at.function))
        .hint(logs_of(at.function))
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

/// The engine's word for a body that stops before its end.
impl From<Stop> for wasmtime_wasi_http::Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::TooLarge(bytes_max) => Self::HttpRequestBodySize(Some(bytes_max)),
            Stop::Broken => Self::ConnectionTerminated,
            Stop::Paused => Self::ConnectionReadTimeout,
        }
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
