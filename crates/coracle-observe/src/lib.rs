//! What happened: logs, the last calls, metrics; and the clocks that say when.
//! Every crate above writes here; the gateway reads for the API, and nothing here ever calls back.

mod bounded;
pub mod calls;
pub mod clock;
pub mod log_rate;
pub mod logs;
mod mailbox;
pub mod metrics;
mod observe;

pub use mailbox::Followed;
pub use observe::Observe;
