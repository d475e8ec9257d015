//! Apps: functions that are deployed, shown and removed together.
//! `coracle deploy` of a folder asks here.

use axum::Json;
use axum::extract::State;
use coracle_api::{AppSpec, AppView, FunctionView, Page};
use coracle_catalog::{App, Deploy, Presence};
use coracle_model::{AppName, FunctionRef, Problem, Scope, code};
use http::StatusCode;

use super::rim::{Answer, InNamespace, Named, Sent, Who};
use super::{Shared, functions};

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    InNamespace(namespace): InNamespace,
) -> Answer<Json<Page<AppView>>> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    Ok(Json(admin.catalog.apps(Some(&namespace)).into_iter().map(view).collect()))
}

pub(super) async fn show(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<AppName>,
) -> Answer<Json<AppView>> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let app = admin.catalog.app(&namespace, &name);
    let app = app.ok_or_else(|| {
        Problem::new(&code::APP_NOT_FOUND, format!("there is no app `{name}` in the namespace `{namespace}`"))
            .hint("`coracle list` shows the app of each function")
    })?;
    Ok(Json(view(app)))
}

pub(super) async fn deploy(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<AppName>,
    Sent(spec): Sent<AppSpec>,
) -> Answer<Json<Page<FunctionView>>> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let mut deployments = Vec::with_capacity(spec.functions.len());
    for (function, spec) in spec.functions {
        let function = FunctionRef { namespace: namespace.clone(), name: function };
        deployments.push(functions::deployment(&admin, &function, spec).await?);
    }
    let deploy = Deploy { namespace, app: Some(name), functions: deployments };
    let deployed = match spec.part {
        true => admin.catalog.deploy_part(deploy, Presence::Any).await?,
        false => admin.catalog.deploy(deploy).await?,
    };
    futures_util::future::join_all(
        deployed.iter().map(|revision| functions::tried(&admin, &revision.function)),
    )
    .await;
    // One that was removed again in the meantime is left out.
    let found = deployed.iter().filter_map(|revision| admin.catalog.function(&revision.function));
    Ok(Json(found.map(|function| functions::view(&admin, &function, None)).collect()))
}

pub(super) async fn remove(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<AppName>,
) -> Answer<StatusCode> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let _removed: Vec<FunctionRef> = admin.catalog.remove_app(&namespace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(app: App) -> AppView {
    AppView { name: app.name, namespace: app.namespace, functions: app.functions }
}
