//! What a deploy asks for: an artifact or an image, and the settings that differ from the defaults.
//! The CLI makes a spec of a manifest, the gateway makes settings of a spec.

use std::collections::BTreeMap;

use coracle_model::{
    ByteSize, Contract, Cores, Digest, FunctionName, Limits, Network, Original, Outbound, Problem, Program,
    Queueing, RetryPolicy, Route, Scale, SecretName, Settings, Span, Statuses, Target, code,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A function to deploy. All but its code may be left out: absent is the default.
///
/// Its code is an `artifact` (WebAssembly, or a bundle: an archive with a program) or an `image`, and never both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionSpec {
    /// The SHA-256 of its code, which is uploaded already: WebAssembly, or an archive (tar, tar.gz or zip).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub artifact: Option<Digest>,
    /// The OCI image that is its code, as a registry or `coracle image load` names it; in place of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "docker.io/library/nginx:1")]
    pub image: Option<String>,
    /// How its program is spoken to: `http`, `stdio` or `watchdog`; absent is `watchdog` where its environment names an `fprocess`, else `http` for an image, `stdio` for a bundle. WebAssembly says it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "http")]
    pub contract: Option<Contract>,
    /// What a program is started with, word by word; absent is the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["./server", "--verbose"]))]
    pub command: Vec<String>,
    /// What stands before `command`; absent is the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The folder that a program starts in; absent is the image's own, `/home/app` for a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/home/app")]
    pub workdir: Option<String>,
    /// Who a program is within its sandbox: `USER`, `UID` or `UID:GID`; absent is the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where an `http` program listens; absent is the port that the image exposes, else 8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path that an `http` program answers with 2xx when it is ready and well; absent asks only that the port accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/healthz")]
    pub health: Option<String>,
    /// How long a program may take from its start until it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30s")]
    pub start_timeout: Option<Span>,
    /// Whether a program cannot write to its root; else what it writes there goes with the instance.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// The network that a program sees: `own`, with the hosts that it was granted, or `host`, that of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "own")]
    pub network: Option<Network>,
    /// Whether a program has its secrets in the environment too, and not only as files in `/run/secrets`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secrets_in_env: bool,
    /// Whether an `http` program is spoken to in HTTP/2 without TLS, as gRPC wants it; else in HTTP/1.1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http2: bool,
    /// Processor time of one instance of a program, in cores; absent is all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "500m")]
    pub cpu: Option<Cores>,
    /// Processes and threads of one instance of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// How many instances of a program run: `min`, `max`, the calls that one takes (`target`), whether a call that finds no place starts another or is refused (`grows`), and how long one without calls is kept (`idle`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleSpec>,
    /// How queued calls are run: how often one is tried (`attempts`), the longest waits between (`first_wait`, doubled up to `longest_wait`), until when (`age`), after which statuses (`retry_on`), how many at once (`concurrency`), and who is told how they ended (`on_success`, `on_failure`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueingSpec>,
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
    /// Memory of one instance: the linear memory of a component, all that a program uses.
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
    /// What was asked for in the words of another system, which the face of that system says back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<OriginalSpec>,
}

/// A deploy as another system words it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OriginalSpec {
    /// The face that knows the words.
    #[schema(example = "openfaas")]
    pub face: String,
    /// What was sent, as that face keeps it.
    pub document: String,
}

/// How many instances of a program run. What is absent is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleSpec {
    /// Instances that run even when nobody calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Instances at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Calls in flight that one instance takes; the next call starts another, up to `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// Whether a call that finds no place starts another instance, up to `max`; else it is refused at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grows: Option<bool>,
    /// How long an instance that nobody calls is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "5m")]
    pub idle: Option<Span>,
}

/// How queued calls of a function are run. What is absent is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueingSpec {
    /// How often a call is tried at the most, the first time counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The longest wait before the second attempt; it doubles with each one that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1s")]
    pub first_wait: Option<Span>,
    /// The longest wait before any attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "2m")]
    pub longest_wait: Option<Span>,
    /// How long after it was due a call is no longer tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "6h")]
    pub age: Option<Span>,
    /// Statuses of the function's own answers that are tried again: `429`, `4xx`, `5xx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["429", "5xx"]))]
    pub retry_on: Option<Vec<Statuses>>,
    /// Queued calls that run at once, on each server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Who is told of calls that succeeded: `function:NAME`, `topic:NAME` or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "function:notify")]
    pub on_success: Option<Target>,
    /// Who is told of calls that were given up: `function:NAME`, `topic:NAME` or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "topic:dead-orders")]
    pub on_failure: Option<Target>,
}

/// Where the code of a function is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeSpec {
    /// Uploaded.
    Artifact(Digest),
    /// In a registry, or loaded before.
    Image(String),
}

/// Functions that are deployed together, all or none: those of the app that are not named are removed, unless it is a part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// The functions of the app, by name.
    #[schema(value_type = BTreeMap<String, FunctionSpec>)]
    pub functions: BTreeMap<FunctionName, FunctionSpec>,
    /// Whether these are a part of the app: functions of it that are not named stay as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub part: bool,
}

impl FunctionSpec {
    /// An artifact with default settings.
    pub fn new(artifact: Digest) -> Self {
        Self { artifact: Some(artifact), ..Self::default() }
    }

    /// The one code that it names.
    ///
    /// # Errors
    /// `bad-request` if it names none, or two.
    pub fn code(&self) -> Result<CodeSpec, Problem> {
        match (self.artifact, &self.image) {
            (Some(artifact), None) => Ok(CodeSpec::Artifact(artifact)),
            (None, Some(image)) => Ok(CodeSpec::Image(image.clone())),
            (None, None) => Err(Problem::new(&code::BAD_REQUEST, "no code is named")
                .hint("send `artifact`, the digest of what was uploaded, or `image`")),
            (Some(_), Some(_)) => {
                Err(Problem::new(&code::BAD_REQUEST, "both an `artifact` and an `image` are named")
                    .hint("send one of them"))
            }
        }
    }
}

