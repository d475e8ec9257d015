//! OpenFaaS' dialect over HTTP, with the real binary: the fifteen checks of its contract, and what must be refused.
//! Where a check is one of its command line, the requests are those that the command sends, in its order: neither `faas-cli` nor a
//! watchdog is packaged where a test may install from. Needs root, as images do, and cc.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[path = "../guests/mod.rs"]
#[expect(dead_code, reason = "these tests use a part of it")]
mod guests;
#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[path = "../wire/mod.rs"]
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

mod bad_input;
mod calls;
mod deploys;
mod face;
mod instances;
mod mirror;
mod rooms;
mod seen;
mod watched;
