//! Documents of secrets: a name with a value in, names without values out.
//! The gateway parses what is set or removed, and renders the list.
//!
//! Source: faas-provider:types/model.go.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_is_text_or_bytes_and_one_of_them() {
        let table: [(&str, Result<&[u8], &str>); 9] = [
            (r#"{"name":"key","value":" hush\n"}"#, Ok(b" hush\n")),
            (r#"{"name":"key","value":""}"#, Ok(b"")),
            (r#"{"name":"key","rawValue":"AP8K"}"#, Ok(&[0, 255, 10])),
            (r#"{"name":"key","value":null,"rawValue":"AP8K"}"#, Ok(&[0, 255, 10])),
            (r#"{"name":"key"}"#, Err("`value` is missing")),
            (
                r#"{"name":"key","value":"hush","rawValue":"AP8K"}"#,
                Err("`value` and `rawValue` are both there"),
            ),
            (r#"{"name":"key","rawValue":"hush!"}"#, Err("`rawValue` is not base64")),
            (r#"{"name":"key","value":1234}"#, Err("`value` is a number, and must be a text")),
            (r#"{"value":"hush"}"#, Err("`name` is missing")),
        ];
        for (body, expected) in table {
            let read = SecretValue::parse(body.as_bytes(), None);
            assert!(!format!("{read:?}").contains("hush"), "{read:?}");
            let read = read.map(|secret| secret.value).map_err(|problem| problem.message);
            assert_eq!(read.as_deref().map_err(String::as_str), expected, "{body}");
        }
    }

    #[test]
    fn a_secret_is_named_with_or_without_its_namespace() {
        let table = [
            (r#"{"name":"api.key"}"#, None, "default"),
            (r#"{"name":"api.key"}"#, Some("shop"), "shop"),
            (r#"{"name":"api.key","namespace":"openfaas-fn"}"#, Some("shop"), "default"),
        ];
        for (body, namespace, expected) in table {
            let SecretRef { namespace, name } = SecretRef::parse(body.as_bytes(), namespace).unwrap();
            assert_eq!((namespace.as_str(), name.as_str()), (expected, "api.key"));
        }
        let wrong = SecretRef::parse(br#"{"name":"a/b"}"#, None).unwrap_err();
        assert_eq!(wrong.code, &code::INVALID_NAME);
    }

    #[test]
    fn a_list_holds_names_and_no_values() {
        let names = ["a", "b"].map(|name| SecretName::parse(name).unwrap());
        assert_eq!(
            render_list(&NamespaceName::default(), &names),
            r#"[{"name":"a","namespace":"openfaas-fn"},{"name":"b","namespace":"openfaas-fn"}]"#
        );
        assert_eq!(render_list(&NamespaceName::default(), []), "[]");
    }

    proptest! {
        #[test]
        fn bytes_come_through_as_they_are(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let body = serde_json::json!({"name": "key", "rawValue": STANDARD.encode(&bytes)}).to_string();
            prop_assert_eq!(SecretValue::parse(body.as_bytes(), None).unwrap().value, bytes);
        }
    }
}
