//! Functions: listed, shown, deployed and removed, as OpenFaaS' clients ask for it.
//! A deploy becomes one of ours, and keeps what was sent, to say it back.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use coracle_api::{CodeSpec, PAGE_ITEMS_MAX};
use coracle_catalog::{Deploy, Deployment, Filter, Function, Presence};
use coracle_faces::openfaas::deployment::{self, Wanted};
use coracle_faces::openfaas::refusal::Verb;
use coracle_faces::openfaas::request;
use coracle_faces::openfaas::status::{Status, Usage};
use coracle_invoke::Used;
use coracle_model::{BodyError, FunctionRef, NamespaceName, Principal, Problem, Scope, code};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::instances::Replicas;
use super::rim::{Query, json, refused};
use crate::admin::functions::code_of;
use crate::admin::rim::{Answer, Asked, SentBytes, Who};
use crate::admin::{Admin, Shared};

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<Query>,
) -> Answer<Response> {
    let refused = refused(Verb::Function);
    let namespace = query.namespace().map_err(&refused)?;
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    admin.catalog.namespace(&namespace).map_err(&refused)?;
    let mut response = Response::new(Body::from_stream(pieces(admin, namespace)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

pub(super) async fn show(
    State(admin): State<Shared>,
    Who(who): Who,
    Path(name): Path<String>,
    Asked(query): Asked<Query>,
) -> Answer<Response> {
    let refused = refused(Verb::Function);
    let function = request::function_of(&name, query.namespace.as_deref()).map_err(&refused)?;
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    let found = admin.catalog.function(&function).ok_or_else(|| refused(Problem::no_function(&function)))?;
    let usage = query.usage.as_deref().filter(|asked| matches!(*asked, "1" | "true"));
    let usage = match usage {
        Some(_) => Some(usage_of(&admin, &function).await),
        None => None,
    };
    let mut document = String::new();
    Status { invocations: None, usage, ..status(&admin, &found) }.render(&mut document);
    Ok(json(document))
}

pub(super) async fn create(
    State(admin): State<Shared>,
    Who(who): Who,
    SentBytes(body): SentBytes,
) -> Answer<StatusCode> {
    deploy(&admin, who, &body, Presence::New).await.map_err(refused(Verb::Deploy))
}

pub(super) async fn update(
    State(admin): State<Shared>,
    Who(who): Who,
    SentBytes(body): SentBytes,
) -> Answer<StatusCode> {
    deploy(&admin, who, &body, Presence::Known).await.map_err(refused(Verb::Deploy))
}

pub(super) async fn remove(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<Query>,
    SentBytes(body): SentBytes,
) -> Answer<StatusCode> {
    let refused = refused(Verb::Function);
    let function = request::removal(&body, query.namespace.as_deref()).map_err(&refused)?;
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    admin.catalog.remove(&function).await.map_err(&refused)?;
    Ok(StatusCode::ACCEPTED)
}

/// Deploys what a body asks for; no instance is waited for.
///
/// Whether the function is there is judged before all that needs a look elsewhere: clients update first, and create what is not there.
async fn deploy(
    admin: &Admin,
    who: Principal,
    body: &[u8],
    presence: Presence,
) -> Result<StatusCode, Problem> {
    let sent = deployment::Deployment::parse(body)?;
    let function = sent.function()?;
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    admin.catalog.expect(&function, presence).map_err(how_to_update)?;
    let Wanted { function, image, settings } = sent.wanted()?;
    admin.catalog.namespace(&function.namespace)?;
    // On the heap: a pull holds more than a handler's future should.
    let code = Box::pin(code_of(admin, &function, CodeSpec::Image(image), None, &settings));
    let (code, contract) = code.await?;
    // Clients of this face know no apps: an update leaves the function in its own.
    let app = admin.catalog.function(&function).and_then(|known| known.app.clone());
    let FunctionRef { namespace, name } = function;
    let functions = vec![Deployment { name, code, contract, settings }];
    let deployed = admin.catalog.deploy_part(Deploy { namespace, app, functions }, presence).await;
    deployed.map_err(how_to_update)?;
    Ok(StatusCode::ACCEPTED)
}

fn how_to_update(problem: Problem) -> Problem {
    if problem.code == &code::ALREADY_EXISTS {
        problem.hint("send it with PUT to update it")
    } else {
        problem
    }
}

/// The list of a namespace, page by page: the catalog's lock is held for one at a time.
fn pieces(
    admin: Shared,
    namespace: NamespaceName,
) -> impl stream::Stream<Item = Result<String, BodyError>> + Send {
    let filter = Filter { namespace: Some(namespace), ..Filter::default() };
    stream::unfold(Some(None::<FunctionRef>), move |after| {
        let next = after.map(|after| {
            let found = admin.catalog.list(&filter, after.as_ref(), PAGE_ITEMS_MAX);
            let mut piece = String::new();
            for function in &found {
                piece.push(if piece.is_empty() && after.is_none() { '[' } else { ',' });
                status(&admin, function).render(&mut piece);
            }
            let last = found.last().map(|last| last.function.clone());
            if last.is_none() {
                piece.push_str(if after.is_none() { "[]" } else { "]" });
            }
            (Ok(piece), last.map(Some))
        });
        std::future::ready(next)
    })
}

/// A function as it stands, with its calls.
fn status<'a>(admin: &Admin, function: &'a Function) -> Status<'a> {
    let Replicas { wanted, available } = Replicas::of(admin, &function.current);
    let calls = admin.observe.metrics.known(&function.function);
    Status {
        revision: &function.current,
        created: function.created,
        replicas: wanted,
        available,
        invocations: Some(calls.map_or(0, |metrics| metrics.answers.total())),
        usage: None,
    }
}

/// What its instances use, in the units of this face.
async fn usage_of(admin: &Admin, function: &FunctionRef) -> Usage {
    let Used { memory_bytes, cores } = admin.invoke.used_by(function).await;
    Usage { cpu: cores.map(|cores| cores * 1e3), total_memory_bytes: memory_bytes as f64 }
}
