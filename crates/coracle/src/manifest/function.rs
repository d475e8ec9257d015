//! One table `[function.NAME]` of a manifest: every key it may have, each in one line.
//! `manifest.rs` calls it for each; `coracle deploy --set` for one key.

use std::path::PathBuf;
use std::time::Duration;

use coracle_model::{
    ByteSize, Cores, FunctionName, Limits, Problem, Program, Queueing, RetryPolicy, Scale, Settings, Span,
};

use super::document::Entry;
use super::{Function, Source};

/// Where the code comes from.
const SOURCE_KEYS: &[&str] = &["build", "code", "image"];

/// Keys that only the program of a bundle or an image obeys.
const PROGRAM_KEYS: &[&str] = &[
    "contract",
    "command",
    "entrypoint",
    "workdir",
    "user",
    "port",
    "health",
    "http2",
    "start_timeout",
    "read_only",
    "network",
    "secrets_in_env",
    "cpu",
    "processes",
    "scale",
];

/// Keys of all functions.
const COMMON_KEYS: &[&str] = &[
    "route",
    "private",
    "env",
    "secrets",
    "outbound",
    "memory",
    "timeout",
    "stream_timeout",
    "concurrency",
    "waiting",
    "request_body",
    "response_body",
    "log_rate",
    "reuse",
    "content_type",
    "labels",
    "annotations",
    "queue",
];

const SCALE_KEYS: &[&str] = &["min", "max", "target", "grows", "idle"];

const QUEUE_KEYS: &[&str] =
    &["attempts", "first_wait", "longest_wait", "age", "retry_on", "concurrency", "on_success", "on_failure"];

/// The largest bound that can be set on a body or on a second of logs.
const BYTES_MAX: ByteSize = ByteSize(1 << 40);

/// The shortest span of anything: one tick of the clock that stops guests.
const SPAN_MIN: Span = Span(Duration::from_millis(1));

/// Whether a function may have this key.
pub(super) fn is_key(key: &str) -> bool {
    [SOURCE_KEYS, PROGRAM_KEYS, COMMON_KEYS].iter().any(|keys| keys.contains(&key))
}

/// Reads a table; keys that stand `beside` are for somebody else.
pub(super) fn read(table: &Entry<'_>, beside: &[&str]) -> Result<Function, Problem> {
    let name = FunctionName::parse(table.key).map_err(|error| table.key_problem(&error.to_string()))?;
    let mut entries = table.table()?;
    entries.retain(|entry| !beside.contains(&entry.key));
    let (source, source_at) = source(&name, table, &entries)?;
    let mut function = Function { source_at: Some(source_at.position()), ..Function::new(name, source) };
    for entry in &entries {
        fits(&function.source, entry)?;
        match entry.key {
            "build" => function.build = Some(entry.text()?.to_owned()),
            "code" | "image" => {}
            "contract" => function.contract = Some(entry.parsed()?),
            _ => set(&mut function.settings, &function.source, entry)?,
        }
    }
    Ok(function)
}

/// What is deployed: the file that `code` names, or the image.
fn source<'a, 'b>(
    name: &FunctionName,
    table: &Entry<'_>,
    entries: &'b [Entry<'a>],
) -> Result<(Source, &'b Entry<'a>), Problem> {
    let of = |key| entries.iter().find(|entry| entry.key == key);
    let entry = match (of("code"), of("image")) {
        (Some(entry), None) | (None, Some(entry)) => entry,
        (Some(_), Some(image)) => {
            let problem = image.key_problem(&format!("the function `{name}` has `code` and `image`"));
            return Err(problem.hint("remove one of them: a function is a file or folder, or an image"));
        }
        (None, None) => {
            let problem = table.key_problem(&format!("the function `{name}` has no `code`"));
            return Err(problem
                .hint("add a line `code = \"FILE.wasm\"`, `code = \"FOLDER\"` or `image = \"NAME:TAG\"`"));
        }
    };
    match (entry.key, entry.text()?) {
        ("code", "") => Err(entry.problem("`code` is empty").hint("name the file or the folder to deploy")),
        ("code", path) => Ok((Source::Path(PathBuf::from(path)), entry)),
        (_, image) if image.is_empty() || image.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err(entry
                .problem("this is not a name of an image")
                .hint("write it as in `image = \"docker.io/library/nginx:1\"`"))
        }
        (_, image) => Ok((Source::Image(image.to_owned()), entry)),
    }
}

/// That a key is of any use to what is deployed, as far as its name tells what that is.
fn fits(source: &Source, entry: &Entry<'_>) -> Result<(), Problem> {
    if source.is_wasm() && PROGRAM_KEYS.contains(&entry.key) {
        return Err(entry
            .key_problem(&format!("`{}` is for programs, and `code` is WebAssembly", entry.key))
            .hint("remove it, or deploy a folder, an archive, an executable or an image"));
    }
    if matches!(source, Source::Image(_)) && entry.key == "reuse" {
        return Err(entry
            .key_problem("`reuse` is for WebAssembly, and this is an image")
            .hint("remove it: an instance of a program serves calls for as long as it runs"));
    }
    Ok(())
}

