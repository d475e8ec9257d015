//! Functions and their revisions, as the API shows them.
//! `coracle list`, `show` and `deploy` print them; secrets appear by name only.

use std::collections::BTreeMap;

use coracle_model::{
    AppName, ByteSize, Code, Contract, Cores, Digest, FunctionName, FunctionRef, NamespaceName, Network,
    Outbound, Queueing, Revision, Route, Scale, SecretName, Settings, Span, Statuses, Target,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::ProblemView;

/// A function: what runs now, how, and how it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: FunctionName,
    /// The namespace it lives in.
    #[schema(value_type = String)]
    pub namespace: NamespaceName,
    /// The app it was deployed with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub app: Option<AppName>,
    /// The number of the revision that calls run.
    pub revision: u32,
    /// The number of the newest revision; greater than `revision` after a rollback.
    pub latest: u32,
    /// What kind of code it is: `wasm`, `bundle` or `image`.
    #[schema(value_type = String, example = "wasm")]
    pub code: CodeKind,
    /// The image that was asked for, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "docker.io/library/nginx:1")]
    pub image: Option<String>,
    /// The SHA-256 of its code; of an image, that of its manifest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// How it is spoken to: `component`, `http`, `stdio` or `watchdog`.
    #[schema(value_type = String, example = "component")]
    pub contract: Contract,
    /// The bytes of its code, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Where it answers.
    #[schema(example = "/function/resize")]
    pub path: String,
    /// How it is run.
    pub settings: SettingsView,
    /// When its first revision was deployed.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When what runs now became current.
    #[schema(value_type = String, format = DateTime)]
    pub updated: Timestamp,
    /// How it does, since the server started.
    pub stats: FunctionStats,
    /// The instances of its program, if its code is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<InstancesView>,
}

/// The instances of a program, by what they do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct InstancesView {
    /// Those that start.
    pub starting: u32,
    /// Those that wait for a call, awake.
    pub ready: u32,
    /// Those that serve calls.
    pub busy: u32,
    /// Those that wait for a call, frozen.
    pub frozen: u32,
    /// Those that were told to go, and are not gone.
    pub stopping: u32,
    /// What went wrong last, until an instance has lived for a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ProblemView>,
    /// How long no instance is started, because too many ended of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "8s")]
    pub backs_off_for: Option<Span>,
    /// The revision that serves until an instance of the current one is ready, if an older one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves_before: Option<u32>,
}

impl FunctionView {
    /// Where a function answers: `/function/NAME`, and in another namespace than the first one `/function/NAME.NS`.
    pub fn path_of(function: &FunctionRef) -> String {
        if function.namespace.as_str() == NamespaceName::DEFAULT {
            format!("/function/{}", function.name)
        } else {
            format!("/function/{function}")
        }
    }
}

/// What kind of code a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CodeKind {
    /// WebAssembly.
    Wasm,
    /// An archive with a program.
    Bundle,
    /// An OCI image.
    Image,
}

impl CodeKind {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Bundle => "bundle",
            Self::Image => "image",
        }
    }

    /// The image that was asked for, if code is one.
    pub fn image_of(code: &Code) -> Option<String> {
        match code {
            Code::Image { reference, .. } => Some(reference.clone()),
            Code::Wasm(_) | Code::Bundle(_) => None,
        }
    }
}

impl From<&Code> for CodeKind {
    fn from(code: &Code) -> Self {
        match code {
            Code::Wasm(_) => Self::Wasm,
            Code::Bundle(_) => Self::Bundle,
            Code::Image { .. } => Self::Image,
        }
    }
}

/// How a function does, since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct FunctionStats {
    /// Calls that ended.
    pub calls: u64,
    /// Those of them that the function or the platform failed.
    pub errors: u64,
    /// Calls that are running.
    pub in_flight: u64,
    /// Half of the calls took no longer, in milliseconds; absent without calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 99 of 100 calls took no longer, in milliseconds; absent without calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

