//! Having dead calls and deliveries run again, with their attempts counted anew.
//! An operator asks for it when what was wrong is mended.

use std::sync::Arc;

use coracle_model::{CallId, Problem, code};
use coracle_store::{Batch, CommitError, Due, MESSAGES_MAX, Message, Position, Read, ReadFrom, Topic};

use crate::Filter;
use crate::engine::Engine;
use crate::payload::{Kept, Work};
use crate::put::{uncommitted, unread};
use crate::read;
use crate::status::Selection;
use crate::topics::Room;

/// Messages that are moved in one commit.
const MOVED_AT_ONCE: usize = 500;

/// Has what was selected run again, and says how many.
pub(crate) async fn redrive(engine: &Arc<Engine>, what: &Selection) -> Result<u64, Problem> {
    match what {
        Selection::Call(id, of) => one(engine, id, of).await,
        Selection::All(filter) => all(engine, filter).await,
    }
}

async fn one(engine: &Engine, id: &CallId, of: &Filter) -> Result<u64, Problem> {
    let found = read::find_of(engine, id, of).await?;
    let mut moves = Vec::new();
    for message in &found {
        if let Some(Room::Dead(function)) = Room::of(&message.topic) {
            let to = destination(message, Room::Dead(function.clone()))?;
            if matches!(Room::of(&to), Some(Room::Calls(_))) && engine.catalog.resolve(&function).is_none() {
                return Err(Problem::no_function(&function)
                    .hint(format!("deploy `{function}` again first: the call is kept until then")));
            }
            moves.push((message.position, to));
        }
    }
    if moves.is_empty() {
        return Err(Problem::new(
            &code::CONFLICT,
            format!("the call `{id}` is not dead, nor is its delivery"),
        )
        .hint(format!("see where it stands with `coracle queue show {id}`")));
    }
    shift(engine, moves).await
}

async fn all(engine: &Engine, filter: &Filter) -> Result<u64, Problem> {
    let mut moved = 0;
    for count in read::topics(engine, filter).await? {
        let Some(Room::Dead(function)) = Room::of(&count.topic) else { continue };
        if !filter.matches(&function) {
            continue;
        }
        let is_deployed = engine.catalog.resolve(&function).is_some();
        let mut from = ReadFrom::Start;
        loop {
            let read = Read { topic: count.topic.clone(), from, limit: MOVED_AT_ONCE.min(MESSAGES_MAX) };
            let page = engine.database.read(read).await.map_err(unread)?;
            let Some(last) = page.last() else { break };
            from = ReadFrom::After(last.position);
            let mut moves = Vec::new();
            for message in &page {
                // What cannot be read stays where it is, and so does a call that would be dead again at once.
                let Ok(to) = destination(message, Room::Dead(function.clone())) else { continue };
                if is_deployed || matches!(Room::of(&to), Some(Room::Deliveries(_))) {
                    moves.push((message.position, to));
                }
            }
            moved += shift(engine, moves).await?;
        }
    }
    Ok(moved)
}

/// Where a dead message runs again.
fn destination(message: &Message, from: Room) -> Result<Topic, Problem> {
    let Room::Dead(function) = from else { unreachable!("only the dead are redriven") };
    Ok(match Kept::decode(&message.payload)?.work {
        Work::Call(_) => Room::Calls(function).topic(),
        Work::Delivery(_) => Room::Deliveries(function).topic(),
    })
}

/// Moves messages; those that somebody else has moved since are left out.
async fn shift(engine: &Engine, mut moves: Vec<(Position, Topic)>) -> Result<u64, Problem> {
    while !moves.is_empty() {
        let batch = moves
            .iter()
            .fold(Batch::new(), |batch, (position, to)| batch.shift(*position, to.clone(), Due::Now));
        match engine.database.commit(batch).await {
            Ok(_) => return Ok(moves.len() as u64),
            Err(CommitError::Lost { position }) => moves.retain(|(at, _)| *at != position),
            Err(error) => return Err(uncommitted(error)),
        }
    }
    Ok(0)
}
