//! What the settings of a program may be, and which settings go with which code: pure checks, as those beside them.
//! `validate.rs` calls them.

use std::time::Duration;

use coracle_model::{ByteSize, Code, Contract, Cores, Limits, Network, Program, Scale, Settings, Span};

use super::{Wrong, is_shown, shown, wrong};

/// The most words of a command, and of an entrypoint.
const WORDS_MAX: usize = 1_000;
/// All words of both together, in bytes: far below what the kernel hands to a program.
const WORDS_BYTES_MAX: usize = 64 << 10;
/// The longest path of a folder or of a health check, in bytes.
const PATH_BYTES_MAX: usize = 1 << 10;
/// The longest name of a user, in bytes.
const USER_BYTES_MAX: usize = 64;

/// Checks that code, contract and settings go together, and everything that only programs have.
pub(super) fn check_program(code: &Code, contract: Contract, settings: &Settings) -> Result<(), Wrong> {
    if let Code::Wasm(_) = code {
        return check_component(contract, settings);
    }
    if contract == Contract::Component {
        return wrong(
            format!("the contract of {} is not `component`", named(code)),
            "set `contract = \"http\"` for a program that listens, `contract = \"stdio\"` for one that reads its input and prints",
        );
    }
    if settings.reuse > 0 {
        let what = format!("`reuse` is for WebAssembly, and this is {}", named(code));
        return wrong(what, "leave it out: an instance of a program serves calls for as long as it runs");
    }
    check_memory(settings)?;
    check_words(code, contract, &settings.program)?;
    check_place(&settings.program)?;
    check_listening(contract, &settings.program)?;
    check_bounds(&settings.program)?;
    check_network(settings)?;
    check_scale(&settings.scale)
}

/// That nothing is set for WebAssembly which only a program obeys.
fn check_component(contract: Contract, settings: &Settings) -> Result<(), Wrong> {
    if matches!(contract, Contract::Http | Contract::Watchdog) {
        return wrong(
            "WebAssembly listens on no port, and has no watchdog",
            "leave `contract` out: the code says itself how it is spoken to",
        );
    }
    let (own, default) = (&settings.program, Program::default());
    let only_programs = [
        ("entrypoint", own.entrypoint != default.entrypoint),
        ("command", own.command != default.command),
        ("workdir", own.workdir != default.workdir),
        ("user", own.user != default.user),
        ("port", own.port != default.port),
        ("health", own.health != default.health),
        ("http2", own.http2 != default.http2),
        ("start_timeout", own.start_timeout != default.start_timeout),
        ("read_only", own.read_only != default.read_only),
        ("network", own.network != default.network),
        ("secrets_in_env", own.secrets_in_env != default.secrets_in_env),
        ("cpu", own.cpu_millis != default.cpu_millis),
        ("processes", own.processes != default.processes),
        ("scale", settings.scale != Scale::default()),
    ];
    match only_programs.into_iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((name, _)) => wrong(
            format!("`{name}` is for programs, and this is WebAssembly"),
            "leave it out, or deploy a bundle or an image",
        ),
    }
}

fn check_memory(settings: &Settings) -> Result<(), Wrong> {
    let bytes = settings.limits.memory_bytes;
    let (least, most) = (ByteSize(Program::MEMORY_BYTES_MIN), ByteSize(Program::MEMORY_BYTES_MAX));
    if (least.0..=most.0).contains(&bytes) {
        return Ok(());
    }
    let what = format!("memory of {} is not between {least} and {most}, as a program needs", ByteSize(bytes));
    wrong(what, "set for example `memory = \"128MiB\"`")
}

fn check_words(code: &Code, contract: Contract, program: &Program) -> Result<(), Wrong> {
    let all = || program.entrypoint.iter().chain(&program.command);
    if contract == Contract::Watchdog {
        // What it runs, its environment says, and the runtime has looked at that.
        return match all().next() {
            None => Ok(()),
            Some(_) => wrong(
                "`command` says what is run, and so does the environment of a watchdog",
                "leave out `command` and `entrypoint`, or `fprocess` of `env`",
            ),
        };
    }
    if matches!(code, Code::Bundle(_)) && all().next().is_none() {
        let what = "a bundle does not say what is run";
        return wrong(what, "name it with `command = [\"./server\"]`; it starts in the bundle's folder");
    }
    for (name, words) in [("entrypoint", &program.entrypoint), ("command", &program.command)] {
        if words.len() > WORDS_MAX {
            let what = format!("`{name}` has {} words, more than {WORDS_MAX}", words.len());
            return wrong(what, "put what is long into a file");
        }
        if words.first().is_some_and(String::is_empty) {
            return wrong(format!("`{name}` begins with an empty word"), "begin with the program");
        }
        if words.iter().any(|word| word.contains('\0')) {
            return wrong(format!("`{name}` has a NUL character"), "no program can be given one");
        }
    }
    let bytes: usize = all().map(|word| word.len() + 1).sum();
    if bytes > WORDS_BYTES_MAX {
        let what = format!("its command has {bytes} bytes, more than {}", ByteSize(WORDS_BYTES_MAX as u64));
        return wrong(what, "put what is long into a file");
    }
    Ok(())
}

