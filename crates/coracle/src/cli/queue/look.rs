//! How full the queue is, which calls it has, and what topics were told.
//! `queue.rs` runs it; all about one call is in `show.rs`.

use coracle_api::{
    CallState, Client, FunctionQueueView, QueueCounts, QueueListQuery, QueueQuery, QueueView, QueuedCallView,
    TopicEntryView, TopicQuery,
};
use coracle_model::{Clock as _, TopicName};
use coracle_observe::clock::System;
use jiff::Timestamp;

use super::{known, query, state, whose};
use crate::cli::ago::span;
use crate::cli::call::shown;
use crate::cli::logs::visible;
use crate::options::{Common, Named};
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::talk::{DIM, styled};
use crate::{print, talk};

/// How many calls are listed, unless somebody says.
const LIMIT_DEFAULT: usize = 20;

const LIST_EXAMPLES: &str = "\
Those of one state are listed: those that wait, unless `--state` names another.

Examples:
  coracle queue list
  coracle queue list resize --state dead";

const TOPIC_EXAMPLES: &str = "\
Examples:
  coracle queue topic dead-orders
  coracle queue topic dead-orders --after 120 --limit 100 --json";

/// Which calls are listed.
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct List {
    /// The function, as NAME or NAME.NS [default: all]
    name: Option<Named>,
    /// Where they stand: waiting, running, succeeded, failed, cancelled or dead
    #[arg(long, value_name = "STATE", default_value = "waiting", value_parser = state)]
    state: CallState,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
}

/// Which outcomes are read.
#[derive(Debug, clap::Args)]
#[command(after_help = TOPIC_EXAMPLES)]
pub(super) struct Outcomes {
    /// The topic, as `on_success` or `on_failure` names it
    name: TopicName,
    /// Only those behind this place
    #[arg(long, value_name = "PLACE")]
    after: Option<u64>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
}

impl Outcomes {
    pub(super) async fn run(self, client: &Client, common: &Common) -> Done {
        let query = TopicQuery { after: self.after, limit: Some(self.limit) };
        let entries = client.topic(&common.namespace(), &self.name, &query).await?;
        if common.json {
            return print::json(&entries);
        }
        if entries.is_empty() {
            talk::say(format_args!("there is nothing in the topic {}", self.name));
        }
        outcomes_table(&entries, System.now()).print()
    }
}

/// A row for each outcome, and below it why a call failed.
fn outcomes_table(entries: &[TopicEntryView], now: Timestamp) -> Table<5> {
    let mut table = Table::new([
        Column::Right("PLACE"),
        Column::Whole("CALL"),
        Column::Left("FUNCTION"),
        Column::Left("STATE"),
        Column::Left("WHEN"),
    ]);
    for TopicEntryView { place, at, outcome } in entries {
        let text = |name: &str| visible(outcome[name].as_str().unwrap_or_default());
        table.row([place.to_string(), text("call"), text("function"), text("state"), when(*at, now)]);
        if outcome["reason"].is_string() {
            table.below(text("reason"));
        }
    }
    table
}

/// How full the queue is.
pub(super) async fn status(client: &Client, query: QueueQuery, json: bool) -> Done {
    let queue = client.queue(&query).await?;
    if queue.functions.is_empty() {
        known(client, &query).await?;
    }
    if json {
        return print::json(&queue);
    }
    if queue.functions.is_empty() {
        talk::say(format_args!("no calls{} are queued", whose(&query)));
    }
    status_table(&queue, System.now()).print()
}

fn status_table(queue: &QueueView, now: Timestamp) -> Table<6> {
    let mut table = Table::new([
        Column::Left("FUNCTION"),
        Column::Right("WAITING"),
        Column::Right("RUNNING"),
        Column::Right("DEAD"),
        Column::Right("DELIVERIES"),
        Column::Left("OLDEST"),
    ]);
    let mut row = |name: String, counts: &QueueCounts| {
        let QueueCounts { waiting, running, dead, deliveries, oldest } = counts;
        let numbers = [waiting, running, dead, deliveries].map(ToString::to_string);
        let [waiting, running, dead, deliveries] = numbers;
        let oldest = oldest.map_or_else(String::new, |at| when(at, now));
        table.row([name, waiting, running, dead, deliveries, oldest]);
    };
    for FunctionQueueView { function, counts } in &queue.functions {
        row(shown(function), counts);
    }
    if queue.functions.len() > 1 {
        row("all".to_owned(), &queue.totals);
    }
    table
}

