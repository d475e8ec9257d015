//! WebAssembly: components and commands, from bytes to a running instance.
//!
//! `inspect` says what code is and needs, `compile` makes machine code of it in a process of its own,
//! `code_cache` keeps that on disk, `loaded` maps it on first use, `instance` runs it, `component` and `stdio` speak with it.

mod code_cache;
mod compile;
mod component;
mod engine;
mod guest;
mod inspect;
mod instance;
mod limiter;
mod loaded;
mod pump;
mod runtime;
mod stdio;
mod stream;
mod trap;
mod written;

pub use compile::{COMPILE_WORKER, compile_worker};
pub use guest::Plan;
pub(crate) use instance::before;
pub use instance::{Answer, Ended, Instance, Left, Running, Work};
pub use runtime::{Bounds, Prepared, Runtime, Started, Status};
