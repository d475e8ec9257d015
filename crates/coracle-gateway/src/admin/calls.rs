//! The last calls, and calls as they end: how long their parts took, and how they ended.
//! `coracle show` and `calls` ask here.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use coracle_api::client::Lines;
use coracle_api::{
    CallQuery, CallView, Client, ClientError, FollowedCall, KnownCall, Page, QueuedCallView, ShowQuery,
    WAIT_MAX,
};
use coracle_model::{
    BodyError, CallId, FunctionName, FunctionRef, NamespaceName, Principal, Problem, Reach, Scope, Span, code,
};
use coracle_observe::Followed;
use coracle_observe::calls::{CALLS_RECENT_MAX, CallRecord, Calls, End, Filter, FollowersFull};
use coracle_queue::QueuedCall;
use futures_util::stream::{self, StreamExt, select_all};
use http::header::CONTENT_TYPE;
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::functions::limit_of;
use super::logs::NDJSON;
use super::rim::{Answer, Asked, Segment, Who};
use super::{Admin, Shared, queued};

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<CallQuery>,
) -> Answer<Response> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let limit = match query.limit {
        None | Some(0) if query.follow => 0,
        limit => limit_of(limit)?,
    };
    let filter = filter_of(&admin, &who, query.namespace, query.function)?;
    let wanted = Wanted { filter, failed: query.failed, limit };
    let asked = wanted.asked_of_others(query.follow);
    if query.follow {
        let others = match query.here {
            true => Vec::new(),
            false => admin.nodes.ask(|client| follow_elsewhere(client, asked.clone())).await,
        };
        return Ok(wanted.follow(&admin.observe.calls, others)?);
    }
    let calls = admin.observe.calls.last(&wanted.filter, wanted.looked_at());
    let mut calls: Vec<_> = wanted.of(calls).map(|call| view(&call)).collect();
    if !query.here {
        let others = admin.nodes.ask(|client| list_elsewhere(client, asked.clone())).await;
        calls.extend(others.into_iter().flatten());
        calls.sort_by_key(|call| std::cmp::Reverse(call.started));
        calls.truncate(limit);
    }
    Ok(Json(calls.into_iter().collect::<Page<_>>()).into_response())
}

/// Which calls a client wants.
struct Wanted {
    filter: Filter,
    failed: bool,
    /// How many of those that ended already.
    limit: usize,
}

impl Wanted {
    /// How many of the last calls must be looked at.
    fn looked_at(&self) -> usize {
        if self.failed && self.limit > 0 { CALLS_RECENT_MAX } else { self.limit }
    }

    fn takes(&self, call: &CallRecord) -> bool {
        !self.failed || call.end != End::Ok || call.status >= 500
    }

    /// Those that are wanted among the last ones.
    fn of(&self, calls: Vec<Arc<CallRecord>>) -> impl Iterator<Item = Arc<CallRecord>> {
        calls.into_iter().filter(|call| self.takes(call)).take(self.limit)
    }

    /// The same question, for a node that does not see whose token it is.
    fn asked_of_others(&self, follow: bool) -> CallQuery {
        let (namespace, function) = match self.filter.clone() {
            Filter::All => (None, None),
            Filter::Namespace(namespace) => (Some(namespace), None),
            Filter::Function(FunctionRef { namespace, name }) => (Some(namespace), Some(name)),
        };
        CallQuery { namespace, function, limit: Some(self.limit), failed: self.failed, follow, here: true }
    }

    /// The last ones, oldest first, then each as it ends, here or on another node, until the client goes.
    fn follow(self, calls: &Calls, others: Vec<Lines<FollowedCall>>) -> Result<Response, Problem> {
        let (last, follower) = calls.follow(&self.filter, self.looked_at()).map_err(full)?;
        let mut begun: Vec<_> = self.of(last).map(|call| FollowedCall::Call(Box::new(view(&call)))).collect();
        begun.reverse();
        let lines = stream::unfold((self, begun, follower), async |(wanted, begun, mut follower)| {
            if !begun.is_empty() {
                return Some((encoded(&begun), (wanted, Vec::new(), follower)));
            }
            loop {
                let next = match follower.next().await? {
                    Followed::One(call) if wanted.takes(&call) => FollowedCall::Call(Box::new(view(&call))),
                    Followed::One(_) => continue,
                    Followed::Missed(missed) => FollowedCall::Missed { missed },
                };
                return Some((encoded(&[next]), (wanted, begun, follower)));
            }
        });
        let others = others.into_iter().map(|lines| stream::unfold(lines, next_elsewhere).boxed());
        let all = select_all(std::iter::once(lines.boxed()).chain(others));
        let mut response = Response::new(Body::new(StreamBody::new(all)));
        response.headers_mut().insert(CONTENT_TYPE, NDJSON);
        Ok(response)
    }
}

async fn follow_elsewhere(client: Client, query: CallQuery) -> Result<Lines<FollowedCall>, ClientError> {
    client.follow_calls(&query).await
}

async fn list_elsewhere(client: Client, query: CallQuery) -> Result<Vec<CallView>, ClientError> {
    client.calls(&query).await
}

async fn show_elsewhere(client: Client, id: String) -> Result<KnownCall, ClientError> {
    client.call_here(&id).await
}

