//! Our own API: `/v1`, `/healthz` and `/metrics`. One file per noun; each handler unpacks, makes one call, converts.
//! `serve.rs` of the binary fills in [`Admin`]; `data` hands every request here that is not for a function.

mod apps;
pub(crate) mod artifacts;
mod calls;
mod format;
pub(crate) mod functions;
pub(crate) mod gathered;
mod images;
pub(crate) mod logs;
pub(crate) mod namespaces;
mod queue;
pub(crate) mod queued;
mod registries;
pub(crate) mod rim;
mod secrets;
mod server;
mod stats;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, delete, get, post, put};
use coracle_catalog::Catalog;
use coracle_invoke::Invoke;
use coracle_observe::Observe;
use coracle_queue::Queue;
use coracle_runtime::{Images, Runtime};
use coracle_store::{Artifacts, DataDir, Embedded};
use http::Method;

use crate::{Authenticator, Nodes, openfaas, pages};

/// What the API speaks for.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What is deployed.
    pub catalog: Catalog,
    /// What runs code, and says whether an upload can run.
    pub runtime: Runtime,
    /// What makes calls.
    pub invoke: Invoke,
    /// Calls that must not be lost.
    pub queue: Queue,
    /// What happened.
    pub observe: Observe,
    /// Uploaded code.
    pub artifacts: Artifacts,
    /// Images that were pulled or loaded.
    pub images: Images,
    /// The database of this server alone, for backups; `None` where several share one.
    pub embedded: Option<Arc<Embedded>>,
    /// The servers that share the database.
    pub nodes: Nodes,
    /// The data directory, for backups.
    pub data: Arc<DataDir>,
    /// Who asks.
    pub authenticator: Authenticator,
    /// The largest upload, in bytes.
    pub upload_bytes_max: u64,
}

pub(crate) type Shared = Arc<Admin>;

impl Admin {
    /// The routes, ready to be asked; the server counts as started now.
    pub fn router(self) -> Router {
        let status = server::Started::now(&*self.observe.clock);
        let mut router = Router::new();
        let own = routes(status).into_iter().map(|(_, path, handler)| (path, handler));
        for (path, handler) in own.chain(pages::routes()).chain(openfaas::routes()) {
            router = router.route(path, handler);
        }
        rim::rendered(router.fallback(rim::unknown_path).method_not_allowed_fallback(rim::unknown_method))
            .with_state(Arc::new(self))
    }

    /// `/metrics` and `/healthz` alone, both without a token: for an address that only the scraper reaches.
    pub fn metrics_router(self) -> Router {
        let router =
            Router::new().route("/metrics", get(server::metrics)).route("/healthz", get(server::healthz));
        rim::rendered(router.fallback(rim::unknown_path).method_not_allowed_fallback(rim::unknown_method))
            .with_state(Arc::new(self))
    }
}

/// Every route; those under `/v1` are the operations of the OpenAPI document, which a test compares.
fn routes(started: server::Started) -> Vec<(Method, &'static str, MethodRouter<Shared>)> {
    const FUNCTION: &str = "/v1/namespaces/{ns}/functions/{name}";
    const APP: &str = "/v1/namespaces/{ns}/apps/{name}";
    const SECRET: &str = "/v1/namespaces/{ns}/secrets/{name}";
    const REGISTRY: &str = "/v1/namespaces/{ns}/registries/{name}";
    let status = move |shared, who| server::status(shared, who, started);
    let stats = move |shared, who, query| stats::read(shared, who, query, started);
    vec![
        (Method::POST, "/v1/artifacts", post(artifacts::upload)),
        (Method::GET, "/v1/artifacts/{digest}", get(artifacts::show)),
        (Method::GET, "/v1/functions", get(functions::list)),
        (Method::GET, FUNCTION, get(functions::show)),
        (Method::PUT, FUNCTION, put(functions::deploy)),
        (Method::DELETE, FUNCTION, delete(functions::remove)),
        (Method::GET, "/v1/namespaces/{ns}/functions/{name}/revisions", get(functions::revisions)),
        (Method::POST, "/v1/namespaces/{ns}/functions/{name}/rollback", post(functions::rollback)),
        (Method::POST, "/v1/namespaces/{ns}/functions/{name}/scale", post(functions::scale)),
        (Method::GET, "/v1/namespaces/{ns}/apps", get(apps::list)),
        (Method::GET, APP, get(apps::show)),
        (Method::PUT, APP, put(apps::deploy)),
        (Method::DELETE, APP, delete(apps::remove)),
        (Method::POST, "/v1/namespaces/{ns}/functions/{name}/calls", post(queued::submit_in)),
        (Method::POST, "/v1/functions/{name}/calls", post(queued::submit_named)),
        (Method::GET, "/v1/calls", get(calls::list)),
        (Method::GET, "/v1/calls/{id}", get(calls::show)),
        (Method::POST, "/v1/calls/{id}/cancel", post(queued::cancel)),
        (Method::POST, "/v1/calls/{id}/redrive", post(queued::redrive)),
        (Method::GET, "/v1/queue", get(queue::show)),
        (Method::GET, "/v1/queue/calls", get(queue::list)),
        (Method::GET, "/v1/namespaces/{ns}/topics/{name}", get(queue::topic)),
        (Method::POST, "/v1/queue/redrive", post(queue::redrive)),
        (Method::POST, "/v1/queue/purge", post(queue::purge)),
        (Method::GET, "/v1/logs", get(logs::read)),
        (Method::GET, "/v1/stats", get(stats)),
        (Method::GET, "/v1/namespaces/{ns}/secrets", get(secrets::list)),
        (Method::PUT, SECRET, put(secrets::set)),
        (Method::DELETE, SECRET, delete(secrets::remove)),
        (Method::GET, "/v1/images", get(images::list)),
        (Method::DELETE, "/v1/images", delete(images::remove)),
        (Method::POST, "/v1/images/pull", post(images::pull)),
        (Method::POST, "/v1/images/load", post(images::load)),
        (Method::POST, "/v1/images/prune", post(images::prune)),
        (Method::GET, "/v1/namespaces/{ns}/registries", get(registries::list)),
        (Method::PUT, REGISTRY, put(registries::login)),
        (Method::DELETE, REGISTRY, delete(registries::logout)),
        (Method::GET, "/v1/namespaces", get(namespaces::list)),
        (Method::PUT, "/v1/namespaces/{ns}", put(namespaces::create)),
        (Method::DELETE, "/v1/namespaces/{ns}", delete(namespaces::remove)),
        (Method::GET, "/v1/tokens", get(tokens::list)),
        (Method::POST, "/v1/tokens", post(tokens::create)),
        (Method::DELETE, "/v1/tokens/{id}", delete(tokens::revoke)),
        (Method::GET, "/v1/status", get(status)),
        (Method::GET, "/v1/whoami", get(server::whoami)),
        (Method::POST, "/v1/backup", post(server::backup)),
        (Method::GET, "/v1/openapi.json", get(server::openapi)),
        (Method::GET, "/healthz", get(server::healthz)),
        (Method::GET, "/metrics", get(server::metrics_with_token)),
    ]
}

#[cfg(test)]
mod tests;
