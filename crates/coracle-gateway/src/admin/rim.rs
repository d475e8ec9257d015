//! The rim of the API: what handlers take apart of a request, and what a failure of theirs becomes.
//! Every handler's arguments and errors come from here, so that each mistake is told in the same way.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use coracle_api::{JSON_BYTES_MAX, decode_json, decode_query, operations};
use coracle_model::{InvalidName, NamespaceName, Principal, Problem, code, nearest};
use http::header::ACCEPT;
use http::request::Parts;
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Shared;
use crate::problem;

/// How long a JSON body may take to come.
const JSON_TIMEOUT: Duration = Duration::from_secs(30);

/// What a handler answers.
pub(crate) type Answer<T> = Result<T, Failure>;

/// A problem on its way out; [`rendered`] makes it a response, once it knows what the client takes.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    problem: Arc<Problem>,
    /// Where the client expects another status than ours.
    status: Option<StatusCode>,
}

impl Failure {
    /// A problem that is answered with a status of somebody else's choice.
    pub(crate) fn with_status(problem: Problem, status: StatusCode) -> Self {
        Self { problem: Arc::new(problem), status: Some(status) }
    }

    /// Whether it is that nobody knows who asks.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.problem.code == &code::UNAUTHENTICATED
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem: Arc::new(problem), status: None }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

/// The routes, with every failure rendered as the client prefers it.
pub(crate) fn rendered(router: Router<Shared>) -> Router<Shared> {
    router.layer(middleware::from_fn(async |request: Request, next: Next| {
        let accept = request.headers().get(ACCEPT).cloned();
        let mut response = next.run(request).await;
        let Some(Failure { problem, status }) = response.extensions_mut().remove() else { return response };
        let mut rendered = problem::render(&problem, None, accept.as_ref()).map(axum::body::Body::new);
        if let Some(status) = status {
            *rendered.status_mut() = status;
        }
        // `Allow`, which the router alone knows.
        rendered.headers_mut().extend(std::mem::take(response.headers_mut()));
        rendered
    }))
}

/// A path that is not there, with the nearest one that is.
pub(crate) async fn unknown_path(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    let problem = Problem::new(&code::ROUTE_NOT_FOUND, format!("there is no `{path}` in this API"));
    match nearest_path(&path) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint("`/v1/openapi.json` lists all paths"),
    }
    .into()
}

/// A method that a path does not take; the header `Allow` names those that it does.
pub(crate) async fn unknown_method(method: Method, uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(&code::METHOD_NOT_ALLOWED, format!("`{path}` does not take {method}"))
        .hint("the header `Allow` names what it takes")
        .into()
}

/// The nearest path, with the names that stand in the one that was asked for.
fn nearest_path(path: &str) -> Option<String> {
    let asked: Vec<&str> = path.split('/').collect();
    let like_asked = |(_, template): (Method, String)| {
        let segments: Vec<&str> = template.split('/').collect();
        let filled =
            segments.iter().zip(&asked).map(|(own, asked)| if own.starts_with('{') { asked } else { own });
        (segments.len() == asked.len()).then(|| filled.copied().collect::<Vec<_>>().join("/"))
    };
    let known: Vec<String> = operations().into_iter().filter_map(like_asked).collect();
    nearest(path, known.iter().map(String::as_str)).map(str::to_owned)
}

/// Who asks; handlers decide whether they may.
pub(crate) struct Who(pub(crate) Principal);

impl FromRequestParts<Shared> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, admin: &Shared) -> Answer<Self> {
        Ok(Self(admin.authenticator.principal(&parts.headers)?))
    }
}

/// The `{ns}` of a path.
pub(crate) struct InNamespace(pub(crate) NamespaceName);

impl FromRequestParts<Shared> for InNamespace {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let Path(namespace) = Path::<String>::from_request_parts(parts, &()).await.map_err(not_text)?;
        Ok(Self(name(&namespace)?))
    }
}

/// The `{ns}` and the `{name}` of a path.
pub(crate) struct Named<N>(pub(crate) NamespaceName, pub(crate) N);

impl<N: FromStr<Err = InvalidName>> FromRequestParts<Shared> for Named<N> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let Path((namespace, own)) =
            Path::<(String, String)>::from_request_parts(parts, &()).await.map_err(not_text)?;
        Ok(Self(name(&namespace)?, name(&own)?))
    }
}

/// The last part of a path, whatever text it is.
pub(crate) struct Segment(pub(crate) String);

impl FromRequestParts<Shared> for Segment {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let Path(text) = Path::<String>::from_request_parts(parts, &()).await.map_err(not_text)?;
        Ok(Self(text))
    }
}

/// The query of a request.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        Ok(Self(decode_query(parts.uri.query())?))
    }
}

/// The JSON body of a request that comes with a token: nobody else's is read.
pub(crate) struct Sent<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, admin: &Shared) -> Answer<Self> {
        let SentBytes(body) = SentBytes::from_request(request, admin).await?;
        Ok(Self(decode_json(&body)?))
    }
}

/// The body of a request that comes with a token, no larger than JSON may be; whoever takes it reads it.
pub(crate) struct SentBytes(pub(crate) Bytes);

impl FromRequest<Shared> for SentBytes {
    type Rejection = Failure;

    async fn from_request(request: Request, admin: &Shared) -> Answer<Self> {
        let principal = admin.authenticator.principal(request.headers())?;
        admin.authenticator.require_somewhere(principal, coracle_model::Scope::Call)?;
        Ok(Self(json_body(request).await?))
    }
}

async fn json_body(request: Request) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), JSON_BYTES_MAX);
    let collected = timeout(JSON_TIMEOUT, body.collect()).await.map_err(|_| {
        let seconds = JSON_TIMEOUT.as_secs();
        Problem::new(&code::REQUEST_TIMEOUT, format!("the body did not come within {seconds} s"))
    })?;
    collected.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Problem::new(&code::REQUEST_TOO_LARGE, format!("the body has more than {JSON_BYTES_MAX} bytes"))
                .hint("code is uploaded to `/v1/artifacts`, and named here by its digest")
        } else {
            Problem::new(&code::BAD_REQUEST, format!("the body ended before its end: {error}"))
        }
    })
}

fn name<N: FromStr<Err = InvalidName>>(text: &str) -> Result<N, Problem> {
    text.parse().map_err(|error: InvalidName| Problem::new(&code::INVALID_NAME, error.to_string()))
}

fn not_text(error: axum::extract::rejection::PathRejection) -> Problem {
    Problem::new(&code::BAD_REQUEST, format!("the path cannot be read: {}", error.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_path_keeps_the_names_that_were_asked_for() {
        let table = [
            ("/v1/function", Some("/v1/functions")),
            ("/v1/namespaces/shop/function/hello", Some("/v1/namespaces/shop/functions/hello")),
            (
                "/v1/namespaces/shop/functions/hello/revision",
                Some("/v1/namespaces/shop/functions/hello/revisions"),
            ),
            ("/v1/whoamI", Some("/v1/whoami")),
            ("/v1/something/else", None),
            ("/metrics/x", None),
        ];
        for (path, near) in table {
            assert_eq!(nearest_path(path).as_deref(), near, "{path}");
        }
    }
}
