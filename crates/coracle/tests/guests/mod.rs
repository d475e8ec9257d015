//! Guests that misbehave, deployed; and what the server knows of their calls a moment later.
//! `acid` lists its misdeeds at `/`.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Data, Server};
use crate::wire;

/// What has not been seen after so long will not be.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest as it is committed in `guests/built`.
pub(crate) fn built(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../guests/built/{name}.wasm"))
}

/// A server with `acid` deployed under its own name, with these settings.
pub(crate) fn acid(settings: &[&str]) -> Server {
    acid_on(Server::start(), settings)
}

/// The same on a server that may use one core, and so has one thread for all calls.
pub(crate) fn acid_on_one_core(settings: &[&str]) -> Server {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first = cores.split([',', '-']).next().unwrap();
    acid_on(Server::start_within(&["taskset", "--cpu-list", first], Data::new(), &[]), settings)
}

fn acid_on(server: Server, settings: &[&str]) -> Server {
    deploy(&server, "acid", settings);
    server
}

/// Deploys `acid` under another name.
pub(crate) fn deploy(server: &Server, name: &str, settings: &[&str]) {
    let file = built("acid");
    server.ok(&[&["deploy", file.to_str().unwrap(), "--name", name], settings].concat());
}

/// Looks until there is something to see. Each look asks the server, so this does not spin.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} was not seen");
    }
}

/// The record of a call, which is written when its guest has ended.
pub(crate) fn record(server: &Server, id: &str) -> Value {
    until("the record of the call", || {
        let reply = wire::admin(server, "GET", &format!("/v1/calls/{id}"), b"");
        (reply.status == 200).then(|| reply.json())
    })
}

/// The log of a call, as soon as it has a line with this text.
pub(crate) fn log_with(server: &Server, call: &str, text: &str) -> String {
    until(text, || {
        let log = server.ok(&["logs", "--call", call]);
        log.contains(text).then_some(log)
    })
}

/// The time, for bounds that are far from what is usual.
#[expect(clippy::disallowed_methods, reason = "what takes too long is seen from outside, on a real clock")]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}
