//! What is deployed: namespaces, apps, functions and their revisions, secrets, tokens.
//! The gateway and invoke read it on every call, from memory; the admin API writes it, through the database.
//!
//! Everything starts at [`Catalog`], a cheap handle.
//! Reads are answered from memory and never wait for the disk.
//! Writes take turns (`turn.rs`): each decides on what memory holds, commits under the condition that the database
//! still holds the same, and changes memory before it returns.

mod catalog;
mod deploy;
mod history;
mod key;
mod namespaces;
mod records;
mod registries;
mod routes;
mod secrets;
mod state;
mod tokens;
mod turn;
mod validate;

pub use catalog::{App, CHANGES_MAX, Catalog, Filter, Function, Routed};
pub use deploy::{Deploy, Deployment, FUNCTIONS_MAX, FUNCTIONS_PER_DEPLOY_MAX, Presence, REVISIONS_KEPT_MAX};
pub use key::SecretKey;
pub use namespaces::{NAMESPACES_MAX, NamespaceInfo, NamespaceNotes};
pub use registries::{REGISTRIES_PER_NAMESPACE_MAX, RegistryCredentials, RegistryInfo};
pub use secrets::{SECRET_BYTES_MAX, SECRETS_PER_NAMESPACE_MAX, Secret, SecretInfo};
pub use tokens::{AuthFailure, TOKENS_MAX, TOKENS_PER_NAMESPACE_MAX, TokenInfo, new_token_text};
