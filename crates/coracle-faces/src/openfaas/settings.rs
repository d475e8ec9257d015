//! What a deployment asks of us, in our settings: limits, labels, annotations and the timeouts of a watchdog.
//! `deployment.rs` calls it; what it does not name here is kept, said back and obeyed nowhere.
//!
//! Sources: docs:reference/workloads.md, docs:architecture/autoscaling.md, docs:openfaas-pro/scale-to-zero.md, docs:reference/yaml.md.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::{ByteSize, Cores, Limits, Outbound, Problem, Program, SecretName, Settings, Span, code};

use super::deployment::{Deployment, Resources};
use super::document::{bad, shown};
use super::quantity;

mod scale;

pub(super) use scale::factor;

/// The memory of an instance when no limit was sent, in bytes.
const MEMORY_BYTES: u64 = 512 << 20;
/// Calls in flight at once, and as many that wait.
const CALLS: u32 = 1_000;
/// The time that a call has at the least, as a gateway there gives it.
const TIMEOUT_MIN: Duration = Duration::from_secs(60);
/// What a call is given beyond the timeouts of its watchdog, so that the watchdog is the one to end it.
const TIMEOUT_MORE: Duration = Duration::from_secs(1);
/// Variables of a watchdog that say how long something may take.
const TIMEOUTS: [&str; 3] = ["exec_timeout", "read_timeout", "write_timeout"];
/// The command that a watchdog runs.
const PROCESS: &str = "fprocess";
/// The annotation of ours that grants hosts.
const OUTBOUND: &str = "coracle.outbound";
/// Paths that answer when an instance is well; the first that is there is asked.
const HEALTH_PATHS: [&str; 2] = ["com.openfaas.health.http.path", "com.openfaas.ready.http.path"];
/// How long an instance takes from its start until it is worth asking.
const HEALTH_DELAYS: [&str; 4] = [
    "com.openfaas.health.http.initialDelaySeconds",
    "com.openfaas.ready.http.initialDelaySeconds",
    "com.openfaas.health.http.initialDelay",
    "com.openfaas.ready.http.initialDelay",
];
/// Where a watchdog says whether it takes one more call, and where it says whether it is well.
const WATCHDOG_READY: &str = "/_/ready";
const WATCHDOG_HEALTH: &str = "/_/health";
/// The longest path of a health check, in bytes.
const PATH_BYTES_MAX: usize = 1 << 10;

/// The settings that a deployment asks for.
pub(super) fn of(deployment: &Deployment) -> Result<Settings, Problem> {
    let mut env = deployment.env_vars.clone().unwrap_or_default();
    if let Some(process) = deployment.env_process.as_ref().filter(|process| !process.is_empty()) {
        env.insert(PROCESS.to_owned(), process.clone());
    }
    let labels = deployment.labels.clone().unwrap_or_default();
    let annotations = deployment.annotations.clone().unwrap_or_default();
    let limits = deployment.limits.as_ref();
    check_requests(deployment.requests.as_ref())?;
    let timeout = timeout_of(&env);
    Ok(Settings {
        secrets: secrets_of(deployment.secrets.as_deref().unwrap_or_default())?,
        outbound: outbound_of(&annotations)?,
        limits: Limits {
            memory_bytes: memory_of(limits)?,
            timeout,
            stream_timeout: timeout,
            concurrency: CALLS,
            waiting: CALLS,
            ..Limits::default()
        },
        program: Program {
            health: health_of(&annotations)?,
            start_timeout: start_timeout_of(&annotations)?,
            read_only: deployment.read_only_root_filesystem.unwrap_or(false),
            cpu_millis: cpu_of(limits)?,
            ..Program::default()
        },
        scale: scale::of(&labels, &env)?,
        env,
        labels,
        annotations,
        ..Settings::default()
    })
}

fn secrets_of(names: &[String]) -> Result<Vec<SecretName>, Problem> {
    let mut secrets = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let secret = SecretName::parse(name).map_err(|error| {
            Problem::new(&code::INVALID_NAME, format!("`secrets[{index}]`: {error}"))
                .hint("name a secret that exists, as in `\"secrets\": [\"api-key\"]`")
        })?;
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    Ok(secrets)
}

fn outbound_of(annotations: &BTreeMap<String, String>) -> Result<Vec<Outbound>, Problem> {
    let grants = annotations.get(OUTBOUND).map(String::as_str).unwrap_or_default();
    let grants = grants.split(',').map(str::trim).filter(|grant| !grant.is_empty());
    grants
        .map(|grant| {
            grant.parse().map_err(|error| {
                bad(format!("annotation `{OUTBOUND}`: {error}")).hint(format!(
                    "write for example `{OUTBOUND}: https://api.example.com, *://db.local:5432`"
                ))
            })
        })
        .collect()
}