/// How a revision is run, every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingsView {
    /// The environment of the guest.
    pub env: BTreeMap<String, String>,
    /// Secrets it may read, by name.
    #[schema(value_type = Vec<String>)]
    pub secrets: Vec<SecretName>,
    /// Hosts it may reach; empty is none.
    #[schema(value_type = Vec<String>)]
    pub outbound: Vec<Outbound>,
    /// Memory of one instance.
    #[schema(value_type = String, example = "128MiB")]
    pub memory: ByteSize,
    /// From the start of a call to the head of its response.
    #[schema(value_type = String, example = "30s")]
    pub timeout: Span,
    /// Within bodies: the longest silence between two chunks.
    #[schema(value_type = String, example = "30s")]
    pub stream_timeout: Span,
    /// Calls in flight at once.
    pub concurrency: u32,
    /// Calls that may wait for one of those places.
    pub waiting: u32,
    /// The largest body of a call.
    #[schema(value_type = String, example = "1GiB")]
    pub request_body: ByteSize,
    /// The largest body of a response.
    #[schema(value_type = String, example = "1GiB")]
    pub response_body: ByteSize,
    /// What it may print in a second.
    #[schema(value_type = String, example = "1MiB")]
    pub log_rate: ByteSize,
    /// Calls that an instance may serve after its first.
    pub reuse: u32,
    /// Paths it answers, beside `/function/NAME`.
    #[schema(value_type = Vec<String>)]
    pub route: Vec<Route>,
    /// Whether only a token may call it.
    pub private: bool,
    /// The content type of what a `stdio` function prints, if one was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// For people and tools to select by.
    pub labels: BTreeMap<String, String>,
    /// For people and tools to read.
    pub annotations: BTreeMap<String, String>,
    /// How its calls are run that were queued.
    pub queue: QueueingView,
    /// How its program is run, if its code is one.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramView>,
}

/// How a program is run, every default filled in but those that an image decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgramView {
    /// What stands before `command`; empty is the image's own.
    pub entrypoint: Vec<String>,
    /// What it is started with; empty is the image's own.
    pub command: Vec<String>,
    /// The folder that it starts in; absent is the image's own, `/home/app` for a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Who it is within its sandbox; absent is the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it listens; absent is the port that the image exposes, else 8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path that tells whether it is ready and well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Whether it is spoken to in HTTP/2 without TLS.
    pub http2: bool,
    /// How long it may take from its start until it is ready.
    #[schema(value_type = String, example = "30s")]
    pub start_timeout: Span,
    /// Whether its root cannot be written.
    pub read_only: bool,
    /// The network that it sees: `own` or `host`.
    #[schema(value_type = String, example = "own")]
    pub network: Network,
    /// Whether it has its secrets in the environment too.
    pub secrets_in_env: bool,
    /// Processor time of one instance, in cores; absent is all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "500m")]
    pub cpu: Option<Cores>,
    /// Processes and threads of one instance.
    pub processes: u32,
    /// How many instances run.
    pub scale: ScaleView,
}

/// How many instances of a program run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleView {
    /// Instances that run even when nobody calls.
    pub min: u32,
    /// Instances at the most.
    pub max: u32,
    /// Calls in flight that one instance takes.
    pub target: u32,
    /// Whether a call that finds no place starts another instance; else it is refused at once.
    pub grows: bool,
    /// How long an instance that nobody calls is kept.
    #[schema(value_type = String, example = "5m")]
    pub idle: Span,
}

/// How queued calls are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueingView {
    /// How often a call is tried at the most, the first time counted.
    pub attempts: u32,
    /// The longest wait before the second attempt; it doubles with each one that follows.
    #[schema(value_type = String, example = "1s")]
    pub first_wait: Span,
    /// The longest wait before any attempt.
    #[schema(value_type = String, example = "2m")]
    pub longest_wait: Span,
    /// How long after it was due a call is no longer tried.
    #[schema(value_type = String, example = "6h")]
    pub age: Span,
    /// Statuses of the function's own answers that are tried again.
    #[schema(value_type = Vec<String>, example = json!(["429", "5xx"]))]
    pub retry_on: Vec<Statuses>,
    /// Queued calls that run at once, on each server.
    pub concurrency: u32,
    /// Who is told of calls that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "function:notify")]
    pub on_success: Option<Target>,
    /// Who is told of calls that were given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "topic:dead-orders")]
    pub on_failure: Option<Target>,
}

impl From<&Queueing> for QueueingView {
    fn from(Queueing { concurrency, retry, on_success, on_failure }: &Queueing) -> Self {
        Self {
            attempts: retry.attempts,
            first_wait: Span(retry.first_wait),
            longest_wait: Span(retry.longest_wait),
            age: Span(retry.age),
            retry_on: retry.statuses.clone(),
            concurrency: *concurrency,
            on_success: on_success.clone(),
            on_failure: on_failure.clone(),
        }
    }
}

impl SettingsView {
    /// How code of this kind is run: what only programs have is left out for others.
    pub fn new(code: CodeKind, settings: &Settings) -> Self {
        let limits = &settings.limits;
        Self {
            env: settings.env.clone(),
            secrets: settings.secrets.clone(),
            outbound: settings.outbound.clone(),
            memory: ByteSize(limits.memory_bytes),
            timeout: Span(limits.timeout),
            stream_timeout: Span(limits.stream_timeout),
            concurrency: limits.concurrency,
            waiting: limits.waiting,
            request_body: ByteSize(limits.request_body_bytes),
            response_body: ByteSize(limits.response_body_bytes),
            log_rate: ByteSize(limits.log_bytes_per_second),
            reuse: settings.reuse,
            route: settings.routes.clone(),
            private: settings.private,
            content_type: settings.content_type.clone(),
            labels: settings.labels.clone(),
            annotations: settings.annotations.clone(),
            queue: (&settings.queue).into(),
            program: (code != CodeKind::Wasm).then(|| settings.into()),
        }
    }
}

