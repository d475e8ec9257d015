//! What settings may be: pure checks, without a look at anything that is deployed.
//! Called by `deploy.rs`, and by `history.rs` for what may have changed since a revision was new.

mod program;
mod queueing;

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::{
    ByteSize, Code, Contract, FunctionName, FunctionRef, Limits, NamespaceName, Original, Problem, Route,
    SecretName, Settings, Span, code,
};

use self::program::check_program;
use self::queueing::check_queueing;
use crate::namespaces::NamespaceNotes;
use crate::routes::{Routes, Target};

/// The environment of a function, names and values together, in bytes.
const ENV_BYTES_MAX: usize = 64 << 10;
/// The most secrets that a function reads.
const SECRETS_MAX: usize = 64;
/// The most hosts that a function may reach.
const OUTBOUND_MAX: usize = 256;
/// The most routes of a function.
const ROUTES_MAX: usize = 32;
/// The most variables of an environment.
const ENV_MAX: usize = 1_000;
/// The most labels, and the most annotations.
const LABELS_MAX: usize = 64;
/// All labels together, in bytes.
const LABELS_BYTES_MAX: usize = 16 << 10;
/// All annotations together, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 64 << 10;
/// The longest deploy in the words of another system, in bytes.
const ORIGINAL_BYTES_MAX: usize = 128 << 10;
/// The longest content type, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// The most calls that an instance may serve after its first.
const REUSE_MAX: u32 = 1_000_000;

/// Checks everything about the settings of a function that they say themselves, and with its code.
pub(crate) fn check_settings(
    function: &FunctionName,
    code: &Code,
    contract: Contract,
    settings: &Settings,
) -> Result<(), Problem> {
    let is_component = matches!(code, Code::Wasm(_));
    check_program(code, contract, settings)
        .and_then(|()| if is_component { check_memory(settings) } else { Ok(()) })
        .and_then(|()| check_limits(settings))
        .and_then(|()| check_env(settings))
        .and_then(|()| check_secret_names(settings, is_component))
        .and_then(|()| check_counts(settings))
        .and_then(|()| check_labels("label", &settings.labels, LABELS_BYTES_MAX))
        .and_then(|()| check_labels("annotation", &settings.annotations, ANNOTATIONS_BYTES_MAX))
        .and_then(|()| check_content_type(settings.content_type.as_deref()))
        .and_then(|()| check_queueing(&settings.queue))
        .and_then(|()| check_original(settings.original.as_ref()))
        .map_err(|Wrong { what, hint }| {
            Problem::new(&code::INVALID_SETTINGS, format!("function `{function}`: {what}")).hint(hint)
        })
}

/// Checks that the secrets a function names are there.
pub(crate) fn check_secrets(
    function: &FunctionRef,
    settings: &Settings,
    exists: impl Fn(&SecretName) -> bool,
) -> Result<(), Problem> {
    match settings.secrets.iter().find(|secret| !exists(secret)) {
        None => Ok(()),
        Some(secret) => {
            let FunctionRef { name, namespace } = function;
            let message = format!(
                "function `{name}` names secret `{secret}`, which does not exist in the namespace `{namespace}`"
            );
            let hint = format!("coracle secret set {secret}{}", namespace.flag());
            Err(Problem::new(&code::MISSING_SECRET, message).hint(hint))
        }
    }
}

/// Checks that no two of these routes clash, and none with one that another function holds.
pub(crate) fn check_routes<'a, 'b>(
    wanted: impl IntoIterator<Item = (&'a FunctionRef, &'a [Route])>,
    holder: impl Fn(&Route) -> Option<&'b Target>,
) -> Result<(), Problem> {
    let mut seen = Routes::default();
    for (function, routes) in wanted {
        for route in routes {
            if let Some(target) = holder(route).or_else(|| seen.holder(route)) {
                return Err(clash(function, route, target));
            }
            seen.insert(function, route);
        }
    }
    Ok(())
}

fn clash(function: &FunctionRef, route: &Route, with: &Target) -> Problem {
    let other = &with.route;
    if with.function == *function {
        let message =
            format!("function `{}`: its routes `{other}` and `{route}` answer the same paths", function.name);
        return Problem::new(&code::INVALID_SETTINGS, message).hint("remove one of them");
    }
    let message = format!("function `{}`: route `{route}` is taken by `{}`", function.name, with.function);
    Problem::new(&code::ROUTE_TAKEN, message)
        .hint(format!("choose another route, or deploy `{}` without `{other}`", with.function))
}

