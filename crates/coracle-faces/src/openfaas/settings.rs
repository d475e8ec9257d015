//! What a deployment asks of us, in our settings: limits, labels, annotations and the timeouts of a watchdog.
//! `deployment.rs` calls it; what it does not name here is kept, said back and obeyed nowhere.
//!
//! Sources: docs:reference/workloads.md, docs:reference/yaml.md, faas-netes:pkg/handlers/deploy.go.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::{
    ByteSize, Cores, Limits, Outbound, Problem, Program, Queueing, SecretName, Settings, Span, code,
};

use super::deployment::{Deployment, Resources};
use super::document::{bad, shown};
use super::quantity;

mod retry;
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
/// How annotations of ours begin: one that nobody obeys would be a grant or a bound that is not there.
const OURS: &str = "coracle.";
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
    check_annotations(&annotations)?;
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
        queue: Queueing { retry: retry::of(&annotations)?, ..Queueing::default() },
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

/// That every annotation of ours is one that there is.
fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), Problem> {
    match annotations.keys().find(|name| name.starts_with(OURS) && *name != OUTBOUND) {
        None => Ok(()),
        Some(name) => Err(bad(format!("there is no annotation `{}`", shown(name)))
            .hint(format!("did you mean `{OUTBOUND}`? no other begins with `{OURS}`"))),
    }
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
fn sent(amount: &Option<String>) -> Option<&str> {
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
        "`limits.memory` is `{}`, which is not between {} and {}",
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

#[cfg(test)]
mod tests {
    use coracle_model::Scale;
    use expect_test::{Expect, expect};

    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
        Some(pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect())
    }

    fn annotated(pairs: &[(&str, &str)]) -> Deployment {
        Deployment { annotations: texts(pairs), ..Deployment::new("f", "i") }
    }

    fn with_env(pairs: &[(&str, &str)]) -> Deployment {
        Deployment { env_vars: texts(pairs), ..Deployment::new("f", "i") }
    }

    fn limited(memory: &str, cpu: &str) -> Deployment {
        let limits = Resources { memory: Some(memory.into()), cpu: Some(cpu.into()), ..Resources::default() };
        Deployment { limits: Some(limits), ..Deployment::new("f", "i") }
    }

    fn refused(deployments: &[Deployment], expected: Expect) {
        let mut said = String::new();
        for deployment in deployments {
            let problem = of(deployment).unwrap_err();
            said += &format!("{}\n    hint: {}\n", problem.message, problem.hint.unwrap_or_default());
        }
        expected.assert_eq(&said);
    }

    #[test]
    fn where_nothing_is_said_an_instance_runs_and_may_do_much() {
        let settings = of(&Deployment::new("f", "i")).unwrap();
        let Limits { memory_bytes, timeout, stream_timeout, concurrency, waiting, .. } = settings.limits;
        assert_eq!((memory_bytes, concurrency, waiting), (512 << 20, 1_000, 1_000));
        assert_eq!((timeout, stream_timeout), (TIMEOUT_MIN, TIMEOUT_MIN));
        let Scale { min, max, grows, .. } = settings.scale;
        assert_eq!((min, max, grows), (1, 20, true));
        assert!(
            settings.outbound.is_empty() && !settings.program.read_only && settings.program.health.is_none()
        );
    }

    #[test]
    fn limits_are_quantities() {
        let settings = of(&limited("64Mi", "500m")).unwrap();
        assert_eq!((settings.limits.memory_bytes, settings.program.cpu_millis), (64 << 20, Some(500)));
        let settings = of(&limited("", "")).unwrap();
        assert_eq!((settings.limits.memory_bytes, settings.program.cpu_millis), (MEMORY_BYTES, None));
        // The kernel takes no less, and Kubernetes gives as much.
        assert_eq!(of(&limited("", "1m")).unwrap().program.cpu_millis, Some(Program::CPU_MILLIS_MIN));
        let requests = limited("x", "").limits;
        refused(
            &[
                limited("lots", ""),
                limited("128m", ""),
                limited("2Ti", ""),
                limited("", "all"),
                limited("", "0"),
                Deployment { requests, ..Deployment::new("f", "i") },
            ],
            expect![[r#"
                `limits.memory` is `lots`, which is no amount of memory
                    hint: write for example `128Mi`, `1Gi` or `500M`
                `limits.memory` is `128m`, which is not between 4MiB and 1024GiB
                    hint: write for example `128Mi`; `M` is a million, and `m` a thousandth
                `limits.memory` is `2Ti`, which is not between 4MiB and 1024GiB
                    hint: write for example `128Mi`; `M` is a million, and `m` a thousandth
                `limits.cpu` is `all`, which is no share of processors
                    hint: write for example `500m` for half a core, or `1.5`
                `limits.cpu` is `0`, and must be above 0 and at most 1024
                    hint: write for example `500m` for half a core; leave it out for all there is
                `requests.memory` is `x`, which is no amount of memory
                    hint: write for example `128Mi`, `1Gi` or `500M`
            "#]],
        );
    }

    #[test]
    fn the_command_of_a_watchdog_is_a_variable_and_its_timeouts_are_outlived() {
        let named =
            Deployment { env_process: Some("cat".into()), ..with_env(&[("fprocess", "wc"), ("a", "b")]) };
        assert_eq!(Some(of(&named).unwrap().env), texts(&[("a", "b"), ("fprocess", "cat")]));
        let table = [
            (vec![("exec_timeout", "90")], 91),
            (vec![("exec_timeout", "2m"), ("read_timeout", "5m"), ("write_timeout", "1s")], 301),
            (vec![("exec_timeout", "60s")], 61),
            (vec![("exec_timeout", "10s")], 60),
            (vec![("exec_timeout", "0")], 60),
            (vec![("exec_timeout", "soon")], 60),
            (vec![("exec_timeout", "1000h")], 86_400),
        ];
        for (env, seconds) in table {
            let limits = of(&with_env(&env)).unwrap().limits;
            assert_eq!(limits.timeout, Duration::from_secs(seconds), "{env:?}");
            assert_eq!(limits.stream_timeout, limits.timeout);
        }
    }

    #[test]
    fn annotations_say_how_an_instance_is_well() {
        let program = |pairs: &[(&str, &str)]| of(&annotated(pairs)).unwrap().program;
        let (health, ready) = ("com.openfaas.health.http.path", "com.openfaas.ready.http.path");
        assert_eq!(program(&[(health, "/healthz"), (ready, "/ready")]).health.as_deref(), Some("/healthz"));
        assert_eq!(program(&[(ready, "/ready")]).health.as_deref(), Some("/ready"));
        assert_eq!(program(&[(ready, "/_/ready")]).health.as_deref(), Some("/_/health"));
        let delays = [
            ("com.openfaas.health.http.initialDelaySeconds", "5"),
            ("com.openfaas.ready.http.initialDelay", "20s"),
        ];
        assert_eq!(program(&delays).start_timeout, Duration::from_secs(50));
        refused(
            &[
                annotated(&[(health, "healthz")]),
                annotated(&[(delays[0].0, "1h")]),
                annotated(&[(delays[0].0, "soon")]),
            ],
            expect![[r#"
                annotation `com.openfaas.health.http.path` is `healthz`, which is no path
                    hint: write for example `com.openfaas.health.http.path: /healthz`
                annotation `com.openfaas.health.http.initialDelaySeconds` is `1h`, and must be a number of seconds up to 9m30s
                    hint: write for example `com.openfaas.health.http.initialDelaySeconds: "5"`
                annotation `com.openfaas.health.http.initialDelaySeconds` is `soon`, and must be a number of seconds up to 9m30s
                    hint: write for example `com.openfaas.health.http.initialDelaySeconds: "5"`
            "#]],
        );
    }

    #[test]
    fn an_annotation_of_ours_grants_hosts() {
        let grants = "https://api.example.com, *://db.local:5432,";
        let outbound = of(&annotated(&[(OUTBOUND, grants)])).unwrap().outbound;
        assert_eq!(json(&outbound), r#"["https://api.example.com","*://db.local:5432"]"#);
        refused(
            &[annotated(&[(OUTBOUND, "api.example.com")])],
            expect![[r#"
            annotation `coracle.outbound`: `api.example.com` does not say which hosts may be reached: write it with a scheme, as in `https://api.example.com`
                hint: write for example `coracle.outbound: https://api.example.com, *://db.local:5432`
        "#]],
        );
    }

    #[test]
    fn an_annotation_of_ours_that_is_misspelt_is_refused() {
        refused(
            &[annotated(&[("coracle.outbond", "https://api.example.com")]), annotated(&[("coracle.x", "")])],
            expect![[r#"
                there is no annotation `coracle.outbond`
                    hint: did you mean `coracle.outbound`? no other begins with `coracle.`
                there is no annotation `coracle.x`
                    hint: did you mean `coracle.outbound`? no other begins with `coracle.`
            "#]],
        );
        assert!(of(&annotated(&[("coracle", ""), ("team.coracle.x", "")])).is_ok(), "others are theirs");
    }

    #[test]
    fn a_secret_that_is_named_twice_is_one() {
        let secrets = Some(vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]);
        let settings = of(&Deployment { secrets, ..Deployment::new("f", "i") }).unwrap();
        assert_eq!(json(&settings.secrets), r#"["a","b"]"#);
    }

    fn json<T: serde::Serialize>(value: &T) -> String {
        serde_json::to_string(value).unwrap()
    }
}
