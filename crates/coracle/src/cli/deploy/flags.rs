//! The settings of a function as flags: each outranks what the manifest says.
//! `coracle deploy` reads them.

use coracle_faces::openfaas::deployment::Deployment;
use coracle_model::{
    ByteSize, Contract, Limits, Outbound, Problem, Program, Route, SecretName, Settings, Span,
};

use crate::cli::words::Words;
use crate::manifest::{self, Function};
use crate::options::Pair;

/// The settings of a function.
// What is set rarely is hidden, so that the help fits a screen: `--set` says that there is more.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(in crate::cli) struct Flags {
    /// A variable of its environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<Pair>,
    /// A secret it may read; may be repeated
    #[arg(long, value_name = "NAME")]
    secret: Vec<SecretName>,
    /// Hosts it may reach, as in `https://api.example.com`; may be repeated
    #[arg(long, value_name = "URL")]
    outbound: Vec<Outbound>,
    /// A path it answers, as in `/resize/*`; may be repeated
    #[arg(long, value_name = "PATH")]
    route: Vec<Route>,
    /// Only a token may call it
    #[arg(long)]
    private: bool,
    /// Memory of one instance [default: 128MiB]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<ByteSize>,
    /// Until the head of its response [default: 30s]
    #[arg(long, value_name = "SPAN", value_parser = timeout)]
    timeout: Option<Span>,
    /// Between two chunks of a body [default: 30s]
    #[arg(long, hide = true, value_name = "SPAN", value_parser = timeout)]
    stream_timeout: Option<Span>,
    /// Calls in flight at once [default: 100]
    #[arg(long, hide = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(Limits::CALLS_MAX)))]
    concurrency: Option<u32>,
    /// Calls that may wait for that [default: 1000]
    #[arg(long, hide = true, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(Limits::CALLS_MAX)))]
    waiting: Option<u32>,
    /// The largest body of a call [default: 1GiB]
    #[arg(long, hide = true, value_name = "SIZE")]
    request_body: Option<ByteSize>,
    /// The largest body of a response [default: 1GiB]
    #[arg(long, hide = true, value_name = "SIZE")]
    response_body: Option<ByteSize>,
    /// What it may print in a second [default: 1MiB]
    #[arg(long, hide = true, value_name = "SIZE")]
    log_rate: Option<ByteSize>,
    /// Calls an instance serves after its first [default: 0]
    #[arg(long, hide = true, value_name = "N")]
    reuse: Option<u32>,
    /// The content type of what a command prints
    #[arg(long, hide = true, value_name = "TYPE")]
    content_type: Option<String>,
    /// A label to select it by; may be repeated
    #[arg(long, hide = true, value_name = "KEY=VALUE")]
    label: Vec<Pair>,
    /// A note to read; may be repeated
    #[arg(long, hide = true, value_name = "KEY=VALUE")]
    annotation: Vec<Pair>,
    /// Any key of a manifest, as in `scale.max=3`; docs/reference.md has all
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Pair>,
    /// What a program is started with, as in './server --verbose'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, help_heading = "Programs")]
    command: Option<Words>,
    /// `http`, `stdio` or `watchdog` [default: http for images, else stdio]
    #[arg(long, help_heading = "Programs")]
    contract: Option<Contract>,
    /// Where it listens [default: 8080, or as its image says]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Programs")]
    port: Option<u16>,
    /// The path that answers when it is ready
    #[arg(long, value_name = "PATH", help_heading = "Programs")]
    health: Option<String>,
}

impl Flags {
    /// Lays what was typed over what the manifest says: single values replace, repeated ones are added.
    pub(in crate::cli) fn overlay(&self, function: &mut Function) -> Result<(), Problem> {
        if self.contract.is_some() {
            function.contract = self.contract;
        }
        for Pair(key, value) in &self.set {
            manifest::set(function, key, value)?;
        }
        self.overlay_settings(&mut function.settings);
        Ok(())
    }

    /// Lays what OpenFaaS has words for over a deployment in those words, so that it is said back as if it had been sent.
    pub(in crate::cli) fn overlay_sent(&self, deployment: &mut Deployment) {
        let maps = [
            (&self.env, &mut deployment.env_vars),
            (&self.label, &mut deployment.labels),
            (&self.annotation, &mut deployment.annotations),
        ];
        for (typed, sent) in maps.into_iter().filter(|(typed, _)| !typed.is_empty()) {
            sent.get_or_insert_default().extend(pairs(typed));
        }
        if !self.secret.is_empty() {
            let secrets: Vec<_> = self.secret.iter().map(ToString::to_string).collect();
            add(deployment.secrets.get_or_insert_default(), &secrets);
        }
    }