impl List {
    pub(super) async fn run(self, client: &Client, common: &Common) -> Done {
        let of = query(self.name.as_ref(), common);
        let mut query = QueueListQuery {
            namespace: of.namespace.clone(),
            function: of.function.clone(),
            state: Some(self.state),
            after: None,
            limit: None,
        };
        let mut all = Vec::new();
        // A page may have fewer calls than were asked for, and a next one all the same.
        loop {
            query.limit = Some((self.limit - all.len()).clamp(1, coracle_api::PAGE_ITEMS_MAX));
            let page = client.queued_calls(&query).await?;
            all.extend(page.items);
            query.after = page.next;
            if query.after.is_none() || all.len() >= self.limit {
                break;
            }
        }
        if all.is_empty() {
            known(client, &of).await?;
        }
        if common.json {
            return print::json(&all);
        }
        if all.is_empty() {
            talk::say(format_args!("no calls{} are {}", whose(&of), self.state.as_str()));
        }
        list_table(&all, System.now()).print()?;
        if query.after.is_some() {
            talk::say(styled(DIM, "there are more: `--limit N` shows so many"));
        }
        Ok(())
    }
}

/// A row for each call, and below it why it failed.
fn list_table(calls: &[QueuedCallView], now: Timestamp) -> Table<6> {
    let mut table = Table::new([
        Column::Whole("CALL"),
        Column::Left("FUNCTION"),
        Column::Left("ASKED"),
        Column::Left("STATE"),
        Column::Right("TRIED"),
        Column::Left("WHEN"),
    ]);
    for call in calls {
        let at = call.ended.unwrap_or(call.due);
        table.row([
            visible(&call.id),
            shown(&call.function),
            visible(&asked(call)),
            call.state.as_str().to_owned(),
            call.attempts_made.to_string(),
            when(at, now),
        ]);
        if let Some(why) = why(call) {
            table.below(visible(&why));
        }
    }
    table
}

/// What is asked of whom.
pub(super) fn asked(call: &QueuedCallView) -> String {
    match (&call.method, &call.path, &call.delivers_to) {
        (_, _, Some(url)) => format!("its result to {url}"),
        (Some(method), Some(path), None) => format!("{method} {path}"),
        _ => String::new(),
    }
}

/// Why a call was given up, or failed the last time.
fn why(call: &QueuedCallView) -> Option<String> {
    call.reason.clone().or_else(|| {
        let last = call.attempts.last()?;
        last.problem.as_ref().map(|problem| problem.message.clone())
    })
}

/// When something was, or will be.
pub(super) fn when(at: Timestamp, now: Timestamp) -> String {
    match at.duration_since(now).as_secs() {
        1.. => format!("in {}", span(at.duration_since(now).as_secs().unsigned_abs())),
        -1..=0 => "now".to_owned(),
        past => format!("{} ago", span(past.unsigned_abs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    fn call(state: &str) -> QueuedCallView {
        let json = format!(
            r#"{{"id": "order-17", "function": "resize.shop", "state": "{state}", "method": "POST", "path": "/\\u001bx",
            "accepted": "2026-01-31T11:00:00Z", "due": "2026-01-31T12:00:30Z", "body_bytes": 9, "attempts_made": 2,
            "attempts": [{{"number": 2, "node": "local", "started": "2026-01-31T11:59:00Z", "took_ms": 12,
            "problem": {{"code": "guest-trapped", "message": "`resize` crashed", "docs": "-"}}}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn the_queue_is_a_row_for_each_function_and_one_for_all() {
        let counts = QueueCounts {
            waiting: 12,
            running: 3,
            dead: 1,
            deliveries: 0,
            oldest: "2026-01-31T11:57:00Z".parse().ok(),
        };
        let of = |name: &str| FunctionQueueView {
            function: coracle_model::FunctionRef::parse(name).unwrap(),
            counts,
        };
        let queue =
            QueueView { totals: counts, functions: vec![of("resize"), of("hello.shop")], waiting_max: 9 };
        expect![[r#"
            FUNCTION    WAITING  RUNNING  DEAD  DELIVERIES  OLDEST
            resize           12        3     1           0  3m ago
            hello.shop       12        3     1           0  3m ago
            all              12        3     1           0  3m ago
        "#]]
        .assert_eq(&status_table(&queue, now()).render(None));
    }

    #[test]
    fn a_call_is_a_row_and_why_it_failed_stands_below() {
        let dead = QueuedCallView {
            reason: Some("all of its 5 attempts failed".into()),
            ended: "2026-01-31T11:58:00Z".parse().ok(),
            ..call("dead")
        };
        let delivery = QueuedCallView {
            delivers_to: Some("https://example.com/done".into()),
            attempts: Vec::new(),
            ..call("waiting")
        };
        expect![[r#"
            CALL      FUNCTION     ASKED                                   STATE    TRIED  WHEN
            order-17  resize.shop  POST /\u001bx                           waiting      2  in 30s
              `resize` crashed
            order-17  resize.shop  POST /\u001bx                           dead         2  2m ago
              all of its 5 attempts failed
            order-17  resize.shop  its result to https://example.com/done  waiting      2  in 30s
        "#]]
        .assert_eq(&list_table(&[call("waiting"), dead, delivery], now()).render(None));
    }
}
