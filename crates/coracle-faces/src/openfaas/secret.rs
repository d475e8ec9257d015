//! Documents of secrets: a name with a value in, names without values out.
//! The gateway parses what is set or removed, and renders the list.
//!
//! Source: faas-provider:types/secret.go.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_model::{NamespaceName, Problem, SecretName, code};
use serde::Serialize;

use super::document::{Document, bad};
use super::name;
use super::namespace::parse_name;

/// Which secret is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    /// Its room.
    pub namespace: NamespaceName,
    /// Its name there.
    pub name: SecretName,
}

/// A secret that is set.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue {
    /// Which one.
    pub secret: SecretRef,
    /// Its value, byte for byte.
    pub value: Vec<u8>,
}

/// Without the value.
impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({:?}, …)", self.secret)
    }
}

impl SecretRef {
    /// Reads a body `{"name": …, "namespace": …}`; `namespace` is that of the query, which the body outranks.
    ///
    /// # Errors
    /// A body that cannot be understood, or a wrong name.
    pub fn parse(body: &[u8], namespace: Option<&str>) -> Result<Self, Problem> {
        Self::take(&mut Document::parse(body)?, namespace)
    }

    fn take(sent: &mut Document, namespace: Option<&str>) -> Result<Self, Problem> {
        let name = sent.needed_text("name", "api-key")?;
        let name =
            SecretName::parse(&name).map_err(|error| Problem::new(&code::INVALID_NAME, error.to_string()))?;
        let within = sent.text("namespace")?;
        Ok(Self { namespace: parse_name(within.as_deref().or(namespace).unwrap_or_default())?, name })
    }
}

impl SecretValue {
    /// Reads the same with a `value` in text, or a `rawValue` in base64.
    ///
    /// # Errors
    /// A body that cannot be understood, a wrong name, no value, or two.
    pub fn parse(body: &[u8], namespace: Option<&str>) -> Result<Self, Problem> {
        let mut sent = Document::parse(body)?;
        let secret = SecretRef::take(&mut sent, namespace)?;
        let value = match (sent.text("value")?, sent.text("rawValue")?) {
            (Some(value), None) => value.into_bytes(),
            (None, Some(raw)) => STANDARD.decode(&raw).map_err(|_| {
                // What cannot be decoded is a secret all the same: it is not repeated.
                bad("`rawValue` is not base64")
                    .hint("encode the bytes as base64 with padding, or send text as `value`")
            })?,
            (Some(_), Some(_)) => {
                return Err(bad("`value` and `rawValue` are both there").hint("send one of them"));
            }
            (None, None) => {
                return Err(bad("`value` is missing")
                    .hint("send the text as `value`, or any bytes in base64 as `rawValue`"));
            }
        };
        Ok(Self { secret, value })
    }
}

/// The list of the secrets of a namespace.
pub fn render_list<'a>(
    namespace: &NamespaceName,
    secrets: impl IntoIterator<Item = &'a SecretName>,
) -> String {
    #[derive(Serialize)]
    struct View<'a> {
        name: &'a str,
        namespace: &'a str,
    }
    let namespace = name::of_namespace(namespace);
    let views: Vec<_> = secrets.into_iter().map(|secret| View { name: secret.as_str(), namespace }).collect();
    serde_json::to_string(&views).expect("texts have no way to fail")
}
