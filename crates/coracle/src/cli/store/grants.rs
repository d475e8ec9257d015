//! What an offer asks for beyond its own sandbox, and which of it the person who deploys it has granted.
//! `store.rs` shows it of every offer, and `shelf.rs` refuses what a stranger's store would take unasked.

use std::fmt;

use coracle_model::{ByteSize, Cores, Network, Outbound, Problem, Route, SecretName, Settings, Span, code};
use serde::Serialize;

use super::plain;
use crate::cli::words::typed;

/// Something of the user's that a function is let at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Grant {
    Secret(SecretName),
    SecretsInEnv,
    HostNetwork,
    Outbound(Outbound),
    Route(Route),
}

impl Grant {
    fn all_of(settings: &Settings) -> Vec<Self> {
        let mut grants: Vec<_> = settings.secrets.iter().cloned().map(Self::Secret).collect();
        grants.extend(settings.program.secrets_in_env.then_some(Self::SecretsInEnv));
        grants.extend((settings.program.network == Network::Host).then_some(Self::HostNetwork));
        grants.extend(settings.outbound.iter().cloned().map(Self::Outbound));
        grants.extend(settings.routes.iter().cloned().map(Self::Route));
        grants
    }

    /// What is typed to grant this and no more: quoted, as a stranger chose the words and a path may have a `;`.
    fn flag(&self) -> String {
        let (flag, value) = match self {
            Self::Secret(name) => ("--secret", name.to_string()),
            Self::SecretsInEnv => ("--set", "secrets_in_env=true".to_owned()),
            Self::HostNetwork => ("--set", "network=host".to_owned()),
            Self::Outbound(hosts) => ("--outbound", hosts.to_string()),
            Self::Route(route) => ("--route", route.to_string()),
        };
        typed([flag, value.as_str()])
    }
}

/// As it stands after "asks for".
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "the secret `{name}`"),
            Self::SecretsInEnv => f.write_str("secrets in its environment"),
            Self::HostNetwork => f.write_str("the network of the machine"),
            Self::Outbound(hosts) => write!(f, "the hosts `{hosts}`"),
            Self::Route(route) => write!(f, "the path `{route}`"),
        }
    }
}

/// That whoever typed `asked` meant all that `wanted` lets the function at.
///
/// # Errors
/// What was not meant, and what to type for it.
pub(super) fn check(offer: &str, wanted: &Settings, asked: &Settings) -> Result<(), Problem> {
    let asked = Grant::all_of(asked);
    let missing: Vec<_> = Grant::all_of(wanted).into_iter().filter(|grant| !asked.contains(grant)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let said: Vec<_> = missing.iter().map(ToString::to_string).collect();
    let flags: Vec<_> = missing.iter().map(Grant::flag).collect();
    let message =
        format!("`{}` is of a store that others wrote, and asks for {}", plain(offer), said.join(", "));
    Err(Problem::new(&code::BAD_REQUEST, message)
        .hint(format!("to grant all of it, add `--grant`; or name what you grant: {}", flags.join(" "))))
}

/// All that an offer asks for, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Asks {
    secrets: Vec<String>,
    secrets_in_env: bool,
    network: String,
    outbound: Vec<String>,
    route: Vec<String>,
    /// The names of its variables.
    env: Vec<String>,
    memory: String,
    timeout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<String>,
    processes: u32,
    concurrency: u32,
    instances: u32,
}

impl Asks {
    pub(super) fn of(settings: &Settings) -> Self {
        let Settings { secrets, outbound, routes, env, limits, program, scale, .. } = settings;
        Self {
            secrets: texts(secrets),
            secrets_in_env: program.secrets_in_env,
            network: program.network.to_string(),
            outbound: texts(outbound),
            route: texts(routes),
            env: env.keys().cloned().collect(),
            memory: ByteSize(limits.memory_bytes).to_string(),
            timeout: Span(limits.timeout).to_string(),
            cpu: program.cpu_millis.map(|millis| Cores(millis).to_string()),
            processes: program.processes,
            concurrency: limits.concurrency,
            instances: scale.max,
        }
    }

