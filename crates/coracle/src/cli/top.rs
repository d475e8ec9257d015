//! `coracle top`: how functions do, live: on a screen, as one table, or as JSON for programs.
//! The server sorts and cuts, so that ten thousand functions cost no more than those that are shown.

mod columns;
mod model;
mod poll;
mod screen;
mod view;

use std::time::Duration;

use coracle_api::{Client, PAGE_ITEMS_DEFAULT, StatsQuery, StatsSort, StatsView};
use coracle_model::Span;

use self::columns::Column;
pub(super) use self::columns::rate;
use crate::options::Common;
use crate::print;
use crate::stop::Done;
use crate::table::{self, Table};
use crate::talk;

/// Nobody reads faster than this, and the server has better things to do.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// A screen that is older than this shows the past.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

const EXAMPLES: &str = "\
Keys:
  ↑ ↓ or k j        select a function; page up and down, home, end
  enter             its last calls and log lines; esc goes back
  /                 only functions with this in their name
  ← → or a letter   sort by (c)alls, p(5)0, p(9)9, (e)rrors, (r)unning, (w)aiting, (m)emory, (n)ame
  q, esc, ctrl-c    leave

Examples:
  coracle top
  coracle top --sort p99 --once        one table, for a pipe
  coracle top --json --interval 5s     one JSON object every 5 s

Rates and latencies are those of the last 5 seconds.";

/// Watch functions live: calls a second, latencies, errors, instances, memory.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print one table, or with --json one object, and end; so it is without a terminal
    #[arg(long)]
    once: bool,
    /// How often to look
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = interval)]
    interval: Span,
    /// What comes first: calls, p50, p99, errors, running, waiting, memory, name
    #[arg(long, value_name = "BY", default_value = "calls")]
    sort: StatsSort,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    let query = StatsQuery {
        namespace: common.namespace.clone(),
        sort: Some(args.sort),
        limit: Some(PAGE_ITEMS_DEFAULT),
        ..StatsQuery::default()
    };
    let first = client.stats(&query).await?;
    if common.json {
        return print_json(&client, &query, first, &args).await;
    }
    if args.once || !screen::is_possible() {
        return print_table(&first);
    }
    Box::pin(screen::show(client, common, query, first, args.interval.0)).await
}

async fn print_json(client: &Client, query: &StatsQuery, first: StatsView, args: &Args) -> Done {
    print::json_line(&first)?;
    if args.once {
        return Ok(());
    }
    loop {
        tokio::time::sleep(args.interval.0).await;
        print::json_line(&client.stats(query).await?)?;
    }
}

fn print_table(stats: &StatsView) -> Done {
    const COLUMNS: [Column; 9] = [
        Column::Function,
        Column::Calls,
        Column::P50,
        Column::P99,
        Column::Errors,
        Column::Running,
        Column::Waiting,
        Column::Idle,
        Column::Memory,
    ];
    if stats.items.is_empty() {
        talk::say("no functions yet");
        return Ok(());
    }
    let mut table = Table::new(COLUMNS.map(|column| match column {
        Column::Function => table::Column::Left(column.title()),
        _ => table::Column::Right(column.title()),
    }));
    for item in &stats.items {
        table.row(COLUMNS.map(|column| column.text(item)));
    }
    table.print()?;
    let left = stats.functions.saturating_sub(stats.items.len());
    if left > 0 {
        talk::say(format_args!("{left} more functions come after these"));
    }
    Ok(())
}

fn interval(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: coracle_model::InvalidQuantity| error.to_string())?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&span.0) {
        Ok(span)
    } else {
        Err(format!("choose one from {} to {}", Span(INTERVAL_MIN), Span(INTERVAL_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_neither_nothing_nor_endless() {
        assert_eq!(interval("250ms").map(|span| span.0), Ok(Duration::from_millis(250)));
        assert_eq!(interval("0s").unwrap_err(), "choose one from 100ms to 1h");
        assert!(interval("2h").is_err() && interval("1").is_err());
    }
}
