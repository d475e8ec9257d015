//! Namespaces, with the labels and annotations that clients keep there.
//! Making and removing one takes an admin, as in our own API.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use coracle_catalog::{NamespaceInfo, NamespaceNotes};
use coracle_faces::openfaas::namespace::{Namespace, parse_name, render_list};
use coracle_faces::openfaas::refusal::Verb;
use coracle_model::Scope;
use http::StatusCode;

use super::rim::{json, refused};
use crate::admin::Shared;
use crate::admin::namespaces::reached;
use crate::admin::rim::{Answer, SentBytes, Who};

/// The end of a path, which may be empty.
type Tail = Option<Path<String>>;

pub(super) async fn list(State(admin): State<Shared>, Who(who): Who) -> Answer<Response> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let names: Vec<_> = reached(&admin, &who).map(|namespace| namespace.name).collect();
    Ok(json(render_list(&names)))
}

pub(super) async fn show(State(admin): State<Shared>, Who(who): Who, tail: Tail) -> Answer<Response> {
    let refused = refused(Verb::Namespace);
    let name = parse_name(&text(tail)).map_err(&refused)?;
    admin.authenticator.require_in(who, Scope::Deploy, &name)?;
    let NamespaceInfo { name, notes, .. } = admin.catalog.namespace(&name).map_err(&refused)?;
    Ok(json(document(name, notes)))
}

pub(super) async fn create(
    State(admin): State<Shared>,
    Who(who): Who,
    tail: Tail,
    SentBytes(body): SentBytes,
) -> Answer<Response> {
    let refused = refused(Verb::Namespace);
    let Namespace { name, labels, annotations } = Namespace::parse(&text(tail), &body).map_err(&refused)?;
    admin.authenticator.require(who, Scope::Admin)?;
    let notes = NamespaceNotes { labels, annotations };
    let created = admin.catalog.create_namespace_with(&name, notes).await.map_err(&refused)?;
    Ok((StatusCode::CREATED, json(document(created.name, created.notes))).into_response())
}

pub(super) async fn change(
    State(admin): State<Shared>,
    Who(who): Who,
    tail: Tail,
    SentBytes(body): SentBytes,
) -> Answer<Response> {
    let refused = refused(Verb::Namespace);
    let Namespace { name, labels, annotations } = Namespace::parse(&text(tail), &body).map_err(&refused)?;
    admin.authenticator.require(who, Scope::Admin)?;
    let notes = NamespaceNotes { labels, annotations };
    admin.catalog.note_namespace(&name, notes.clone()).await.map_err(&refused)?;
    Ok((StatusCode::ACCEPTED, json(document(name, notes))).into_response())
}

pub(super) async fn remove(State(admin): State<Shared>, Who(who): Who, tail: Tail) -> Answer<StatusCode> {
    let refused = refused(Verb::Namespace);
    let name = parse_name(&text(tail)).map_err(&refused)?;
    admin.authenticator.require(who, Scope::Admin)?;
    admin.catalog.remove_namespace(&name).await.map_err(&refused)?;
    Ok(StatusCode::ACCEPTED)
}

fn text(tail: Tail) -> String {
    tail.map(|Path(tail)| tail).unwrap_or_default()
}

fn document(name: coracle_model::NamespaceName, notes: NamespaceNotes) -> String {
    let NamespaceNotes { labels, annotations } = notes;
    Namespace { name, labels, annotations }.render()
}
