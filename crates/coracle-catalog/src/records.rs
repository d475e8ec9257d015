//! What the catalog keeps in the database: the keys, and the records under them, as JSON with a version.
//! Used by `state.rs` to read and by everything that drafts a write.
//!
//! Everything under [`PREFIX`] is held in memory too.
//! Old revisions are not: they lie beside it, so that opening a catalog reads only what calls need.

use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_model::{
    AppName, Digest, FunctionName, FunctionRef, NamespaceName, Reach, Revision, Scope, SecretName, TokenId,
};
use coracle_store::Key;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::namespaces::NamespaceNotes;

/// What the keys start with whose records are held in memory.
pub(crate) const PREFIX: &str = "catalog/";
/// The version of the records that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The one key that every write moves; see `turn.rs`.
    Turn,
    /// Which key the secrets are sealed with.
    SecretKey,
    Namespace(NamespaceName),
    Function(FunctionRef),
    /// What is left of a removed function, so that its revision numbers are never used again.
    Gone(FunctionRef),
    Secret(NamespaceName, SecretName),
    /// The credentials of an image registry.
    Registry(NamespaceName, String),
    Token(TokenId),
    /// One revision, current or not; not held in memory.
    Revision(FunctionRef, u32),
}

impl Place {
    /// The key of this place.
    pub(crate) fn key(&self) -> Key {
        let key = match self {
            Self::Turn => Key::new("catalog/turn"),
            Self::SecretKey => Key::new("catalog/key"),
            Self::Namespace(name) => Key::from_parts(&["catalog", "ns", name.as_str()]),
            Self::Function(f) => Key::from_parts(&["catalog", "fn", f.namespace.as_str(), f.name.as_str()]),
            Self::Gone(f) => Key::from_parts(&["catalog", "gone", f.namespace.as_str(), f.name.as_str()]),
            Self::Secret(namespace, name) => {
                Key::from_parts(&["catalog", "secret", namespace.as_str(), name.as_str()])
            }
            Self::Registry(namespace, registry) => {
                Key::from_parts(&["catalog", "registry", namespace.as_str(), registry])
            }
            Self::Token(id) => Key::from_parts(&["catalog", "token", &id.0]),
            Self::Revision(f, number) => {
                let number = format!("{number:010}");
                Key::from_parts(&["revision", f.namespace.as_str(), f.name.as_str(), &number])
            }
        };
        key.expect("names and token ids are short, and hold no `/` and no control character")
    }

    /// The place that a key under [`PREFIX`] names; `None` for a kind of record that this program does not know.
    pub(crate) fn parse(key: &Key) -> Option<Self> {
        let parts: Vec<&str> = key.parts().skip(1).collect();
        let function = |namespace: &str, name: &str| {
            let namespace = NamespaceName::parse(namespace).ok()?;
            Some(FunctionRef { namespace, name: FunctionName::parse(name).ok()? })
        };
        match parts[..] {
            ["turn"] => Some(Self::Turn),
            ["key"] => Some(Self::SecretKey),
            ["ns", name] => Some(Self::Namespace(NamespaceName::parse(name).ok()?)),
            ["fn", namespace, name] => Some(Self::Function(function(namespace, name)?)),
            ["gone", namespace, name] => Some(Self::Gone(function(namespace, name)?)),
            ["secret", namespace, name] => {
                Some(Self::Secret(NamespaceName::parse(namespace).ok()?, SecretName::parse(name).ok()?))
            }
            ["registry", namespace, registry] => {
                Some(Self::Registry(NamespaceName::parse(namespace).ok()?, registry.to_owned()))
            }
            ["token", id] => Some(Self::Token(TokenId(id.to_owned()))),
            _ => None,
        }
    }
}

