//! `coracle queue show`: all about one call: where it stands, every attempt, what it answered, and who was told of it.
//! `queue.rs` runs it; `call.rs` takes the body of a result from here.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::{AttemptView, CallState, Client, KnownCall, QueuedCallView, ResultView};
use coracle_model::{Clock as _, Problem, code};
use coracle_observe::clock::System;
use jiff::Timestamp;

use super::look::{asked, when};
use crate::cli::ago::{ago, bytes, millis};
use crate::cli::call::shown;
use crate::cli::logs::visible;
use crate::stop::Done;
use crate::talk::{BAD, BOLD, DIM, GOOD, styled};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle queue show ID
  coracle queue show ID --result > answer.png";

/// Which call is shown.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    /// Which, as `coracle queue list` shows it
    id: String,
    /// Print only the body of its result
    #[arg(long)]
    result: bool,
}

impl Show {
    pub(super) async fn run(self, client: &Client, json: bool) -> Done {
        let call = match client.known_call(&self.id).await? {
            KnownCall::Queued(call) => call,
            KnownCall::Recent(call) => {
                let message = format!("the call `{}` was not queued: somebody waited for it", call.id);
                return Err(Problem::new(&code::CALL_NOT_FOUND, message)
                    .hint(format!("coracle calls {}", shown(&call.function)))
                    .into());
            }
        };
        if self.result {
            let Some(result) = &call.result else {
                let message = format!("the call `{}` has no result: it is {}", call.id, call.state.as_str());
                return Err(Problem::new(&code::CALL_NOT_FOUND, message)
                    .hint(format!("coracle queue show {}", call.id))
                    .into());
            };
            return print::bytes(&body_of(result));
        }
        if json { print::json(&call) } else { render(&call, System.now()) }
    }
}

/// The body of a result, as far as it is kept.
pub(in crate::cli) fn body_of(result: &ResultView) -> Vec<u8> {
    match (&result.body, &result.body_base64) {
        (Some(text), _) => text.clone().into_bytes(),
        // What the server wrote in base64 reads back.
        (None, Some(text)) => STANDARD.decode(text).unwrap_or_default(),
        (None, None) => Vec::new(),
    }
}

fn render(call: &QueuedCallView, now: Timestamp) -> Done {
    print::line(format_args!("{} {}", styled(BOLD, visible(&call.id)), call.function))?;
    render_fields(call, now)?;
    if !call.attempts.is_empty() {
        print::line("")?;
        story(&call.attempts, now).iter().try_for_each(print::line)?;
    }
    for delivery in call.deliveries.iter().filter(|delivery| !delivery.attempts.is_empty()) {
        print::line("")?;
        print::line(styled(BOLD, visible(&asked(delivery))))?;
        story(&delivery.attempts, now).iter().try_for_each(print::line)?;
    }
    if let Some(next) = next(call) {
        talk::hint(next);
    }
    Ok(())
}

fn render_fields(call: &QueuedCallView, now: Timestamp) -> Done {
    let style = match call.state {
        CallState::Succeeded => GOOD,
        CallState::Failed | CallState::Dead => BAD,
        CallState::Waiting | CallState::Running | CallState::Cancelled => BOLD,
    };
    let tried = tried(call.attempts_made);
    field("state", format_args!("{}{tried}", styled(style, call.state.as_str())))?;
    if let Some(reason) = &call.reason {
        field("because", visible(reason))?;
    }
    field("asked", format_args!("{}, {}", visible(&asked(call)), bytes(call.body_bytes)))?;
    field("accepted", ago(call.accepted))?;
    match call.ended {
        Some(ended) => field("ended", ago(ended))?,
        None => field("due", when(call.due, now))?,
    }
    if let Some(group) = &call.group {
        field("group", visible(group))?;
    }
    if let Some(callback) = &call.callback {
        field("callback", visible(callback))?;
    }
    if let Some(ResultView { status, body_bytes, .. }) = &call.result {
        field("result", format_args!("{status}, {}", bytes(*body_bytes)))?;
        if *body_bytes > 0 {
            field("", styled(DIM, format_args!("coracle queue show {} --result", call.id)))?;
        }
    }
    call.deliveries.iter().try_for_each(|delivery| field("delivery", visible(&delivered(delivery))))
}

/// How often something was tried, to be put behind its state.
fn tried(times: u32) -> String {
    match times {
        0 => String::new(),
        1 => ", tried once".to_owned(),
        times => format!(", tried {times} times"),
    }
}

