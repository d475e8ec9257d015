//! How full the queue is, which calls it has, and all about one of them.
//! `queue.rs` runs it; `call.rs` shows a call here that was waited for.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::{
    AttemptView, CallState, Client, FunctionQueueView, KnownCall, QueueCounts, QueueListQuery, QueueQuery,
    QueueView, QueuedCallView, ResultView, TopicEntryView, TopicQuery,
};
use coracle_model::{Clock as _, Problem, TopicName, code};
use coracle_observe::clock::System;
use jiff::Timestamp;

use super::{query, state, whose};
use crate::cli::ago::{ago, bytes, millis, span};
use crate::cli::call::shown;
use crate::cli::logs::visible;
use crate::options::{Common, Named};
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::talk::{BAD, BOLD, DIM, GOOD, styled};
use crate::{print, talk};

/// How many calls are listed, unless somebody says.
const LIMIT_DEFAULT: usize = 20;

/// Which calls are listed.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The function, as NAME or NAME.NS [default: all]
    name: Option<Named>,
    /// waiting, running, succeeded, failed, cancelled or dead
    #[arg(long, value_name = "STATE", default_value = "waiting", value_parser = state)]
    state: CallState,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
}

/// Which call is shown.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Which, as `coracle queue list` shows it
    id: String,
    /// Print only the body of its result
    #[arg(long)]
    result: bool,
}

/// Which outcomes are read.
#[derive(Debug, clap::Args)]
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
fn asked(call: &QueuedCallView) -> String {
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

impl Show {
    pub(super) async fn run(self, client: &Client, json: bool) -> Done {
        let call = match client.known_call(&self.id).await? {
            KnownCall::Queued(call) => call,
            KnownCall::Recent(call) => {
                let message = format!("the call `{}` was not queued: somebody waited for it", call.id);
                return Err(Problem::new(&code::CALL_NOT_FOUND, message)
                    .hint(format!("coracle calls {}", shown(&call.function)))
                    .into());
            }
        };
        if self.result {
            let Some(result) = &call.result else {
                let message = format!("the call `{}` has no result: it is {}", call.id, call.state.as_str());
                return Err(Problem::new(&code::CALL_NOT_FOUND, message)
                    .hint(format!("coracle queue show {}", call.id))
                    .into());
            };
            return print::bytes(&body_of(result));
        }
        if json { print::json(&call) } else { render(&call) }
    }
}

/// The body of a result, as far as it is kept.
pub(in crate::cli) fn body_of(result: &ResultView) -> Vec<u8> {
    match (&result.body, &result.body_base64) {
        (Some(text), _) => text.clone().into_bytes(),
        // What the server wrote in base64 reads back.
        (None, Some(text)) => STANDARD.decode(text).unwrap_or_default(),
        (None, None) => Vec::new(),
    }
}

fn render(call: &QueuedCallView) -> Done {
    let now = System.now();
    print::line(format_args!("{} {}", styled(BOLD, visible(&call.id)), call.function))?;
    let style = match call.state {
        CallState::Succeeded => GOOD,
        CallState::Failed | CallState::Dead => BAD,
        CallState::Waiting | CallState::Running | CallState::Cancelled => BOLD,
    };
    let tried = match call.attempts_made {
        0 => String::new(),
        1 => ", tried once".to_owned(),
        times => format!(", tried {times} times"),
    };
    field("state", format_args!("{}{tried}", styled(style, call.state.as_str())))?;
    if let Some(reason) = &call.reason {
        field("because", visible(reason))?;
    }
    field("asked", format_args!("{}, {}", visible(&asked(call)), bytes(call.body_bytes)))?;
    field("accepted", ago(call.accepted))?;
    match call.ended {
        Some(ended) => field("ended", ago(ended))?,
        None => field("due", when(call.due, now))?,
    }
    if let Some(group) = &call.group {
        field("group", visible(group))?;
    }
    if let Some(callback) = &call.callback {
        field("callback", visible(callback))?;
    }
    if let Some(ResultView { status, body_bytes, .. }) = &call.result {
        field("result", format_args!("{status}, {}", bytes(*body_bytes)))?;
        if *body_bytes > 0 {
            field("", styled(DIM, format_args!("coracle queue show {} --result", call.id)))?;
        }
    }
    for delivery in &call.deliveries {
        let to = delivery.delivers_to.as_deref().unwrap_or_default();
        let why = why(delivery).map(|why| format!(": {why}")).unwrap_or_default();
        let tried = delivery.attempts_made;
        let line = format!("to {to} is {}, tried {tried} times{why}", delivery.state.as_str());
        field("delivery", visible(&line))?;
    }
    render_attempts(&call.attempts, now)?;
    for delivery in call.deliveries.iter().filter(|delivery| !delivery.attempts.is_empty()) {
        print::line("")?;
        print::line(visible(&asked(delivery)))?;
        render_attempts(&delivery.attempts, now)?;
    }
    let is_undelivered = call.deliveries.iter().any(|delivery| delivery.state == CallState::Dead);
    match call.state {
        CallState::Dead => talk::hint(format_args!("to run it again: coracle queue redrive {}", call.id)),
        _ if is_undelivered => {
            talk::hint(format_args!("to send its result again: coracle queue redrive {}", call.id));
        }
        CallState::Waiting => talk::hint(format_args!("to cancel it: coracle queue cancel {}", call.id)),
        _ => {}
    }
    Ok(())
}

fn render_attempts(attempts: &[AttemptView], now: Timestamp) -> Done {
    if attempts.is_empty() {
        return Ok(());
    }
    print::line("")?;
    for attempt in attempts {
        let AttemptView { number, node, started, took_ms, status, problem, log } = attempt;
        let outcome = match (status, problem) {
            (_, Some(problem)) => styled(BAD, &problem.code),
            (Some(status @ 400..), None) => styled(BAD, status),
            (Some(status), None) => styled(GOOD, status),
            (None, None) => "begun".to_owned(),
        };
        let took = if *took_ms == 0 { String::new() } else { format!(", took {}", millis(*took_ms as f64)) };
        let at = when(*started, now);
        // Which server lost it was not written down by earlier versions.
        let on = if node.is_empty() { String::new() } else { format!(", on {}", visible(node)) };
        print::line(format_args!("{number}. {outcome}  {}", styled(DIM, format_args!("{at}{took}{on}"))))?;
        if let Some(problem) = problem {
            print::line(format_args!("   {}", visible(&problem.message)))?;
        }
        log.iter()
            .try_for_each(|line| print::line(format_args!("   {} {}", styled(DIM, "|"), visible(line))))?;
    }
    Ok(())
}

/// When something was, or will be.
fn when(at: Timestamp, now: Timestamp) -> String {
    match at.duration_since(now).as_secs() {
        1.. => format!("in {}", span(at.duration_since(now).as_secs().unsigned_abs())),
        -1..=0 => "now".to_owned(),
        past => format!("{} ago", span(past.unsigned_abs())),
    }
}

fn field(name: &str, value: impl Display) -> Done {
    print::line(format_args!("  {} {value}", styled(DIM, format_args!("{name:<9}"))))
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

    #[test]
    fn a_body_that_is_no_text_comes_back_whole() {
        let result = ResultView { body_base64: Some("AJ8=".into()), body_bytes: 2, ..ResultView::default() };
        assert_eq!(body_of(&result), [0, 159]);
    }
}
