//! What is done to queued calls: cancelled, run again, removed.
//! What takes many of them, or cannot be taken back, asks first on a terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use coracle_api::{CallState, CancelledView, Client, QueueQuery, RedriveRequest};
use coracle_model::{Problem, code};

use super::{calls, query, state, whose};
use crate::options::{Common, Named};
use crate::stop::{Done, Stop};
use crate::{print, talk};

/// What is run again.
#[derive(Debug, clap::Args)]
pub(super) struct Redrive {
    /// Which, as `coracle queue list --state dead` shows them
    #[arg(value_name = "ID", required_unless_present_any = ["all", "function"])]
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
pub(super) struct Purge {
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

/// Cancels calls, one after the other; the first that cannot be is the last one.
pub(super) async fn cancel(client: &Client, ids: &[String], json: bool) -> Done {
    let mut cancelled = Vec::new();
    for id in ids {
        let one = client.cancel_call(id).await?;
        let CancelledView { id, was } = &one;
        let what = if *was == CallState::Running { "it is stopped" } else { "it never runs" };
        talk::say(format_args!("cancelled {id}: {what}"));
        cancelled.push(one);
    }
    if json { print::json(&cancelled) } else { Ok(()) }
}

impl Redrive {
    pub(super) async fn run(self, client: &Client, common: &Common) -> Done {
        if !(self.all || self.function.is_some()) {
            return self.run_named(client, common.json).await;
        }
        let of = query(self.function.as_ref(), common);
        let dead = client.queue(&of).await?.totals.dead;
        agreed(self.yes, &format!("run {}{} again?", calls(dead, "dead "), whose(&of)))?;
        let QueueQuery { namespace, function } = of.clone();
        let done = client.redrive(&RedriveRequest { namespace, function }).await?;
        let run = if done.calls == 1 { "runs" } else { "run" };
        talk::say(format_args!("{}{} {run} again", calls(done.calls, "dead "), whose(&of)));
        if common.json { print::json(&done) } else { Ok(()) }
    }

    async fn run_named(self, client: &Client, json: bool) -> Done {
        agreed(self.yes, &format!("run {} again?", calls(self.ids.len() as u64, "")))?;
        let mut done = coracle_api::CallsCount { calls: 0 };
        for id in &self.ids {
            done.calls += client.redrive_call(id).await?.calls;
            talk::say(format_args!("{id} runs again"));
        }
        if json { print::json(&done) } else { Ok(()) }
    }
}

impl Purge {
    pub(super) async fn run(self, client: &Client, common: &Common) -> Done {
        let of = query(self.function.as_ref(), common);
        let totals = client.queue(&of).await?.totals;
        let count = if self.state == CallState::Dead { totals.dead } else { totals.waiting };
        let kind = format!("{} ", self.state.as_str());
        agreed(self.yes, &format!("remove {}{} for good?", calls(count, &kind), whose(&of)))?;
        let done = client.purge(of.clone(), self.state).await?;
        talk::say(format_args!("removed {}{}", calls(done.calls, &kind), whose(&of)));
        if common.json { print::json(&done) } else { Ok(()) }
    }
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