fn check_place(program: &Program) -> Result<(), Wrong> {
    if let Some(workdir) = &program.workdir
        && !(workdir.starts_with('/') && workdir.len() <= PATH_BYTES_MAX && is_shown(workdir))
    {
        let what = format!("the workdir `{}` is no absolute path", shown(workdir));
        return wrong(what, "set for example `workdir = \"/home/app\"`, where the files of a bundle lie");
    }
    let is_user = |text: &str| {
        let is_name = |name: &str| {
            let mut letters = name.bytes();
            letters.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_')
                && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
        };
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        text.len() <= USER_BYTES_MAX && is_name(user) && group.is_none_or(is_name)
    };
    match &program.user {
        Some(user) if !is_user(user) => wrong(
            format!("`{}` is not a user", shown(user)),
            "set for example `user = \"1000\"`, `user = \"1000:1000\"` or a name that the image knows",
        ),
        _ => Ok(()),
    }
}

fn check_listening(contract: Contract, program: &Program) -> Result<(), Wrong> {
    if contract == Contract::Stdio {
        let set = [
            ("port", program.port.is_some()),
            ("health", program.health.is_some()),
            ("http2", program.http2),
        ];
        if let Some((name, _)) = set.into_iter().find(|(_, is_set)| *is_set) {
            let what = format!("`{name}` is for programs that listen, and the contract is `stdio`");
            return wrong(what, format!("set `contract = \"http\"`, or leave `{name}` out"));
        }
    }
    if contract == Contract::Watchdog {
        let set = [("port", program.port.is_some()), ("http2", program.http2)];
        if let Some((name, _)) = set.into_iter().find(|(_, is_set)| *is_set) {
            let what =
                format!("`{name}` is not for a watchdog, whose environment says where its function listens");
            return wrong(what, "set `http_upstream_url` in `env`, as in \"http://127.0.0.1:5000\"");
        }
    }
    if program.port == Some(0) {
        return wrong("port 0 is none", format!("set for example `port = {}`", Program::PORT));
    }
    // It becomes the target of a request.
    let is_target = |path: &str| {
        path.starts_with('/') && path.len() <= PATH_BYTES_MAX && path.bytes().all(|c| c.is_ascii_graphic())
    };
    match &program.health {
        Some(health) if !is_target(health) => wrong(
            format!("`{}` is not a path of a request", shown(health)),
            "set for example `health = \"/healthz\"`",
        ),
        _ => Ok(()),
    }
}

fn check_bounds(program: &Program) -> Result<(), Wrong> {
    if program.start_timeout == Duration::ZERO || program.start_timeout > Program::START_TIMEOUT_MAX {
        let (is, most) = (program.start_timeout, Span(Program::START_TIMEOUT_MAX));
        let what = format!("start_timeout of {is:?} is not above zero and at most {most}");
        return wrong(what, "set for example `start_timeout = \"30s\"`");
    }
    let (least, most) = (Program::CPU_MILLIS_MIN, Program::CPU_MILLIS_MAX);
    if let Some(cpu) = program.cpu_millis
        && !(least..=most).contains(&cpu)
    {
        let what = format!("cpu of {} is not between {} and {}", Cores(cpu), Cores(least), Cores(most));
        return wrong(what, "set for example `cpu = \"500m\"`");
    }
    if !(1..=Program::PROCESSES_MAX).contains(&program.processes) {
        let what =
            format!("processes of {} is not between 1 and {}", program.processes, Program::PROCESSES_MAX);
        return wrong(what, "set for example `processes = 256`");
    }
    Ok(())
}

