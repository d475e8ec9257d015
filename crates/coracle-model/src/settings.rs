//! How a revision is run: what it is given, and its bounds.
//! Manifests and the API fill them in, the catalog keeps them, invoke and the runtime obey them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Outbound, Route, SecretName};

/// How a revision is run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The environment of the guest; it has no other.
    pub env: BTreeMap<String, String>,
    /// Secrets it may read, each as the variable that [`Settings::variable_of`] names.
    pub secrets: Vec<SecretName>,
    /// Hosts it may reach; empty is none.
    pub outbound: Vec<Outbound>,
    /// Its bounds.
    pub limits: Limits,
    /// Calls that an instance may serve after its first; 0 is a fresh instance for every call.
    pub reuse: u32,
    /// Paths it answers, beside `/function/NAME`.
    pub routes: Vec<Route>,
    /// Whether only a token may call it.
    pub private: bool,
    /// The content type of what a `Stdio` function prints; `None` is `application/octet-stream`.
    pub content_type: Option<String>,
    /// For people and tools to select by.
    pub labels: BTreeMap<String, String>,
    /// For people and tools to read.
    pub annotations: BTreeMap<String, String>,
}

impl Settings {
    /// The environment variable that holds a secret: its name in upper case, with `_` for `-` and `.`.
    pub fn variable_of(secret: &SecretName) -> String {
        secret.as_str().to_ascii_uppercase().replace(['-', '.'], "_")
    }
}

/// The bounds of a function; each has a name, a unit and a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// From the start of a call to the head of its response.
    pub timeout: Duration,
    /// Within bodies: the longest silence between two chunks.
    pub stream_timeout: Duration,
    /// Calls in flight at once.
    pub concurrency: u32,
    /// Calls that may wait for one of those places; beyond that they are refused.
    pub waiting: u32,
    /// The body of a call, in bytes.
    pub request_body_bytes: u64,
    /// The body of a response, in bytes.
    pub response_body_bytes: u64,
    /// What it may print, in bytes a second; more is dropped, and counted.
    pub log_bytes_per_second: u64,
}

impl Limits {
    /// The most memory that an instance may be given, in bytes: all that a 32-bit memory can address.
    pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
    /// The least memory that is of any use: one WebAssembly page.
    pub const MEMORY_BYTES_MIN: u64 = 64 << 10;
    /// The longest `timeout` and `stream_timeout`.
    pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
    /// The most calls in flight, and the most waiting, of one function.
    pub const CALLS_MAX: u32 = 100_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            timeout: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(30),
            concurrency: 100,
            waiting: 1_000,
            // Bodies are streamed: a large one costs time, not memory.
            request_body_bytes: 1 << 30,
            response_body_bytes: 1 << 30,
            log_bytes_per_second: 1 << 20,
        }
    }
}
