//! Sandboxes of programs: namespaces, users, groups, a root of their own, and a first process that runs what the server asks for.
//!
//! ```text
//! server ── sandboxes.rs ─ order ─► spawner.rs ─ fork ─► worker.rs ─ clone ─► init.rs ─ fork ─► the program
//!    ▲ └────────────────────── control: asks and tells, with descriptors (wire.rs) ──────┘
//!    └───────────────────────── news of deaths ───┘
//! ```
//! `standing` is the server's hand on one that was made: it asks, and hears what is told.
//! `worker` makes the groups (`cgroup`), the users and the mounts (`root`) of one sandbox; `init` raises the walls (`seccomp`, `user`).
//! What all of it is made of stands in `spec`; the system calls that have no safe wrapper in `namespaces`.

mod cgroup;
mod group_files;
mod init;
mod namespaces;
mod root;
mod sandboxes;
mod seccomp;
mod spawner;
mod spec;
mod standing;
mod user;
mod wire;
mod worker;

pub(crate) use sandboxes::{Failed, Sandboxes};
pub use spawner::{SANDBOX_SPAWNER, sandbox_spawner};
pub(crate) use spec::{Bounds, Network, Root, Runs, SecretFile, Spec};
pub(crate) use standing::{LastWords, Ran, Sandbox};
pub use wire::Protection;
pub(crate) use wire::{End, Status, Step};
