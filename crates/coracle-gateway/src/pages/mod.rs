//! Pages for people: what a browser sees of this server, without scripts.
//! The router asks here for `/` and `/ui/`.

mod functions;
mod html;

use std::sync::LazyLock;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use coracle_model::{Problem, code};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, LOCATION, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::admin::Shared;
use crate::admin::rim::Failure;

/// Where the first page is.
const HOME: &str = "/ui/";

/// What a browser asks its user for. A name of its own: functions share our origin, and a page of theirs could have the browser send whatever it knows for the realm of `/v1`.
const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Basic realm="coracle-ui", charset="UTF-8""#);

/// How the pages look. It stands in each of them: a page without an origin may load nothing of ours.
const STYLE: &str = include_str!("style.css");

/// A page has its style and nothing else, and an origin that no page of a function shares.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = BASE64.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
    )
});

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The pages, as the router takes them.
pub(crate) fn routes() -> Vec<(&'static str, MethodRouter<Shared>)> {
    let list = get(functions::list).layer(middleware::from_fn(guarded));
    vec![("/", get(home)), ("/ui", get(home)), (HOME, list)]
}

async fn home() -> (StatusCode, [(HeaderName, &'static str); 2]) {
    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, HOME), (CACHE_CONTROL, "no-store")])
}

/// What holds for every page: who may see it, who may keep it, and what it may do in a browser.
async fn guarded(request: Request, next: Next) -> Response {
    let destination = request.headers().get(SEC_FETCH_DEST);
    // Whoever looks at a page opens it; a script that reads it is a function's.
    let is_read_by_a_script = destination.is_some_and(|destination| destination != "document");
    let mut response = if is_read_by_a_script {
        let problem = Problem::new(&code::FORBIDDEN, "this page is only for looking at")
            .hint("programs ask `/v1`, which `/v1/openapi.json` describes");
        Failure::from(problem).into_response()
    } else {
        next.run(request).await
    };
    let is_unknown = response.extensions().get().is_some_and(Failure::is_unauthenticated);
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_unknown {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}