/// The next call that ended on another node; one that breaks off has no more, and ours go on.
async fn next_elsewhere(
    mut lines: Lines<FollowedCall>,
) -> Option<(Result<Frame<Bytes>, BodyError>, Lines<FollowedCall>)> {
    match lines.next().await {
        Ok(call) => Some((encoded(&[call?]), lines)),
        Err(error) => {
            tracing::warn!(%error, "the calls of another node broke off");
            None
        }
    }
}

/// One JSON object a line, on its way out.
fn encoded(calls: &[FollowedCall]) -> Result<Frame<Bytes>, BodyError> {
    let mut lines = Vec::new();
    for call in calls {
        serde_json::to_writer(&mut lines, call).map_err(BodyError::broken)?;
        lines.push(b'\n');
    }
    Ok(Frame::data(lines.into()))
}

fn full(error: FollowersFull) -> Problem {
    Problem::new(&code::SERVER_BUSY, error.to_string()).retry_after(5)
}

pub(super) async fn show(
    State(admin): State<Shared>,
    Who(who): Who,
    Segment(id): Segment,
    Asked(query): Asked<ShowQuery>,
) -> Answer<Json<KnownCall>> {
    match queued::reached(&admin, who.clone(), &id, Scope::Call).await {
        Ok(call) => Ok(Json(KnownCall::Queued(Box::new(as_it_ends(&admin, &who, call, query.wait).await?)))),
        Err(problem) if problem.code == &code::CALL_NOT_FOUND => recent(&admin, who, &id, query.here).await,
        Err(problem) => Err(problem.into()),
    }
}

/// A queued call with what follows its end, once it has ended or has been waited for long enough.
async fn as_it_ends(
    admin: &Admin,
    who: &Principal,
    call: QueuedCall,
    wait: Option<Span>,
) -> Result<QueuedCallView, Problem> {
    let of = Filter::Function(call.function.clone());
    let call = match wait {
        Some(Span(span)) if !call.state.is_ended() => {
            admin.queue.wait(&call.id, &of, span.min(WAIT_MAX)).await?
        }
        _ => call,
    };
    let deliveries =
        if call.state.is_ended() { admin.queue.deliveries(&call.id, &of).await? } else { Vec::new() };
    Ok(queued::view(call, deliveries, who))
}

/// One of the last calls that somebody waited for.
async fn recent(admin: &Admin, who: Principal, id: &str, here: bool) -> Answer<Json<KnownCall>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let call = CallId::parse(id).and_then(|id| admin.observe.calls.get(&id));
    // A call that the token does not reach is as good as none.
    let call = match call {
        Some(call) => Some(view(&call)),
        None if here => None,
        None => {
            let others = admin.nodes.ask(|client| show_elsewhere(client, id.to_owned())).await;
            others.into_iter().find_map(|known| match known {
                KnownCall::Recent(call) => Some(*call),
                KnownCall::Queued(_) => None,
            })
        }
    };
    let call = call.filter(|call| who.may_on(Scope::Deploy, &call.function)).ok_or_else(|| {
        let shown: String = id.chars().take(128).collect();
        let message = format!("the call `{shown}` is not queued, and not among the last ones");
        Problem::new(&code::CALL_NOT_FOUND, message).hint("`coracle logs --call` may still know it")
    })?;
    Ok(Json(KnownCall::Recent(Box::new(call))))
}

/// Whose calls are meant, as far as the token reaches.
pub(super) fn filter_of(
    admin: &Admin,
    who: &Principal,
    namespace: Option<NamespaceName>,
    function: Option<FunctionName>,
) -> Result<Filter, Problem> {
    Ok(match (function, namespace, who) {
        (Some(name), namespace, _) => {
            let function = FunctionRef { namespace: namespace.unwrap_or_default(), name };
            admin.authenticator.require_on(who.clone(), Scope::Deploy, &function)?;
            Filter::Function(function)
        }
        (None, Some(namespace), _) => {
            admin.authenticator.require_in(who.clone(), Scope::Deploy, &namespace)?;
            Filter::Namespace(namespace)
        }
        (None, None, Principal::Token { reach: Reach::Namespace(own), .. }) => Filter::Namespace(own.clone()),
        (None, None, Principal::Token { reach: Reach::Function(own), .. }) => Filter::Function(own.clone()),
        (None, None, _) => Filter::All,
    })
}

fn view(call: &CallRecord) -> CallView {
    let (outcome, message, hint) = match &call.end {
        End::Ok => ("ok".to_owned(), None, None),
        End::Failed { code, message } => {
            (code.to_string(), Some(message.clone()), Some(format!("coracle explain {code}")))
        }
    };
    CallView {
        id: call.id.to_string(),
        function: call.function.clone(),
        revision: call.revision,
        method: call.method.to_string(),
        path: call.path.clone(),
        status: call.status,
        started: call.started,
        waited_us: call.waited_us.into(),
        start_us: call.started_us.into(),
        run_us: call.run_us.into(),
        total_us: call.total_us.into(),
        cold: call.cold,
        bytes_in: call.bytes_in,
        bytes_out: call.bytes_out,
        memory_bytes: call.memory_peak_bytes,
        outcome,
        message,
        hint,
    }
}
