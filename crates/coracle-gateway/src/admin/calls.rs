//! The last calls: how long their parts took, and how they ended.
//! `coracle show` asks here.

use axum::Json;
use axum::extract::State;
use coracle_api::{CallQuery, CallView, Page};
use coracle_model::{CallId, FunctionRef, Principal, Problem, Reach, Scope, code};
use coracle_observe::calls::{CALLS_RECENT_MAX, CallRecord, End, Filter};

use super::Shared;
use super::functions::limit_of;
use super::rim::{Answer, Asked, Segment, Who};

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<CallQuery>,
) -> Answer<Json<Page<CallView>>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let limit = limit_of(query.limit)?;
    let filter = match (query.function, query.namespace, &who) {
        (Some(name), namespace, _) => {
            let function = FunctionRef { namespace: namespace.unwrap_or_default(), name };
            admin.authenticator.require_on(who, Scope::Deploy, &function)?;
            Filter::Function(function)
        }
        (None, Some(namespace), _) => {
            admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
            Filter::Namespace(namespace)
        }
        (None, None, Principal::Token { reach: Reach::Namespace(own), .. }) => Filter::Namespace(own.clone()),
        (None, None, Principal::Token { reach: Reach::Function(own), .. }) => Filter::Function(own.clone()),
        (None, None, _) => Filter::All,
    };
    let all = if query.failed { CALLS_RECENT_MAX } else { limit };
    let calls = admin.observe.calls.last(&filter, all);
    let wanted = calls.iter().filter(|call| !query.failed || call.end != End::Ok);
    Ok(Json(wanted.take(limit).map(|call| view(call)).collect()))
}

pub(super) async fn show(
    State(admin): State<Shared>,
    Who(who): Who,
    Segment(id): Segment,
) -> Answer<Json<CallView>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let call = CallId::parse(&id).and_then(|id| admin.observe.calls.get(&id));
    // A call that the token does not reach is as good as none.
    let call = call.filter(|call| who.may_on(Scope::Deploy, &call.function)).ok_or_else(|| {
        let shown: String = id.chars().take(128).collect();
        Problem::new(&code::CALL_NOT_FOUND, format!("the call `{shown}` is not among the last ones"))
            .hint("`coracle logs --call` may still know it")
    })?;
    Ok(Json(view(&call)))
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
