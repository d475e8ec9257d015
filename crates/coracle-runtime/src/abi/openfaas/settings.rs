//! What drives a watchdog: the variables of a program's environment, read once into what they mean.
//! A deploy is refused by them, and the instances of a function run by them.

use std::time::Duration;

use coracle_model::{Network, Problem, Settings, code};

use super::span::seconds_or_span;
use crate::oci::ImageConfig;

/// The variables that name the function's process, the first one that says something.
const PROCESS: [&str; 2] = ["fprocess", "function_process"];

/// How long a call may take where nobody says it, but for the classic watchdog, which sets no bound.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);

/// A watchdog, as its environment has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watchdog {
    /// The function's process and its arguments.
    pub(crate) command: Vec<String>,
    /// How calls get to it.
    pub(crate) mode: Mode,
    /// How long a call may take; `None` is as long as the function may.
    pub(crate) exec_timeout: Option<Duration>,
    /// Calls at once in one instance.
    pub(crate) max_inflight: Option<u32>,
    /// Whether it never says that it is well: there is no lock file to show it.
    pub(crate) is_never_well: bool,
    /// Where the function itself says whether it is ready.
    pub(super) ready_path: Option<String>,
    /// Whether a line about a call names the call.
    pub(super) logs_call: bool,
}

/// How calls get to the function's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is started for each call.
    Fork(Fork),
    /// It is started once and listens on this port.
    Http(u16),
}

/// A process for each call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fork {
    /// Whose ways it has.
    pub(crate) kind: Kind,
    /// The content type of what it prints.
    pub(super) content_type: Option<String>,
    /// Whether what it prints on standard error is part of its answer.
    pub(super) combines: bool,
    /// Whether its environment holds the head of the call.
    pub(super) has_head: bool,
    /// Whether what it answers is logged too.
    pub(super) logs_answer: bool,
}

/// Watchdogs that start a process for each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first one: no `mode` is said.
    Classic,
    /// Answers when the process has ended.
    Serializing,
    /// Answers as the process prints, and so cannot say that it failed.
    Streaming,
}

/// The variables of a program: as the settings say them, else as its image does.
#[derive(Clone, Copy)]
pub(super) struct Variables<'a> {
    image: Option<&'a ImageConfig>,
    settings: &'a Settings,
}

impl Watchdog {
    /// Reads what drives the watchdog of a program; `image` is what its image says, `None` for a bundle.
    ///
    /// # Errors
    /// `invalid-settings`, for what cannot be obeyed here.
    pub(crate) fn parse(image: Option<&ImageConfig>, settings: &Settings) -> Result<Self, Problem> {
        let variables = Variables { image, settings };
        let Some(process) = variables.process() else {
            return wrong(
                "the contract is `watchdog`, and nothing says what it runs",
                "name it in the environment: `env = { fprocess = \"cat\" }`",
            );
        };
        refuse_what_is_not_kept(variables)?;
        let mode = mode(variables, settings)?;
        let is_classic = matches!(&mode, Mode::Fork(Fork { kind: Kind::Classic, .. }));
        let usual = if is_classic { Duration::ZERO } else { EXEC_TIMEOUT };
        let exec_timeout = variables.span("exec_timeout")?.unwrap_or(usual);
        for name in ["read_timeout", "healthcheck_interval"] {
            variables.span(name)?;
        }
        if variables.span("write_timeout")? == Some(Duration::ZERO) {
            return wrong("`write_timeout` is 0: no answer could be written", "set for example \"30s\"");
        }
        Ok(Self {
            // No shell reads it: quotes are letters.
            command: process.trim().split(' ').map(str::to_owned).collect(),
            mode,
            exec_timeout: (!exec_timeout.is_zero()).then_some(exec_timeout),
            max_inflight: variables.number("max_inflight")?.filter(|most| *most > 0),
            is_never_well: variables.truth("suppress_lock")?.unwrap_or(false),
            ready_path: variables.path("ready_path")?,
            logs_call: variables.truth("log_callid")?.unwrap_or(false),
        })
    }

