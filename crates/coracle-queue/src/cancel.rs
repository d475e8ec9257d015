//! Cancelling a call: one that waits never runs, one that runs is stopped, wherever it runs.
//! The worker's task for it follows what other servers ask for.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::{CallId, Problem, code};
use coracle_store::{Batch, Change, CommitError, Condition, Key, Message, MessageState, Watch, read_all};

use crate::board::Here;
use crate::engine::Engine;
use crate::payload::Kept;
use crate::put::{uncommitted, unread};
use crate::read;
use crate::settle::{Begun, Orders, kept_only};
use crate::story::Story;
use crate::topics::{CANCEL_PREFIX, Room, body_key, cancel_key};
use crate::{Kind, State};

/// How often a call that moves is looked at again.
const TRIES: usize = 8;
/// How long is waited until a call that runs has stopped.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Cancels a call, and says where it stood.
pub(crate) async fn cancel(engine: &Arc<Engine>, id: &CallId) -> Result<State, Problem> {
    for _ in 0..TRIES {
        let found = read::find(engine, id).await?;
        let mut live = None;
        let mut ended = None;
        for message in found {
            let call = read::read_message(engine, message.clone());
            match call.kind {
                Kind::Call { .. } if call.state.is_ended() => ended = ended.or(Some(call.state)),
                Kind::Call { .. } => live = live.or(Some(message)),
                Kind::Delivery { .. } => {}
            }
        }
        let Some(message) = live else {
            return Err(ended.map_or_else(|| read::no_call(id), |state| has_ended(id, state)));
        };
        match message.state {
            MessageState::Held(_) | MessageState::Ahead(_) => {
                return stop(engine, id, message).await.map(|()| State::Running);
            }
            _ => match remove(engine, message).await {
                Ok(()) => return Ok(State::Waiting),
                // It was leased, or it ended, since it was looked at.
                Err(CommitError::Lost { .. }) => {}
                Err(error) => return Err(uncommitted(error)),
            },
        }
    }
    Err(Problem::new(&code::CONFLICT, format!("the call `{id}` changed each time it was looked at"))
        .hint("try again"))
}

/// Cancels a call that waits.
async fn remove(engine: &Engine, message: Message) -> Result<(), CommitError> {
    let batch = Batch::new().remove(message.position).and(farewell(engine, &message));
    engine.database.commit(batch).await?;
    if let Some(id) = message.id.and_then(|id| CallId::parse(id.as_str())) {
        engine.endings.ended(&id);
    }
    Ok(())
}

/// What is kept of a call that is cancelled before it ran.
fn farewell(engine: &Engine, message: &Message) -> Batch {
    let now = engine.now();
    let mut call = read::read_message(engine, message.clone());
    call.state = State::Cancelled;
    call.ended = Some(now);
    call.reason = Some("it was cancelled while it waited".to_owned());
    let ended = Room::Ended(call.function.namespace.clone()).topic();
    let mut batch = Batch::new().append(kept_only(ended, &call.id, crate::ended::encode_ended(&call)));
    if let Ok(kept) = Kept::decode(&message.payload) {
        if let crate::payload::KeptBody::Artifact { digest, mark, .. } = &kept.body {
            batch = batch.delete(body_key(digest, mark), Condition::Any);
        }
        let mut story = Story::decode(&message.story).unwrap_or_default();
        story.reason = call.reason.clone();
        if let Some(told) = Begun::callback_of_cancelled(&call.function, kept, message.clone(), story) {
            batch = batch.append(told);
        }
    }
    batch
}

/// Stops a call that somebody has leased, and waits until its end is durable.
async fn stop(engine: &Arc<Engine>, id: &CallId, message: Message) -> Result<(), Problem> {
    match engine.board.cancel(message.position) {
        Here::Running => {}
        Here::Waiting(leased) => {
            let settled = match engine.begin(*leased) {
                Ok(begun) => {
                    let why = "it was cancelled while it waited".to_owned();
                    begun.end_untried(State::Cancelled, why, &Orders::default(), engine.now())
                }
                Err(settled) => *settled,
            };
            // The worker that is gone took the leases with it.
            let _ = engine.settled.send(settled).await;
            engine.board.nudge();
        }
        Here::No => {
            let put = Batch::new().put(cancel_key(id), id.as_str().to_owned(), Condition::Any);
            engine.database.commit(put).await.map_err(uncommitted)?;
        }
    }
    let call = read::wait(engine, id, STOPS_WITHIN).await?;
    match call.state {
        State::Cancelled => Ok(()),
        state if state.is_ended() => Err(has_ended(id, state)),
        _ => Err(Problem::new(
            &code::STORE_UNAVAILABLE,
            format!("the call `{id}` was told to stop and has not ended yet"),
        )
        .hint("look at it with `coracle queue show ID`, or try again")
        .retry_after(1)),
    }
}

/// Follows which calls are to be cancelled wherever they run.
pub(crate) async fn follow(engine: Arc<Engine>, mut watch: Watch) {
    while let Some(change) = watch.next().await {
        match change {
            Change::Put { entry, .. } => {
                if let Ok(id) = std::str::from_utf8(&entry.value) {
                    engine.board.mark_cancelled(id, true);
                }
            }
            Change::Delete { .. } => {}
            Change::Lagged => look(&engine).await,
        }
    }
}

/// Looks which calls are to be cancelled.
pub(crate) async fn look(engine: &Engine) {
    match read_all(&*engine.database, CANCEL_PREFIX).await {
        Ok(entries) => {
            let ids = entries.iter().filter_map(|(_, entry)| std::str::from_utf8(&entry.value).ok());
            ids.for_each(|id| engine.board.mark_cancelled(id, true));
        }
        Err(error) => tracing::warn!(%error, "cannot look which calls are to be cancelled"),
    }
}

/// Forgets that calls were to be cancelled that have ended.
pub(crate) async fn forget_ended(engine: &Engine) -> Result<(), Problem> {
    for (key, entry) in read_all(&*engine.database, CANCEL_PREFIX).await.map_err(unread)? {
        let Some(id) = std::str::from_utf8(&entry.value).ok().and_then(CallId::parse) else { continue };
        let is_live = read::find(engine, &id)
            .await?
            .into_iter()
            .map(|message| read::read_message(engine, message))
            .any(|call| matches!(call.kind, Kind::Call { .. }) && !call.state.is_ended());
        if !is_live {
            forget(engine, key, entry.revision).await?;
            engine.board.mark_cancelled(id.as_str(), false);
        }
    }
    Ok(())
}

async fn forget(engine: &Engine, key: Key, revision: u64) -> Result<(), Problem> {
    match engine.database.commit(Batch::new().delete(key, Condition::Revision(revision))).await {
        // Somebody else forgot it, or asked anew.
        Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(uncommitted(error)),
    }
}

fn has_ended(id: &CallId, state: State) -> Problem {
    Problem::new(&code::CALL_ENDED, format!("the call `{id}` has ended already: it is {}", state.as_str()))
        .hint(format!("see how with `coracle queue show {id}`"))
}