/// Who has the network of the machine reaches all that it reaches: grants beside it would promise a bound.
fn check_network(settings: &Settings) -> Result<(), Wrong> {
    if settings.program.network == Network::Host && !settings.outbound.is_empty() {
        return wrong(
            "`outbound` bounds nothing on the network of the machine",
            "leave out `outbound`, or `network = \"host\"`",
        );
    }
    Ok(())
}

fn check_scale(scale: &Scale) -> Result<(), Wrong> {
    if !(1..=Scale::INSTANCES_MAX).contains(&scale.max) {
        let what = format!("scale.max of {} is not between 1 and {}", scale.max, Scale::INSTANCES_MAX);
        return wrong(what, "set for example `scale = { max = 20 }`");
    }
    if scale.min > scale.max {
        let what = format!("scale.min of {} is more than scale.max of {}", scale.min, scale.max);
        return wrong(what, "set for example `scale = { min = 1, max = 20 }`");
    }
    if !(1..=Limits::CALLS_MAX).contains(&scale.target) {
        let what = format!("scale.target of {} is not between 1 and {}", scale.target, Limits::CALLS_MAX);
        return wrong(what, "set for example `scale = { target = 10 }`");
    }
    if scale.idle == Duration::ZERO || scale.idle > Scale::IDLE_MAX {
        let what =
            format!("scale.idle of {:?} is not above zero and at most {}", scale.idle, Span(Scale::IDLE_MAX));
        return wrong(what, "set for example `scale = { idle = \"5m\" }`; `min` keeps instances for ever");
    }
    Ok(())
}

fn named(code: &Code) -> &'static str {
    match code {
        Code::Wasm(_) => "WebAssembly",
        Code::Bundle(_) => "a bundle",
        Code::Image { .. } => "an image",
    }
}

#[cfg(test)]
mod tests {
    use coracle_model::{Digest, FunctionName, Problem, SecretName, code};

    use super::*;
    use crate::validate::check_settings;

    const DIGEST: Digest = Digest::from_bytes([7; 32]);

    fn image() -> Code {
        Code::Image { reference: "docker.io/library/nginx:1".into(), digest: DIGEST }
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::default();
        settings.program.command = vec!["./server".into()];
        change(&mut settings);
        settings
    }

    fn check(code: &Code, contract: Contract, settings: &Settings) -> Result<(), Problem> {
        check_settings(&FunctionName::parse("f").unwrap(), code, contract, settings)
    }

