//! `coracle calls`: the last calls, newest first, or as they end: how long each part took, and how each ended.
//! `coracle logs` finds the call that is meant here.

use coracle_api::{CallQuery, CallView, Client, FollowedCall};

use super::ago::{ago, micros};
use super::call::shown as function_shown;
use super::logs::{Names, visible};
use crate::options::{Common, Named};
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::talk::{BAD, DIM, GOOD, styled};
use crate::{print, talk};

/// How many calls are listed, unless somebody says.
const LIMIT_DEFAULT: usize = 20;

const EXAMPLES: &str = "\
Examples:
  coracle calls hello
  coracle calls --failed --limit 5
  coracle calls -f                     of all functions, as they end";

/// List the last calls, newest first: how long they took, and how they ended.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The function, as NAME or NAME.NS [default: all]
    name: Option<Named>,
    /// Only those that failed
    #[arg(long)]
    failed: bool,
    /// Go on with calls as they end, below the last ones
    #[arg(short, long)]
    follow: bool,
    /// How many at most [default: 20]; with --follow, how many to begin with [default: 0]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let function = args.name.as_ref().map(|name| common.function(name));
    let (namespace, name) = match function.clone() {
        Some(function) => (Some(function.namespace), Some(function.name)),
        None => (common.namespace.clone(), None),
    };
    let client = common.client()?;
    let query = CallQuery {
        namespace,
        function: name,
        limit: args.limit,
        failed: args.failed,
        follow: args.follow,
        here: false,
    };
    if args.follow {
        if let Some(function) = &function {
            client.function(function).await?;
        }
        return follow(&client, &query, common.json).await;
    }
    let query = CallQuery { limit: query.limit.or(Some(LIMIT_DEFAULT)), ..query };
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
            talk::hint("a function that answers 400 to 499 by itself has not failed: leave out `--failed`");
        } else {
            talk::say("no calls since the server started");
        }
    }
    render(&calls, args.failed).print()
}

async fn follow(client: &Client, query: &CallQuery, json: bool) -> Done {
    let mut calls = client.follow_calls(query).await?;
    let mut names = Names::default();
    while let Some(next) = calls.next().await? {
        match next {
            next if json => print::json_line(&next)?,
            FollowedCall::Call(call) => print::line(line(&call, &mut names))?,
            FollowedCall::Missed { missed } => {
                talk::say(format_args!(
                    "{missed} calls are missing here: they came faster than they were read"
                ));
            }
        }
    }
    Ok(())
}

/// A call that ended, for those who watch: on one line, and what went wrong on a second.
pub(super) fn line(call: &CallView, names: &mut Names) -> String {
    let CallView { method, path, status, .. } = call;
    let time = call.started.strftime("%Y-%m-%d %H:%M:%S%.3f");
    let failed = call.outcome != "ok";
    let outcome = if failed { format!("{status} {}", call.outcome) } else { status.to_string() };
    let style = if failed || *status >= 500 { BAD } else { GOOD };
    let cold = if call.cold { " cold" } else { "" };
    let took = micros(call.total_us);
    let mut text = format!(
        "{} {}{} {} {took}{cold} {}",
        styled(DIM, time),
        names.shown(&call.function.name),
        visible(&format!("{method} {path}")),
        styled(style, outcome),
        styled(DIM, short(&call.id)),
    );
    if let Some(message) = &call.message {
        text.push_str(&format!("\n  {}", visible(message)));
    }
    text
}

/// A row for each call, and below it, if that is wanted, why it failed.
fn render(calls: &[CallView], why: bool) -> Table<7> {
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
        if let Some(message) = call.message.as_deref().filter(|_| why) {
            table.below(visible(message));
        }
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
    fn a_call_that_failed_says_why_below() {
        let call = CallView {
            id: "900988e0bc94052a8cec9d86e4b5562d".into(),
            function: coracle_model::FunctionRef::parse("resize").unwrap(),
            revision: 3,
            method: "GET".into(),
            path: "/\u{1b}x".into(),
            status: 502,
            started: "2026-01-31T12:00:00.25Z".parse().unwrap(),
            waited_us: 0,
            start_us: 20,
            run_us: 300,
            total_us: 320,
            cold: true,
            bytes_in: 0,
            bytes_out: 0,
            memory_bytes: 0,
            outcome: "guest-trapped".into(),
            message: Some("`resize` crashed".into()),
            hint: None,
        };
        let text = line(&call, &mut Names::default());
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "2026-01-31 12:00:00.250 resize GET /\u{fffd}x 502 guest-trapped 0.32 ms cold 900988e0bc94\n  `resize` crashed"
        );
    }

    #[test]
    fn an_identity_of_ours_is_short_and_one_of_theirs_is_whole() {
        assert_eq!(short("900988e0bc94052a8cec9d86e4b5562d"), "900988e0bc94");
        assert_eq!(short("order-17"), "order-17");
        assert_eq!(short("éééééééééééééééé"), "éééééééééééééééé");
    }
}
