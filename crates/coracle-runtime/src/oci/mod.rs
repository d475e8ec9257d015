//! Programs in sandboxes of their own: bundles and images, from their files to a process that answers.
//!
//! `sandbox` makes the walls and runs what is within; `process` is one instance, `blueprint` what those of a revision share.
//! `ingress` carries calls to a program that listens, `stdio` to one that runs for each call;
//! `relay` and `proxy` carry what a program asks of the outside, by `routes`.

mod blueprint;
mod connection;
mod guest_body;
mod head;
mod http1;
mod image;
mod ingress;
mod pool;
mod prints;
mod process;
mod programs;
mod proxy;
mod proxy_head;
mod readiness;
mod relay;
mod routes;
mod sandbox;
mod stdio;
mod tunnel;
mod upgrade;

pub use blueprint::Blueprint;
pub(crate) use blueprint::command;
pub use image::{Credentials, Image, ImageBounds, ImageConfig, Images, Progress, Pruned};
pub(crate) use ingress::Ingress;
pub use process::{Launched, Process, Used};
pub use programs::Programs;
pub(crate) use sandbox::Sandbox;
pub use sandbox::{Protection, SANDBOX_SPAWNER, sandbox_spawner};
pub(crate) use stdio::{Manner, serve as serve_once};

#[cfg(test)]
mod testing;
