//! Credentials of image registries: sealed as secrets are, and apart from them, so that no function can name one.
//! The admin API sets and lists them; a pull reveals the one of its registry.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use coracle_model::{NamespaceName, Problem, code};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Catalog;
use crate::namespaces::check_namespace;
use crate::records::{Place, RegistryRecord};
use crate::turn::Draft;

/// The most registries of one namespace.
pub const REGISTRIES_PER_NAMESPACE_MAX: usize = 100;
/// The longest name of a registry, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// The longest user name, and the longest password: tokens of clouds have some thousand.
const CREDENTIAL_BYTES_MAX: usize = 16 << 10;

/// Who we are to a registry; the password is shown by nothing, and wiped from memory when dropped.
#[derive(Clone, Serialize, Deserialize)]
pub struct RegistryCredentials {
    /// The name of a user.
    pub username: String,
    /// Their password, or an access token.
    pub password: Zeroizing<String>,
}

/// What may be known of the credentials of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryInfo {
    /// The registry, as in `ghcr.io` or `registry.example.com:5000`.
    pub registry: String,
    /// When they were last set.
    pub updated: Timestamp,
}

impl Catalog {
    /// Keeps the credentials of a registry, replacing those there were.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `INVALID_NAME`, `INVALID_SETTINGS`, `LIMIT_REACHED`, and those of the database.
    pub async fn set_registry(
        &self,
        namespace: &NamespaceName,
        registry: &str,
        credentials: &RegistryCredentials,
    ) -> Result<RegistryInfo, Problem> {
        check_name(registry)?;
        let lengths = [credentials.username.len(), credentials.password.len()];
        if lengths.iter().any(|length| !(1..=CREDENTIAL_BYTES_MAX).contains(length)) {
            let message = format!("a user name and a password have 1 to {CREDENTIAL_BYTES_MAX} bytes");
            return Err(Problem::new(&code::INVALID_SETTINGS, message));
        }
        let json = Zeroizing::new(serde_json::to_vec(credentials).map_err(|_| unsealed())?);
        let sealed = BASE64.encode(self.0.key.seal(&purpose(namespace, registry), &json)?);
        let updated = self.0.clock.now();
        let place = Place::Registry(namespace.clone(), registry.to_owned());
        let record = RegistryRecord { sealed, updated };
        self.in_turn(|state| {
            check_namespace(state, namespace)?;
            let others = state.registries.get(namespace);
            let is_new = others.is_none_or(|others| !others.contains_key(registry));
            if is_new && others.is_some_and(|others| others.len() >= REGISTRIES_PER_NAMESPACE_MAX) {
                let message = format!(
                    "namespace `{namespace}` knows {REGISTRIES_PER_NAMESPACE_MAX} registries already"
                );
                return Err(Problem::new(&code::LIMIT_REACHED, message));
            }
            let mut draft = Draft::default();
            draft.put(&place, &record);
            Ok((draft, ()))
        })
        .await?;
        Ok(RegistryInfo { registry: registry.to_owned(), updated })
    }

    /// Forgets the credentials of a registry.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `SECRET_NOT_FOUND`, and those of the database.
    pub async fn remove_registry(&self, namespace: &NamespaceName, registry: &str) -> Result<(), Problem> {
        check_name(registry)?;
        let place = Place::Registry(namespace.clone(), registry.to_owned());
        self.in_turn(|state| {
            check_namespace(state, namespace)?;
            if state.registries.get(namespace).is_none_or(|known| !known.contains_key(registry)) {
                let message = format!("namespace `{namespace}` has no password for `{registry}`");
                return Err(Problem::new(&code::SECRET_NOT_FOUND, message));
            }
            let mut draft = Draft::default();
            draft.delete(&place);
            Ok((draft, ()))
        })
        .await
    }

    /// The registries whose credentials a namespace has, in order.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`.
    pub fn registries(&self, namespace: &NamespaceName) -> Result<Vec<RegistryInfo>, Problem> {
        let state = self.0.state();
        check_namespace(&state, namespace)?;
        let known = state.registries.get(namespace).into_iter().flatten();
        Ok(known
            .map(|(name, record)| RegistryInfo { registry: name.clone(), updated: record.updated })
            .collect())
    }

    /// Opens the credentials of a registry, for a pull. `None` if there are none, or if their record was changed.
    pub fn registry_credentials(
        &self,
        namespace: &NamespaceName,
        registry: &str,
    ) -> Option<RegistryCredentials> {
        // Cloned, so that no lock is held while it is opened.
        let sealed = self.0.state().registries.get(namespace)?.get(registry)?.sealed.clone();
        let opened = BASE64
            .decode(sealed)
            .ok()
            .and_then(|sealed| self.0.key.open(&purpose(namespace, registry), &sealed));
        let credentials = opened.and_then(|json| serde_json::from_slice(&json).ok());
        if credentials.is_none() {
            tracing::error!(%namespace, registry, "the password of a registry does not open with the key of this database");
        }
        credentials
    }
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredentials(…)")
    }
}

/// What credentials are sealed for. No secret has a name with a `:` in it, so neither opens as the other.
fn purpose(namespace: &NamespaceName, registry: &str) -> String {
    format!("registry:{namespace}/{registry}")
}

fn unsealed() -> Problem {
    Problem::new(&code::INTERNAL, "the password could not be sealed")
}

/// A host, and a port if need be.
fn check_name(registry: &str) -> Result<(), Problem> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']' | b'_');
    if (1..=NAME_BYTES_MAX).contains(&registry.len()) && registry.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = registry.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect();
    Err(Problem::new(&code::INVALID_NAME, format!("`{shown}` is not the name of a registry"))
        .hint("write its host, and its port if need be, as in `ghcr.io` or `registry.example.com:5000`"))
}
