//! Programs in sandboxes of their own: bundles and images.
//!
//! `ingress` carries calls to a program that listens; `relay` and `proxy` carry what it asks of the outside, by `routes`.

mod connection;
mod guest_body;
mod head;
mod ingress;
mod pool;
mod proxy;
mod proxy_head;
mod readiness;
mod relay;
mod routes;
mod tunnel;
mod upgrade;

#[cfg(test)]
mod testing;
