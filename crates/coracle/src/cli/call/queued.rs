//! `coracle call --async`: a call that is queued, and whose end is waited for if that is asked for.
//! Its identity is printed alone, so that a script can keep it.

use coracle_api::client::FunctionCall;
use coracle_api::{CallState, Client, QueuedCallView};
use coracle_model::code;

use super::{To, shown};
use crate::cli::queue::body_of;
use crate::options::Common;
use crate::stop::{Done, Stop};
use crate::talk::{BAD, DIM, styled};
use crate::{print, talk};

/// Has a call queued, and prints its identity; or waits for its end, and prints its answer.
pub(super) async fn run(client: &Client, call: FunctionCall, waits: bool, to: To, common: &Common) -> Done {
    let function = shown(&call.function);
    let accepted = client.submit(call).await?;
    let id = accepted.id.clone();
    if !waits {
        let again = if accepted.again { ", as it was before under this key" } else { "" };
        talk::say(styled(DIM, format_args!("{function} is queued{again}: coracle queue show {id}")));
        return if common.json { print::json(&accepted) } else { print::line(&id) };
    }
    talk::say(styled(DIM, format_args!("waiting for {id}")));
    let call = client.ended_call(&id).await.map_err(|error| unseen(error.into(), &id))?;
    if common.json {
        print::json(&call)?;
        return if call.state == CallState::Succeeded { Ok(()) } else { Err(Stop::Shown) };
    }
    render(&call, &function, to)
}

/// Why the end of a call was not seen: where the server went away, its call did not.
fn unseen(stop: Stop, id: &str) -> Stop {
    const AWAY: [&str; 3] =
        [code::SERVER_UNREACHABLE.name, code::SERVER_STOPPING.name, code::STORE_UNAVAILABLE.name];
    match stop {
        Stop::Problem(mut problem) if AWAY.contains(&&*problem.code) => {
            problem.message = format!("the call {id} is still queued, but {}", problem.message);
            problem.hint = Some(format!("once the server is back: coracle queue show {id}"));
            Stop::Problem(problem)
        }
        stop => stop,
    }
}

fn render(call: &QueuedCallView, function: &str, mut to: To) -> Done {
    if let Some(result) = &call.result {
        let body = body_of(result);
        to.write(&body)?;
        to.end_line()?;
        if result.body_bytes > body.len() as u64 {
            to.end_line_before_talk()?;
            let (kept, all) = (body.len(), result.body_bytes);
            talk::say(format_args!("of its answer of {all} bytes, the first {kept} are kept"));
        }
    }
    if call.state == CallState::Succeeded {
        return Ok(());
    }
    to.end_line_before_talk()?;
    let state = call.state.as_str();
    let why = call.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    talk::say(format_args!("{} {function} is {state}{why}", styled(BAD, "failed:")));
    talk::hint(format_args!("coracle queue show {}", call.id));
    Err(Stop::Shown)
}
