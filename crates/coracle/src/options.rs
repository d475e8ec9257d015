//! What was typed, and the environment: read here, and nowhere else.
//! `main.rs` parses it; the verbs ask it for the server, the namespace and the data directory.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Parser};
use coracle_api::Client;
use coracle_model::{FunctionName, FunctionRef, InvalidName, NamespaceName, Problem, code};

use crate::cli::Verb;
use crate::find;
use crate::stop::Done;

const EXAMPLE: &str = "\
Example:
  coracle up --demo                    a server to play with: coracle call hello -d Ada";

/// Serverless functions made simple, in one binary.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, after_help = EXAMPLE, disable_help_subcommand = true)]
#[command(max_term_width = 100)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every verb understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every verb")]
pub(crate) struct Common {
    /// The server [default: the one of the data directory]
    #[arg(long, global = true, env = "CORACLE_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// The token to show it [default: in the data directory]
    #[arg(long, global = true, env = "CORACLE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<Token>,
    /// The data directory [default: ~/.local/share/coracle]
    #[arg(long, global = true, env = "CORACLE_DATA", hide_env_values = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The namespace [default: default]
    #[arg(short, long, global = true, value_name = "NS")]
    pub(crate) namespace: Option<NamespaceName>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Options {
    /// What was typed; wrong usage ends here.
    pub(crate) fn of_process() -> Self {
        let typed = command().get_matches();
        // The command was made of this very struct.
        Self::from_arg_matches(&typed).unwrap_or_else(|error| error.exit())
    }
}

/// The command line, whose errors show the usage of a verb as its help does.
///
/// Clap's own way is to repeat the flags that were typed, and so those of every verb (and of the environment) too.
pub(crate) fn command() -> Command {
    let mut command = Options::command();
    command.build();
    with_usage(command)
}

fn with_usage(mut command: Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, with_usage);
    }
    let usage = command.render_usage().to_string();
    match usage.strip_prefix("Usage: ") {
        Some(usage) => command.override_usage(usage.to_owned()),
        None => command,
    }
}

impl Common {
    /// A client of the server that is meant.
    pub(crate) fn client(&self) -> Done<Client> {
        let token = self.token.as_ref().map(|token| token.0.as_str());
        find::client(self.url.as_deref(), token, self.data.as_deref(), self.data_dir())
    }

    /// Whether somebody said which server is meant.
    pub(crate) fn names_a_server(&self) -> bool {
        self.url.is_some()
    }

    /// The data directory; an error when nothing says where it is.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Problem> {
        let home = |variable, below: &str| folder_of(variable).map(|folder| folder.join(below));
        self.data
            .clone()
            .or_else(|| home("XDG_DATA_HOME", "coracle"))
            .or_else(|| home("HOME", ".local/share/coracle"))
            .ok_or_else(|| {
                Problem::new(
                    &code::DATA_UNUSABLE,
                    "find the data directory: neither CORACLE_DATA nor HOME is set",
                )
                .hint("name it with `--data DIR`")
            })
    }

    /// The function that is named, in the namespace that stands beside it, was asked for, or is the first.
    pub(crate) fn function(&self, named: &Named) -> FunctionRef {
        let namespace = named.namespace.clone().unwrap_or_else(|| self.namespace());
        FunctionRef { namespace, name: named.name.clone() }
    }

    pub(crate) fn namespace(&self) -> NamespaceName {
        self.namespace.clone().unwrap_or_default()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the binary's options; these two are the desktop's, not flags of ours"
)]
fn folder_of(variable: &str) -> Option<PathBuf> {
    // The XDG specification: a path that is not absolute is to be ignored.
    std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// The folders in which a shell looks for programs.
#[expect(clippy::disallowed_methods, reason = "this is the binary's options; PATH is the shell's")]
pub(crate) fn path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// A variable of the environment, as a stack file refers to it; one that is no text is none.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the binary's options; which variables a stack file names is its own affair"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A token, which stands in no error and no debug output.
#[derive(Clone)]
struct Token(String);

impl FromStr for Token {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A function as it is typed: `NAME`, or `NAME.NS`.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    name: FunctionName,
    namespace: Option<NamespaceName>,
}

impl FromStr for Named {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let FunctionRef { name, namespace } = FunctionRef::parse(text)?;
        Ok(Self { name, namespace: text.contains('.').then_some(namespace) })
    }
}

/// `KEY=VALUE`, as `--env` and `--label` take it.
#[derive(Debug, Clone)]
pub(crate) struct Pair(pub(crate) String, pub(crate) String);

impl FromStr for Pair {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self(key.to_owned(), value.to_owned())),
            _ => Err("write it as KEY=VALUE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_all_verbs_go_together() {
        Options::command().debug_assert();
    }

    #[test]
    fn no_verb_has_a_flag_that_every_verb_has() {
        // clap does not mind, and gives the verb's value to both.
        fn walk(verb: &clap::Command, common: &[&str]) {
            for flag in verb.get_arguments() {
                assert!(!common.contains(&flag.get_id().as_str()), "{} {}", verb.get_name(), flag.get_id());
            }
            verb.get_subcommands().for_each(|verb| walk(verb, common));
        }
        let options = Options::command();
        let common: Vec<_> = options.get_arguments().map(|flag| flag.get_id().as_str()).collect();
        assert!(common.contains(&"data"));
        options.get_subcommands().for_each(|verb| walk(verb, &common));
    }

    #[test]
    fn a_token_stands_in_no_debug_output() {
        let options = Options::parse_from(["coracle", "--token", "hunter2", "list"]);
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn a_namespace_beside_the_name_outranks_the_flag() {
        let options = Options::parse_from(["coracle", "-n", "shop", "list"]);
        let function = |text: &str| options.common.function(&text.parse().unwrap()).to_string();
        assert_eq!(function("hello"), "hello.shop");
        assert_eq!(function("hello.team"), "hello.team");
        assert_eq!(function("hello.default"), "hello.default");
    }
}
