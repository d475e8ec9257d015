//! `coracle calls`: the last calls, newest first: how long each part took, and how each ended.
//! `coracle show` prints the last failures with the same table.

use coracle_api::{CallQuery, CallView, Client};

use super::ago::{ago, micros};
use super::call::shown as function_shown;
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
    let (namespace, name) = match function.clone() {
        Some(function) => (Some(function.namespace), Some(function.name)),
        None => (common.namespace.clone(), None),
    };
    let client = common.client()?;
    let query = CallQuery { namespace, function: name, limit: Some(args.limit), failed: args.failed };
    let calls = client.calls(&query).await?;
    if common.json {
        return print::json(&calls);
    }
    if calls.is_empty() {
        if let Some(function) = &function {
            // There is nothing of a function that is not there; that it is not is an error.
            client.function(function).await?;
        }
        if args.failed {
            talk::say("no call failed since the server started");
            talk::hint("a function that answers 400 or more by itself has not failed: leave out `--failed`");
        } else {
            talk::say("no calls since the server started");
        }
    }
    render(&calls).print()
}

pub(super) fn render(calls: &[CallView]) -> Table<7> {
    let mut table = Table::new([
        Column::Whole("CALL"),
        Column::Left("FUNCTION"),
        Column::Left("ASKED"),
        Column::Right("STATUS"),
        Column::Whole("ENDED"),
        Column::Right("TOOK"),
        Column::Left("WHEN"),
    ]);
    for call in calls {
        let CallView { function, revision, method, path, .. } = call;
        let took = micros(call.total_us);
        table.row([
            short(&call.id).to_owned(),
            format!("{}/{revision}", function_shown(function)),
            format!("{method} {path}"),
            call.status.to_string(),
            call.outcome.clone(),
            if call.cold { format!("cold {took}") } else { took },
            ago(call.started),
        ]);
    }
    table
}

/// Digits of an identity of ours that tell it from the others there are.
const SHORT_DIGITS: usize = 12;

/// As much of an identity as a person wants to copy.
fn short(id: &str) -> &str {
    if is_ours(id) { &id[..SHORT_DIGITS] } else { id }
}

fn is_ours(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// The whole identity of which this is the beginning; what is the beginning of none or of several stays as it is.
pub(super) async fn whole(client: &Client, query: CallQuery, id: String) -> Done<String> {
    if id.len() < SHORT_DIGITS || is_ours(&id) {
        return Ok(id);
    }
    let beginning = id.trim_end_matches('…');
    let calls = client.calls(&query).await?;
    let mut found = calls.into_iter().map(|call| call.id).filter(|whole| whole.starts_with(beginning));
    Ok(match (found.next(), found.next()) {
        (Some(only), None) => only,
        _ => id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_of_ours_is_short_and_one_of_theirs_is_whole() {
        assert_eq!(short("900988e0bc94052a8cec9d86e4b5562d"), "900988e0bc94");
        assert_eq!(short("order-17"), "order-17");
        assert_eq!(short("éééééééééééééééé"), "éééééééééééééééé");
    }
}
