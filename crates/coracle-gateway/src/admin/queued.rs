//! One queued call: sent, shown, cancelled and run again.
//! `calls.rs` asks here first for whatever is shown by its identity; the whole queue is in `queue.rs`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Request, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use coracle_api::{
    AcceptedView, AttemptView, CallState, CallsCount, CancelledView, ProblemView, QueuedCallView, ResultView,
    SubmitQuery, decode_query,
};
use coracle_model::{CallId, FunctionName, FunctionRef, Principal, Problem, Scope, code};
use coracle_queue::{
    Accepted, Attempt, AttemptEnd, CallResult, Filter, Form, Kind, QueuedCall, Selection, State as Stands,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::rim::{Answer, Named, Segment, Who};
use super::{Admin, Shared};
use crate::data::CALL_ID;
use crate::submit::{Wanted, submit};
use crate::target::function_named;

/// What is answered to a call that was accepted.
type Queued = (StatusCode, HeaderMap, Json<AcceptedView>);

pub(super) async fn submit_in(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<FunctionName>,
    request: Request,
) -> Answer<Queued> {
    queue(&admin, who, FunctionRef { namespace, name }, request).await
}

pub(super) async fn submit_named(
    State(admin): State<Shared>,
    Who(who): Who,
    Path(name): Path<String>,
    request: Request,
) -> Answer<Queued> {
    queue(&admin, who, function_named(&name)?, request).await
}

/// Queues a call for somebody with a token, as all of our own API; whoever has none calls `/async-function/NAME`.
async fn queue(admin: &Admin, who: Principal, function: FunctionRef, request: Request) -> Answer<Queued> {
    admin.authenticator.require_on(who, Scope::Call, &function)?;
    let query: SubmitQuery = decode_query(request.uri().query())?;
    match query.r#async.as_deref() {
        Some("" | "true" | "1") => {}
        Some(_) | None => {
            return Err(Problem::new(&code::BAD_REQUEST, "only calls that are to be queued are made here")
                .hint("add `?async` to the address; call `/function/NAME` to wait for the answer")
                .into());
        }
    }
    let wanted = Wanted { function, method: method(&query)?, path: path(&query)?, form: Form::Plain };
    let Accepted { id, due, again } = submit(admin, request, wanted).await?;
    let mut headers = HeaderMap::new();
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(CALL_ID, id);
    }
    Ok((StatusCode::ACCEPTED, headers, Json(AcceptedView { id: id.to_string(), due, again })))
}

fn method(query: &SubmitQuery) -> Result<Method, Problem> {
    let Some(method) = &query.method else { return Ok(Method::POST) };
    let shown: String = method.chars().take(20).collect();
    match method.parse() {
        Ok(Method::CONNECT) | Err(_) => {
            let message = format!("`{shown}` is not a method that a function is called with");
            Err(Problem::new(&code::BAD_REQUEST, message).hint("write for example `method=PUT`"))
        }
        Ok(method) => Ok(method),
    }
}

fn path(query: &SubmitQuery) -> Result<PathAndQuery, Problem> {
    let path = query.path.as_deref().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    PathAndQuery::try_from(path).map_err(|error| {
        Problem::new(&code::BAD_REQUEST, format!("`path` is not a path: {error}"))
            .hint("write for example `path=/thumb%3Fwidth=64`")
    })
}

pub(super) async fn cancel(
    State(admin): State<Shared>,
    Who(who): Who,
    Segment(id): Segment,
) -> Answer<(StatusCode, Json<CancelledView>)> {
    let was = state(cancelled(&admin, who, &id).await?);
    Ok((StatusCode::ACCEPTED, Json(CancelledView { id, was })))
}

/// Cancels a call, for somebody who may call its function; says where it stood.
pub(crate) async fn cancelled(admin: &Admin, who: Principal, id: &str) -> Result<Stands, Problem> {
    let call = reached(admin, who, id, Scope::Call).await?;
    admin.queue.cancel(&call.id, &Filter::Function(call.function)).await
}

