//! What is deployed: namespaces, apps, functions, their revisions, secrets and tokens.
//! The gateway writes here, everybody reads; what a call needs is in memory, and a commit is durable before it is seen.

mod catalog;
mod deploy;
mod history;
mod key;
mod namespaces;
mod records;
mod routes;
mod secrets;
mod state;
mod tokens;
mod turn;
mod validate;

pub use catalog::{App, CHANGES_MAX, Catalog, Filter, Function, Routed};
pub use deploy::{Deploy, Deployment, FUNCTIONS_MAX, FUNCTIONS_PER_DEPLOY_MAX, REVISIONS_KEPT_MAX};
pub use key::SecretKey;
pub use namespaces::{NAMESPACES_MAX, NamespaceInfo};
pub use secrets::{SECRET_BYTES_MAX, SECRETS_PER_NAMESPACE_MAX, Secret, SecretInfo};
pub use tokens::{AuthFailure, TOKENS_MAX, TOKENS_PER_NAMESPACE_MAX, TokenInfo, new_token_text};
