//! The numbers of the queue, as metrics show them: what the database holds is mirrored, what happens here is counted.
//! The heartbeat mirrors, the engine counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::FunctionRef;
use coracle_observe::metrics::FunctionMetrics;
use jiff::Timestamp;

use crate::engine::{Engine, until};
use crate::settle::{Begun, Settled};
use crate::{Counts, Filter, State, read};

/// Mirrors how full the queue is.
pub(crate) async fn mirror(engine: &Engine) {
    let Ok(status) = read::status(engine, &Filter::All).await else { return };
    let now = engine.now();
    let counts: HashMap<FunctionRef, Counts> = status.functions.into_iter().collect();
    for (function, counts) in &counts {
        // One that is gone must not come back for its dead calls.
        if engine.catalog.resolve(function).is_some() {
            show(engine, function, counts, now);
        }
    }
    for (function, metrics) in engine.observe.metrics.functions() {
        if metrics.known_queue().is_some() && !counts.contains_key(&function) {
            show(engine, &function, &Counts::default(), now);
        }
    }
}

fn show(engine: &Engine, function: &FunctionRef, counts: &Counts, now: Timestamp) {
    let metrics = engine.observe.metrics.function(function);
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