    /// Whether they say what is run.
    pub(super) fn has_command(&self) -> bool {
        self.command.is_some()
    }

    fn overlay_settings(&self, settings: &mut Settings) {
        settings.env.extend(pairs(&self.env));
        settings.labels.extend(pairs(&self.label));
        settings.annotations.extend(pairs(&self.annotation));
        add(&mut settings.secrets, &self.secret);
        add(&mut settings.outbound, &self.outbound);
        add(&mut settings.routes, &self.route);
        settings.private |= self.private;
        replace(&mut settings.reuse, self.reuse);
        if self.content_type.is_some() {
            settings.content_type.clone_from(&self.content_type);
        }
        let limits = &mut settings.limits;
        replace(&mut limits.memory_bytes, self.memory.map(|size| size.0));
        replace(&mut limits.timeout, self.timeout.map(|span| span.0));
        replace(&mut limits.stream_timeout, self.stream_timeout.map(|span| span.0));
        replace(&mut limits.concurrency, self.concurrency);
        replace(&mut limits.waiting, self.waiting);
        replace(&mut limits.request_body_bytes, self.request_body.map(|size| size.0));
        replace(&mut limits.response_body_bytes, self.response_body.map(|size| size.0));
        replace(&mut limits.log_bytes_per_second, self.log_rate.map(|size| size.0));
        let program = &mut settings.program;
        replace(&mut program.command, self.command.clone().map(|words| words.0));
        program.port = self.port.or(program.port);
        if self.health.is_some() {
            program.health.clone_from(&self.health);
        }
    }
}

fn pairs(pairs: &[Pair]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().cloned().map(|Pair(key, value)| (key, value))
}

fn add<T: Clone + PartialEq>(all: &mut Vec<T>, typed: &[T]) {
    for item in typed {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
}

fn replace<T>(setting: &mut T, typed: Option<T>) {
    if let Some(value) = typed {
        *setting = value;
    }
}

fn memory(text: &str) -> Result<ByteSize, String> {
    within(text, ByteSize(Limits::MEMORY_BYTES_MIN), ByteSize(Program::MEMORY_BYTES_MAX))
}

fn timeout(text: &str) -> Result<Span, String> {
    within(text, Span(std::time::Duration::from_millis(1)), Span(Limits::TIMEOUT_MAX))
}

fn within<T>(text: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr<Err: std::fmt::Display> + PartialOrd + std::fmt::Display,
{
    let value: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    if value < least || value > most { Err(format!("it must be from {least} to {most}")) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn flags_outrank_the_manifest_and_leave_the_rest_of_it() {
        let mut settings = Settings {
            env: [("LEVEL".into(), "info".into()), ("KEEP".into(), "1".into())].into(),
            routes: vec!["/a".parse().unwrap()],
            reuse: 5,
            ..Settings::default()
        };
        let typed =
            ["x", "--env", "LEVEL=debug", "--route", "/a", "--route", "/b", "--memory", "64MiB", "--private"];
        Typed::parse_from(typed).flags.overlay_settings(&mut settings);
        assert_eq!(settings.env["LEVEL"], "debug");
        assert_eq!(settings.env["KEEP"], "1");
        assert_eq!(settings.routes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!((settings.reuse, settings.limits.memory_bytes, settings.private), (5, 64 << 20, true));
    }

    #[test]
    fn a_value_out_of_range_is_wrong_usage() {
        for typed in [
            ["--memory", "8TiB"],
            ["--timeout", "0s"],
            ["--concurrency", "0"],
            ["--env", "=x"],
            ["--port", "0"],
        ] {
            assert!(Typed::try_parse_from(["x"].into_iter().chain(typed)).is_err(), "{typed:?}");
        }
    }

    #[test]
    fn a_command_may_be_nothing_but_flags() {
        // The program is the entrypoint of an image.
        let typed = Typed::parse_from(["x", "--command", "--level debug", "--port", "80"]);
        assert_eq!(typed.flags.command.unwrap().0, ["--level", "debug"]);
        assert_eq!(typed.flags.port, Some(80));
    }

    #[test]
    fn any_key_of_a_manifest_can_be_set() {
        let mut function = Function::new("f".parse().unwrap(), manifest::Source::Image("nginx".into()));
        let typed =
            ["x", "--set", "scale.max=3", "--set", "cpu=500m", "--contract", "stdio", "--command", "cat -n"];
        Typed::parse_from(typed).flags.overlay(&mut function).unwrap();
        assert_eq!((function.settings.scale.max, function.settings.program.cpu_millis), (3, Some(500)));
        assert_eq!(
            (function.contract, &function.settings.program.command[..]),
            (Some(Contract::Stdio), &["cat".to_owned(), "-n".to_owned()][..])
        );
    }
}
