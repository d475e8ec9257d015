//! `coracle call --repeat`: the same call many times, and how long it took: a small table, and a histogram.
//! A look at a function's speed from where one sits; the client is a part of what is measured.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use coracle_api::Client;
use coracle_api::client::{Caller, ClientError, FunctionCall};
use coracle_model::{Clock as _, Problem, code};
use coracle_observe::clock::System;
use serde_json::json;
use tokio::task::LocalSet;

use crate::cli::ago::micros;
use crate::stop::{Done, Stop};
use crate::table::{Column, Table};
use crate::talk::{BAD, DIM, styled};
use crate::{print, talk};

/// Rows of the histogram, at the most.
const ROWS_MAX: usize = 12;
/// The bar of the longest row, in characters, where there is no terminal to fit.
const BAR_MAX: usize = 40;
/// What stands beside a bar.
const BESIDE_BAR: usize = 36;

/// How often to call, and how many at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) repeat: u32,
    pub(super) concurrency: u32,
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    /// How long each call took that was answered, in microseconds.
    took_us: Vec<u32>,
    /// How many answers had each status.
    statuses: BTreeMap<u16, u64>,
    /// Calls without an answer, and why the first of them had none.
    unanswered: u64,
    reason: Option<ClientError>,
    /// From the first call to the last answer.
    whole: Duration,
}

/// Makes the calls, and prints what came of them; Ctrl-C ends it early, with what there is.
pub(super) async fn run(
    client: &Client,
    load: Load,
    json: bool,
    call: impl Fn() -> FunctionCall + 'static,
) -> Done {
    let begun = System.instant();
    let left = Rc::new(std::cell::Cell::new(load.repeat));
    let outcome = Rc::new(std::cell::RefCell::new(Outcome::default()));
    let call = Rc::new(call);
    let callers = LocalSet::new();
    for _ in 0..load.concurrency.min(load.repeat) {
        let (mut caller, left, outcome, call) =
            (client.caller(), Rc::clone(&left), Rc::clone(&outcome), Rc::clone(&call));
        callers.spawn_local(async move {
            while let Some(rest) = left.get().checked_sub(1) {
                left.set(rest);
                let called = one(&mut caller, call()).await;
                outcome.borrow_mut().count(called);
            }
        });
    }
    tokio::select! {
        () = callers => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let mut outcome = outcome.take();
    outcome.whole = System.instant().duration_since(begun);
    outcome.took_us.sort_unstable();
    outcome.render(load, json)
}

/// One call to the end of its body: its status, and how long it took in microseconds.
async fn one(caller: &mut Caller, call: FunctionCall) -> Result<(u16, u32), ClientError> {
    let mut reply = caller.call(call).await?;
    while reply.body.next().await?.is_some() {}
    Ok((reply.head.status.as_u16(), u32::try_from(reply.total().as_micros()).unwrap_or(u32::MAX)))
}

impl Outcome {
    fn count(&mut self, called: Result<(u16, u32), ClientError>) {
        match called {
            Ok((status, took_us)) => {
                self.took_us.push(took_us);
                *self.statuses.entry(status).or_default() += 1;
            }
            Err(reason) => {
                self.unanswered += 1;
                self.reason.get_or_insert(reason);
            }
        }
    }

    fn render(self, load: Load, json: bool) -> Done {
        let calls = self.took_us.len();
        if calls == 0 {
            return Err(match self.reason {
                Some(reason) => reason.into(),
                None => Problem::new(&code::BAD_REQUEST, "stopped before the first answer").into(),
            });
        }
        let seconds = self.whole.as_secs_f64();
        let per_second = if seconds > 0.0 { calls as f64 / seconds } else { 0.0 };
        let failed = self.unanswered > 0 || self.statuses.keys().any(|status| *status >= 400);
        if json {
            let histogram = histogram(&self.took_us);
            let rows: Vec<_> =
                histogram.iter().map(|row| json!({ "to_us": row.to_us, "calls": row.calls })).collect();
            print::json(&json!({
                "calls": calls,
                "unanswered": self.unanswered,
                "concurrency": load.concurrency,
                "seconds": seconds,
                "per_second": per_second,
                "statuses": self.statuses,
                "p50_us": percentile(&self.took_us, 50.0),
                "p90_us": percentile(&self.took_us, 90.0),
                "p99_us": percentile(&self.took_us, 99.0),
                "max_us": self.took_us.last(),
                "histogram": rows,
            }))?;
        } else {
            let statuses: Vec<_> =
                self.statuses.iter().map(|(status, count)| format!("{count} answered {status}")).collect();
            let at_once = if load.concurrency == 1 {
                "one at a time".into()
            } else {
                format!("{} at once", load.concurrency)
            };
            print::line(format_args!(
                "{} in {seconds:.2} s, {per_second:.0}/s, {at_once}",
                statuses.join(", ")
            ))?;
            table(&self.took_us).print()?;
            for row in bars(&histogram(&self.took_us), print::columns()) {
                print::line(row)?;
            }
        }
        if let Some(reason) = self.reason {
            let count = self.unanswered;
            talk::say(format_args!("{} {count} calls had no answer: {reason}", styled(BAD, "failed:")));
        }
        if failed { Err(Stop::Shown) } else { Ok(()) }
    }
}

fn table(sorted_us: &[u32]) -> Table<4> {
    let mut table = Table::new(["P50", "P90", "P99", "MAX"].map(Column::Right));
    if let Some(max) = sorted_us.last() {
        let at = |percent| micros(percentile(sorted_us, percent).unwrap_or_default().into());
        table.row([at(50.0), at(90.0), at(99.0), micros((*max).into())]);
    }
    table
}

/// What so many of a hundred took no longer than: the smallest that was measured of which that is true.
fn percentile(sorted_us: &[u32], percent: f64) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 0 and the number of calls"
    )]
    let rank = (sorted_us.len() as f64 * percent / 100.0).ceil() as usize;
    sorted_us.get(rank.saturating_sub(1)).copied()
}

