//! The routes of OpenFaaS: the same server in other words. Handlers unpack, make one call, convert; the words are in `coracle-faces`.
//! `admin` joins them to its own; what clients there call `openfaas-fn` is `default` here.

mod alert;
mod functions;
mod info;
mod instances;
mod logs;
pub(crate) mod metrics;
mod namespaces;
mod queued;
mod rim;
mod secrets;

use axum::routing::{MethodRouter, get, post};

use crate::admin::Shared;

/// The routes, as the router takes them.
pub(crate) fn routes() -> Vec<(&'static str, MethodRouter<Shared>)> {
    let a_namespace =
        || post(namespaces::create).get(namespaces::show).put(namespaces::change).delete(namespaces::remove);
    vec![
        (
            "/system/functions",
            get(functions::list).post(functions::create).put(functions::update).delete(functions::remove),
        ),
        ("/system/function/{name}", get(functions::show)),
        ("/system/scale-function/{name}", post(instances::scale)),
        ("/system/info", get(info::show)),
        ("/system/namespaces", get(namespaces::list)),
        // Whoever creates one names it in the body, and leaves the end of the path empty.
        ("/system/namespace/", a_namespace()),
        ("/system/namespace/{ns}", a_namespace()),
        (
            "/system/secrets",
            get(secrets::list).post(secrets::create).put(secrets::update).delete(secrets::remove),
        ),
        ("/system/logs", get(logs::read)),
        ("/system/alert", post(alert::hear)),
        ("/async-function/{name}", post(queued::call).delete(queued::cancel)),
        ("/async-function/{name}/{*path}", post(queued::call)),
    ]
}
