//! Secrets: made, changed, listed by name, removed. No value is ever said back.
//! Functions find them as files, which is the runtime's work.

use axum::extract::State;
use axum::response::Response;
use coracle_catalog::Presence;
use coracle_faces::openfaas::refusal::Verb;
use coracle_faces::openfaas::secret::{SecretRef, SecretValue, render_list};
use coracle_model::{Principal, Problem, Scope};
use http::StatusCode;

use super::rim::{Query, json, refused};
use crate::admin::rim::{Answer, Asked, SentBytes, Who};
use crate::admin::{Admin, Shared};

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<Query>,
) -> Answer<Response> {
    let refused = refused(Verb::Secret);
    let namespace = query.namespace().map_err(&refused)?;
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let secrets = admin.catalog.secrets(&namespace).map_err(&refused)?;
    Ok(json(render_list(&namespace, secrets.iter().map(|secret| &secret.name))))
}

pub(super) async fn create(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<Query>,
    SentBytes(body): SentBytes,
) -> Answer<StatusCode> {
    set(&admin, who, &query, &body, Presence::New).await.map_err(refused(Verb::Secret))
}

pub(super) async fn update(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<Query>,
    SentBytes(body): SentBytes,
) -> Answer<StatusCode> {
    set(&admin, who, &query, &body, Presence::Known).await.map_err(refused(Verb::Secret))
}

pub(super) async fn remove(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<Query>,
    SentBytes(body): SentBytes,
) -> Answer<StatusCode> {
    let refused = refused(Verb::Secret);
    let SecretRef { namespace, name } =
        SecretRef::parse(&body, query.namespace.as_deref()).map_err(&refused)?;
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    admin.catalog.remove_secret(&namespace, &name).await.map_err(&refused)?;
    Ok(StatusCode::ACCEPTED)
}

async fn set(
    admin: &Admin,
    who: Principal,
    query: &Query,
    body: &[u8],
    presence: Presence,
) -> Result<StatusCode, Problem> {
    let SecretValue { secret: SecretRef { namespace, name }, value } =
        SecretValue::parse(body, query.namespace.as_deref())?;
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    admin.catalog.set_secret_if(&namespace, &name, &value, presence).await?;
    Ok(StatusCode::ACCEPTED)
}
