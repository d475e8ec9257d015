//! The rim of this face: what its handlers take apart, and the statuses of what they refuse.
//! What a body says is parsed by `coracle-faces`; who asks, and how much they may send, is as in `admin::rim`.

use axum::response::Response;
use coracle_faces::openfaas::namespace::parse_name;
use coracle_faces::openfaas::refusal::{self, Verb};
use coracle_model::{NamespaceName, Problem};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use crate::admin::rim::Failure;

/// What stands behind the `?`; whatever else does is nobody's business.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    /// The namespace, in the client's words.
    pub(super) namespace: Option<String>,
    /// Whether what instances use is to be told: `1`.
    pub(super) usage: Option<String>,
}

impl Query {
    /// The namespace that is meant; nothing is the first one.
    pub(super) fn namespace(&self) -> Result<NamespaceName, Problem> {
        parse_name(self.namespace.as_deref().unwrap_or_default())
    }
}

/// A problem with the status that clients of this face expect; its body is ours.
pub(super) fn refused(verb: Verb) -> impl Fn(Problem) -> Failure {
    move |problem| {
        // All of them are statuses of ours, or stand in the table of the face.
        let status = StatusCode::from_u16(refusal::status(verb, &problem)).unwrap_or(StatusCode::BAD_REQUEST);
        Failure::with_status(problem, status)
    }
}

/// A document.
pub(super) fn json(document: String) -> Response {
    let mut response = Response::new(document.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
