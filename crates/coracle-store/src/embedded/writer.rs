//! The one thread that writes: it takes every batch that waits, commits them as one transaction, and answers all.
//! Started by [`Embedded::open`](super::Embedded::open), ended when the last sender of commits is gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::Clock;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::log::{Log, Numbers};
use super::{is_full, schema};
use crate::arrivals::{Doorbells, Waits, sooner};
use crate::batch::{Action, Operation};
use crate::watch::Hub;
use crate::{BATCH_BYTES_MAX, Batch, Cause, Change, CommitError, Committed, Entry};

/// The most batches in one transaction.
const GROUP_BATCHES_MAX: usize = 256;
/// A group that has this many bytes takes no further batch.
const GROUP_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// A commit waits at most this part of what the one before took, and at most so long, for those whom that one answered.
const GATHER_PART: u32 = 2;
const GATHER_MAX: Duration = Duration::from_millis(4);
/// It is looked so often whether somebody came, and nobody is waited for who has not come for so many looks.
const LOOK_EVERY: Duration = Duration::from_micros(200);
const LOOKS_IN_VAIN_MAX: u32 = 6;
/// Of fewer callers than so many none waits for the others: it would gain them little.
const CALLERS_MIN: usize = 8;

/// A batch and whom to tell.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) batch: Batch,
    pub(super) answer: oneshot::Sender<Result<Committed, CommitError>>,
}

pub(super) struct Writer {
    // `None` after an error that left the connection in doubt, until the next group opens a new one.
    connection: Option<Connection>,
    /// Holders up to this number were gone when the file was opened.
    gone: i64,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    numbers: Numbers,
    news: News,
    pending: mpsc::Receiver<Pending>,
    /// How much longer each commit takes than it does.
    delay: Duration,
    last: Last,
}

/// What is remembered of the last group.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    batches: usize,
    took: Duration,
    /// Batches that came while it was committed.
    came: usize,
}

/// Who is told of what has become durable.
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    pub(super) hub: Arc<Hub>,
    pub(super) doorbells: Arc<Doorbells>,
    /// Groups of commits so far, counted when they can be read; those that failed as well, because nobody knows how far they came.
    pub(super) groups: watch::Sender<u64>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        gone: i64,
        path: PathBuf,
        clock: Arc<dyn Clock>,
        news: News,
        pending: mpsc::Receiver<Pending>,
    ) -> Self {
        let (numbers, delay, last) = (Numbers::new(), Duration::ZERO, Last::default());
        Self { connection: Some(connection), gone, path, clock, numbers, news, pending, delay, last }
    }

    /// The same with a slower disk.
    pub(super) fn slowed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(super) fn run(mut self) {
        while let Some(first) = self.pending.blocking_recv() {
            let group = self.gather(first);
            let begun = self.clock.instant();
            let batches = group.len();
            self.commit(group);
            let took = self.clock.instant().saturating_duration_since(begun);
            self.last = Last { batches, took, came: self.pending.len() };
        }
    }

    /// Waits for those whom the last group answered, as long as they come.
    ///
    /// They are about to come again: half of all callers would wait for the other half, turn and turn about, if those who
    /// are here were not kept for a moment.
    fn wait_for_the_answered(&self) {
        let Last { batches, took, came } = self.last;
        let callers = came + batches;
        let most = (took / GATHER_PART).min(GATHER_MAX);
        let (mut here, mut looks, mut in_vain) = (self.pending.len(), 0, 0);
        // The first is not among those that wait any more.
        while callers >= CALLERS_MIN
            && here + 1 < callers
            && LOOK_EVERY * looks < most
            && in_vain < LOOKS_IN_VAIN_MAX
        {
            // Of three ends the first counts: all are here, nobody comes any more, or it has been long enough. A channel
            // can be waited on for the first alone, and for no less than a millisecond: so it is looked at, for that long.
            std::thread::sleep(LOOK_EVERY);
            let now_here = self.pending.len();
            in_vain = if now_here == here { in_vain + 1 } else { 0 };
            (here, looks) = (now_here, looks + 1);
        }
    }

    /// The first batch and those that wait behind it: while one group is synced, the next one gathers.
    fn gather(&mut self, first: Pending) -> Vec<Pending> {
        self.wait_for_the_answered();
        let mut bytes = first.batch.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(next) = self.pending.try_recv() else { break };
            bytes += next.batch.bytes();
            group.push(next);
        }
        group
    }

    fn commit(&mut self, group: Vec<Pending>) {
        let tried = self.try_commit(&group);
        self.news.groups.send_modify(|groups| *groups += 1);
        match tried {
            Ok(verdicts) => {
                // Watchers first: whoever is answered may rely on the change being on its way to them.
                let mut arrived = Waits::new();
                for applied in verdicts.iter().flatten() {
                    self.news.hub.publish(&applied.changes);
                    applied.arrived.iter().for_each(|(topic, wait)| sooner(&mut arrived, topic, *wait));
                }
                for (pending, verdict) in group.into_iter().zip(verdicts) {
                    answer(pending, verdict.map(|applied| applied.committed));
                }
                self.news.doorbells.publish(&arrived);
            }
            Err(error) => {
                tracing::error!(%error, batches = group.len(), "a group of commits failed");
                self.recover(&error);
                let error = commit_error(error);
                for pending in group {
                    answer(pending, Err(error.clone()));
                }
            }
        }
    }

    /// One transaction for all. The verdicts are true only if the whole function succeeds.
    fn try_commit(&mut self, group: &[Pending]) -> rusqlite::Result<Vec<Verdict>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(schema::open_writer(&self.path)?),
        };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read anew each time: after a failed commit nobody knows whether the last one counted.
        let before = transaction
            .query_row("SELECT revision FROM head", [], |row| row.get::<_, i64>(0))?
            .cast_unsigned();
        let mut revision = before;
        let mut log = Log::begin(&transaction, &mut self.numbers, self.clock.now(), self.gone)?;
        let mut verdicts = Vec::with_capacity(group.len());
        for Pending { batch, .. } in group {
            let refusal = match conflict(&transaction, batch)? {
                None => log.refusal(batch)?,
                conflict => conflict,
            };
            verdicts.push(match refusal {
                Some(refusal) => Err(refusal),
                None => {
                    revision += 1;
                    let changes = apply(&transaction, batch, revision)?;
                    let mut committed = Committed { revision, ..Committed::default() };
                    let arrived = log.apply(batch, &mut committed)?;
                    Ok(Applied { committed, changes, arrived })
                }
            });
        }
        log.finish()?;
        if revision > before {
            transaction.prepare_cached("UPDATE head SET revision = ?1")?.execute([revision.cast_signed()])?;
        }
        transaction.commit()?;
        if !self.delay.is_zero() {
            // What `--commit-delay` asks for: a slow disk, for benchmarks.
            std::thread::sleep(self.delay);
        }
        Ok(verdicts)
    }

    /// Leaves a connection that the next group can trust, whatever the failure was.
    fn recover(&mut self, error: &rusqlite::Error) {
        self.numbers.clear(); // Some of them may have been rolled back.
        let Some(connection) = &self.connection else { return };
        if !connection.is_autocommit() {
            // The rollback failed too. A connection that is still inside a transaction would add the next group to it.
            self.connection = None;
            return;
        }
        if is_full(error) {
            // Give the log's room back, so that somebody can still remove things. A full disk may refuse this as well.
            let emptied =
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            tracing::debug!(?emptied, "moved the log into the database, because the disk is full");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Also when the thread panics: a reader that waits for changes must not wait forever.
        self.news.hub.close();
        self.news.doorbells.close();
    }
}

