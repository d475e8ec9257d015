//! One table `[function.NAME]` of a manifest: every key it may have, each in one line.
//! `manifest.rs` calls it for each.

use std::path::PathBuf;
use std::time::Duration;

use coracle_model::{ByteSize, FunctionName, Limits, Problem, Settings, Span};

use super::Function;
use super::document::Entry;

pub(super) const KEYS: &[&str] = &[
    "build",
    "code",
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
];

/// Keys that a later version will know: for bundles, images and scaling.
const LATER_KEYS: &[&str] = &["image", "command", "contract", "port", "health", "scale"];

/// The largest bound that can be set on a body or on a second of logs.
const BYTES_MAX: ByteSize = ByteSize(1 << 40);

/// The shortest `timeout` and `stream_timeout`: one tick of the clock that stops guests.
const TIMEOUT_MIN: Span = Span(Duration::from_millis(1));

pub(super) fn read(table: &Entry<'_>) -> Result<Function, Problem> {
    let name = FunctionName::parse(table.key).map_err(|error| table.key_problem(&error.to_string()))?;
    let mut build = None;
    let mut code = None;
    let mut settings = Settings::default();
    for entry in table.table()? {
        match entry.key {
            "build" => build = Some(entry.text()?.to_owned()),
            "code" => code = Some((PathBuf::from(entry.text()?), entry.position())),
            _ => set(&mut settings, &entry)?,
        }
    }
    let Some((code, code_at)) = code else {
        let problem = table.key_problem(&format!("the function `{name}` has no `code`"));
        return Err(problem.hint("add a line `code = \"FILE.wasm\"`"));
    };
    if code.as_os_str().is_empty() {
        return Err(code_at.problem("`code` is empty").hint("name the file to deploy"));
    }
    Ok(Function { name, build, code, settings, code_at: Some(code_at) })
}

fn set(settings: &mut Settings, entry: &Entry<'_>) -> Result<(), Problem> {
    let timeouts = TIMEOUT_MIN..=Span(Limits::TIMEOUT_MAX);
    let memory = ByteSize(Limits::MEMORY_BYTES_MIN)..=ByteSize(Limits::MEMORY_BYTES_MAX);
    let bytes = ByteSize(0)..=BYTES_MAX;
    let limits = &mut settings.limits;
    match entry.key {
        "route" => settings.routes = entry.one_or_several()?,
        "private" => settings.private = entry.flag()?,
        "env" => settings.env = entry.texts()?,
        "secrets" => settings.secrets = entry.one_or_several()?,
        "outbound" => settings.outbound = entry.one_or_several()?,
        "memory" => limits.memory_bytes = entry.quantity(memory)?.0,
        "timeout" => limits.timeout = entry.quantity(timeouts)?.0,
        "stream_timeout" => limits.stream_timeout = entry.quantity(timeouts)?.0,
        "concurrency" => limits.concurrency = entry.number(1..=Limits::CALLS_MAX)?,
        "waiting" => limits.waiting = entry.number(0..=Limits::CALLS_MAX)?,
        "request_body" => limits.request_body_bytes = entry.quantity(bytes)?.0,
        "response_body" => limits.response_body_bytes = entry.quantity(bytes)?.0,
        "log_rate" => limits.log_bytes_per_second = entry.quantity(bytes)?.0,
        "reuse" => settings.reuse = entry.number(0..=u32::MAX)?,
        "content_type" => settings.content_type = Some(entry.text()?.to_owned()),
        "labels" => settings.labels = entry.texts()?,
        "annotations" => settings.annotations = entry.texts()?,
        later if LATER_KEYS.contains(&later) => {
            return Err(entry
                .key_problem(&format!("`{later}` is not in this version"))
                .hint("this version runs WebAssembly: `code = \"FILE.wasm\"`"));
        }
        _ => return Err(entry.unknown_key(KEYS)),
    }
    Ok(())
}
