//! Calls that are queued, and answered elsewhere or not at all, as OpenFaaS' clients ask for them; and how one is cancelled.
//! What of a request is kept is the business of `submit`; a call is accepted once it is durable.

use axum::extract::{Request, State};
use coracle_queue::Form;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::admin::Shared;
use crate::admin::queued::cancelled;
use crate::admin::rim::{Answer, Segment, Who};
use crate::data::{CALL_ID, announce};
use crate::submit::{Wanted, submit};
use crate::target::{function_named, path_after};

const PREFIX: &str = "/async-function/";

pub(super) async fn call(State(admin): State<Shared>, request: Request) -> Answer<(StatusCode, HeaderMap)> {
    // Not axum's own parts of the path: those are decoded, and the function is to see its path as it was sent.
    let name = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let name = name.split('/').next().unwrap_or_default();
    let function = function_named(name)?;
    let path = path_after(request.uri(), PREFIX.len() + name.len());
    let mut headers = HeaderMap::new();
    announce(&mut headers, admin.observe.clock.now());
    let wanted = Wanted { function, method: Method::POST, path, form: Form::OpenFaas };
    let accepted = submit(&admin, request, wanted).await?;
    if let Ok(id) = HeaderValue::from_str(accepted.id.as_str()) {
        headers.insert(CALL_ID, id);
    }
    Ok((StatusCode::ACCEPTED, headers))
}

/// Cancels the call of this identity. Not everybody may who may call a public function: an identity may be easy to guess.
pub(super) async fn cancel(
    State(admin): State<Shared>,
    Who(who): Who,
    Segment(id): Segment,
) -> Answer<StatusCode> {
    cancelled(&admin, who, &id).await?;
    Ok(StatusCode::ACCEPTED)
}
