//! Secrets on the wire: values go in and never come back.
//! `coracle secret` sets, lists and removes them.

use std::fmt;

use coracle_model::SecretName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: SecretName,
    /// When its value was set.
    #[schema(value_type = String, format = DateTime)]
    pub updated: Timestamp,
}

/// The value of a secret, on its way in: text, or any bytes as Base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretValue {
    /// As text.
    Value(String),
    /// As Base64 (RFC 4648, with padding).
    ValueBase64(String),
}

/// A value stands in no log and no error.
impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value(_) => "Value(…)",
            Self::ValueBase64(_) => "ValueBase64(…)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_or_base64_and_is_never_shown() {
        let text: SecretValue = serde_json::from_str(r#"{"value": "hunter2"}"#).unwrap();
        let bytes: SecretValue = serde_json::from_str(r#"{"value_base64": "aHVudGVyMg=="}"#).unwrap();
        assert_eq!(text, SecretValue::Value("hunter2".into()));
        assert_eq!(bytes, SecretValue::ValueBase64("aHVudGVyMg==".into()));
        assert_eq!(format!("{text:?} {bytes:?}"), "Value(…) ValueBase64(…)");
    }
}
