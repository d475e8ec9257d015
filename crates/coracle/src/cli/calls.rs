//! `coracle calls`: the last calls, newest first: how long each part took, and how each ended.
//! `coracle show` prints the last failures with the same table.

use coracle_api::{CallQuery, CallView};

use super::ago::{ago, micros};
use crate::options::{Common, Named};
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::{print, talk};

/// List the last calls, newest first: how long they took, and how they ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  coracle calls hello\n  coracle calls --failed --limit 5")]
pub(crate) struct Args {
    /// The function, as NAME or NAME.NS [default: all]
    name: Option<Named>,
    /// Only those that failed
    #[arg(long)]
    failed: bool,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let function = args.name.as_ref().map(|name| common.function(name));
    let (namespace, function) = match function {
        Some(function) => (Some(function.namespace), Some(function.name)),
        None => (common.namespace.clone(), None),
    };
    let query = CallQuery { namespace, function, limit: Some(args.limit), failed: args.failed };
    let calls = common.client()?.calls(&query).await?;
    if common.json {
        return print::json(&calls);
    }
    if calls.is_empty() {
        let none = if args.failed { "no call failed" } else { "no calls" };
        talk::say(format_args!("{none} since the server started"));
    }
    render(&calls).print()
}

pub(super) fn render(calls: &[CallView]) -> Table<9> {
    let mut table = Table::new([
        Column::Left("CALL"),
        Column::Left("FUNCTION"),
        Column::Left("ASKED"),
        Column::Right("STATUS"),
        Column::Left("ENDED"),
        Column::Right("WAITED"),
        Column::Right("START"),
        Column::Right("ALL"),
        Column::Left("WHEN"),
    ]);
    for call in calls {
        let CallView { function, revision, method, path, .. } = call;
        let start = micros(call.start_us);
        table.row([
            call.id.clone(),
            format!("{function}/{revision}"),
            format!("{method} {path}"),
            call.status.to_string(),
            call.outcome.clone(),
            micros(call.waited_us),
            if call.cold { format!("cold {start}") } else { start },
            micros(call.total_us),
            ago(call.started),
        ]);
    }
    table
}
