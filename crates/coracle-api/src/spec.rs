//! What a deploy asks for: an artifact, and the settings that differ from the defaults.
//! The CLI makes a spec of a manifest, the gateway makes settings of a spec.

use std::collections::BTreeMap;

use coracle_model::{
    ByteSize, Digest, FunctionName, Limits, Outbound, Program, Route, Scale, SecretName, Settings, Span,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A function to deploy. All but the artifact may be left out: absent is the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionSpec {
    /// The SHA-256 of its code, which is uploaded already.
    #[schema(value_type = String)]
    pub artifact: Digest,
    /// The environment of the guest; it has no other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secrets it may read, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub secrets: Vec<SecretName>,
    /// Hosts it may reach; empty is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["https://api.example.com"]))]
    pub outbound: Vec<Outbound>,
    /// Linear memory of one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "128MiB")]
    pub memory: Option<ByteSize>,
    /// From the start of a call to the head of its response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30s")]
    pub timeout: Option<Span>,
    /// Within bodies: the longest silence between two chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30s")]
    pub stream_timeout: Option<Span>,
    /// Calls in flight at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls that may wait for one of those places; beyond that they are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// The largest body of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1GiB")]
    pub request_body: Option<ByteSize>,
    /// The largest body of a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1GiB")]
    pub response_body: Option<ByteSize>,
    /// What it may print in a second; more is dropped, and counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1MiB")]
    pub log_rate: Option<ByteSize>,
    /// Calls that an instance may serve after its first; 0 is a fresh instance for every call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<u32>,
    /// Paths it answers, beside `/function/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["/resize/*"]))]
    pub route: Vec<Route>,
    /// Whether only a token may call it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// The content type of what a `stdio` function prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// For people and tools to select by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For people and tools to read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Functions that are deployed together, all or none: those of the app that are not named are removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// The functions of the app, by name.
    #[schema(value_type = BTreeMap<String, FunctionSpec>)]
    pub functions: BTreeMap<FunctionName, FunctionSpec>,
}

impl FunctionSpec {
    /// An artifact with default settings.
    pub fn new(artifact: Digest) -> Self {
        Self {
            artifact,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            outbound: Vec::new(),
            memory: None,
            timeout: None,
            stream_timeout: None,
            concurrency: None,
            waiting: None,
            request_body: None,
            response_body: None,
            log_rate: None,
            reuse: None,
            route: Vec::new(),
            private: false,
            content_type: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// What is absent becomes the model's default.
impl From<FunctionSpec> for Settings {
    fn from(spec: FunctionSpec) -> Self {
        let or = Limits::default();
        let bytes = |size: Option<ByteSize>, default| size.map_or(default, |size| size.0);
        Self {
            env: spec.env,
            secrets: spec.secrets,
            outbound: spec.outbound,
            limits: Limits {
                memory_bytes: bytes(spec.memory, or.memory_bytes),
                timeout: spec.timeout.map_or(or.timeout, |span| span.0),
                stream_timeout: spec.stream_timeout.map_or(or.stream_timeout, |span| span.0),
                concurrency: spec.concurrency.unwrap_or(or.concurrency),
                waiting: spec.waiting.unwrap_or(or.waiting),
                request_body_bytes: bytes(spec.request_body, or.request_body_bytes),
                response_body_bytes: bytes(spec.response_body, or.response_body_bytes),
                log_bytes_per_second: bytes(spec.log_rate, or.log_bytes_per_second),
            },
            reuse: spec.reuse.unwrap_or_default(),
            routes: spec.route,
            private: spec.private,
            content_type: spec.content_type,
            labels: spec.labels,
            annotations: spec.annotations,
            program: Program::default(),
            scale: Scale::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_of_an_artifact_alone_has_the_default_settings() {
        let spec = FunctionSpec::new(Digest::from_bytes([7; 32]));
        assert_eq!(serde_json::to_string(&spec).unwrap(), format!(r#"{{"artifact":"{}"}}"#, spec.artifact));
        assert_eq!(Settings::from(spec), Settings::default());
    }

    #[test]
    fn what_a_spec_names_is_set() {
        let json = format!(
            r#"{{"artifact": "{}", "memory": "64MiB", "timeout": "5s", "route": ["/a/*"], "private": true, "reuse": 9}}"#,
            Digest::from_bytes([7; 32])
        );
        let settings = Settings::from(serde_json::from_str::<FunctionSpec>(&json).unwrap());
        let mut expected = Settings { private: true, reuse: 9, ..Settings::default() };
        expected.routes.push("/a/*".parse().unwrap());
        expected.limits.memory_bytes = 64 << 20;
        expected.limits.timeout = std::time::Duration::from_secs(5);
        assert_eq!(settings, expected);
    }
}