    /// Where the function listens, if it does.
    pub(crate) fn port(&self) -> Option<u16> {
        match self.mode {
            Mode::Http(port) => Some(port),
            Mode::Fork(_) => None,
        }
    }
}

fn mode(variables: Variables<'_>, settings: &Settings) -> Result<Mode, Problem> {
    let fork = |kind: Kind, content_type: Option<&str>, usual: bool| {
        Ok(Mode::Fork(Fork {
            kind,
            content_type: variables.content_type()?.or(content_type.map(str::to_owned)),
            combines: variables.truth("combine_output")?.filter(|_| usual).unwrap_or(usual),
            has_head: variables.truth("cgi_headers")?.filter(|_| usual).unwrap_or(true),
            logs_answer: variables.truth("write_debug")?.filter(|_| usual).unwrap_or(false),
        }))
    };
    // What the settings say in our own words stands where the environment says nothing.
    let own = settings.content_type.as_deref();
    let of_later_ones = own.or(Some("application/octet-stream"));
    match variables.get("mode") {
        None => fork(Kind::Classic, own, true),
        Some("serializing") => fork(Kind::Serializing, of_later_ones, false),
        Some("streaming") => fork(Kind::Streaming, of_later_ones, false),
        Some("http") if settings.program.network == Network::Host => wrong(
            "`mode` is `http`, and on the network of the machine its port would be everybody's",
            "leave out `network = \"host\"`",
        ),
        Some("http") => upstream_port(variables).map(Mode::Http),
        Some(mode @ ("static" | "inproc" | "afterburn")) => wrong(
            &format!("a watchdog of `mode` `{mode}` does not run here"),
            "build its image with its own watchdog as the entrypoint, or use `http`, `serializing` or `streaming`",
        ),
        Some(mode) => wrong(
            &format!("`{}` is no `mode` of a watchdog", shown(mode)),
            "use `http`, `serializing` or `streaming`, or leave it out for a process a call",
        ),
    }
}

/// The port of `http_upstream_url`.
fn upstream_port(variables: Variables<'_>) -> Result<u16, Problem> {
    let hint = "set for example `http_upstream_url` to \"http://127.0.0.1:5000\"";
    let Some(url) = variables.get("http_upstream_url").or_else(|| variables.get("upstream_url")) else {
        return wrong("`mode` is `http`, and nothing says where its function listens", hint);
    };
    let cannot = |why: &str| wrong(&format!("`http_upstream_url` of `{}` {why}", shown(url)), hint);
    let Ok(uri) = url.parse::<http::Uri>() else { return cannot("is no address") };
    if uri.scheme_str() != Some("http") {
        return cannot("does not begin with `http://`");
    }
    if !matches!(uri.host(), Some("127.0.0.1" | "localhost" | "0.0.0.0")) {
        return cannot("is not within the function's own sandbox");
    }
    if uri.path() != "/" || uri.query().is_some() {
        return cannot("has a path, and calls bring their own");
    }
    // What stands behind a colon must be one: of no number at all, `port_u16` says the same as of none.
    let says_port = url.rsplit('/').find(|part| !part.is_empty()).is_some_and(|host| host.contains(':'));
    match uri.port_u16() {
        None if !says_port => Ok(80),
        None | Some(0) => cannot("names no port"),
        Some(port) => Ok(port),
    }
}

/// What a function would count on, and would not get.
fn refuse_what_is_not_kept(variables: Variables<'_>) -> Result<(), Problem> {
    let table = [
        ("jwt_auth", "make the function private: `private = true`"),
        ("marshal_request", "let it read its body from its input, and the head from its environment"),
    ];
    for (name, instead) in table {
        if variables.truth(name)? == Some(true) {
            return wrong(&format!("`{name}` is not kept here"), instead);
        }
    }
    Ok(())
}

impl<'a> Variables<'a> {
    pub(super) fn new(image: Option<&'a ImageConfig>, settings: &'a Settings) -> Self {
        Self { image, settings }
    }

