//! How a revision is run: what it is given, and its bounds.
//! Manifests and the API fill them in, the catalog keeps them, invoke and the runtime obey them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Outbound, Queueing, Route, SecretName};

/// How a revision is run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The environment of the guest; it has no other.
    pub env: BTreeMap<String, String>,
    /// Secrets it may read: a component as the variable that [`Settings::variable_of`] names, a program as a file.
    pub secrets: Vec<SecretName>,
    /// Hosts it may reach; empty is none.
    pub outbound: Vec<Outbound>,
    /// Its bounds.
    pub limits: Limits,
    /// Calls that an instance may serve after its first; 0 is a fresh instance for every call.
    pub reuse: u32,
    /// How its program is run, for code that is one: a bundle or an image.
    pub program: Program,
    /// How many instances of its program run.
    pub scale: Scale,
    /// How its queued calls are run and tried again.
    pub queue: Queueing,
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
    /// What was asked for in the words of another system, if it was.
    pub original: Option<Original>,
}

/// A deploy as another system words it, kept for the face that took it to say back; nobody else reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The face that knows the words.
    pub face: String,
    /// What was sent, in whatever form that face keeps it.
    pub document: String,
}

impl Settings {
    /// The environment variable that holds a secret: its name in upper case, with `_` for `-` and `.`.
    pub fn variable_of(secret: &SecretName) -> String {
        secret.as_str().to_ascii_uppercase().replace(['-', '.'], "_")
    }
}

/// How the program of a bundle or an image is run.
///
/// What is not set here is as the image says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Program {
    /// What is run first; empty is the image's own, and none for a bundle.
    pub entrypoint: Vec<String>,
    /// What is run, or the arguments of the entrypoint where there is one; empty is the image's own.
    pub command: Vec<String>,
    /// The folder it starts in; `None` is the image's own, and `/home/app` for a bundle.
    pub workdir: Option<String>,
    /// Who it runs as, within its sandbox: `USER`, `UID` or `UID:GID`; `None` is the image's own.
    pub user: Option<String>,
    /// Where it listens; `None` is the port that the image exposes, else [`Program::PORT`].
    pub port: Option<u16>,
    /// The path that answers 2xx when it is ready and well; `None` asks no more than that the port accepts.
    pub health: Option<String>,
    /// Whether it is spoken to in HTTP/2 without TLS, as gRPC wants it; else in HTTP/1.1.
    pub http2: bool,
    /// From its start until it must be ready.
    pub start_timeout: Duration,
    /// Whether its root cannot be written; else what it writes there is thrown away with the instance.
    pub read_only: bool,
    /// Which network it sees.
    pub network: Network,
    /// Whether secrets are variables of its environment too, as a component has them.
    pub secrets_in_env: bool,
    /// Processor time it may use, in thousandths of one core; `None` is all there is.
    pub cpu_millis: Option<u32>,
    /// Processes and threads of one instance.
    pub processes: u32,
}

impl Program {
    /// Where programs listen unless they say otherwise.
    pub const PORT: u16 = 8080;
    /// The least memory an instance of a program can do with, in bytes.
    pub const MEMORY_BYTES_MIN: u64 = 4 << 20;
    /// The most memory that an instance of a program may be given, in bytes: more than machines have.
    pub const MEMORY_BYTES_MAX: u64 = 1 << 40;
    /// The longest `start_timeout`: callers wait that long.
    pub const START_TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
    /// The least processor time, in thousandths of a core: the kernel takes no less than a millisecond of a hundred.
    pub const CPU_MILLIS_MIN: u32 = 10;
    /// The most processor time, in thousandths of a core: more than machines have.
    pub const CPU_MILLIS_MAX: u32 = 1_024_000;
    /// The most processes and threads of one instance.
    pub const PROCESSES_MAX: u32 = 32_768;
}

impl Default for Program {
    fn default() -> Self {
        Self {
            entrypoint: Vec::new(),
            command: Vec::new(),
            workdir: None,
            user: None,
            port: None,
            health: None,
            http2: false,
            start_timeout: Duration::from_secs(30),
            read_only: false,
            network: Network::Own,
            secrets_in_env: false,
            cpu_millis: None,
            processes: 256,
        }
    }
}

/// Which network a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// One of its own: a loopback, and the hosts that it was granted.
    #[default]
    Own,
    /// That of the machine, with all that it reaches.
    Host,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Own => "own",
            Self::Host => "host",
        })
    }
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network: write `own` for one of its own, `host` for that of the machine")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        match text {
            "own" => Ok(Self::Own),
            "host" => Ok(Self::Host),
            _ => Err(InvalidNetwork(text.chars().take(40).collect())),
        }
    }
}

/// How many instances of a program run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scale {
    /// Instances that run even when nobody calls.
    pub min: u32,
    /// Instances at the most.
    pub max: u32,
    /// Calls in flight that one instance takes; the next call starts another, up to `max`.
    pub target: u32,
    /// Whether a call that finds no place starts another instance, up to `max`.
    ///
    /// Else it is refused at once, and there are as many instances as were asked for: `min`, and one while it is called.
    pub grows: bool,
    /// How long an instance that nobody calls is kept, frozen.
    pub idle: Duration,
}

impl Scale {
    /// The most instances of one function.
    pub const INSTANCES_MAX: u32 = 1_000;
    /// The longest `idle`.
    pub const IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
}

impl Default for Scale {
    fn default() -> Self {
        Self { min: 0, max: 20, target: 10, grows: true, idle: Duration::from_secs(300) }
    }
}

/// The bounds of a function; each has a name, a unit and a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory of one instance, in bytes: linear memory of a component, all of a program's.
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
