//! HTTP in, HTTP out: function traffic, our own API, and who may use it.
//! Opened by `serve.rs` of the binary; it knows HTTP and nothing of how code runs.

mod admin;
mod auth;
mod data;
mod listen;
mod problem;
mod unread;

pub use admin::Admin;
pub use auth::Authenticator;
pub use data::Front;
pub use listen::{CONNECTIONS_MAX, serve, serve_metrics};
