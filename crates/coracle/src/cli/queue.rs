//! `coracle queue`: calls that are queued: how many, which, what became of each, and what to do with them.
//! What acts on many calls asks first, where somebody sits there to be asked.

mod act;
mod look;
mod show;

use coracle_api::{CallState, Client, QueueQuery};
use coracle_model::FunctionRef;

use crate::options::{Common, Named};
use crate::stop::Done;

pub(super) use self::show::body_of;

const EXAMPLES: &str = "\
Examples:
  coracle call resize --async -d @cat.jpg      queues a call, and prints its ID
  coracle queue status
  coracle queue list --state dead
  coracle queue show ID
  coracle queue redrive --all --function resize";

const STATUS_EXAMPLES: &str = "\
Examples:
  coracle queue status
  coracle queue status resize --json | jq .totals.waiting";

/// Look at calls that are queued; cancel them, run them again, remove them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show how many calls wait, run, and are dead
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// The function, as NAME or NAME.NS [default: all]
        name: Option<Named>,
    },
    /// List calls of one state: those that wait, unless another is named
    #[command(visible_alias = "ls")]
    List(look::List),
    /// Show all about a call: where it stands, every attempt, what it answered
    Show(show::Show),
    /// Read how calls ended that sent it to a topic
    Topic(look::Outcomes),
    /// Cancel calls: one that waits never runs, one that runs is stopped
    Cancel(act::Cancel),
    /// Run dead calls again, and deliver dead results again
    Redrive(act::Redrive),
    /// Remove calls for good: those that are dead, or those that wait
    Purge(act::Purge),
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    match args.verb {
        Verb::Status { name } => look::status(&client, query(name.as_ref(), common), common.json).await,
        Verb::List(list) => list.run(&client, common).await,
        Verb::Show(show) => show.run(&client, common.json).await,
        Verb::Topic(outcomes) => outcomes.run(&client, common).await,
        Verb::Cancel(cancel) => cancel.run(&client, common.json).await,
        Verb::Redrive(redrive) => redrive.run(&client, common).await,
        Verb::Purge(purge) => purge.run(&client, common).await,
    }
}

/// Whose queue is meant: that of a function, of a namespace, or all that the token reaches.
fn query(name: Option<&Named>, common: &Common) -> QueueQuery {
    match name.map(|name| common.function(name)) {
        Some(FunctionRef { namespace, name }) => {
            QueueQuery { namespace: Some(namespace), function: Some(name) }
        }
        None => QueueQuery { namespace: common.namespace.clone(), function: None },
    }
}

/// That a function is there, or has calls that are queued: there is nothing of one that is not, and that is an error.
async fn known(client: &Client, query: &QueueQuery) -> Done {
    let Some(name) = query.function.clone() else { return Ok(()) };
    if client.queue(query).await?.functions.is_empty() {
        client
            .function(&FunctionRef { namespace: query.namespace.clone().unwrap_or_default(), name })
            .await?;
    }
    Ok(())
}

/// Whose calls they are, to be put behind "calls".
fn whose(query: &QueueQuery) -> String {
    let QueueQuery { namespace, function } = query;
    match (function, namespace) {
        (Some(name), Some(namespace)) => {
            let function = FunctionRef { namespace: namespace.clone(), name: name.clone() };
            format!(" of {}", super::call::shown(&function))
        }
        (Some(name), None) => format!(" of {name}"),
        (None, Some(namespace)) => format!(" in the namespace {namespace}"),
        (None, None) => String::new(),
    }
}

/// So many calls of a kind, in words; `kind` is an adjective with a space behind it, or nothing.
fn calls(count: u64, kind: &str) -> String {
    let noun = if count == 1 { "call" } else { "calls" };
    format!("{count} {kind}{noun}")
}

/// A state that can be typed.
fn state(text: &str) -> Result<CallState, String> {
    text.parse()
}
