//! Functions: list, show, deploy, remove, revisions, rollback.
//! `coracle deploy`, `list`, `show`, `remove` and `rollback` ask here.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use coracle_api::{
    CodeKind, CodeSpec, FunctionQuery, FunctionSpec, FunctionStats, FunctionView, InstancesView,
    PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX, Page, ProblemView, RevisionView, RollbackRequest, ScaleRequest,
    ScaledView, SettingsView,
};
use coracle_catalog::{Deploy, Deployment, Filter, Function};
use coracle_model::{
    Code, Contract, FunctionName, FunctionRef, Principal, Problem, Reach, Scale, Scope, Settings, Span, code,
};
use coracle_runtime::contract_of;
use http::StatusCode;
use tokio::time::timeout;

use super::format::Format;
use super::rim::{Answer, Asked, Named, Sent, Who};
use super::{Admin, Shared, artifacts, images};

/// How long a deploy waits beyond the start timeout of a program: why it did not start is told a little after that.
const TRIED_BEYOND: Duration = Duration::from_secs(2);

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<FunctionQuery>,
) -> Answer<Json<Page<FunctionView>>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let limit = limit_of(query.limit)?;
    let mut filter = Filter { namespace: query.namespace, app: query.app, label: None };
    if let Some(label) = &query.label {
        filter.label = Some(label_of(label)?);
    }
    // A token sees what it reaches, and nothing beside.
    let only = match who {
        Principal::Token { reach: Reach::Namespace(own), .. } if filter.namespace.is_none() => {
            filter.namespace = Some(own);
            None
        }
        Principal::Token { reach: Reach::Function(own), .. } => Some(own),
        who => {
            if let Some(namespace) = &filter.namespace {
                admin.authenticator.require_in(who, Scope::Deploy, namespace)?;
            }
            None
        }
    };
    if let Some(only) = only {
        let own = admin
            .catalog
            .function(&only)
            .filter(|_| filter.namespace.is_none_or(|named| named == only.namespace));
        return Ok(Json(own.iter().map(|function| view(&admin, function, None)).collect()));
    }
    let after = query.after.as_deref().map(after_of).transpose()?;
    // One more than asked for tells whether there is a next page.
    let mut found = admin.catalog.list(&filter, after.as_ref(), limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.function.to_string());
    Ok(Json(Page { items: found.iter().map(|function| view(&admin, function, None)).collect(), next }))
}

pub(super) async fn show(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<FunctionName>,
) -> Answer<Json<FunctionView>> {
    let function = FunctionRef { namespace, name };
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    Ok(Json(view_of(&admin, &function).await?))
}

pub(super) async fn deploy(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<FunctionName>,
    Sent(spec): Sent<FunctionSpec>,
) -> Answer<(StatusCode, Json<FunctionView>)> {
    let function = FunctionRef { namespace, name };
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    let is_new = admin.catalog.function(&function).is_none();
    let functions = vec![deployment(&admin, &function, spec).await?];
    admin.catalog.deploy(Deploy { namespace: function.namespace.clone(), app: None, functions }).await?;
    tried(&admin, &function).await;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view_of(&admin, &function).await?)))
}