pub(super) async fn redrive(
    State(admin): State<Shared>,
    Who(who): Who,
    Segment(id): Segment,
) -> Answer<Json<CallsCount>> {
    let call = reached(&admin, who, &id, Scope::Deploy).await?;
    let calls = admin.queue.redrive(&Selection::Call(call.id, Filter::Function(call.function))).await?;
    Ok(Json(CallsCount { calls }))
}

/// A queued call, if the token reaches it as far as `needed`; one that it does not reach is as good as none.
pub(super) async fn reached(
    admin: &Admin,
    who: Principal,
    id: &str,
    needed: Scope,
) -> Result<QueuedCall, Problem> {
    let who = admin.authenticator.require_somewhere(who, needed)?;
    let id = CallId::parse(id).ok_or_else(|| {
        let shown: String = id.chars().take(128).collect();
        Problem::new(&code::CALL_NOT_FOUND, format!("no call `{shown}` is queued, or ended of late"))
            .hint("`coracle queue list` shows those that wait")
    })?;
    admin.queue.show(&id, |function| who.may_on(needed, function)).await
}

/// A call as a client sees it; lines of its log only for those who may read logs.
pub(super) fn view(call: QueuedCall, deliveries: Vec<QueuedCall>, who: &Principal) -> QueuedCallView {
    let may_read_logs = who.may_on(Scope::Deploy, &call.function);
    let (method, path, delivers_to) = match call.kind {
        Kind::Call { method, path } => (Some(method.to_string()), Some(path), None),
        Kind::Delivery { url } => (None, None, Some(url)),
    };
    QueuedCallView {
        id: call.id.to_string(),
        function: call.function,
        state: state(call.state),
        method,
        path,
        delivers_to,
        group: call.group,
        accepted: call.accepted,
        due: call.due,
        ended: call.ended,
        callback: call.callback,
        body_bytes: call.body_bytes,
        attempts_made: call.attempts_made,
        attempts: call.attempts.into_iter().map(|attempt| attempt_view(attempt, may_read_logs)).collect(),
        reason: call.reason,
        result: call.result.map(result_view),
        deliveries: deliveries.into_iter().map(|delivery| view(delivery, Vec::new(), who)).collect(),
    }
}

fn attempt_view(attempt: Attempt, may_read_logs: bool) -> AttemptView {
    let (status, problem) = match attempt.end {
        AttemptEnd::Answered(status) => (Some(status), None),
        AttemptEnd::Failed { code, message } => (None, Some(problem_view(code, message))),
    };
    AttemptView {
        number: attempt.number,
        node: attempt.node,
        started: attempt.started,
        took_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        status,
        problem,
        log: if may_read_logs { attempt.log } else { Vec::new() },
    }
}

/// A problem of the past, whose code this version may not know.
fn problem_view(code: String, message: String) -> ProblemView {
    let docs = format!("coracle explain {code}");
    ProblemView { status: 0, code, message, hint: None, call_id: None, docs }
}

fn result_view(result: CallResult) -> ResultView {
    let CallResult { status, headers, body, body_bytes } = result;
    let mut joined = BTreeMap::<String, String>::new();
    for (name, value) in &headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = joined.entry(name.to_string()).or_default();
        if !known.is_empty() {
            known.push_str(", ");
        }
        known.push_str(&value);
    }
    let (body, body_base64) = texts(&body);
    ResultView { status, headers: joined, body, body_base64, body_bytes }
}

/// A body as text, or in base64 if it is none; nothing of an empty one.
fn texts(body: &Bytes) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(body) {
        Ok("") => (None, None),
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(body))),
    }
}

pub(super) fn state(state: Stands) -> CallState {
    match state {
        Stands::Waiting => CallState::Waiting,
        Stands::Running => CallState::Running,
        Stands::Succeeded => CallState::Succeeded,
        Stands::Failed => CallState::Failed,
        Stands::Cancelled => CallState::Cancelled,
        Stands::Dead => CallState::Dead,
    }
}
