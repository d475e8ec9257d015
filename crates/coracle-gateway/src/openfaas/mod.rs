//! The routes of OpenFaaS: the same server in other words. Handlers unpack, make one call, convert; the words are in `coracle-faces`.
//! `admin` joins them to its own; what clients there call `openfaas-fn` is `default` here.

mod queued;

use axum::routing::{MethodRouter, post};
use http::Method;

use crate::admin::Shared;

/// The routes, as the router takes them.
pub(crate) fn routes() -> Vec<(Method, &'static str, MethodRouter<Shared>)> {
    vec![
        (Method::POST, "/async-function/{name}", post(queued::call)),
        (Method::POST, "/async-function/{name}/{*path}", post(queued::call)),
    ]
}
