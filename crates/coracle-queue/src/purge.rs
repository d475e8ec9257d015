//! Removing calls for good: those that wait, or those that are dead.
//! An operator asks for it; what runs is left alone.

use std::sync::Arc;

use coracle_model::{CallId, Problem, code};
use coracle_store::{Batch, CommitError, Condition, Key, Message, Position, Read, ReadFrom};

use crate::engine::Engine;
use crate::payload::{Kept, KeptBody};
use crate::put::{uncommitted, unread};
use crate::read;
use crate::status::Selection;
use crate::topics::{Room, body_key};
use crate::{Filter, State};

/// Messages that are removed in one commit.
const REMOVED_AT_ONCE: usize = 400;

/// Removes what was selected and stands there, and says how many.
pub(crate) async fn purge(engine: &Arc<Engine>, what: &Selection, state: State) -> Result<u64, Problem> {
    if !matches!(state, State::Waiting | State::Dead) {
        let message = format!("calls that are {} are not purged", state.as_str());
        return Err(
            Problem::new(&code::BAD_REQUEST, message).hint("purge those that are `waiting` or `dead`")
        );
    }
    match what {
        Selection::Call(id) => one(engine, id, state).await,
        Selection::All(filter) => all(engine, filter, state).await,
    }
}

async fn one(engine: &Engine, id: &CallId, state: State) -> Result<u64, Problem> {
    let found = read::find(engine, id).await?;
    if found.is_empty() {
        return Err(read::no_call(id));
    }
    let chosen: Vec<_> = found.into_iter().filter(|message| is_in(message, state)).collect();
    remove(engine, chosen.iter().map(removal).collect()).await
}

async fn all(engine: &Engine, filter: &Filter, state: State) -> Result<u64, Problem> {
    let mut removed = 0;
    for count in read::topics(engine, filter).await? {
        let of = match (Room::of(&count.topic), state) {
            (Some(Room::Dead(function)), State::Dead)
            | (Some(Room::Calls(function) | Room::Deliveries(function)), State::Waiting) => function,
            _ => continue,
        };
        if !filter.matches(&of) {
            continue;
        }
        let mut from = ReadFrom::Start;
        loop {
            let read = Read { topic: count.topic.clone(), from, limit: REMOVED_AT_ONCE };
            let page = engine.database.read(read).await.map_err(unread)?;
            let Some(last) = page.last() else { break };
            from = ReadFrom::After(last.position);
            let chosen = page.iter().filter(|message| is_in(message, state));
            removed += remove(engine, chosen.map(removal).collect()).await?;
        }
    }
    Ok(removed)
}

fn is_in(message: &Message, state: State) -> bool {
    use coracle_store::MessageState::{Ahead, Held};
    let is_held = matches!(message.state, Held(_) | Ahead(_));
    match (Room::of(&message.topic), state) {
        (Some(Room::Dead(_)), State::Dead) => true,
        (Some(Room::Calls(_) | Room::Deliveries(_)), State::Waiting) => !is_held,
        _ => false,
    }
}

/// A message to be removed, and the key of its body if that is an artifact.
fn removal(message: &Message) -> (Position, Option<Key>) {
    let body = Kept::decode(&message.payload).ok().and_then(|kept| match kept.body {
        KeptBody::Artifact { digest, mark, .. } => Some(body_key(&digest, &mark)),
        KeptBody::Here(_) => None,
    });
    (message.position, body)
}

/// Removes messages; those that somebody has leased or removed since are left out.
async fn remove(engine: &Engine, mut chosen: Vec<(Position, Option<Key>)>) -> Result<u64, Problem> {
    while !chosen.is_empty() {
        let batch = chosen.iter().fold(Batch::new(), |batch, (position, body)| {
            let batch = batch.remove(*position);
            body.iter().fold(batch, |batch, key| batch.delete(key.clone(), Condition::Any))
        });
        match engine.database.commit(batch).await {
            Ok(_) => return Ok(chosen.len() as u64),
            Err(CommitError::Lost { position }) => chosen.retain(|(at, _)| *at != position),
            Err(error) => return Err(uncommitted(error)),
        }
    }
    Ok(0)
}
