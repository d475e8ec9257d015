//! How the catalog is written: in turns, each on what the turn before left, across all nodes.
//! Every verb that writes goes through [`Catalog::in_turn`]; the follower and the load at start stand here too.
//!
//! Every batch moves one key, [`Place::Turn`], under the condition that it is where this node last saw it.
//! So a decision that was right about memory (no other function has this route, nobody reads this secret) is right
//! about the database, or the commit is refused.
//! The price is that two nodes that write at the same moment meet; a deploy is rare, and one of them tries again.

use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use coracle_model::{FunctionRef, Problem, code};
use coracle_store::{Batch, Change, CommitError, Condition, Database, Key, ReadError, Watch, read_all};
use serde::Serialize;
use tokio::sync::MutexGuard;

use crate::Catalog;
use crate::catalog::Inner;
use crate::records::{PREFIX, Place, encode};
use crate::state::State;

/// How often a write is decided anew because another node was faster.
const ATTEMPTS_MAX: usize = 5;
/// How long the follower waits before it reads everything again after that failed.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// Whose turn it is to write; behind an async lock.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// A commit was begun whose end nobody has seen: memory may lack it.
    in_doubt: bool,
}

/// Writes that will happen together.
#[derive(Debug, Default)]
pub(crate) struct Draft(Vec<(Key, Option<Bytes>)>);

impl Draft {
    pub(crate) fn put(&mut self, place: &Place, record: &impl Serialize) {
        self.0.push((place.key(), Some(encode(record))));
    }

    pub(crate) fn delete(&mut self, place: &Place) {
        self.0.push((place.key(), None));
    }

    /// The batch, each line of it under the condition that its key is as memory has it.
    fn batch(&self, state: &State) -> Result<Batch, Problem> {
        let mut batch = Batch::new();
        for (key, value) in &self.0 {
            if let Some(reason) = state.unreadable(key) {
                return Err(Problem::new(
                    &code::DATA_UNUSABLE,
                    format!("the record `{key}` cannot be read: {reason}"),
                )
                .hint("a newer Coracle may have written it: use that one, or restore a backup"));
            }
            let held = key.as_str().starts_with(PREFIX);
            batch = match value {
                Some(value) if held => batch.put(key.clone(), value.clone(), as_read(state, key)),
                None if held => batch.delete(key.clone(), as_read(state, key)),
                // Revisions are not held in memory. Their numbers are used once, so each is new when it is written.
                Some(value) => batch.put(key.clone(), value.clone(), Condition::Absent),
                None => batch.delete(key.clone(), Condition::Any),
            };
        }
        let turn = Place::Turn.key();
        let condition = as_read(state, &turn);
        // The last one: whoever follows the watch and sees it has seen the whole batch.
        Ok(batch.put(turn, encode(&()), condition))
    }
}

fn as_read(state: &State, key: &Key) -> Condition {
    state.entry(key).map_or(Condition::Absent, Condition::Revision)
}

impl Catalog {
    /// Decides on a write, commits it and makes it true in memory, before anybody else decides on one.
    ///
    /// `plan` is asked again if another node wrote in the meantime, so it must decide from the state alone.
    /// What it drafts is durable and in memory when this returns; an empty draft writes nothing.
    pub(crate) async fn in_turn<T>(
        &self,
        plan: impl Fn(&State) -> Result<(Draft, T), Problem>,
    ) -> Result<T, Problem> {
        let mut writer = self.0.writer.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            if writer.in_doubt {
                self.0.reload(&mut writer).await?;
            }
            let (draft, batch, answer) = {
                let state = self.0.state();
                let (draft, answer) = plan(&state)?;
                if draft.0.is_empty() {
                    return Ok(answer);
                }
                let batch = draft.batch(&state)?;
                (draft, batch, answer)
            };
            // Said before the wait: if this future is dropped there, the next turn knows.
            writer.in_doubt = true;
            match self.0.db.commit(batch).await {
                Ok(committed) => {
                    self.0.apply_own(draft, committed.revision);
                    writer.in_doubt = false;
                    return Ok(answer);
                }
                Err(CommitError::Conflict { key, .. }) => {
                    tracing::debug!(%key, "another node was faster; deciding again");
                }
                Err(CommitError::Unavailable(_)) => {
                    // If this fails too, memory stays as it was, and the next turn begins with it.
                    if let Err(problem) = self.0.reload(&mut writer).await {
                        tracing::warn!(%problem, "could not look whether a write has happened");
                    }
                    return Err(Problem::new(
                        &code::STORE_UNAVAILABLE,
                        "the database did not answer the write",
                    )
                    .hint("it may have happened nevertheless: look before you try again")
                    .retry_after(1));
                }
                Err(error) => {
                    writer.in_doubt = false; // These say that nothing was changed.
                    return Err(refused(&error));
                }
            }
        }
        Err(Problem::new(
            &code::CONFLICT,
            format!("others changed the catalog {ATTEMPTS_MAX} times in the meantime"),
        )
        .hint("try again"))
    }
}

