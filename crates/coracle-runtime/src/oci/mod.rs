//! Programs: bundles and images, from their files to a process that answers.

mod sandbox;

pub use sandbox::{Protection, SANDBOX_SPAWNER, sandbox_spawner};