impl From<&Settings> for ProgramView {
    fn from(Settings { program, scale, .. }: &Settings) -> Self {
        Self {
            entrypoint: program.entrypoint.clone(),
            command: program.command.clone(),
            workdir: program.workdir.clone(),
            user: program.user.clone(),
            port: program.port,
            health: program.health.clone(),
            http2: program.http2,
            start_timeout: Span(program.start_timeout),
            read_only: program.read_only,
            network: program.network,
            secrets_in_env: program.secrets_in_env,
            cpu: program.cpu_millis.map(Cores),
            processes: program.processes,
            scale: scale.into(),
        }
    }
}

impl From<&Scale> for ScaleView {
    fn from(Scale { min, max, target, grows, idle }: &Scale) -> Self {
        Self { min: *min, max: *max, target: *target, grows: *grows, idle: Span(*idle) }
    }
}

/// One immutable pair of code and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    /// Its number: the first is 1, and none is used twice.
    pub number: u32,
    /// Whether calls run it now.
    pub current: bool,
    /// What kind of code it is: `wasm`, `bundle` or `image`.
    #[schema(value_type = String, example = "wasm")]
    pub code: CodeKind,
    /// The image that was asked for, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "docker.io/library/nginx:1")]
    pub image: Option<String>,
    /// The SHA-256 of its code; of an image, that of its manifest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// How it is spoken to: `component`, `http`, `stdio` or `watchdog`.
    #[schema(value_type = String)]
    pub contract: Contract,
    /// How it is run.
    pub settings: SettingsView,
    /// When it was deployed.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
}

impl RevisionView {
    /// A revision, where this number is the current one.
    pub fn new(revision: &Revision, current: u32) -> Self {
        Self {
            number: revision.number,
            current: revision.number == current,
            code: (&revision.code).into(),
            image: CodeKind::image_of(&revision.code),
            digest: revision.code.digest(),
            contract: revision.contract,
            settings: SettingsView::new((&revision.code).into(), &revision.settings),
            created: revision.created,
        }
    }
}

/// Which revision to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Its number; absent is the one before the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
}

/// How many instances of a program shall run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// So many are kept running, until told otherwise; after 0 the next call brings `scale.min` back.
    pub instances: u32,
}

/// How many instances of a program run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaledView {
    /// Instances that run, or are starting.
    pub instances: u32,
}

/// Which functions to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FunctionQuery {
    /// Those of one namespace; absent is all that the token reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// Those of one app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub app: Option<AppName>,
    /// Those with this label, as `KEY=VALUE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Those that follow this one, which is the `next` of a page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many at most: 1 to 1000, 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn settings_are_shown_in_readable_units() {
        let settings = Settings {
            secrets: vec![SecretName::parse("api-key").unwrap()],
            routes: vec!["/resize/*".parse().unwrap()],
            ..Settings::default()
        };
        let view = SettingsView::new(CodeKind::Wasm, &settings);
        expect![[r#"
            {
              "env": {},
              "secrets": [
                "api-key"
              ],
              "outbound": [],
              "memory": "128MiB",
              "timeout": "30s",
              "stream_timeout": "30s",
              "concurrency": 100,
              "waiting": 1000,
              "request_body": "1GiB",
              "response_body": "1GiB",
              "log_rate": "1MiB",
              "reuse": 0,
              "route": [
                "/resize/*"
              ],
              "private": false,
              "labels": {},
              "annotations": {},
              "queue": {
                "attempts": 5,
                "first_wait": "1s",
                "longest_wait": "2m",
                "age": "6h",
                "retry_on": [
                  "429",
                  "5xx"
                ],
                "concurrency": 10
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&view).unwrap());
    }

    #[test]
    fn settings_of_a_program_lie_beside_the_others_and_are_read_back() {
        for code in [CodeKind::Wasm, CodeKind::Bundle, CodeKind::Image] {
            let view = SettingsView::new(code, &Settings::default());
            let json = serde_json::to_value(&view).unwrap();
            assert_eq!(json["scale"]["max"].as_u64(), (code != CodeKind::Wasm).then_some(20));
            assert_eq!(json["network"].as_str(), (code != CodeKind::Wasm).then_some("own"));
            assert_eq!(serde_json::from_value::<SettingsView>(json).unwrap(), view);
        }
    }

    #[test]
    fn a_function_of_the_first_namespace_has_the_short_path() {
        let path = |text: &str| FunctionView::path_of(&FunctionRef::parse(text).unwrap());
        assert_eq!(path("hello"), "/function/hello");
        assert_eq!(path("hello.shop"), "/function/hello.shop");
    }
}
