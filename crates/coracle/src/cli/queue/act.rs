//! What is done to queued calls: cancelled, run again, removed.
//! What takes many of them, or cannot be taken back, asks first on a terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use coracle_api::{
    CallState, CallsCount, CancelledView, Client, ClientError, QueueCounts, QueueQuery, RedriveRequest,
};
use coracle_model::{Problem, code};

use super::{calls, known, query, state, whose};
use crate::options::{Common, Named};
use crate::stop::{Done, Stop};
use crate::{print, talk};

const CANCEL_EXAMPLE: &str = "\
Example:
  coracle queue cancel ID ID";

const REDRIVE_EXAMPLES: &str = "\
Examples:
  coracle queue redrive ID
  coracle queue redrive --function resize
  coracle queue redrive --all --yes";

const PURGE_EXAMPLES: &str = "\
Examples:
  coracle queue purge --function resize
  coracle queue purge --all --state waiting --namespace shop";

/// What is cancelled.
#[derive(Debug, clap::Args)]
#[command(after_help = CANCEL_EXAMPLE)]
pub(super) struct Cancel {
    /// Which, as `coracle queue list` shows them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// What is run again.
#[derive(Debug, clap::Args)]
#[command(after_help = REDRIVE_EXAMPLES)]
#[command(group = clap::ArgGroup::new("which").args(["ids", "all", "function"]).required(true).multiple(true))]
pub(super) struct Redrive {
    /// Which, as `coracle queue list --state dead` shows them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that are dead
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// All that are dead of this function
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    function: Option<Named>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// What is removed.
#[derive(Debug, clap::Args)]
#[command(after_help = PURGE_EXAMPLES)]
#[command(group = clap::ArgGroup::new("which").args(["all", "function"]).required(true).multiple(true))]
pub(super) struct Purge {
    /// Those of all functions, or of all of the namespace
    #[arg(long)]
    all: bool,
    /// Only those of this function
    #[arg(long, value_name = "NAME")]
    function: Option<Named>,
    /// dead or waiting
    #[arg(long, value_name = "STATE", default_value = "dead", value_parser = state)]
    state: CallState,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Cancel {
    pub(super) async fn run(self, client: &Client, json: bool) -> Done {
        let cancelling = each(&self.ids, json, async |id| {
            let one = client.cancel_call(id).await?;
            let CancelledView { id, was } = &one;
            let what = if *was == CallState::Running { "it is stopped" } else { "it never runs" };
            talk::say(format_args!("cancelled {id}: {what}"));
            Ok(one)
        });
        let (cancelled, all) = cancelling.await?;
        if json {
            print::json(&cancelled)?;
        }
        all
    }
}

impl Redrive {
    pub(super) async fn run(self, client: &Client, common: &Common) -> Done {
        if !(self.all || self.function.is_some()) {
            return self.run_named(client, common.json).await;
        }
        let of = query(self.function.as_ref(), common);
        let dead = counts(client, &of).await?.dead;
        agreed(self.yes, &format!("run {}{} again?", calls(dead, "dead "), whose(&of)))?;
        let QueueQuery { namespace, function } = of.clone();
        let done = client.redrive(&RedriveRequest { namespace, function }).await?;
        let run = if done.calls == 1 { "runs" } else { "run" };
        talk::say(format_args!("{}{} {run} again", calls(done.calls, "dead "), whose(&of)));
        if common.json { print::json(&done) } else { Ok(()) }
    }

    async fn run_named(self, client: &Client, json: bool) -> Done {
        agreed(self.yes, &format!("run {} again?", calls(self.ids.len() as u64, "")))?;
        let redriving = each(&self.ids, json, async |id| {
            let one = client.redrive_call(id).await?;
            talk::say(format_args!("{id} runs again"));
            Ok(one.calls)
        });
        let (counts, all) = redriving.await?;
        if json {
            print::json(&CallsCount { calls: counts.iter().sum() })?;
        }
        all
    }
}

impl Purge {
    pub(super) async fn run(self, client: &Client, common: &Common) -> Done {
        let of = query(self.function.as_ref(), common);
        let QueueCounts { dead, waiting, .. } = counts(client, &of).await?;
        let count = if self.state == CallState::Dead { dead } else { waiting };
        let kind = format!("{} ", self.state.as_str());
        agreed(self.yes, &format!("remove {}{} for good?", calls(count, &kind), whose(&of)))?;
        let done = client.purge(of.clone(), self.state).await?;
        talk::say(format_args!("removed {}{}", calls(done.calls, &kind), whose(&of)));
        if common.json { print::json(&done) } else { Ok(()) }
    }
}

/// How many calls are meant; that there is no such function is an error.
async fn counts(client: &Client, of: &QueueQuery) -> Done<QueueCounts> {
    let queue = client.queue(of).await?;
    if queue.functions.is_empty() {
        known(client, of).await?;
    }
    Ok(queue.totals)
}

/// Does something to one call after the other, and says of which ones it cannot be done: they keep no other from it.
/// Gives what came of the rest, and how all of it ended.
async fn each<T>(
    ids: &[String],
    json: bool,
    act: impl AsyncFn(&str) -> Result<T, ClientError>,
) -> Done<(Vec<T>, Done)> {
    let (mut done, mut all) = (Vec::new(), Ok(()));
    for id in ids {
        match act(id).await {
            Ok(one) => done.push(one),
            Err(ClientError::Problem(problem)) => {
                talk::problem(&problem, json);
                all = Err(Stop::Shown);
            }
            // The server is not there for the others either.
            Err(error) => return Err(error.into()),
        }
    }
    Ok((done, all))
}

/// That whoever sits at the terminal wants this; where nobody sits, whoever wrote the script does.
fn agreed(yes: bool, question: &str) -> Done {
    if yes || !(io::stdin().is_terminal() && talk::is_terminal()) {
        return Ok(());
    }
    let unheard =
        |error: io::Error| Problem::new(&code::BAD_REQUEST, format!("cannot ask at the terminal: {error}"));
    let mut err = io::stderr();
    write!(err, "{question} [y/N] ").and_then(|()| err.flush()).map_err(unheard)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(unheard)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    talk::say("nothing was done");
    Err(Stop::Shown)
}