pub(super) async fn remove(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<FunctionName>,
) -> Answer<StatusCode> {
    let function = FunctionRef { namespace, name };
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    admin.catalog.remove(&function).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn revisions(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<FunctionName>,
) -> Answer<Json<Page<RevisionView>>> {
    let function = FunctionRef { namespace, name };
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    let revisions = admin.catalog.revisions(&function).await?;
    let current = admin.catalog.resolve(&function).map_or(0, |current| current.number);
    Ok(Json(revisions.iter().map(|revision| RevisionView::new(revision, current)).collect()))
}

pub(super) async fn rollback(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<FunctionName>,
    Sent(to): Sent<RollbackRequest>,
) -> Answer<Json<FunctionView>> {
    let function = FunctionRef { namespace, name };
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    admin.catalog.rollback(&function, to.revision).await?;
    tried(&admin, &function).await;
    Ok(Json(view_of(&admin, &function).await?))
}

pub(super) async fn scale(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<FunctionName>,
    Sent(ScaleRequest { instances }): Sent<ScaleRequest>,
) -> Answer<Json<ScaledView>> {
    let function = FunctionRef { namespace, name };
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    if instances > Scale::INSTANCES_MAX {
        let message = format!("`instances` is {instances}; it may be 0 to {}", Scale::INSTANCES_MAX);
        return Err(Problem::new(&code::BAD_REQUEST, message).into());
    }
    Ok(Json(ScaledView { instances: admin.invoke.scale(&function, instances).await? }))
}

/// What is to be deployed: code that was looked at and can be run, and how.
pub(super) async fn deployment(
    admin: &Admin,
    function: &FunctionRef,
    spec: FunctionSpec,
) -> Result<Deployment, Problem> {
    let name = function.name.clone();
    let cannot = |problem: Problem| Problem {
        message: format!("cannot deploy `{name}`: {}", problem.message),
        ..problem
    };
    // On the heap: compiling holds more than a handler's future should.
    let (code, asked) = (spec.code().map_err(cannot)?, spec.contract);
    let settings = Settings::from(spec);
    let (code, contract) =
        Box::pin(code_of(admin, function, code, asked, &settings)).await.map_err(cannot)?;
    Ok(Deployment { code, contract, settings, name })
}

/// Better heard at the deploy than at the first call.
async fn can_run_programs(admin: &Admin) -> Result<(), Problem> {
    admin.runtime.programs().protections().await.map(drop)
}

/// Until calls get what was deployed; that it does not start is in the view of the function, and no error of the deploy.
pub(super) async fn tried(admin: &Admin, function: &FunctionRef) {
    let Some(current) = admin.catalog.resolve(function) else { return };
    let within = current.settings.program.start_timeout + TRIED_BEYOND;
    // Too late is in the view too.
    let _ = timeout(within, admin.invoke.tried(function)).await;
}

/// The code that a spec names, and how it is spoken to.
pub(crate) async fn code_of(
    admin: &Admin,
    function: &FunctionRef,
    code: CodeSpec,
    asked: Option<Contract>,
    settings: &Settings,
) -> Result<(Code, Contract), Problem> {
    let artifact = match code {
        CodeSpec::Artifact(artifact) => artifact,
        CodeSpec::Image(reference) => {
            can_run_programs(admin).await?;
            let (reference, digest) = images::deployed(admin, function, &reference).await?;
            let config = admin.images.get(digest)?.config;
            let contract = contract_of(asked, Some(&config), settings)?;
            return Ok((Code::Image { reference, digest }, contract));
        }
    };
    if artifacts::format(admin, artifact).await? == Format::Archive {
        can_run_programs(admin).await?;
        // An archive that cannot be unpacked is no function; and the first call finds it unpacked.
        admin.runtime.programs().prepare(artifact).await?;
        return Ok((Code::Bundle(artifact), contract_of(asked, None, settings)?));
    }
    let before = admin.catalog.resolve(function).map(|current| current.code.digest());
    let prepared = admin.runtime.prepare(artifact, before).await?;
    match asked {
        Some(asked) if asked != prepared.contract => Err(Problem::new(
            &code::INVALID_SETTINGS,
            format!("its contract is `{}`, not `{asked}`", prepared.contract),
        )
        .hint("leave `contract` out: WebAssembly says itself how it is spoken to")),
        _ => Ok((Code::Wasm(artifact), prepared.contract)),
    }
}

/// A function with the numbers of this moment; its size, where the caller looked.
pub(super) fn view(admin: &Admin, function: &Function, size: Option<u64>) -> FunctionView {
    let snapshot = admin.observe.metrics.snapshot(&function.function);
    let ms = |took: std::time::Duration| took.as_secs_f64() * 1e3;
    let current = &function.current;
    FunctionView {
        name: function.function.name.clone(),
        namespace: function.function.namespace.clone(),
        app: function.app.clone(),
        revision: current.number,
        latest: function.latest,
        code: (&current.code).into(),
        image: CodeKind::image_of(&current.code),
        digest: current.code.digest(),
        contract: current.contract,
        size,
        path: FunctionView::path_of(&function.function),
        settings: SettingsView::new((&current.code).into(), &current.settings),
        created: function.created,
        updated: function.updated,
        stats: FunctionStats {
            calls: snapshot.calls,
            errors: snapshot.errors,
            in_flight: snapshot.in_flight,
            p50_ms: snapshot.p50.map(ms),
            p99_ms: snapshot.p99.map(ms),
        },
        instances: (!matches!(current.code, Code::Wasm(_))).then(|| instances(admin, &function.function)),
    }
}

fn instances(admin: &Admin, function: &FunctionRef) -> InstancesView {
    let counts = admin.invoke.instances_of(function);
    InstancesView {
        starting: counts.starting,
        ready: counts.ready,
        busy: counts.busy,
        frozen: counts.frozen,
        stopping: counts.stopping,
        failure: counts.last_failure.map(|problem| ProblemView::new(&problem, None)),
        backs_off_for: counts.backs_off_for.map(Span),
        serves_before: counts.serves_before,
    }
}

async fn view_of(admin: &Admin, function: &FunctionRef) -> Result<FunctionView, Problem> {
    let found = admin.catalog.function(function).ok_or_else(|| {
        let FunctionRef { name, namespace } = function;
        let problem = Problem::no_function(function);
        let filter = Filter { namespace: Some(namespace.clone()), ..Filter::default() };
        let beside = admin.catalog.list(&filter, None, PAGE_ITEMS_MAX);
        match coracle_model::nearest(name.as_str(), beside.iter().map(|beside| beside.function.name.as_str()))
        {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        }
    })?;
    // Its file may be damaged; the function is shown nevertheless.
    let size = match found.current.code.artifact() {
        Some(artifact) => artifacts::size(admin, artifact).await.ok(),
        None => None,
    };
    Ok(view(admin, &found, size))
}

/// How many items a page has.
pub(super) fn limit_of(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(PAGE_ITEMS_DEFAULT),
        Some(limit) if (1..=PAGE_ITEMS_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::new(
            &code::BAD_REQUEST,
            format!("`limit` is {limit}; it may be 1 to {PAGE_ITEMS_MAX}"),
        )
        .hint("go on with `after`, which is the `next` of the page before")),
    }
}

fn label_of(label: &str) -> Result<(String, String), Problem> {
    let pair = label.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| {
        Problem::new(&code::BAD_REQUEST, format!("the label `{label}` has no value"))
            .hint("write it as `KEY=VALUE`")
    })
}

fn after_of(after: &str) -> Result<FunctionRef, Problem> {
    FunctionRef::parse(after).map_err(|error| {
        Problem::new(&code::BAD_REQUEST, format!("`after` is not a function: {error}"))
            .hint("it is the `next` of the page before")
    })
}