/// A limit or a request, if one was sent.
fn sent<'a>(amount: &'a Option<String>) -> Option<&'a str> {
    amount.as_deref().filter(|amount| !amount.is_empty())
}

fn memory_of(limits: Option<&Resources>) -> Result<u64, Problem> {
    let Some(text) = limits.and_then(|limits| sent(&limits.memory)) else { return Ok(MEMORY_BYTES) };
    let bytes = memory("limits.memory", text)?;
    let (least, most) = (Program::MEMORY_BYTES_MIN, Program::MEMORY_BYTES_MAX);
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    let what = format!(
        "`limits.memory` is `{}`, which is {bytes} bytes and not between {} and {}",
        shown(text),
        ByteSize(least),
        ByteSize(most)
    );
    Err(bad(what).hint("write for example `128Mi`; `M` is a million, and `m` a thousandth"))
}

fn cpu_of(limits: Option<&Resources>) -> Result<Option<u32>, Problem> {
    let Some(text) = limits.and_then(|limits| sent(&limits.cpu)) else { return Ok(None) };
    match cpu("limits.cpu", text)? {
        millis @ 1..=Program::CPU_MILLIS_MAX => Ok(Some(millis.max(Program::CPU_MILLIS_MIN))),
        _ => {
            let most = Cores(Program::CPU_MILLIS_MAX);
            let what = format!("`limits.cpu` is `{}`, and must be above 0 and at most {most}", shown(text));
            Err(bad(what).hint("write for example `500m` for half a core; leave it out for all there is"))
        }
    }
}

/// That what was requested could be read, although nothing here obeys it: whoever moves on to a cluster has the same words.
fn check_requests(requests: Option<&Resources>) -> Result<(), Problem> {
    let Some(requests) = requests else { return Ok(()) };
    sent(&requests.memory).map_or(Ok(0), |text| memory("requests.memory", text))?;
    sent(&requests.cpu).map_or(Ok(0), |text| cpu("requests.cpu", text))?;
    Ok(())
}

fn memory(field: &str, text: &str) -> Result<u64, Problem> {
    quantity::bytes(text).ok_or_else(|| {
        bad(format!("`{field}` is `{}`, which is no amount of memory", shown(text)))
            .hint("write for example `128Mi`, `1Gi` or `500M`")
    })
}

fn cpu(field: &str, text: &str) -> Result<u32, Problem> {
    quantity::millicores(text).ok_or_else(|| {
        bad(format!("`{field}` is `{}`, which is no share of processors", shown(text)))
            .hint("write for example `500m` for half a core, or `1.5`")
    })
}

/// The time of a call: what its watchdog would give it and a little more, and never less than a gateway there does.
///
/// A value that is no span of time is the watchdog's to judge.
fn timeout_of(env: &BTreeMap<String, String>) -> Duration {
    let named = TIMEOUTS.iter().filter_map(|name| quantity::span(env.get(*name)?));
    let longest = named.map(|span| span.saturating_add(TIMEOUT_MORE)).max().unwrap_or_default();
    longest.clamp(TIMEOUT_MIN, Limits::TIMEOUT_MAX)
}

fn health_of(annotations: &BTreeMap<String, String>) -> Result<Option<String>, Problem> {
    let Some((name, path)) = HEALTH_PATHS.iter().find_map(|name| Some((*name, annotations.get(*name)?)))
    else {
        return Ok(None);
    };
    let is_path =
        path.starts_with('/') && path.len() <= PATH_BYTES_MAX && path.bytes().all(|c| c.is_ascii_graphic());
    if !is_path {
        return Err(bad(format!("annotation `{name}` is `{}`, which is no path", shown(path)))
            .hint(format!("write for example `{name}: /healthz`")));
    }
    // A watchdog that has all the calls it takes is not ready, but is well: it must not be replaced for that.
    Ok(Some(if path == WATCHDOG_READY { WATCHDOG_HEALTH.to_owned() } else { path.clone() }))
}

fn start_timeout_of(annotations: &BTreeMap<String, String>) -> Result<Duration, Problem> {
    let usual = Program::default().start_timeout;
    let most = Program::START_TIMEOUT_MAX.saturating_sub(usual);
    let mut longest = Duration::ZERO;
    for name in HEALTH_DELAYS {
        let Some(text) = annotations.get(name) else { continue };
        match quantity::span(text) {
            Some(delay) if delay <= most => longest = longest.max(delay),
            _ => {
                let what = format!(
                    "annotation `{name}` is `{}`, and must be a number of seconds up to {}",
                    shown(text),
                    Span(most)
                );
                return Err(bad(what).hint(format!("write for example `{name}: \"5\"`")));
            }
        }
    }
    Ok(usual + longest)
}
