//! The numbers of the queue, as metrics show them: what the database holds is mirrored, what happens here is counted.
//! The heartbeat mirrors, the engine counts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_model::FunctionRef;
use coracle_observe::metrics::FunctionMetrics;
use jiff::Timestamp;

use crate::engine::{Engine, until};
use crate::settle::{Begun, Settled};
use crate::{Counts, Filter, State, read};

/// How full the queue is, as it was shown last.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    /// The functions that had something in it.
    shown: HashSet<FunctionRef>,
    /// The edition of the database that this was, where it has one and nothing waited or ran.
    still: Option<u64>,
}

impl Mirror {
    /// Shows how full the queue is now.
    pub(crate) async fn update(&mut self, engine: &Engine) {
        // Before it is looked, so that what happens meanwhile is seen the next time.
        let edition = engine.database.edition().map(|edition| *edition.borrow());
        let Ok(status) = read::status(engine, &Filter::All).await else { return };
        let now = engine.now();
        let counts: HashMap<FunctionRef, Counts> = status.functions.into_iter().collect();
        for function in self.shown.iter().filter(|function| !counts.contains_key(*function)) {
            if let Some(metrics) = engine.observe.metrics.known(function) {
                show(&metrics, &Counts::default(), now);
            }
        }
        for (function, counts) in &counts {
            // One that is gone must not come back for its dead calls.
            if engine.catalog.resolve(function).is_some() {
                show(&engine.observe.metrics.function(function), counts, now);
            }
        }
        let is_still = counts.values().all(|counts| counts.waiting + counts.running + counts.deliveries == 0);
        *self = Self { shown: counts.into_keys().collect(), still: edition.filter(|_| is_still) };
    }

    /// The edition of the database in which nothing waited or ran, if that is how it is.
    pub(crate) fn still_at(&self) -> Option<u64> {
        self.still
    }
}

fn show(metrics: &FunctionMetrics, counts: &Counts, now: Timestamp) {
    let queue = metrics.queue();
    queue.waiting.set(counts.waiting);
    queue.running.set(counts.running);
    queue.dead.set(counts.dead);
    queue.deliveries.set(counts.deliveries);
    let oldest = counts.oldest.map_or(Duration::ZERO, |oldest| until(now, oldest));
    queue.oldest_s.set(oldest.as_secs());
}

impl Engine {
    /// Counts that a message has begun.
    pub(crate) fn count_start(&self, begun: &Begun, now: Timestamp) {
        let is_first = begun.message.attempt == 1;
        if is_first && let Some(metrics) = self.metrics_of(&begun.function) {
            metrics.queue().starts.observe(until(now, begun.kept.due));
        }
    }

    /// Counts that an attempt ended so.
    pub(crate) fn count_end(&self, function: &FunctionRef, settled: &Settled) {
        if let Some(metrics) = self.metrics_of(function) {
            let queue = metrics.queue();
            queue.attempts.increment();
            if settled.state == State::Dead {
                queue.given_up.increment();
            }
        }
    }

    /// The numbers of a function; one that is gone has only those that it had.
    fn metrics_of(&self, function: &FunctionRef) -> Option<Arc<FunctionMetrics>> {
        let metrics = &self.observe.metrics;
        metrics.known(function).or_else(|| self.catalog.resolve(function).map(|_| metrics.function(function)))
    }
}