impl Inner {
    // Std lock: held for a few look-ups, a page of a list or one applied batch, never over `.await`.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes our own batch true in memory, at one moment for everybody who reads.
    fn apply_own(&self, draft: Draft, revision: u64) {
        let mut touched = Vec::new();
        let mut state = self.state_mut();
        for (key, value) in draft.0.into_iter().filter(|(key, _)| key.as_str().starts_with(PREFIX)) {
            touched.extend(state.apply(&key, value.as_deref(), revision));
        }
        state.apply(&Place::Turn.key(), Some(&[]), revision);
        state.seen = revision;
        drop(state);
        self.announce(touched);
    }

    /// Reads everything again, and replaces what memory holds.
    async fn reload(&self, writer: &mut MutexGuard<'_, Writer>) -> Result<(), Problem> {
        writer.in_doubt = true;
        let fresh = load(&*self.db).await?;
        let before = std::mem::replace(&mut *self.state_mut(), fresh);
        writer.in_doubt = false;
        let differing = self.state().differing(&before);
        self.announce(differing);
        Ok(())
    }

    fn announce(&self, functions: Vec<FunctionRef>) {
        for function in functions {
            let _ = self.changes.send(function); // Nobody listens: then nobody needs to know.
        }
    }

    /// Makes a change that the watch reported true in memory.
    async fn follow(&self, change: Change) -> Result<(), Problem> {
        let (key, value, revision) = match change {
            Change::Lagged => return self.reload(&mut self.writer.lock().await).await,
            Change::Put { key, entry } => (key, Some(entry.value), entry.revision),
            Change::Delete { key, revision } => (key, None, revision),
        };
        if revision <= self.state().seen {
            return Ok(());
        }
        // Our own write may be about to say the same; and a reload must not lose this change.
        let _writer = self.writer.lock().await;
        let mut state = self.state_mut();
        if revision <= state.seen {
            return Ok(());
        }
        let touched = state.apply(&key, value.as_deref(), revision);
        if key == Place::Turn.key() {
            state.seen = revision;
        }
        drop(state);
        self.announce(touched);
        Ok(())
    }
}

/// Everything under the prefix, as it stands in the database.
pub(crate) async fn load(db: &dyn Database) -> Result<State, Problem> {
    let mut state = State::default();
    let turn = Place::Turn.key();
    // The turn first: pages are read one after the other, and all that belongs to this turn is surely in them.
    // What another node writes meanwhile makes our next write conflict, and arrives by the watch.
    if let Some(entry) = db.get(&turn).await.map_err(unread)? {
        state.apply(&turn, Some(&entry.value), entry.revision);
        state.seen = entry.revision;
    }
    for (key, entry) in read_all(db, PREFIX).await.map_err(unread)? {
        if key != turn {
            state.apply(&key, Some(&entry.value), entry.revision);
        }
    }
    Ok(state)
}

/// Applies what other nodes write, until the catalog or the database is gone.
pub(crate) async fn follow(inner: Weak<Inner>, mut watch: Watch) {
    while let Some(change) = watch.next().await {
        let Some(inner) = inner.upgrade() else { return };
        let mut followed = inner.follow(change).await;
        while let Err(problem) = followed {
            tracing::warn!(%problem, "could not read the catalog again");
            tokio::time::sleep(RELOAD_PAUSE).await;
            followed = inner.follow(Change::Lagged).await;
        }
    }
}

/// The problem of a read that has no answer.
pub(crate) fn unread(error: ReadError) -> Problem {
    Problem::new(&code::STORE_UNAVAILABLE, format!("read the catalog: {}", with_source(&error)))
        .retry_after(1)
}

fn refused(error: &CommitError) -> Problem {
    match error {
        CommitError::Full => Problem::new(&code::DISK_FULL, format!("write the catalog: {error}"))
            .hint("make room on the disk of the data directory"),
        CommitError::Invalid { reason } => {
            Problem::new(&code::LIMIT_REACHED, format!("this is too much for one write: {reason}"))
                .hint("deploy or remove fewer functions at once")
        }
        _ => Problem::new(&code::STORE_UNAVAILABLE, format!("write the catalog: {}", with_source(error))),
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Ends the follower together with the catalog.
#[derive(Debug)]
pub(crate) struct Follower(tokio::task::AbortHandle);

impl Follower {
    pub(crate) fn start(inner: &Arc<Inner>, watch: Watch) -> Self {
        Self(tokio::spawn(follow(Arc::downgrade(inner), watch)).abort_handle())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}
