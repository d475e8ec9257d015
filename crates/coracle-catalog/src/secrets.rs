//! Secrets: sealed on disk and in memory, opened when an instance needs one, never shown.
//! The admin API sets and lists them; invoke reveals those that a revision names.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use coracle_model::{NamespaceName, Problem, SecretName, code};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::Catalog;
use crate::deploy::Presence;
use crate::namespaces::check_namespace;
use crate::records::{Place, SecretRecord};
use crate::turn::Draft;

/// The longest value of a secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 64 << 10;
/// The most secrets in one namespace.
pub const SECRETS_PER_NAMESPACE_MAX: usize = 1_000;
/// How many functions a hint names.
const NAMED_MAX: usize = 5;

/// The value of a secret: shown by nothing, wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// What may be known of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// When it was last set.
    pub updated: Timestamp,
}

/// A secret as memory holds it.
#[derive(Clone)]
pub(crate) struct Sealed {
    sealed: Vec<u8>,
    updated: Timestamp,
}

impl Catalog {
    /// Sets a secret, replacing what it was.
    ///
    /// A value may hold any bytes; guests that read it as an environment variable need text.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `INVALID_SETTINGS`, `LIMIT_REACHED`, and those of the database.
    pub async fn set_secret(
        &self,
        namespace: &NamespaceName,
        name: &SecretName,
        value: &[u8],
    ) -> Result<SecretInfo, Problem> {
        self.set_secret_if(namespace, name, value, Presence::Any).await
    }

    /// The same, if the secret is new, or was there before.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `SECRET_NOT_FOUND`, and those of [`set_secret`](Self::set_secret).
    pub async fn set_secret_if(
        &self,
        namespace: &NamespaceName,
        name: &SecretName,
        value: &[u8],
        presence: Presence,
    ) -> Result<SecretInfo, Problem> {
        name.check_new()?;
        check_value(name, value)?;
        let sealed = BASE64.encode(self.0.key.seal(&purpose(namespace, name), value)?);
        let updated = self.0.clock.now();
        let (place, record) =
            (Place::Secret(namespace.clone(), name.clone()), SecretRecord { sealed, updated });
        self.in_turn(|state| {
            check_namespace(state, namespace)?;
            let others = state.secrets.get(namespace);
            let is_new = others.is_none_or(|others| !others.contains_key(name));
            match presence {
                Presence::New if !is_new => {
                    let message = format!("namespace `{namespace}` has a secret `{name}` already");
                    return Err(Problem::new(&code::ALREADY_EXISTS, message));
                }
                Presence::Known if is_new => return Err(not_found(namespace, name)),
                _ => {}
            }
            if is_new && others.is_some_and(|others| others.len() >= SECRETS_PER_NAMESPACE_MAX) {
                let message =
                    format!("namespace `{namespace}` has {SECRETS_PER_NAMESPACE_MAX} secrets already");
                return Err(
                    Problem::new(&code::LIMIT_REACHED, message).hint("remove those that nobody reads")
                );
            }
            let mut draft = Draft::default();
            draft.put(&place, &record);
            Ok((draft, ()))
        })
        .await?;
        Ok(SecretInfo { name: name.clone(), updated })
    }

    /// Removes a secret that no current revision reads.
    ///
    /// # Errors
    /// `SECRET_NOT_FOUND`; `CONFLICT` while a function reads it, and the hint names them; and those of the database.
    pub async fn remove_secret(&self, namespace: &NamespaceName, name: &SecretName) -> Result<(), Problem> {
        let place = Place::Secret(namespace.clone(), name.clone());
        self.in_turn(|state| {
            if state.secrets.get(namespace).is_none_or(|secrets| !secrets.contains_key(name)) {
                return Err(not_found(namespace, name));
            }
            let readers = state.readers(namespace, name);
            if !readers.is_empty() {
                let named: Vec<_> = readers.iter().take(NAMED_MAX).map(|f| format!("`{}`", f.name)).collect();
                let more = if readers.len() > NAMED_MAX { " and others" } else { "" };
                return Err(Problem::new(&code::CONFLICT, format!("secret `{name}` is in use"))
                    .hint(format!("deploy without it or remove: {}{more}", named.join(", "))));
            }
            let mut draft = Draft::default();
            draft.delete(&place);
            Ok((draft, ()))
        })
        .await
    }

    /// The secrets of a namespace, in the order of their names, without their values.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`.
    pub fn secrets(&self, namespace: &NamespaceName) -> Result<Vec<SecretInfo>, Problem> {
        let state = self.0.state();
        check_namespace(&state, namespace)?;
        let secrets = state.secrets.get(namespace).into_iter().flatten();
        Ok(secrets.map(|(name, sealed)| SecretInfo { name: name.clone(), updated: sealed.updated }).collect())
    }

    /// Opens a secret, for a guest that may read it. `None` if there is none, or if its record was tampered with.
    pub fn reveal(&self, namespace: &NamespaceName, name: &SecretName) -> Option<Secret> {
        // Cloned, so that no lock is held while it is opened.
        let sealed = self.0.state().secrets.get(namespace)?.get(name)?.clone();
        let opened = self.0.key.open(&purpose(namespace, name), &sealed.sealed);
        if opened.is_none() {
            tracing::error!(%namespace, secret = %name, "a secret does not open with the key of this database");
        }
        opened.map(Secret)
    }
}

impl Secret {
    /// The value, to be handed to the guest and to nobody else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({})", self.updated)
    }
}

impl TryFrom<SecretRecord> for Sealed {
    type Error = String;

    fn try_from(record: SecretRecord) -> Result<Self, String> {
        let sealed = BASE64.decode(&record.sealed).map_err(|_| "its value is not base64")?;
        Ok(Self { sealed, updated: record.updated })
    }
}

/// What a value is sealed for, so that it cannot be moved to another name. Neither part can hold the `/`.
fn purpose(namespace: &NamespaceName, name: &SecretName) -> String {
    format!("{namespace}/{name}")
}

fn check_value(name: &SecretName, value: &[u8]) -> Result<(), Problem> {
    if value.len() <= SECRET_BYTES_MAX {
        return Ok(());
    }
    let (is, most) = (value.len(), SECRET_BYTES_MAX);
    let what = format!("the value of secret `{name}` has {is} bytes, at most {most} are allowed");
    Err(Problem::new(&code::INVALID_SETTINGS, what).hint("keep a key here, and what it opens elsewhere"))
}

fn not_found(namespace: &NamespaceName, name: &SecretName) -> Problem {
    Problem::new(&code::SECRET_NOT_FOUND, format!("namespace `{namespace}` has no secret `{name}`"))
        .hint(format!("coracle secret list{}", namespace.flag()))
}
