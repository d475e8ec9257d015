//! The queue as a whole: how full it is, what it has, and what is done to many calls at once.
//! `coracle queue` asks here; one call is the business of `queued.rs`.

use axum::Json;
use axum::extract::State;
use coracle_api::{
    CallState, CallsCount, FunctionQueueView, Page, PurgeRequest, QueueCounts, QueueListQuery, QueueQuery,
    QueueView, QueuedCallView, RedriveRequest, TopicEntryView, TopicQuery,
};
use coracle_model::{Problem, Scope, TopicName, code};
use coracle_queue::{Counts, Entry, List, Selection, State as Stands, Status};

use super::Shared;
use super::calls::filter_of;
use super::functions::limit_of;
use super::queued::view;
use super::rim::{Answer, Asked, Named, Sent, Who};

pub(super) async fn show(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<QueueQuery>,
) -> Answer<Json<QueueView>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let filter = filter_of(&admin, &who, query.namespace, query.function)?;
    let Status { totals, functions, depth_max } = admin.queue.status(&filter).await?;
    let functions = functions
        .into_iter()
        .map(|(function, of)| FunctionQueueView { function, counts: counts(of) })
        .collect();
    Ok(Json(QueueView { totals: counts(totals), functions, waiting_max: depth_max }))
}

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<QueueListQuery>,
) -> Answer<Json<Page<QueuedCallView>>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let limit = limit_of(query.limit)?;
    let filter = filter_of(&admin, &who, query.namespace, query.function)?;
    let state = stands(query.state.unwrap_or_default());
    let page = admin.queue.list(&List { filter, state, after: query.after, limit }).await?;
    let items = page.calls.into_iter().map(|call| view(call, Vec::new(), &who)).collect();
    Ok(Json(Page { items, next: page.next }))
}

pub(super) async fn topic(
    State(admin): State<Shared>,
    Who(who): Who,
    Named(namespace, name): Named<TopicName>,
    Asked(query): Asked<TopicQuery>,
) -> Answer<Json<Page<TopicEntryView>>> {
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    admin.catalog.namespace(&namespace)?;
    let limit = limit_of(query.limit)?;
    let entries = admin.queue.entries(&namespace, &name, query.after, limit).await?;
    let next = (entries.len() == limit).then(|| entries.last().map(|last| last.place.to_string())).flatten();
    let items = entries.into_iter().map(|Entry { place, at, body }| TopicEntryView {
        place,
        at,
        // What was written here is JSON.
        outcome: serde_json::from_slice(&body).unwrap_or_default(),
    });
    Ok(Json(Page { items: items.collect(), next }))
}

pub(super) async fn redrive(
    State(admin): State<Shared>,
    Who(who): Who,
    Sent(RedriveRequest { namespace, function }): Sent<RedriveRequest>,
) -> Answer<Json<CallsCount>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let filter = filter_of(&admin, &who, namespace, function)?;
    Ok(Json(CallsCount { calls: admin.queue.redrive(&Selection::All(filter)).await? }))
}

pub(super) async fn purge(
    State(admin): State<Shared>,
    Who(who): Who,
    Sent(PurgeRequest { namespace, function, state }): Sent<PurgeRequest>,
) -> Answer<Json<CallsCount>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let filter = filter_of(&admin, &who, namespace, function)?;
    if !matches!(state, CallState::Waiting | CallState::Dead) {
        let message = format!("calls that are {} are not removed", state.as_str());
        let hint =
            "name the state `waiting` or `dead`; one that runs is cancelled with `coracle queue cancel`";
        return Err(Problem::new(&code::BAD_REQUEST, message).hint(hint).into());
    }
    Ok(Json(CallsCount { calls: admin.queue.purge(&Selection::All(filter), stands(state)).await? }))
}

fn counts(counts: Counts) -> QueueCounts {
    let Counts { waiting, running, dead, deliveries, oldest } = counts;
    QueueCounts { waiting, running, dead, deliveries, oldest }
}

fn stands(state: CallState) -> Stands {
    match state {
        CallState::Waiting => Stands::Waiting,
        CallState::Running => Stands::Running,
        CallState::Succeeded => Stands::Succeeded,
        CallState::Failed => Stands::Failed,
        CallState::Cancelled => Stands::Cancelled,
        CallState::Dead => Stands::Dead,
    }
}
