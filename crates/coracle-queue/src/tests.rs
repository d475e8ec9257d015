//! The whole queue, on SQLite in a folder of its own, with functions that do what a test says.

mod bodies;
mod cancels;
mod crashes;
mod fairness;
mod faults;
mod life;
mod rig;

pub(crate) use rig::Script;
