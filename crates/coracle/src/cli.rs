//! The verbs of the command line, one file each: `Args`, `run`, and how the result looks.
//! `main.rs` runs the one that was typed.

mod ago;
mod backup;
mod call;
mod calls;
mod changes;
mod completions;
mod demo;
mod deploy;
mod dev;
mod explain;
mod image;
mod list;
mod login;
mod logs;
mod namespace;
mod new;
mod queue;
mod remove;
mod rollback;
mod scale;
mod secret;
mod show;
mod status;
mod store;
mod token;
mod top;
mod up;
mod words;

use clap::Subcommand;

use crate::options::Common;
use crate::stop::Done;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a server
    Up(up::Args),
    /// Begin a project in Rust, JavaScript, Python, C or any other language
    New(new::Args),
    /// Deploy a folder, a stack.yaml, a .wasm file, any program, or an image
    Deploy(Box<deploy::Args>),
    /// Build, deploy and watch: every save is a new revision
    Dev(dev::Args),
    /// Call a function
    #[command(alias = "invoke")]
    Call(call::Args),
    /// List functions
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show all about a function
    #[command(alias = "describe")]
    Show(show::Args),
    /// Read what functions printed
    Logs(logs::Args),
    /// List the last calls, and how they ended
    Calls(calls::Args),
    /// Look at queued calls; cancel them, run them again
    Queue(queue::Args),
    /// Watch functions live: calls, latencies, errors, instances
    Top(top::Args),
    /// Remove a function, or a whole app
    #[command(visible_alias = "rm")]
    Remove(remove::Args),
    /// Go back to an earlier revision
    Rollback(rollback::Args),
    /// Start or stop instances of a program
    Scale(scale::Args),
    /// Set, list and remove secrets
    Secret(secret::Args),
    /// Pull, load, list and remove images
    Image(image::Args),
    /// List and deploy functions that others wrote
    Store(store::Args),
    /// Create, list and revoke tokens
    Token(token::Args),
    /// Create, list and remove namespaces
    Namespace(namespace::Args),
    /// Show how the server does
    Status(status::Args),
    /// Explain an error code
    Explain(explain::Args),
    /// Take a copy of everything, while the server runs
    Backup(backup::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Say that no login is needed
    // Hidden: who types it knows it from faas-cli.
    #[command(hide = true)]
    Login(login::Args),
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, common: &Common) -> Done {
    match verb {
        Verb::Up(args) => up::run(args, common).await,
        Verb::New(args) => new::run(&args, common),
        Verb::Deploy(args) => deploy::run(*args, common).await,
        Verb::Dev(args) => dev::run(args, common).await,
        Verb::Call(args) => call::run(args, common).await,
        Verb::List(args) => list::run(args, common).await,
        Verb::Show(args) => show::run(args, common).await,
        Verb::Logs(args) => logs::run(args, common).await,
        Verb::Calls(args) => calls::run(args, common).await,
        Verb::Queue(args) => queue::run(args, common).await,
        Verb::Top(args) => top::run(args, common).await,
        Verb::Remove(args) => remove::run(args, common).await,
        Verb::Rollback(args) => rollback::run(args, common).await,
        Verb::Scale(args) => scale::run(args, common).await,
        Verb::Secret(args) => secret::run(args, common).await,
        Verb::Image(args) => image::run(args, common).await,
        Verb::Store(args) => store::run(args, common).await,
        Verb::Token(args) => token::run(args, common).await,
        Verb::Namespace(args) => namespace::run(args, common).await,
        Verb::Status(args) => status::run(args, common).await,
        Verb::Explain(args) => explain::run(&args, common),
        Verb::Backup(args) => backup::run(args, common).await,
        Verb::Completions(args) => completions::run(&args),
        Verb::Login(args) => login::run(&args),
    }
}
