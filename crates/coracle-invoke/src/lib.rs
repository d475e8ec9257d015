//! The one door to running code: admit, run, record.
//! The gateway makes calls here; later the queue does too. No database stands on this path.

mod admit;
mod call;
mod pool;
mod record;
mod room;

pub use call::{Invoke, Stopping};