type Verdict = Result<Applied, CommitError>;

/// What a batch did.
struct Applied {
    committed: Committed,
    changes: Vec<Change>,
    arrived: Waits,
}

/// The first condition of a batch that does not hold. All are looked at before anything is written, so that a batch
/// that conflicts leaves nothing behind in the transaction it shares: no savepoint is needed.
fn conflict(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<Option<CommitError>> {
    let mut statement = transaction.prepare_cached("SELECT revision FROM entry WHERE key = ?1")?;
    for Operation { key, condition, .. } in batch.operations() {
        let found = statement.query_row([key.as_str()], |row| row.get::<_, i64>(0)).optional()?;
        let found = found.map(i64::cast_unsigned);
        if !condition.holds(found) {
            return Ok(Some(CommitError::Conflict { key: key.clone(), found }));
        }
    }
    Ok(None)
}

/// Writes what a batch says, and returns what it changed.
fn apply(transaction: &Transaction<'_>, batch: &Batch, revision: u64) -> rusqlite::Result<Vec<Change>> {
    let mut changes = Vec::with_capacity(batch.operations().len());
    for Operation { key, action, .. } in batch.operations() {
        match action {
            Action::Put(value) => {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO entry (key, value, revision) VALUES (?1, ?2, ?3)",
                    )?
                    .execute((key.as_str(), value.as_ref(), revision.cast_signed()))?;
                changes
                    .push(Change::Put { key: key.clone(), entry: Entry { value: value.clone(), revision } });
            }
            Action::Delete => {
                let removed = transaction
                    .prepare_cached("DELETE FROM entry WHERE key = ?1")?
                    .execute([key.as_str()])?;
                if removed > 0 {
                    changes.push(Change::Delete { key: key.clone(), revision });
                }
            }
            Action::Require => {}
        }
    }
    Ok(changes)
}

fn answer(pending: Pending, result: Result<Committed, CommitError>) {
    let _ = pending.answer.send(result); // The caller stopped waiting; what it asked for stands all the same.
}

fn commit_error(error: rusqlite::Error) -> CommitError {
    if is_full(&error) {
        return CommitError::Full;
    }
    let cause: Cause = Arc::new(error);
    CommitError::Unavailable(cause)
}
