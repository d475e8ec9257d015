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
    /// Calls that are running.
    pub in_flight: u64,
    /// Instances that exist now.
    pub instances: u64,
    /// Those of them that wait for a call.
    pub instances_idle: usize,
    /// The most there may be.
    pub instances_max: u32,
    /// Calls of all functions that wait for an instance.
    pub instances_waiting: u64,
    /// Connections of clients that are open.
    pub connections: u64,
    /// Compiled code in memory.
    pub code_cache: CodeCacheView,
    /// Whether the kernel tells which pages an instance wrote, which makes a fresh instance twice as fast.
    pub pagemap_scan: bool,
    /// What sandboxes of programs have here.
    #[serde(default)]
    pub sandboxes: SandboxesView,
    /// The servers that share this one's database and are alive, itself among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeView>,
}

/// What a server says of itself to the others that share its database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// What it is called, for people.
    #[schema(example = "worker-1:8080")]
    pub name: String,
    /// Where the others reach it.
    #[schema(example = "http://10.0.0.7:8080")]
    pub url: String,
    /// Its version of Coracle.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
}

/// A server that is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// What it says of itself.
    #[serde(flatten)]
    pub info: NodeInfo,
    /// Whether it is the one that answers.
    pub here: bool,
}

/// What sandboxes of programs have on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SandboxesView {
    /// Why there can be none; absent if there can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// Their walls, also those that this machine does not give.
    pub protections: Vec<ProtectionView>,
}

/// One of the walls of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtectionView {
    /// What it is.
    #[schema(example = "memory limit")]
    pub name: String,
    /// Whether it stands.
    pub active: bool,
    /// How it stands, or why it does not.
    #[schema(example = "cgroup v2")]
    pub how: String,
}

/// Compiled code in memory, and what it took to get it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CodeCacheView {
    /// Artifacts whose code is mapped.
    pub entries: usize,
    /// Bytes that are mapped.
    pub bytes: u64,
    /// The bound on them.
    pub bytes_max: u64,
    /// Starts of an instance that found their code mapped.
    pub hits: u64,
    /// Those that did not.
    pub misses: u64,
    /// Compiled code that was let go to make room.
    pub evictions: u64,
    /// Artifacts that were compiled since the server started.
    pub compiles: u64,
    /// The time that took, in milliseconds.
    pub compile_ms: u64,
    /// Damaged files of compiled code that were made anew.
    pub rebuilt: u64,
}