    #[test]
    fn a_program_may_have_what_it_obeys() {
        let secret = |name: &str| vec![SecretName::parse(name).unwrap()];
        for (code, contract, right) in [
            (image(), Contract::Http, Settings::default()),
            (image(), Contract::Stdio, Settings::default()),
            (Code::Bundle(DIGEST), Contract::Stdio, with(|_| {})),
            (Code::Bundle(DIGEST), Contract::Watchdog, Settings::default()),
            (Code::Bundle(DIGEST), Contract::Http, with(|s| s.program.port = Some(3000))),
            (image(), Contract::Http, with(|s| s.program.health = Some("/healthz?deep=1".into()))),
            (image(), Contract::Http, with(|s| s.program.user = Some("www-data:101".into()))),
            (image(), Contract::Http, with(|s| s.program.cpu_millis = Some(Program::CPU_MILLIS_MIN))),
            (image(), Contract::Http, with(|s| s.scale = Scale { min: 3, max: 3, ..Scale::default() })),
            (image(), Contract::Http, with(|s| s.limits.memory_bytes = 8 << 30)),
            // It is a file there, and no variable.
            (image(), Contract::Http, with(|s| s.secrets = secret("1key"))),
        ] {
            check(&code, contract, &right).unwrap();
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_with_what_would() {
        let (http, stdio) = (Contract::Http, Contract::Stdio);
        let secrets =
            |names: &[&str]| names.iter().map(|name| SecretName::parse(name).unwrap()).collect::<Vec<_>>();
        let long = || vec!["x".repeat(WORDS_BYTES_MAX)];
        let table = [
            (image(), Contract::Component, with(|_| {}), "the contract of an image is not `component`"),
            (Code::Bundle(DIGEST), http, Settings::default(), "a bundle does not say what is run"),
            (image(), http, with(|s| s.reuse = 1), "`reuse` is for WebAssembly, and this is an image"),
            (
                image(),
                http,
                with(|s| s.limits.memory_bytes = 1 << 20),
                "memory of 1MiB is not between 4MiB and 1024GiB",
            ),
            (
                image(),
                http,
                with(|s| s.program.command = vec![String::new()]),
                "`command` begins with an empty word",
            ),
            (image(), http, with(|s| s.program.entrypoint = vec!["a\0".into()]), "`entrypoint` has a NUL"),
            (image(), http, with(|s| s.program.command = long()), "its command has 65537 bytes"),
            (
                image(),
                http,
                with(|s| s.program.command = vec!["x".into(); 1_001]),
                "`command` has 1001 words",
            ),
            (
                image(),
                http,
                with(|s| s.program.workdir = Some("srv".into())),
                "the workdir `srv` is no absolute path",
            ),
            (image(), http, with(|s| s.program.user = Some("a b".into())), "`a b` is not a user"),
            (image(), http, with(|s| s.program.user = Some("1000:".into())), "`1000:` is not a user"),
            (image(), http, with(|s| s.program.port = Some(0)), "port 0 is none"),
            (
                image(),
                http,
                with(|s| s.program.health = Some("healthz".into())),
                "`healthz` is not a path of a request",
            ),
            (
                image(),
                http,
                with(|s| s.program.health = Some("/a b".into())),
                "`/a b` is not a path of a request",
            ),
            (image(), stdio, with(|s| s.program.port = Some(80)), "`port` is for programs that listen"),
            (
                image(),
                stdio,
                with(|s| s.program.health = Some("/".into())),
                "`health` is for programs that listen",
            ),
            (image(), http, with(|s| s.program.start_timeout = Duration::ZERO), "start_timeout of 0ns"),
            (image(), http, with(|s| s.program.start_timeout = Duration::MAX), "start_timeout of"),
            (
                image(),
                http,
                with(|s| s.program.cpu_millis = Some(9)),
                "cpu of 9m is not between 10m and 1024",
            ),
            (image(), http, with(|s| s.program.processes = 0), "processes of 0 is not between 1 and 32768"),
            (image(), http, with(|s| s.program.processes = 32_769), "processes of 32769"),
            (image(), http, with(|s| s.scale.max = 0), "scale.max of 0 is not between 1 and 1000"),
            (image(), http, with(|s| s.scale.max = 1_001), "scale.max of 1001"),
            (image(), http, with(|s| s.scale.min = 21), "scale.min of 21 is more than scale.max of 20"),
            (image(), http, with(|s| s.scale.target = 0), "scale.target of 0"),
            (image(), http, with(|s| s.scale.idle = Duration::ZERO), "scale.idle of 0ns"),
            (image(), http, with(|s| s.scale.idle = Duration::MAX), "scale.idle of"),
            (image(), http, with(|s| s.secrets = secrets(&["a", "a"])), "secret `a` is named twice"),
            (image(), http, with(|s| s.secrets = secrets(&[".."])), "secret `..` cannot be a file"),
            (
                image(),
                http,
                with(|s| {
                    s.secrets = secrets(&["1key"]);
                    s.program.secrets_in_env = true;
                }),
                "secret `1key` would be the variable 1KEY",
            ),
            (
                image(),
                http,
                with(|s| {
                    s.outbound = vec!["https://example.com".parse().unwrap()];
                    s.program.network = Network::Host;
                }),
                "`outbound` bounds nothing",
            ),
            (
                Code::Bundle(DIGEST),
                Contract::Watchdog,
                with(|_| {}),
                "`command` says what is run, and so does the environment of a watchdog",
            ),
            (
                image(),
                Contract::Watchdog,
                Settings { program: Program { port: Some(80), ..Program::default() }, ..Settings::default() },
                "`port` is not for a watchdog",
            ),
            (
                Code::Wasm(DIGEST),
                http,
                Settings::default(),
                "WebAssembly listens on no port, and has no watchdog",
            ),
            (Code::Wasm(DIGEST), stdio, with(|_| {}), "`command` is for programs, and this is WebAssembly"),
            (
                Code::Wasm(DIGEST),
                stdio,
                Settings { scale: Scale { min: 1, ..Scale::default() }, ..Settings::default() },
                "`scale` is for programs",
            ),
        ];
        for (code, contract, settings, said) in table {
            let problem = check(&code, contract, &settings).expect_err(said);
            assert_eq!(problem.code, &code::INVALID_SETTINGS);
            assert!(problem.message.starts_with(&format!("function `f`: {said}")), "{problem}");
            assert!(problem.hint.is_some(), "{problem}");
        }
    }
}
