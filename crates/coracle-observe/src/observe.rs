//! One face for all that is observed: what `serve.rs` makes at start and hands to invoke, the runtime and the gateway.
//! The fields are public on purpose: who needs only the metrics takes only the metrics.

use std::path::Path;
use std::sync::Arc;

use coracle_model::{Clock, FunctionRef};

use crate::calls::Calls;
use crate::logs::{self, Limits, Logs};
use crate::metrics::Metrics;

/// Clock, logs, the last calls and metrics; cheap to clone.
#[derive(Debug, Clone)]
pub struct Observe {
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What guests print.
    pub logs: Logs,
    /// The last calls.
    pub calls: Calls,
    /// Numbers.
    pub metrics: Metrics,
}

impl Observe {
    /// Opens the logs under `dir`; calls and metrics begin empty.
    ///
    /// # Errors
    /// When the logs cannot be opened.
    pub fn open(dir: &Path, limits: Limits, clock: Arc<dyn Clock>) -> Result<Self, logs::Error> {
        let metrics = Metrics::default();
        let logs = Logs::open(dir, limits, metrics.clone())?;
        Ok(Self { clock, logs, calls: Calls::default(), metrics })
    }

    /// Drops everything that is known of a function that was removed.
    pub fn forget(&self, function: &FunctionRef) {
        self.logs.forget(function);
        self.calls.forget(function);
        self.metrics.forget(function);
    }
}