    /// What names the function's process.
    pub(super) fn process(self) -> Option<&'a str> {
        PROCESS.iter().find_map(|name| self.get(name)).filter(|process| !process.trim().is_empty())
    }

    /// A variable that says something.
    fn get(self, name: &str) -> Option<&'a str> {
        let of_image = || {
            let env = &self.image?.env;
            env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        let said = self.settings.env.get(name).map(String::as_str).or_else(of_image);
        said.filter(|value| !value.is_empty())
    }

    fn span(self, name: &str) -> Result<Option<Duration>, Problem> {
        let hint = "write seconds, as in \"30\", or a span, as in \"1m30s\"";
        self.parsed(name, "span of time", hint, seconds_or_span)
    }

    fn number(self, name: &str) -> Result<Option<u32>, Problem> {
        self.parsed(name, "number of calls", "write it as in \"10\"; \"0\" is no bound", |text| {
            text.parse().ok()
        })
    }

    fn truth(self, name: &str) -> Result<Option<bool>, Problem> {
        self.parsed(name, "truth", "write \"true\" or \"false\"", |text| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
    }

    fn content_type(self) -> Result<Option<String>, Problem> {
        self.parsed("content_type", "content type", "write it as in \"text/plain\"", |text| {
            text.bytes().all(|c| c == b' ' || c.is_ascii_graphic()).then(|| text.to_owned())
        })
    }

    fn path(self, name: &str) -> Result<Option<String>, Problem> {
        self.parsed(name, "path", "write it as in \"/ready\"", |text| {
            let is_target = text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
            is_target.then(|| text.to_owned())
        })
    }

    fn parsed<T>(
        self,
        name: &str,
        noun: &str,
        hint: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => wrong(&format!("`{name}` of `{}` is no {noun}", shown(text)), hint),
        }
    }
}

fn wrong<T>(what: &str, hint: &str) -> Result<T, Problem> {
    Err(Problem::new(&code::INVALID_SETTINGS, what).hint(hint))
}

