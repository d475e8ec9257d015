//! Tokens: made, listed and revoked by an admin; the text of one is shown once.
//! `coracle token` asks here.

use axum::Json;
use axum::extract::State;
use coracle_api::{Page, TokenCreated, TokenRequest, TokenView};
use coracle_catalog::TokenInfo;
use coracle_model::{FunctionRef, Problem, Reach, Scope, TokenId, code};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderName};

use super::Shared;
use super::rim::{Answer, Segment, Sent, Who};

pub(super) async fn list(State(admin): State<Shared>, Who(who): Who) -> Answer<Json<Page<TokenView>>> {
    admin.authenticator.require(who, Scope::Admin)?;
    Ok(Json(admin.catalog.tokens().into_iter().map(view).collect()))
}

pub(super) async fn create(
    State(admin): State<Shared>,
    Who(who): Who,
    Sent(request): Sent<TokenRequest>,
) -> Answer<(StatusCode, [(HeaderName, &'static str); 1], Json<TokenCreated>)> {
    admin.authenticator.require(who, Scope::Admin)?;
    let TokenRequest { label, scope, namespace, function, expires_in } = request;
    let reach = match (namespace, function) {
        (None, None) => Reach::All,
        (Some(namespace), None) => Reach::Namespace(namespace),
        (namespace, Some(name)) => {
            Reach::Function(FunctionRef { namespace: namespace.unwrap_or_default(), name })
        }
    };
    let now = admin.observe.clock.now();
    let expires = expires_in.map(|span| now.checked_add(span.0)).transpose();
    let expires = expires.map_err(|_| {
        Problem::new(&code::BAD_REQUEST, "`expires_in` reaches beyond the end of the calendar")
            .hint("leave it out for a token that never expires")
    })?;
    let (info, token) = admin.catalog.mint(&label, scope, reach, expires).await?;
    let created = TokenCreated { token, view: view(info) };
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(created)))
}

pub(super) async fn revoke(
    State(admin): State<Shared>,
    Who(who): Who,
    Segment(id): Segment,
) -> Answer<StatusCode> {
    admin.authenticator.require(who, Scope::Admin)?;
    admin.catalog.revoke(&TokenId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(info: TokenInfo) -> TokenView {
    let (namespace, function) = match info.reach {
        Reach::All => (None, None),
        Reach::Namespace(namespace) => (Some(namespace), None),
        Reach::Function(function) => (Some(function.namespace), Some(function.name)),
    };
    let TokenInfo { id, label, scope, created, expires, .. } = info;
    TokenView { id, label, scope, namespace, function, created, expires }
}