/// What is wrong, and the line that would be right.
struct Wrong {
    what: String,
    hint: String,
}

fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Result<(), Wrong> {
    Err(Wrong { what: what.into(), hint: hint.into() })
}

/// The memory of a component.
fn check_memory(settings: &Settings) -> Result<(), Wrong> {
    let bytes = settings.limits.memory_bytes;
    let (least, most) = (ByteSize(Limits::MEMORY_BYTES_MIN), ByteSize(Limits::MEMORY_BYTES_MAX));
    if (least.0..=most.0).contains(&bytes) {
        return Ok(());
    }
    let what = format!("memory of {} is not between {least} and {most}", ByteSize(bytes));
    wrong(what, "set for example `memory = \"128MiB\"`")
}

fn check_limits(settings: &Settings) -> Result<(), Wrong> {
    let limits = &settings.limits;
    for (name, span) in [("timeout", limits.timeout), ("stream_timeout", limits.stream_timeout)] {
        if span == Duration::ZERO || span > Limits::TIMEOUT_MAX {
            let what =
                format!("{name} of {span:?} is not above zero and at most {}", Span(Limits::TIMEOUT_MAX));
            return wrong(what, format!("set for example `{name} = \"30s\"`"));
        }
    }
    if !(1..=Limits::CALLS_MAX).contains(&limits.concurrency) {
        let what =
            format!("concurrency of {} is not between 1 and {}", limits.concurrency, Limits::CALLS_MAX);
        return wrong(what, "set for example `concurrency = 100`");
    }
    if limits.waiting > Limits::CALLS_MAX {
        let what = format!("waiting of {} is more than {}", limits.waiting, Limits::CALLS_MAX);
        return wrong(what, "set for example `waiting = 1000`");
    }
    if settings.reuse > REUSE_MAX {
        let what = format!("reuse of {} is more than {REUSE_MAX}", settings.reuse);
        return wrong(what, "set for example `reuse = 1000`");
    }
    Ok(())
}

fn check_env(settings: &Settings) -> Result<(), Wrong> {
    for (name, value) in &settings.env {
        if !is_variable(name) {
            let what = format!("`{}` is not a name of an environment variable", shown(name));
            return wrong(what, "use letters, digits and `_`, and begin with no digit");
        }
        if value.contains('\0') {
            return wrong(
                format!("the value of {name} has a NUL character"),
                "environment variables cannot hold one",
            );
        }
    }
    let bytes = bytes_of(&settings.env);
    if bytes > ENV_BYTES_MAX {
        let what = format!("its environment has {bytes} bytes, more than {}", ByteSize(ENV_BYTES_MAX as u64));
        return wrong(what, "put large data into the code, or fetch it");
    }
    Ok(())
}

/// That each secret has a place of its own: a variable in a component, a file in a program.
fn check_secret_names(settings: &Settings, is_component: bool) -> Result<(), Wrong> {
    if !is_component {
        for (place, secret) in settings.secrets.iter().enumerate() {
            if matches!(secret.as_str(), "." | "..") {
                return wrong(format!("secret `{secret}` cannot be a file"), "give it another name");
            }
            if settings.secrets[..place].contains(secret) {
                return wrong(format!("secret `{secret}` is named twice"), "name it once");
            }
        }
    }
    if !(is_component || settings.program.secrets_in_env) {
        return Ok(());
    }
    let mut variables: BTreeMap<String, &SecretName> = BTreeMap::new();
    for secret in &settings.secrets {
        let variable = Settings::variable_of(secret);
        if !is_variable(&variable) {
            let what =
                format!("secret `{secret}` would be the variable {variable}, which is not a name of one");
            return wrong(what, "give the secret a name that begins with no digit");
        }
        if settings.env.contains_key(&variable) {
            let what = format!("secret `{secret}` is the variable {variable}, which `env` sets too");
            return wrong(what, format!("remove {variable} from `env`"));
        }
        if let Some(other) = variables.insert(variable.clone(), secret) {
            let what = format!("secrets `{other}` and `{secret}` are both the variable {variable}");
            return wrong(what, "name one of them only");
        }
    }
    Ok(())
}