    /// A line for each kind of thing; what is not asked for says so, as that is what people look for.
    pub(super) fn lines(&self) -> [(&'static str, String); 6] {
        let listed = |texts: &[String]| match texts {
            [] => "none".to_owned(),
            texts => texts.join(", "),
        };
        let in_env = if self.secrets_in_env { " (in its environment too)" } else { "" };
        let cpu = self.cpu.as_ref().map_or_else(String::new, |cpu| format!(", {cpu} of cpu"));
        let Self { memory, timeout, processes, concurrency, instances, .. } = self;
        let limits = format!(
            "{memory} of memory{cpu}, {timeout}, {processes} processes, {concurrency} calls at once, {instances} instances"
        );
        [
            ("secrets", listed(&self.secrets) + in_env),
            ("network", self.network.clone()),
            ("outbound", listed(&self.outbound)),
            ("route", listed(&self.route)),
            ("env", listed(&self.env)),
            ("limits", limits),
        ]
    }
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn greedy() -> Settings {
        let mut settings = Settings {
            secrets: vec!["api-key".parse().unwrap()],
            outbound: vec!["https://evil.example.com".parse().unwrap()],
            routes: vec!["/login".parse().unwrap()],
            env: [("LEVEL".into(), "info".into())].into(),
            ..Settings::default()
        };
        settings.program.secrets_in_env = true;
        settings.program.network = Network::Host;
        settings
    }

    #[test]
    fn what_was_not_asked_for_is_said_with_what_grants_it() {
        let problem = check("page", &greedy(), &Settings::default()).unwrap_err();
        expect![[r#"
            `page` is of a store that others wrote, and asks for the secret `api-key`, secrets in its environment, the network of the machine, the hosts `https://evil.example.com`, the path `/login`
            to grant all of it, add `--grant`; or name what you grant: --secret api-key --set secrets_in_env=true --set network=host --outbound https://evil.example.com --route /login"#]].assert_eq(&format!("{problem}\n{}", problem.hint.as_deref().unwrap()));
    }

    #[test]
    fn what_is_to_be_typed_is_no_command_of_the_store() {
        let routes = vec!["/a';reboot;'".parse().unwrap()];
        let problem = check("page", &Settings { routes, ..Settings::default() }, &Settings::default());
        let hint = problem.unwrap_err().hint.unwrap();
        assert!(hint.ends_with(r"--route '/a'\'';reboot;'\'''"), "{hint}");
    }

    #[test]
    fn each_grant_that_was_typed_is_one_less() {
        assert!(check("page", &Settings::default(), &Settings::default()).is_ok());
        assert!(check("page", &greedy(), &greedy()).is_ok());
        let asked = Settings { routes: greedy().routes, secrets: greedy().secrets, ..Settings::default() };
        let message = check("page", &greedy(), &asked).unwrap_err().message;
        assert!(!message.contains("`/login`") && !message.contains("api-key"), "{message}");
        assert!(message.contains("https://evil.example.com"), "{message}");
    }

    #[test]
    fn all_that_is_asked_for_is_shown() {
        let shown = |settings: &Settings| {
            let lines = Asks::of(settings).lines();
            lines.iter().map(|(key, text)| format!("{key}: {text}\n")).collect::<String>()
        };
        expect![[r#"
            secrets: api-key (in its environment too)
            network: host
            outbound: https://evil.example.com
            route: /login
            env: LEVEL
            limits: 128MiB of memory, 30s, 256 processes, 100 calls at once, 20 instances
        "#]]
        .assert_eq(&shown(&greedy()));
        expect![[r#"
            secrets: none
            network: own
            outbound: none
            route: none
            env: none
            limits: 128MiB of memory, 30s, 256 processes, 100 calls at once, 20 instances
        "#]]
        .assert_eq(&shown(&Settings::default()));
    }
}
