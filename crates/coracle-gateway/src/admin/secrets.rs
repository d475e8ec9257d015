//! Secrets: set, listed by name, removed. No handler ever sees a value that is kept.
//! `coracle secret` asks here.

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use coracle_api::{Page, SecretValue, SecretView};
use coracle_model::{Problem, Scope, SecretName, code};
use http::StatusCode;

use super::Shared;
use super::rim::{Answer, InNamespace, Named, Sent, Who};

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    InNamespace(namespace): InNamespace,
) -> Answer<Json<Page<SecretView>>> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let secrets = admin.catalog.secrets(&namespace)?.into_iter();
    Ok(Json(secrets.map(|secret| SecretView { name: secret.name, updated: secret.updated }).collect()))
}

pub(super) async fn set(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<SecretName>,
    Sent(value): Sent<SecretValue>,
) -> Answer<StatusCode> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let value = match value {
        SecretValue::Value(text) => text.into_bytes(),
        // The error of the decoder would repeat a byte of the value.
        SecretValue::ValueBase64(text) => BASE64.decode(text).map_err(|_| {
            Problem::new(&code::BAD_REQUEST, "`value_base64` is not Base64").hint("or send text as `value`")
        })?,
    };
    admin.catalog.set_secret(&namespace, &name, &value).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<SecretName>,
) -> Answer<StatusCode> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    admin.catalog.remove_secret(&namespace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
