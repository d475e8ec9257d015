//! Numbers about what happens now: per function, and of the whole server.
//! Invoke, the runtime and the gateway count; `/metrics`, `coracle show` and `coracle list` read.
//!
//! No prometheus crate: the hot path must be plain atomics that the caller holds (no label lookup, no registry), and the text format is small enough to write by hand.

mod answers;
mod atom;
mod function;
mod histogram;
mod render;
mod server;
mod table;
mod window;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use coracle_model::FunctionRef;

pub use answers::{Answers, STATUSES_MAX};
pub use atom::{Counter, Gauge};
pub use function::{Class, FunctionMetrics, Hold, ProgramMetrics, QueueMetrics, Snapshot};
pub use histogram::{Distribution, Histogram};
pub use render::Text;
pub use server::{ServerMetrics, resident_bytes};
pub use table::{Kind, Row, table};
pub use window::{Recent, WINDOW_SECONDS, Window};

/// All numbers of a server; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    server: ServerMetrics,
    // Std lock: held for a map lookup, never over an await. Sorted, so that the text comes in a stable order.
    // As many entries as functions that are deployed: unknown names never get here, and removed ones are forgotten.
    functions: RwLock<BTreeMap<FunctionRef, Arc<FunctionMetrics>>>,
}

impl Metrics {
    /// The numbers of a function, made when asked for first; the caller keeps them.
    pub fn function(&self, function: &FunctionRef) -> Arc<FunctionMetrics> {
        if let Some(known) = self.known(function) {
            return known;
        }
        let mut functions = self.0.functions.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(functions.entry(function.clone()).or_default())
    }

    /// The numbers of the server as a whole.
    pub fn server(&self) -> &ServerMetrics {
        &self.0.server
    }

    /// What a person wants to see of a function; all zero when it was never called.
    pub fn snapshot(&self, function: &FunctionRef) -> Snapshot {
        self.known(function).map(|metrics| metrics.snapshot()).unwrap_or_default()
    }

    /// Looks at the numbers of every function that has some.
    ///
    /// `each` is called with the lock held: it looks, and asks for nothing here.
    pub fn for_each(&self, mut each: impl FnMut(&FunctionRef, &FunctionMetrics)) {
        let functions = self.0.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.iter().for_each(|(function, metrics)| each(function, metrics));
    }

    /// Drops the numbers of a function that was removed.
    pub fn forget(&self, function: &FunctionRef) {
        self.0.functions.write().unwrap_or_else(PoisonError::into_inner).remove(function);
    }

    /// Everything in Prometheus' text format, version 0.0.4; each piece tells the numbers of when it is taken.
    pub fn text(&self) -> Text {
        Text::new(self.clone(), self.functions())
    }

    /// Every function that has numbers, in the order of their names.
    pub fn functions(&self) -> Vec<(FunctionRef, Arc<FunctionMetrics>)> {
        let functions = self.0.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.iter().map(|(name, metrics)| (name.clone(), Arc::clone(metrics))).collect()
    }

    /// The numbers of a function that has some: looking at one, or counting what is left of a removed one, must not bring it back.
    pub fn known(&self, function: &FunctionRef) -> Option<Arc<FunctionMetrics>> {
        self.0.functions.read().unwrap_or_else(PoisonError::into_inner).get(function).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_one_set_of_numbers_until_it_is_forgotten() {
        let metrics = Metrics::default();
        let hello = FunctionRef::parse("hello").expect("a name");
        metrics.function(&hello).cold_starts.increment();
        metrics.function(&hello).cold_starts.increment();
        assert_eq!(metrics.snapshot(&hello).cold_starts, 2);
        metrics.forget(&hello);
        assert_eq!(metrics.snapshot(&hello), Snapshot::default());
    }
}