/// What of a value is repeated in an error.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Env<'a> = &'a [(&'a str, &'a str)];

    fn of(env: Env<'_>) -> Result<Watchdog, Problem> {
        let mut settings = Settings::default();
        settings.env.insert("fprocess".into(), "cat".into());
        settings.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Watchdog::parse(None, &settings)
    }

    fn fork(kind: Kind) -> Fork {
        let is_classic = kind == Kind::Classic;
        let content_type = (!is_classic).then(|| "application/octet-stream".to_owned());
        Fork { kind, content_type, combines: is_classic, has_head: true, logs_answer: false }
    }

    #[test]
    fn without_a_mode_it_is_the_classic_one() {
        let expected = Watchdog {
            command: vec!["cat".into()],
            mode: Mode::Fork(fork(Kind::Classic)),
            exec_timeout: None,
            max_inflight: None,
            is_never_well: false,
            ready_path: None,
            logs_call: false,
        };
        assert_eq!(of(&[]).unwrap(), expected);
        assert_eq!(of(&[("mode", ""), ("max_inflight", "0"), ("exec_timeout", "0")]).unwrap(), expected);
    }

    #[test]
    fn modes_are_chosen_by_the_environment() {
        let url = ("http_upstream_url", "http://127.0.0.1:5000");
        let table: [(Env<'_>, Mode, Option<u64>); 6] = [
            (&[("exec_timeout", "2s")], Mode::Fork(fork(Kind::Classic)), Some(2)),
            (&[("mode", "serializing")], Mode::Fork(fork(Kind::Serializing)), Some(30)),
            (&[("mode", "streaming"), ("exec_timeout", "0")], Mode::Fork(fork(Kind::Streaming)), None),
            (&[("mode", "http"), url], Mode::Http(5000), Some(30)),
            (
                &[("mode", "http"), ("upstream_url", "http://localhost/"), ("exec_timeout", "60")],
                Mode::Http(80),
                Some(60),
            ),
            // What only the classic one knows, others do not obey.
            (
                &[("mode", "serializing"), ("combine_output", "true")],
                Mode::Fork(fork(Kind::Serializing)),
                Some(30),
            ),
        ];
        for (env, mode, seconds) in table {
            let watchdog = of(env).unwrap();
            let exec_timeout = seconds.map(Duration::from_secs);
            assert_eq!((watchdog.mode, watchdog.exec_timeout), (mode, exec_timeout), "{env:?}");
        }
    }

    #[test]
    fn the_rest_of_the_environment_is_read() {
        let watchdog = of(&[
            ("fprocess", "python3 -c print(1) 'a  b'"),
            ("max_inflight", "5"),
            ("suppress_lock", "true"),
            ("ready_path", "/ready"),
            ("log_callid", "1"),
            ("content_type", "text/html"),
            ("combine_output", "false"),
            ("cgi_headers", "false"),
            ("write_debug", "true"),
        ])
        .unwrap();
        assert_eq!(watchdog.command, ["python3", "-c", "print(1)", "'a", "", "b'"], "on single spaces");
        assert_eq!((watchdog.max_inflight, watchdog.ready_path.as_deref()), (Some(5), Some("/ready")));
        assert!(watchdog.is_never_well && watchdog.logs_call);
        let Mode::Fork(fork) = watchdog.mode else { panic!("a process a call") };
        assert_eq!(fork.content_type.as_deref(), Some("text/html"));
        assert!(!fork.combines && !fork.has_head && fork.logs_answer);
    }

    #[test]
    fn what_an_image_says_stands_unless_the_settings_say_otherwise() {
        let env = [("fprocess", "env"), ("mode", "streaming"), ("max_inflight", "3")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let image = ImageConfig { env, ..ImageConfig::default() };
        let mut settings = Settings::default();
        settings.env.insert("mode".into(), "serializing".into());
        let watchdog = Watchdog::parse(Some(&image), &settings).unwrap();
        assert_eq!((watchdog.command, watchdog.max_inflight), (vec!["env".to_owned()], Some(3)));
        assert_eq!(watchdog.mode, Mode::Fork(fork(Kind::Serializing)));
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_with_what_would_be() {
        let http = ("mode", "http");
        let table: [(Env<'_>, &str); 19] = [
            (&[("fprocess", " ")], "nothing says what it runs"),
            (&[("mode", "static")], "a watchdog of `mode` `static` does not run here"),
            (&[("mode", "afterburn")], "a watchdog of `mode` `afterburn`"),
            (&[("mode", "inproc")], "a watchdog of `mode` `inproc`"),
            (&[("mode", "forking")], "`forking` is no `mode`"),
            (&[http], "nothing says where its function listens"),
            (&[http, ("http_upstream_url", "127.0.0.1:5000")], "does not begin with `http://`"),
            (&[http, ("http_upstream_url", "https://127.0.0.1")], "does not begin with `http://`"),
            (
                &[http, ("http_upstream_url", "http://10.0.0.1:80")],
                "is not within the function's own sandbox",
            ),
            (&[http, ("http_upstream_url", "http://localhost:5000/api")], "has a path"),
            (&[http, ("http_upstream_url", "http://localhost:0")], "names no port"),
            (&[http, ("http_upstream_url", "http://127.0.0.1:99999")], "`http_upstream_url`"),
            (&[("content_type", "a\r\nx: y")], "no content type"),
            (&[("exec_timeout", "soon")], "`exec_timeout` of `soon` is no span of time"),
            (&[("write_timeout", "0")], "`write_timeout` is 0"),
            (&[("max_inflight", "-1")], "`max_inflight` of `-1` is no number of calls"),
            (&[("suppress_lock", "maybe")], "`suppress_lock` of `maybe` is no truth"),
            (&[("ready_path", "ready")], "`ready_path` of `ready` is no path"),
            (&[("jwt_auth", "true")], "`jwt_auth` is not kept here"),
        ];
        for (env, said) in table {
            let problem = of(env).expect_err(said);
            assert_eq!(problem.code, &code::INVALID_SETTINGS);
            assert!(problem.message.contains(said) && problem.hint.is_some(), "{problem}");
        }
        let mut settings = Settings::default();
        settings.env.extend([("fprocess".into(), "x".into()), ("mode".into(), "http".into())]);
        settings.program.network = Network::Host;
        assert!(Watchdog::parse(None, &settings).unwrap_err().message.contains("network of the machine"));
    }
}
