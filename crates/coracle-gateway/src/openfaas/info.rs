//! Who answers: the versions that clients show beside their own.
//! Whoever has a token may ask.

use axum::extract::State;
use axum::response::Response;
use coracle_faces::openfaas::info;
use coracle_model::Scope;

use super::rim::json;
use crate::admin::Shared;
use crate::admin::rim::{Answer, Who};

/// The commit that a release was built of: `build.rs` asks git, if whoever builds for others does not name it.
const COMMIT: &str = match option_env!("CORACLE_COMMIT") {
    Some(commit) => commit,
    None => "unreleased",
};

pub(super) async fn show(State(admin): State<Shared>, Who(who): Who) -> Answer<Response> {
    admin.authenticator.require_somewhere(who, Scope::Call)?;
    Ok(json(info::render(env!("CARGO_PKG_VERSION"), COMMIT, std::env::consts::ARCH)))
}
