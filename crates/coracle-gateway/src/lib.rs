//! HTTP in, HTTP out: function traffic, our own API, and who may use it.
//! Opened by `serve.rs` of the binary; it knows HTTP and nothing of how code runs.

mod activity;
mod admin;
mod apart;
mod auth;
mod data;
mod listen;
mod nodes;
mod openfaas;
mod pages;
mod problem;
mod submit;
mod target;

pub use admin::Admin;
pub use auth::{Authenticator, Login};
pub use data::Front;
pub use listen::{Bounds, CONNECTIONS_MAX, HEAD_TIMEOUT, serve, serve_metrics};
pub use nodes::Nodes;