fn check_counts(settings: &Settings) -> Result<(), Wrong> {
    let counts = [
        ("env", settings.env.len(), ENV_MAX),
        ("secrets", settings.secrets.len(), SECRETS_MAX),
        ("outbound", settings.outbound.len(), OUTBOUND_MAX),
        ("route", settings.routes.len(), ROUTES_MAX),
        ("labels", settings.labels.len(), LABELS_MAX),
        ("annotations", settings.annotations.len(), LABELS_MAX),
    ];
    match counts.into_iter().find(|(_, count, most)| count > most) {
        None => Ok(()),
        Some((name, count, most)) => {
            wrong(format!("`{name}` has {count} entries, more than {most}"), format!("name at most {most}"))
        }
    }
}

/// The notes about a namespace.
pub(crate) fn check_notes(namespace: &NamespaceName, notes: &NamespaceNotes) -> Result<(), Problem> {
    let kinds = [
        ("label", &notes.labels, LABELS_BYTES_MAX),
        ("annotation", &notes.annotations, ANNOTATIONS_BYTES_MAX),
    ];
    let check = |(noun, noted, bytes_max): (&str, &Option<BTreeMap<String, String>>, usize)| {
        let Some(noted) = noted else { return Ok(()) };
        if noted.len() > LABELS_MAX {
            let what = format!("it has {} {noun}s, more than {LABELS_MAX}", noted.len());
            return wrong(what, format!("send at most {LABELS_MAX}"));
        }
        check_labels(noun, noted, bytes_max)
    };
    kinds.into_iter().try_for_each(check).map_err(|Wrong { what, hint }| {
        Problem::new(&code::INVALID_SETTINGS, format!("namespace `{namespace}`: {what}")).hint(hint)
    })
}

fn check_labels(noun: &str, labels: &BTreeMap<String, String>, bytes_max: usize) -> Result<(), Wrong> {
    for (name, value) in labels {
        if name.is_empty()
            || name.chars().any(char::is_control)
            || value.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
        {
            return wrong(
                format!("the {noun} `{}` has no name or holds control characters", shown(name)),
                "use text that can be shown",
            );
        }
    }
    let bytes = bytes_of(labels);
    if bytes > bytes_max {
        let what = format!("its {noun}s have {bytes} bytes, more than {}", ByteSize(bytes_max as u64));
        return wrong(what, "shorten them");
    }
    Ok(())
}

fn check_original(original: Option<&Original>) -> Result<(), Wrong> {
    match original {
        Some(Original { face, document }) if face.len() + document.len() > ORIGINAL_BYTES_MAX => {
            let (is, most) = (ByteSize(document.len() as u64), ByteSize(ORIGINAL_BYTES_MAX as u64));
            wrong(
                format!("what was asked for has {is}, more than {most}"),
                "put what is long into a file of its image",
            )
        }
        _ => Ok(()),
    }
}

fn check_content_type(content_type: Option<&str>) -> Result<(), Wrong> {
    let ok = |text: &str| {
        text.len() <= CONTENT_TYPE_BYTES_MAX
            && text.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty())
            && text.bytes().all(|c| c == b' ' || c.is_ascii_graphic())
            && text.trim() == text
    };
    match content_type {
        Some(text) if !ok(text) => wrong(
            format!("`{}` is not a content type", shown(text)),
            "set for example `content_type = \"text/plain\"`",
        ),
        _ => Ok(()),
    }
}

