//! The one door to running code: admit, run, record.
//! The gateway makes calls here; later the queue does too. No database stands on this path.

mod admit;
mod after;
mod call;
mod fleet;
mod handover;
mod idle;
mod instances;
mod keepers;
mod program;
mod record;
mod room;
mod scale;
mod together;
mod used;

pub use after::{Afterwards, Chore};
pub use call::{Invoke, Stopping};
pub use fleet::InstanceCounts;
pub use keepers::Keepers;
pub use together::thread_idles;
pub use used::Used;