/// Sets what one key says.
pub(super) fn set(settings: &mut Settings, source: &Source, entry: &Entry<'_>) -> Result<(), Problem> {
    let timeouts = SPAN_MIN..=Span(Limits::TIMEOUT_MAX);
    let memory_max = if source.is_wasm() { Limits::MEMORY_BYTES_MAX } else { Program::MEMORY_BYTES_MAX };
    let memory = ByteSize(Limits::MEMORY_BYTES_MIN)..=ByteSize(memory_max);
    let bytes = ByteSize(0)..=BYTES_MAX;
    let Settings { limits, program, scale, queue, .. } = settings;
    match entry.key {
        "route" => settings.routes = entry.one_or_several()?,
        "private" => settings.private = entry.flag()?,
        "env" => settings.env = entry.texts()?,
        "secrets" => settings.secrets = entry.one_or_several()?,
        "outbound" => settings.outbound = entry.one_or_several()?,
        "memory" => limits.memory_bytes = entry.quantity(memory, "256MiB")?.0,
        "timeout" => limits.timeout = entry.quantity(timeouts, "30s")?.0,
        "stream_timeout" => limits.stream_timeout = entry.quantity(timeouts, "30s")?.0,
        "concurrency" => limits.concurrency = entry.number(1..=Limits::CALLS_MAX)?,
        "waiting" => limits.waiting = entry.number(0..=Limits::CALLS_MAX)?,
        "request_body" => limits.request_body_bytes = entry.quantity(bytes, "16MiB")?.0,
        "response_body" => limits.response_body_bytes = entry.quantity(bytes, "16MiB")?.0,
        "log_rate" => limits.log_bytes_per_second = entry.quantity(bytes, "16MiB")?.0,
        "reuse" => settings.reuse = entry.number(0..=u32::MAX)?,
        "content_type" => settings.content_type = Some(entry.text()?.to_owned()),
        "labels" => settings.labels = entry.texts()?,
        "annotations" => settings.annotations = entry.texts()?,
        "command" => program.command = entry.words()?,
        "entrypoint" => program.entrypoint = entry.words()?,
        "workdir" => program.workdir = Some(entry.text()?.to_owned()),
        "user" => program.user = Some(entry.text()?.to_owned()),
        "port" => program.port = Some(entry.port()?),
        "health" => program.health = Some(entry.text()?.to_owned()),
        "http2" => program.http2 = entry.flag()?,
        "start_timeout" => {
            program.start_timeout = entry.quantity(SPAN_MIN..=Span(Program::START_TIMEOUT_MAX), "30s")?.0;
        }
        "read_only" => program.read_only = entry.flag()?,
        "network" => program.network = entry.parsed()?,
        "secrets_in_env" => program.secrets_in_env = entry.flag()?,
        "cpu" => {
            let cores = Cores(Program::CPU_MILLIS_MIN)..=Cores(Program::CPU_MILLIS_MAX);
            program.cpu_millis = Some(entry.quantity(cores, "500m")?.0);
        }
        "processes" => program.processes = entry.number(1..=Program::PROCESSES_MAX)?,
        "scale" => {
            for entry in entry.table()? {
                set_scale(scale, &entry)?;
            }
        }
        "queue" => {
            for entry in entry.table()? {
                set_queue(queue, &entry)?;
            }
        }
        _ => return Err(entry.unknown_key(&[SOURCE_KEYS, PROGRAM_KEYS, COMMON_KEYS].concat())),
    }
    Ok(())
}

fn set_scale(scale: &mut Scale, entry: &Entry<'_>) -> Result<(), Problem> {
    match entry.key {
        "min" => scale.min = entry.number(0..=Scale::INSTANCES_MAX)?,
        "max" => scale.max = entry.number(1..=Scale::INSTANCES_MAX)?,
        "target" => scale.target = entry.number(1..=Limits::CALLS_MAX)?,
        "grows" => scale.grows = entry.flag()?,
        "idle" => scale.idle = entry.quantity(SPAN_MIN..=Span(Scale::IDLE_MAX), "5m")?.0,
        _ => return Err(entry.unknown_key(SCALE_KEYS)),
    }
    Ok(())
}

fn set_queue(queue: &mut Queueing, entry: &Entry<'_>) -> Result<(), Problem> {
    let waits = SPAN_MIN..=Span(RetryPolicy::WAIT_MAX);
    let Queueing { concurrency, retry, on_success, on_failure } = queue;
    match entry.key {
        "attempts" => retry.attempts = entry.number(1..=RetryPolicy::ATTEMPTS_MAX)?,
        "first_wait" => retry.first_wait = entry.quantity(waits, "1s")?.0,
        "longest_wait" => retry.longest_wait = entry.quantity(waits, "2m")?.0,
        "age" => retry.age = entry.quantity(SPAN_MIN..=Span(RetryPolicy::AGE_MAX), "6h")?.0,
        "retry_on" => retry.statuses = entry.one_or_several()?,
        "concurrency" => *concurrency = entry.number(1..=Queueing::CONCURRENCY_MAX)?,
        "on_success" => *on_success = Some(entry.parsed()?),
        "on_failure" => *on_failure = Some(entry.parsed()?),
        _ => return Err(entry.unknown_key(QUEUE_KEYS)),
    }
    Ok(())
}