/// Whether a text is `[A-Za-z_][A-Za-z0-9_]*`.
fn is_variable(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

fn bytes_of(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Whether all of a text can be shown.
fn is_shown(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// The start of a text that may be anything, fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(settings: &Settings) -> Result<(), Problem> {
        let code = Code::Wasm(coracle_model::Digest::from_bytes([7; 32]));
        check_settings(&FunctionName::parse("f").unwrap(), &code, Contract::Component, settings)
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    }

    fn secrets(names: &[&str]) -> Settings {
        with(|settings| {
            settings.secrets = names.iter().map(|name| SecretName::parse(name).unwrap()).collect()
        })
    }

    fn env(name: &str, value: &str) -> Settings {
        with(|settings| drop(settings.env.insert(name.into(), value.into())))
    }

    #[test]
    fn the_defaults_and_the_edges_are_allowed() {
        for right in [
            Settings::default(),
            with(|s| s.limits.memory_bytes = Limits::MEMORY_BYTES_MIN),
            with(|s| s.limits.memory_bytes = Limits::MEMORY_BYTES_MAX),
            with(|s| s.limits.timeout = Limits::TIMEOUT_MAX),
            with(|s| s.limits.timeout = Duration::from_nanos(1)),
            with(|s| (s.limits.concurrency, s.limits.waiting) = (1, 0)),
            with(|s| s.content_type = Some("text/html; charset=utf-8".into())),
            env("_a1", &"x".repeat(ENV_BYTES_MAX - 3)),
            env("LINES", "a\nb\tc"),
            secrets(&["api-key", "api-key-2"]),
        ] {
            check(&right).unwrap();
        }
    }

    #[test]
    fn what_is_not_allowed_is_named_with_the_line_that_would_be() {
        let labels = |count: usize| (0..count).map(|i| (i.to_string(), String::new())).collect();
        let routes = || (0..=ROUTES_MAX).map(|i| format!("/{i}").parse().unwrap()).collect();
        let mut collides = secrets(&["api-key"]);
        collides.env.insert("API_KEY".into(), "x".into());
        let table = [
            (
                with(|s| s.limits.memory_bytes -= s.limits.memory_bytes),
                "memory of 0B is not between 64KiB and 4GiB",
            ),
            (with(|s| s.limits.memory_bytes = (4 << 30) + 1), "memory of 4294967297B is not between"),
            (with(|s| s.limits.timeout = Duration::ZERO), "timeout of 0ns is not above zero"),
            (with(|s| s.limits.stream_timeout = Duration::MAX), "stream_timeout of"),
            (with(|s| s.limits.concurrency = 0), "concurrency of 0 is not between 1 and 100000"),
            (with(|s| s.limits.concurrency = 100_001), "concurrency of 100001"),
            (with(|s| s.limits.waiting = 100_001), "waiting of 100001 is more than 100000"),
            (with(|s| s.reuse = u32::MAX), "reuse of 4294967295"),
            (env("A B", "x"), "`A B` is not a name of an environment variable"),
            (env("1A", "x"), "`1A` is not a name"),
            (env("A\u{1b}[31m", "x"), "`A?[31m` is not a name"),
            (env("", "x"), "`` is not a name"),
            (env("A", "hush\0"), "the value of A has a NUL character"),
            (env("A", &"x".repeat(ENV_BYTES_MAX)), "its environment has 65537 bytes, more than 64KiB"),
            (secrets(&["1key"]), "secret `1key` would be the variable 1KEY"),
            (collides, "secret `api-key` is the variable API_KEY, which `env` sets too"),
            (
                secrets(&["api-key", "api.key"]),
                "secrets `api-key` and `api.key` are both the variable API_KEY",
            ),
            (secrets(&["key", "key"]), "secrets `key` and `key` are both the variable KEY"),
            (with(|s| s.labels = labels(65)), "`labels` has 65 entries, more than 64"),
            (with(|s| s.annotations = labels(65)), "`annotations` has 65 entries"),
            (
                with(|s| s.labels = [("a".into(), "x".repeat(16 << 10))].into()),
                "its labels have 16385 bytes, more than 16KiB",
            ),
            (
                with(|s| s.labels = [("a".into(), "\u{7}".into())].into()),
                "the label `a` has no name or holds control",
            ),
            (with(|s| s.routes = routes()), "`route` has 33 entries"),
            (
                with(|s| s.content_type = Some("text/html\r\nx: y".into())),
                "`text/html??x: y` is not a content type",
            ),
            (with(|s| s.content_type = Some("html".into())), "`html` is not a content type"),
        ];
        for (wrong, said) in table {
            let problem = check(&wrong).unwrap_err();
            assert_eq!(problem.code, &code::INVALID_SETTINGS);
            assert!(problem.message.starts_with(&format!("function `f`: {said}")), "{problem}");
            assert!(!problem.message.contains("hush"), "{problem}");
            assert!(problem.hint.is_some(), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn what_is_allowed_makes_an_environment_without_doubles(
            names in prop::collection::btree_set("[a-c1_=]{0,3}", 0..4), keys in prop::collection::vec("[a-c1][-._a]{0,2}", 0..4)
        ) {
            let settings = Settings {
                env: names.into_iter().map(|name| (name.to_uppercase(), String::new())).collect(),
                secrets: keys.iter().map(|key| SecretName::parse(key).unwrap()).collect(),
                ..Settings::default()
            };
            let mut all: Vec<String> = settings.env.keys().cloned().collect();
            all.extend(settings.secrets.iter().map(Settings::variable_of));
            let wrong = |name: &String| name.is_empty() || name.starts_with('1') || name.contains('=');
            let distinct = all.iter().collect::<std::collections::BTreeSet<_>>().len();
            prop_assert_eq!(check(&settings).is_ok(), !all.iter().any(wrong) && distinct == all.len());
        }
    }
}
