//! Programs in sandboxes of their own: bundles and images.
//!
//! `ingress` carries calls to a program that listens; `relay` and `proxy` carry what it asks of the outside, by `routes`.

mod connection;
mod guest_body;
mod head;
mod ingress;
mod pool;
mod readiness;
mod tunnel;
mod upgrade;
