//! Namespaces: made and removed by an admin, listed as far as a token reaches.
//! `coracle namespace` asks here.

use axum::Json;
use axum::extract::State;
use coracle_api::{NamespaceView, Page};
use coracle_catalog::NamespaceInfo;
use coracle_faces::openfaas;
use coracle_model::{Principal, Reach, Scope, code};
use http::StatusCode;

use super::rim::{Answer, InNamespace, Who};
use super::{Admin, Shared};

pub(super) async fn list(State(admin): State<Shared>, Who(who): Who) -> Answer<Json<Page<NamespaceView>>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    Ok(Json(reached(&admin, &who).map(view).collect()))
}

pub(super) async fn create(
    State(admin): State<Shared>,
    Who(who): Who,
    InNamespace(name): InNamespace,
) -> Answer<(StatusCode, Json<NamespaceView>)> {
    admin.authenticator.require(who, Scope::Admin)?;
    openfaas::name::check_new(&name)?;
    match admin.catalog.create_namespace(&name).await {
        Ok(created) => Ok((StatusCode::CREATED, Json(view(created)))),
        // Put twice is put once.
        Err(problem) if problem.code == &code::ALREADY_EXISTS => {
            let known = admin.catalog.namespaces().into_iter().find(|known| known.name == name);
            Ok((StatusCode::OK, Json(view(known.ok_or(problem)?))))
        }
        Err(problem) => Err(problem.into()),
    }
}

pub(super) async fn remove(
    State(admin): State<Shared>,
    Who(who): Who,
    InNamespace(name): InNamespace,
) -> Answer<StatusCode> {
    admin.authenticator.require(who, Scope::Admin)?;
    admin.catalog.remove_namespace(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The namespaces that a token reaches, in part or whole.
pub(crate) fn reached(admin: &Admin, who: &Principal) -> impl Iterator<Item = NamespaceInfo> {
    admin.catalog.namespaces().into_iter().filter(move |namespace| match who {
        Principal::Anonymous => false,
        Principal::Token { reach: Reach::All, .. } => true,
        Principal::Token { reach: Reach::Namespace(own), .. } => *own == namespace.name,
        Principal::Token { reach: Reach::Function(own), .. } => own.namespace == namespace.name,
    })
}

fn view(namespace: NamespaceInfo) -> NamespaceView {
    let NamespaceInfo { name, created, functions, notes: _ } = namespace;
    NamespaceView { name, functions, created }
}