/// The namespace that a key under [`PREFIX`] lies in, even if nothing else of it can be read.
pub(crate) fn lies_in(key: &Key, namespace: &NamespaceName) -> bool {
    let mut parts = key.parts().skip(1);
    matches!(parts.next(), Some("fn" | "gone" | "secret" | "registry"))
        && parts.next() == Some(namespace.as_str())
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// The public name of the key; see [`SecretKey::id`](crate::SecretKey).
    pub(crate) id: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NamespaceRecord {
    pub(crate) created: Timestamp,
    #[serde(flatten)]
    pub(crate) notes: NamespaceNotes,
}

/// The head of a function: all that a call needs, in one entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FunctionRecord {
    pub(crate) app: Option<AppName>,
    pub(crate) current: Revision,
    /// The highest number given so far.
    pub(crate) latest: u32,
    /// The revisions that are kept, the current one among them, with what names the code of each.
    pub(crate) kept: BTreeMap<u32, Digest>,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GoneRecord {
    pub(crate) latest: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SecretRecord {
    /// Nonce and ciphertext, in base64.
    pub(crate) sealed: String,
    pub(crate) updated: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RegistryRecord {
    /// Nonce and ciphertext of the credentials, in base64.
    pub(crate) sealed: String,
    pub(crate) updated: Timestamp,
}

impl std::fmt::Debug for RegistryRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryRecord({})", self.updated)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) label: String,
    pub(crate) scope: Scope,
    pub(crate) reach: Reach,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    /// The BLAKE3 hash of the token's secret half, in hexadecimal.
    pub(crate) hash: String,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    record: T,
}

/// A record as it is kept.
pub(crate) fn encode<T: Serialize>(record: &T) -> Bytes {
    serde_json::to_vec(&Versioned { version: VERSION, record })
        .expect("records have text keys and no way to fail")
        .into()
}

/// Reads a record; the error says why it cannot be read, and holds nothing of its text.
pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct OnlyVersion {
        version: u32,
    }
    let newer = |version| format!("it has version {version}, this program reads versions up to {VERSION}");
    match serde_json::from_slice::<Versioned<T>>(value) {
        Ok(found) if found.version <= VERSION => Ok(found.record),
        Ok(found) => Err(newer(found.version)),
        Err(error) => Err(match serde_json::from_slice::<OnlyVersion>(value) {
            Ok(found) if found.version > VERSION => newer(found.version),
            // Serde's own message would quote the value, and values hold environments.
            _ => format!("it is damaged at line {}, column {}", error.line(), error.column()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use coracle_model::{Code, Contract, Program, Queueing, Scale};

    use super::*;

    #[test]
    fn every_place_under_the_prefix_is_read_back_from_its_key() {
        let function = FunctionRef::parse("resize.shop").unwrap();
        for place in [
            Place::Turn,
            Place::SecretKey,
            Place::Namespace(NamespaceName::default()),
            Place::Function(function.clone()),
            Place::Gone(function.clone()),
            Place::Secret(NamespaceName::default(), SecretName::parse("api.key").unwrap()),
            Place::Registry(NamespaceName::default(), "registry.example.com:5000".into()),
            Place::Token(TokenId("0a".into())),
        ] {
            assert!(place.key().as_str().starts_with(PREFIX), "{place:?}");
            assert_eq!(Place::parse(&place.key()), Some(place));
        }
        let revision = Place::Revision(function, 7).key();
        assert_eq!(revision.as_str(), "revision/shop/resize/0000000007");
    }

    #[test]
    fn a_record_of_the_time_before_programs_is_read() {
        let artifact = "07".repeat(32);
        let span = r#"{"secs":30,"nanos":0}"#;
        let old = format!(
            r#"{{"version":1,"record":{{"app":null,"current":{{"function":{{"namespace":"default","name":"hello"}},"number":3,
            "code":{{"wasm":"{artifact}"}},"contract":"component","settings":{{"env":{{"LEVEL":"info"}},"secrets":["api-key"],
            "outbound":["https://api.example.com"],"limits":{{"memory_bytes":67108864,"timeout":{span},"stream_timeout":{span},
            "concurrency":7,"waiting":0,"request_body_bytes":1,"response_body_bytes":2,"log_bytes_per_second":3}},"reuse":5,
            "routes":["/a/*"],"private":true,"content_type":null,"labels":{{}},"annotations":{{}}}},"created":"2026-01-31T12:00:00Z"}},
            "latest":3,"kept":{{"3":"{artifact}"}},"created":"2026-01-31T12:00:00Z","updated":"2026-01-31T12:00:00Z"}}}}"#
        );
        let FunctionRecord { current, kept, .. } = decode(old.as_bytes()).unwrap();
        assert_eq!(current.code, Code::Wasm(kept[&3]));
        assert_eq!((current.contract, current.settings.reuse), (Contract::Component, 5));
        assert_eq!(current.settings.limits.memory_bytes, 64 << 20);
        assert_eq!(
            (current.settings.program, current.settings.scale, current.settings.queue),
            (Program::default(), Scale::default(), Queueing::default())
        );
    }

    #[test]
    fn a_record_of_a_newer_version_is_told_from_a_damaged_one_and_neither_is_quoted() {
        let table: [(&[u8], &str); 4] = [
            (
                br#"{"version":2,"record":{"id":"x"}}"#,
                "it has version 2, this program reads versions up to 1",
            ),
            (br#"{"version":2,"record":["x"]}"#, "it has version 2, this program reads versions up to 1"),
            (br#"{"version":1,"record":{"id":["hush"]}}"#, "it is damaged at line 1, column 28"),
            (b"hush", "it is damaged at line 1, column 1"),
        ];
        for (value, reason) in table {
            assert_eq!(decode::<KeyRecord>(value).unwrap_err(), reason);
        }
    }
}
