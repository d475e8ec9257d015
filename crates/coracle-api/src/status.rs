//! How the server does, as the API shows it.
//! Everybody with a token sees the first half; the rest is for an admin.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The server at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// The version of Coracle.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// When the server started.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// Seconds since then.
    pub uptime_s: u64,
    /// Namespaces that the token reaches.
    pub namespaces: usize,
    /// Functions that the token reaches.
    pub functions: usize,
    /// What only an admin sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
}

/// The inside of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusDetails {
    /// Instances that exist now.
    pub instances: u64,
    /// The most there may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_max: Option<u64>,
    /// Calls of all functions that wait for an instance.
    pub instances_waiting: u64,
    /// Connections of clients that are open.
    pub connections: u64,
    /// Compiled code in memory.
    pub code_cache: CodeCacheView,
    /// What stands between guests and this machine, and whether it does.
    pub protections: Vec<ProtectionView>,
}

/// Compiled code in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CodeCacheView {
    /// Bytes that are mapped.
    pub bytes: u64,
    /// Calls that found their code mapped.
    pub hits: u64,
    /// Calls that did not.
    pub misses: u64,
    /// Compiled code that was let go to make room.
    pub evictions: u64,
}

/// One wall between guests and this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtectionView {
    /// Which.
    #[schema(example = "memory-protection-keys")]
    pub name: String,
    /// Whether it stands.
    pub active: bool,
    /// Why not, or how strong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
