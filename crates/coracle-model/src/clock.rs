//! Time as an argument: whoever needs the time is handed a clock.
//! The real one and the simulated one live in `coracle-observe`.

use std::fmt;
use std::time::Instant;

use jiff::Timestamp;

/// Where the time comes from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of day, for records and expiry.
    fn now(&self) -> Timestamp;

    /// A monotonic instant, for durations and deadlines.
    fn instant(&self) -> Instant;
}
