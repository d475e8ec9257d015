//! Queued calls, put and waited for.
//! For the tests of what the queue does with them.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

use serde_json::Value;

use crate::guests::until;
use crate::harness::Server;
use crate::wire::{admin, ask};

/// Queues a call as anybody may, and gives its identity.
pub(crate) fn queued(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let reply = ask(server, "POST", path, headers, body);
    assert_eq!((reply.status, reply.text().as_str()), (202, ""), "{reply:?}");
    reply.header("x-call-id").unwrap().to_owned()
}

/// A call, once it has ended.
pub(crate) fn ended(server: &Server, id: &str) -> Value {
    until("the end of the call", || {
        let reply = admin(server, "GET", &format!("/v1/calls/{id}?wait=30s"), b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
        let call = reply.json();
        let state = call["state"].as_str().unwrap();
        (!matches!(state, "waiting" | "running")).then_some(call)
    })
}
