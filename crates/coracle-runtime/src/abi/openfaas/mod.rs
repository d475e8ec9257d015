//! The contract between a watchdog of OpenFaaS and the function behind it, kept by this server in the watchdog's place.
//!
//! `contract` tells which programs are spoken to so.

mod contract;

pub use contract::contract_of;
