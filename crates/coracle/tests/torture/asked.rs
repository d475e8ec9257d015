//! What the nodes are asked, over HTTP as anybody would: to take a call, to cancel it, how it stands.
//! An answer that does not come is an error; nobody knows then what was done.

use std::io;

use serde_json::Value;

use crate::checker::Last;
use crate::choices::Choice;
use crate::nodes::Place;
use crate::wire::{self, Reply, bearer};

/// What the function is called that asks the recorder.
pub(crate) const FUNCTION: &str = "work";

/// What became of a call that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was acknowledged.
    Taken { id: String },
    /// It was refused for now: it is not kept.
    Refused,
}

/// What became of a cancellation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It had not begun, and never will.
    BeforeItRan,
    /// It had begun, or ended.
    TooLate,
}

/// Sends a call that asks this URL at each run.
pub(crate) fn send(
    place: &Place,
    number: u32,
    url: &str,
    choice: &Choice,
    group: Option<u32>,
) -> io::Result<Sent> {
    let path = format!("/async-function/{FUNCTION}/fetch?url={url}");
    let key = format!("call-{number}");
    let group = group.map(|group| format!("group-{group}"));
    let delay = choice.delay.map(|delay| format!("{}ms", delay.as_millis()));
    let mut headers = Vec::new();
    headers.extend(choice.has_key.then_some(("idempotency-key", key.as_str())));
    headers.extend(group.as_deref().map(|group| ("x-coracle-group", group)));
    headers.extend(delay.as_deref().map(|delay| ("x-coracle-delay", delay)));
    let reply = whole(wire::try_ask(&place.address, "POST", &path, &headers, b"")?)?;
    match reply.status {
        202 => Ok(Sent::Taken { id: reply.header("x-call-id").expect("a call has an identity").to_owned() }),
        409 | 429 => Ok(Sent::Refused),
        // A commit that was under way when the database went may be true or not.
        500.. => Err(io::Error::other(reply.text())),
        status => panic!("call {number} was answered with {status}: {}", reply.text()),
    }
}

/// Cancels a call.
pub(crate) fn cancel(place: &Place, id: &str) -> io::Result<Cancelled> {
    let reply = whole(admin(place, "POST", &format!("/v1/calls/{id}/cancel"))?)?;
    match reply.status {
        200 if reply.json()["was"] == "waiting" => Ok(Cancelled::BeforeItRan),
        200 | 409 => Ok(Cancelled::TooLate),
        _ => Err(io::Error::other(reply.text())),
    }
}

/// How a call stands; nothing where nobody knows it.
pub(crate) fn show(place: &Place, id: &str) -> io::Result<Option<Last>> {
    let reply = whole(admin(place, "GET", &format!("/v1/calls/{id}"))?)?;
    match reply.status {
        200 => Ok(Some(last(&reply.json()))),
        404 => Ok(None),
        _ => Err(io::Error::other(reply.text())),
    }
}

/// Whether a state is an end.
pub(crate) fn is_ended(state: &str) -> bool {
    !matches!(state, "waiting" | "running")
}

fn last(call: &Value) -> Last {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attempt = |attempt: &Value| {
        let end = attempt.get("status").or_else(|| attempt["problem"].get("code"));
        let end = end.map(Value::to_string).unwrap_or_default();
        (attempt["number"].as_u64().unwrap_or_default(), text(&attempt["node"]), end)
    };
    Last {
        state: text(&call["state"]),
        attempts: call["attempts"].as_array().into_iter().flatten().map(attempt).collect(),
        attempts_made: call["attempts_made"].as_u64().unwrap_or_default(),
        reason: call["reason"].as_str().map(str::to_owned),
    }
}

fn admin(place: &Place, method: &str, path: &str) -> io::Result<Reply> {
    wire::try_ask(&place.address, method, path, &[("authorization", &bearer(&place.token))], b"")
}

fn whole(reply: Reply) -> io::Result<Reply> {
    if reply.whole { Ok(reply) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
