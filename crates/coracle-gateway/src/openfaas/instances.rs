//! How many instances of a function there are, and should be: what clients call replicas.
//! Everything here that shows or sets that number asks this file.

use axum::extract::{Path, State};
use coracle_faces::openfaas::refusal::Verb;
use coracle_faces::openfaas::request::{self, Rescale};
use coracle_model::{Code, Problem, Revision, Scope};
use http::StatusCode;

use super::rim::{Query, refused};
use crate::admin::rim::{Answer, Asked, SentBytes, Who};
use crate::admin::{Admin, Shared};

/// The instances of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replicas {
    /// Those that should run; or those that do, where calls have started more.
    pub(super) wanted: u32,
    /// Those that take calls.
    pub(super) available: u32,
}

impl Replicas {
    pub(super) fn of(admin: &Admin, current: &Revision) -> Self {
        if matches!(current.code, Code::Wasm(_)) {
            // It has an instance for each call, and so is always ready for one.
            return Self { wanted: 1, available: 1 };
        }
        let counts = admin.invoke.instances_of(&current.function);
        let available = counts.ready + counts.busy + counts.frozen;
        Self { wanted: counts.wanted.max(available + counts.starting), available }
    }
}

pub(super) async fn scale(
    State(admin): State<Shared>,
    Who(who): Who,
    Path(name): Path<String>,
    Asked(query): Asked<Query>,
    SentBytes(body): SentBytes,
) -> Answer<(StatusCode, String)> {
    let refused = refused(Verb::Function);
    let Rescale { function, replicas } =
        request::rescale(&name, query.namespace.as_deref(), &body).map_err(&refused)?;
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    let current = admin.catalog.resolve(&function).ok_or_else(|| refused(Problem::no_function(&function)))?;
    // A client that wants one of those has it.
    if replicas == 1 && matches!(current.code, Code::Wasm(_)) {
        return Ok((StatusCode::ACCEPTED, String::new()));
    }
    let instances = admin.invoke.scale(&function, replicas).await.map_err(&refused)?;
    Ok((StatusCode::ACCEPTED, other_number(&current, replicas, instances)))
}

/// Says that there are to be other instances than were asked for, and why; clients of this face read no body.
fn other_number(current: &Revision, asked: u32, instances: u32) -> String {
    if asked == instances {
        return String::new();
    }
    let scale = &current.settings.scale;
    let bound = if asked > instances { ("max", scale.max) } else { ("min", scale.min) };
    let (word, number) = bound;
    format!(
        "{asked} instances of `{}` were asked for, and {instances} is what it has: its `scale.{word}` is {number}\n",
        current.function
    )
}