/// What is absent becomes the model's default.
impl From<FunctionSpec> for Settings {
    fn from(spec: FunctionSpec) -> Self {
        let (or, program) = (Limits::default(), Program::default());
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
            original: spec.original.map(|OriginalSpec { face, document }| Original { face, document }),
            program: Program {
                entrypoint: spec.entrypoint,
                command: spec.command,
                workdir: spec.workdir,
                user: spec.user,
                port: spec.port,
                health: spec.health,
                http2: spec.http2,
                start_timeout: spec.start_timeout.map_or(program.start_timeout, |span| span.0),
                read_only: spec.read_only,
                network: spec.network.unwrap_or_default(),
                secrets_in_env: spec.secrets_in_env,
                cpu_millis: spec.cpu.map(|cores| cores.0),
                processes: spec.processes.unwrap_or(program.processes),
            },
            scale: spec.scale.unwrap_or_default().into(),
            queue: spec.queue.unwrap_or_default().into(),
        }
    }
}

impl From<QueueingSpec> for Queueing {
    fn from(spec: QueueingSpec) -> Self {
        let or = Self::default();
        Self {
            concurrency: spec.concurrency.unwrap_or(or.concurrency),
            retry: RetryPolicy {
                attempts: spec.attempts.unwrap_or(or.retry.attempts),
                first_wait: spec.first_wait.map_or(or.retry.first_wait, |span| span.0),
                longest_wait: spec.longest_wait.map_or(or.retry.longest_wait, |span| span.0),
                age: spec.age.map_or(or.retry.age, |span| span.0),
                statuses: spec.retry_on.unwrap_or(or.retry.statuses),
            },
            on_success: spec.on_success,
            on_failure: spec.on_failure,
        }
    }
}

/// Every setting said.
impl From<&Queueing> for QueueingSpec {
    fn from(Queueing { concurrency, retry, on_success, on_failure }: &Queueing) -> Self {
        Self {
            attempts: Some(retry.attempts),
            first_wait: Some(Span(retry.first_wait)),
            longest_wait: Some(Span(retry.longest_wait)),
            age: Some(Span(retry.age)),
            retry_on: Some(retry.statuses.clone()),
            concurrency: Some(*concurrency),
            on_success: on_success.clone(),
            on_failure: on_failure.clone(),
        }
    }
}

impl From<ScaleSpec> for Scale {
    fn from(spec: ScaleSpec) -> Self {
        let or = Self::default();
        Self {
            min: spec.min.unwrap_or(or.min),
            max: spec.max.unwrap_or(or.max),
            target: spec.target.unwrap_or(or.target),
            grows: spec.grows.unwrap_or(or.grows),
            idle: spec.idle.map_or(or.idle, |span| span.0),
        }
    }
}

/// Every setting said.
impl From<&Scale> for ScaleSpec {
    fn from(scale: &Scale) -> Self {
        let Scale { min, max, target, grows, idle } = scale;
        Self {
            min: Some(*min),
            max: Some(*max),
            target: Some(*target),
            grows: Some(*grows),
            idle: Some(Span(*idle)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_of_an_artifact_alone_has_the_default_settings() {
        let spec = FunctionSpec::new(Digest::from_bytes([7; 32]));
        assert_eq!(
            serde_json::to_string(&spec).unwrap(),
            format!(r#"{{"artifact":"{}"}}"#, Digest::from_bytes([7; 32]))
        );
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

    #[test]
    fn a_program_is_described_by_the_keys_of_the_manifest() {
        let json = r#"{
            "image": "nginx:1", "contract": "http", "entrypoint": ["/init"], "command": ["nginx", "-g", "daemon off;"],
            "workdir": "/srv", "user": "101:101", "port": 80, "health": "/healthz", "http2": true, "start_timeout": "5s",
            "read_only": true, "network": "host", "secrets_in_env": true, "cpu": "1.5", "processes": 64,
            "scale": {"min": 1, "grows": false, "idle": "1m"}
        }"#;
        let spec: FunctionSpec = serde_json::from_str(json).unwrap();
        assert_eq!(
            (spec.code().unwrap(), spec.contract),
            (CodeSpec::Image("nginx:1".into()), Some(Contract::Http))
        );
        let settings = Settings::from(spec);
        let expected = Program {
            entrypoint: vec!["/init".into()],
            command: ["nginx", "-g", "daemon off;"].map(str::to_owned).into(),
            workdir: Some("/srv".into()),
            user: Some("101:101".into()),
            port: Some(80),
            health: Some("/healthz".into()),
            http2: true,
            start_timeout: std::time::Duration::from_secs(5),
            read_only: true,
            network: Network::Host,
            secrets_in_env: true,
            cpu_millis: Some(1_500),
            processes: 64,
        };
        assert_eq!(settings.program, expected);
        let idle = std::time::Duration::from_secs(60);
        assert_eq!(settings.scale, Scale { min: 1, grows: false, idle, ..Scale::default() });
    }

    #[test]
    fn a_spec_names_one_code() {
        let both =
            FunctionSpec { image: Some("nginx".into()), ..FunctionSpec::new(Digest::from_bytes([7; 32])) };
        for wrong in [both, FunctionSpec::default()] {
            assert_eq!(wrong.code().unwrap_err().code, &code::BAD_REQUEST);
        }
    }
}