/// Calls that took longer than the row before, and no longer than this one.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    to_us: u64,
    calls: usize,
}

/// From the fastest to the slowest, in steps of 1, 2, 5, 10 …; what is slower than the last row stands in it.
fn histogram(sorted_us: &[u32]) -> Vec<Row> {
    let bounds = (0..).flat_map(|power| [1, 2, 5].map(|step| step * 10_u64.pow(power)));
    let mut rows = Vec::new();
    let mut rest = sorted_us;
    for to_us in bounds {
        let calls = rest.partition_point(|us| u64::from(*us) <= to_us);
        rest = &rest[calls..];
        if calls > 0 || !rows.is_empty() {
            rows.push(Row { to_us, calls });
        }
        if rest.is_empty() {
            break;
        }
        if rows.len() == ROWS_MAX {
            let slowest = rest.last().copied().unwrap_or_default();
            if let Some(last) = rows.last_mut() {
                *last = Row { to_us: slowest.into(), calls: last.calls + rest.len() };
            }
            break;
        }
    }
    rows
}

fn bars(rows: &[Row], columns: Option<usize>) -> Vec<String> {
    let most = rows.iter().map(|row| row.calls).max().unwrap_or(1).max(1);
    let room = columns.map_or(BAR_MAX, |columns| columns.saturating_sub(BESIDE_BAR).clamp(1, 2 * BAR_MAX));
    let bar = |row: &Row| {
        // A row with calls shows at least a sliver.
        let length = (row.calls * room).div_ceil(most);
        let to = format!("≤ {}", micros(row.to_us));
        format!("{to:>12}  {} {}", "█".repeat(length), styled(DIM, row.calls))
    };
    rows.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(us: &[u32]) -> Vec<(u64, usize)> {
        histogram(us).into_iter().map(|row| (row.to_us, row.calls)).collect()
    }

    #[test]
    fn a_percentile_is_something_that_was_measured() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(
            [50.0, 99.0, 100.0].map(|percent| percentile(&hundred, percent)),
            [Some(50), Some(99), Some(100)]
        );
        assert_eq!(percentile(&[7], 50.0), Some(7));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn the_rows_run_from_the_fastest_to_the_slowest() {
        assert_eq!(rows(&[]), []);
        assert_eq!(rows(&[90, 100, 101, 450]), [(100, 2), (200, 1), (500, 1)]);
        assert_eq!(rows(&[3, 40]), [(5, 1), (10, 0), (20, 0), (50, 1)]);
    }

    #[test]
    fn there_are_never_more_rows_than_fit_and_no_call_is_lost() {
        let wide = rows(&[1, 10, u32::MAX - 1, u32::MAX]);
        assert_eq!(wide.len(), ROWS_MAX);
        assert_eq!(wide.last(), Some(&(u64::from(u32::MAX), 2)));
        assert_eq!(wide.iter().map(|(_, calls)| calls).sum::<usize>(), 4);
    }

    #[test]
    fn a_bar_fits_its_terminal() {
        let rows = [Row { to_us: 100, calls: 1000 }, Row { to_us: 200, calls: 1 }];
        for columns in [20, 40, 80, 300] {
            let bars = bars(&rows, Some(columns));
            assert!(bars.iter().all(|bar| bar.contains('█')), "{bars:?}");
            let widest = bars.iter().map(|bar| bar.matches('█').count()).max();
            assert!(widest <= Some(columns.saturating_sub(BESIDE_BAR).max(1)), "{columns}: {bars:?}");
        }
    }
}