/// Where the delivery of a result stands.
fn delivered(delivery: &QueuedCallView) -> String {
    let to = delivery.delivers_to.as_deref().unwrap_or_default();
    let tried = tried(delivery.attempts_made);
    let why = delivery.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match delivery.state {
        CallState::Succeeded => format!("delivered to {to}{tried}"),
        state => format!("to {to} is {}{tried}{why}", state.as_str()),
    }
}

/// What was tried, the first attempt first: how each ended, and what was printed.
fn story(attempts: &[AttemptView], now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for attempt in attempts {
        let AttemptView { number, node, started, took_ms, status, problem, log } = attempt;
        let outcome = match (status, problem) {
            (_, Some(problem)) => styled(BAD, &problem.code),
            (Some(status @ 400..), None) => styled(BAD, status),
            (Some(status), None) => styled(GOOD, status),
            (None, None) => "begun".to_owned(),
        };
        let took = if *took_ms == 0 { String::new() } else { format!(", took {}", millis(*took_ms as f64)) };
        let at = when(*started, now);
        // Which server lost it was not written down by earlier versions.
        let on = if node.is_empty() { String::new() } else { format!(", on {}", visible(node)) };
        lines.push(format!("{number}. {outcome}  {}", styled(DIM, format_args!("{at}{took}{on}"))));
        lines.extend(problem.iter().map(|problem| format!("   {}", visible(&problem.message))));
        lines.extend(log.iter().map(|line| format!("   {} {}", styled(DIM, "|"), visible(line))));
    }
    lines
}

/// What may be done about it.
fn next(call: &QueuedCallView) -> Option<String> {
    let is_dead = |delivery: &QueuedCallView| delivery.state == CallState::Dead;
    let id = &call.id;
    match call.state {
        CallState::Dead => Some(format!("to run it again: coracle queue redrive {id}")),
        CallState::Waiting => Some(format!("to cancel it: coracle queue cancel {id}")),
        _ if call.deliveries.iter().any(is_dead) => {
            Some(format!("to send its result again: coracle queue redrive {id}"))
        }
        _ => None,
    }
}

fn field(name: &str, value: impl Display) -> Done {
    print::line(format_args!("  {} {value}", styled(DIM, format_args!("{name:<9}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn call(state: &str) -> QueuedCallView {
        let json = format!(
            r#"{{"id": "order-17", "function": "resize", "state": "{state}", "delivers_to": "http://a/done",
            "accepted": "2026-01-31T11:00:00Z", "due": "2026-01-31T11:00:00Z", "body_bytes": 9, "attempts_made": 2,
            "attempts": [
                {{"number": 1, "node": "n1", "started": "2026-01-31T11:59:00Z", "took_ms": 12, "status": 500}},
                {{"number": 2, "node": "", "started": "2026-01-31T11:59:30Z", "took_ms": 0,
                "problem": {{"code": "delivery-failed", "message": "no\u001banswer", "docs": "-"}}, "log": ["bye"]}}
            ]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn each_attempt_says_how_it_ended() {
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        let text = story(&call("dead").attempts, now).join("\n");
        expect![[r#"
            1. 500  1m ago, took 12 ms, on n1
            2. delivery-failed  30s ago
               no�answer
               | bye"#]]
        .assert_eq(&anstream::adapter::strip_str(&text).to_string());
    }

    #[test]
    fn a_delivery_says_where_it_stands() {
        let dead = QueuedCallView { reason: Some("all of its 2 attempts failed".into()), ..call("dead") };
        assert_eq!(delivered(&dead), "to http://a/done is dead, tried 2 times: all of its 2 attempts failed");
        let waiting = QueuedCallView { attempts_made: 0, ..call("waiting") };
        assert_eq!(delivered(&waiting), "to http://a/done is waiting");
        let well = QueuedCallView { attempts_made: 1, ..call("succeeded") };
        assert_eq!(delivered(&well), "delivered to http://a/done, tried once");
    }

    #[test]
    fn a_result_that_was_not_delivered_can_be_delivered_again() {
        let hint = |state, deliveries| next(&QueuedCallView { deliveries, ..call(state) });
        assert_eq!(
            hint("succeeded", vec![call("waiting"), call("dead")]).as_deref(),
            Some("to send its result again: coracle queue redrive order-17")
        );
        assert_eq!(hint("succeeded", vec![call("succeeded")]), None);
        assert_eq!(hint("dead", vec![]).as_deref(), Some("to run it again: coracle queue redrive order-17"));
    }

    #[test]
    fn a_body_that_is_no_text_comes_back_whole() {
        let result = ResultView { body_base64: Some("AJ8=".into()), body_bytes: 2, ..ResultView::default() };
        assert_eq!(body_of(&result), [0, 159]);
    }
}
