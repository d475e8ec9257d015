//! Removing calls for good: those that wait, or those that are dead.
//! An operator asks for it, and `sweep.rs` when they were dead for long; what runs is left alone.

use std::sync::Arc;

use coracle_model::{CallId, Problem, code};
use coracle_store::{Batch, CommitError, Condition, Key, Message, Position, Read, ReadFrom, Topic};
use jiff::Timestamp;

use crate::engine::Engine;
use crate::payload::{Kept, KeptBody, Work};
use crate::put::{ONCE_KEPT, uncommitted, unread};
use crate::read;
use crate::status::Selection;
use crate::topics::{Room, body_key};
use crate::{Filter, State};

/// Messages that are removed in one commit.
const REMOVED_AT_ONCE: usize = 300;

/// Removes what was selected and stands there, and says how many.
pub(crate) async fn purge(engine: &Arc<Engine>, what: &Selection, state: State) -> Result<u64, Problem> {
    if !matches!(state, State::Waiting | State::Dead) {
        let message = format!("calls that are {} are not purged", state.as_str());
        return Err(
            Problem::new(&code::BAD_REQUEST, message).hint("purge those that are `waiting` or `dead`")
        );
    }
    match what {
        Selection::Call(id, of) => one(engine, id, of, state).await,
        Selection::All(filter) => all(engine, filter, state).await,
    }
}

async fn one(engine: &Engine, id: &CallId, of: &Filter, state: State) -> Result<u64, Problem> {
    let found = read::find_of(engine, id, of).await?;
    let chosen: Vec<_> = found.into_iter().filter(|message| is_in(message, state)).collect();
    let now = engine.now();
    remove(engine, chosen.iter().map(|message| removal(message, now)).collect()).await
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
            let now = engine.now();
            removed += remove(engine, chosen.map(|message| removal(message, now)).collect()).await?;
        }
    }
    Ok(removed)
}

/// Removes those of a topic that came there before a moment, with the bodies that were kept for them.
pub(crate) async fn before(engine: &Engine, topic: &Topic, moment: Timestamp) -> Result<(), Problem> {
    // Mostly there is nothing to remove, and one look tells.
    let mut limit = 1;
    loop {
        let read = Read { topic: topic.clone(), from: ReadFrom::Start, limit };
        let page = engine.database.read(read).await.map_err(unread)?;
        let old = page.iter().filter(|message| message.appended < moment);
        let old: Vec<_> = old.map(|message| removal(message, engine.now())).collect();
        if old.is_empty() {
            return Ok(());
        }
        remove(engine, old).await?;
        limit = REMOVED_AT_ONCE;
        // Calls that wait to be written go first.
        tokio::task::yield_now().await;
    }
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

/// A message to be removed, and the keys that go with it: that of a body that is an artifact, and its idempotency key.
fn removal(message: &Message, now: Timestamp) -> (Position, Vec<Key>) {
    let Ok(kept) = Kept::decode(&message.payload) else { return (message.position, Vec::new()) };
    let body = match kept.body {
        KeptBody::Artifact { digest, mark, .. } => Some(body_key(&digest, &mark)),
        KeptBody::Here(_) => None,
    };
    let once = match kept.work {
        // Later it may be another call's.
        Work::Call(head) if now.duration_since(kept.accepted) < ONCE_KEPT => head.once,
        Work::Call(_) | Work::Delivery(_) => None,
    };
    (message.position, body.into_iter().chain(once).collect())
}

/// Removes messages; those that somebody has leased or removed since are left out.
async fn remove(engine: &Engine, mut chosen: Vec<(Position, Vec<Key>)>) -> Result<u64, Problem> {
    while !chosen.is_empty() {
        let batch = chosen.iter().fold(Batch::new(), |batch, (position, keys)| {
            let batch = batch.remove(*position);
            keys.iter().fold(batch, |batch, key| batch.delete(key.clone(), Condition::Any))
        });
        match engine.database.commit(batch).await {
            Ok(_) => return Ok(chosen.len() as u64),
            Err(CommitError::Lost { position }) => chosen.retain(|(at, _)| *at != position),
            Err(error) => return Err(uncommitted(error)),
        }
    }
    Ok(0)
}
