//! Passwords for image registries: set, listed by registry, forgotten. No handler ever shows one.
//! `coracle image login` asks here; pulls use them.

use axum::Json;
use axum::extract::State;
use coracle_api::{Page, RegistryLogin, RegistryView};
use coracle_catalog::RegistryCredentials;
use coracle_model::{InvalidName, Scope};
use http::StatusCode;

use super::Shared;
use super::rim::{Answer, InNamespace, Named, Sent, Who};

/// The name of a registry, which the catalog checks.
pub(super) struct RegistryName(String);

impl std::str::FromStr for RegistryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Ok(Self(text.to_owned()))
    }
}

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    InNamespace(namespace): InNamespace,
) -> Answer<Json<Page<RegistryView>>> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let known = admin.catalog.registries(&namespace)?.into_iter();
    Ok(Json(known.map(|known| RegistryView { registry: known.registry, updated: known.updated }).collect()))
}

pub(super) async fn login(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, registry): Named<RegistryName>,
    Sent(RegistryLogin { username, password }): Sent<RegistryLogin>,
) -> Answer<StatusCode> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let credentials = RegistryCredentials { username, password: password.into() };
    admin.catalog.set_registry(&namespace, &registry.0, &credentials).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn logout(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, registry): Named<RegistryName>,
) -> Answer<StatusCode> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    admin.catalog.remove_registry(&namespace, &registry.0).await?;
    Ok(StatusCode::NO_CONTENT)
}
