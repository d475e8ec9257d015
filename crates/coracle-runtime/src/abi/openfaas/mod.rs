//! The contract between a watchdog of OpenFaaS and the function behind it, kept by this server in the watchdog's place.
//!
//! `contract` tells which programs are spoken to so, and `settings` what their environment asks for.
//! `serve` takes a call to its process and back: by `fork`, in one of its own with the variables of `cgi`, or by `http`, to one that listens.
//! `probe` answers the questions after the watchdog itself, and `line` tells of a call.

mod cgi;
mod contract;
mod fork;
mod http;
mod line;
mod probe;
mod serve;
mod settings;
mod span;

pub use contract::contract_of;
pub(crate) use fork::Place;
pub use probe::Standing;
pub(crate) use probe::full;
pub(crate) use serve::serve;
pub(crate) use settings::Watchdog;
