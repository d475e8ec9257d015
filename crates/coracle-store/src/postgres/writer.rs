//! The one task that writes: it takes every batch that waits, commits them as one transaction, and answers all.
//! Started by [`Postgres::open`](super::Postgres::open), ended when the last sender of commits is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::feed::Feed;
use super::group::{self, Verdict};
use super::schema::LOCK_CLASS_SLOTS;
use super::session::Session;
use super::target::{ConnectError, Target};
use crate::{BATCH_BYTES_MAX, Batch, Cause, CommitError, Committed};

/// The most batches in one transaction.
const GROUP_BATCHES_MAX: usize = 256;
/// A group that has this many bytes takes no further batch.
const GROUP_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// How long a group may take before its connection is given up.
const GROUP_TIMEOUT: Duration = Duration::from_secs(30);
/// Takes a number, for as long as the session lasts, if nobody has it.
const SLOT: &str = "SELECT pg_try_advisory_lock($1, $2)";
const PROCESS: &str = "SELECT pg_backend_pid()";
/// How often a group is tried that PostgreSQL ended because another node's stood in its way.
const TRIES_MAX: u32 = 3;
/// How long to wait before a connection is made again: at first, and doubled until it is this long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A batch and whom to tell.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) batch: Batch,
    pub(super) answer: oneshot::Sender<Result<Committed, CommitError>>,
}

pub(super) struct Writer {
    target: Arc<Target>,
    // `None` from the failure of a connection until there is a new one.
    place: Option<Place>,
    feed: Arc<Feed>,
    pending: mpsc::Receiver<Pending>,
}

impl Writer {
    pub(super) fn new(
        target: Arc<Target>,
        place: Place,
        feed: Arc<Feed>,
        pending: mpsc::Receiver<Pending>,
    ) -> Self {
        Self { target, place: Some(place), feed, pending }
    }

    pub(super) async fn run(mut self) {
        while let Some(place) = self.place.take() {
            self.feed.set_writer(place.process);
            self.write(place).await;
            self.reconnect().await;
        }
    }

    /// Commits from this place until its session fails, or nobody is left who could ask.
    async fn write(&mut self, mut place: Place) {
        loop {
            let first = tokio::select! {
                first = self.pending.recv() => first,
                () = place.session.ended() => return,
            };
            let Some(first) = first else { return };
            let group = self.gather(first);
            let batches: Vec<&Batch> = group.iter().map(|pending| &pending.batch).collect();
            match commit(&place, &self.feed, &batches).await {
                Ok(verdicts) => {
                    for (pending, verdict) in group.into_iter().zip(verdicts) {
                        answer(pending, verdict);
                    }
                }
                Err(failure) => {
                    tracing::error!(error = %failure.reason, batches = group.len(), "a group of commits failed");
                    for pending in group {
                        answer(pending, Err(failure.reason.clone()));
                    }
                    if failure.ends_session {
                        return;
                    }
                }
            }
        }
    }

    /// The first batch and those that wait behind it: while one group is synced, the next one gathers.
    fn gather(&mut self, first: Pending) -> Vec<Pending> {
        let mut bytes = first.batch.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(next) = self.pending.try_recv() else { break };
            bytes += next.batch.bytes();
            group.push(next);
        }
        group
    }

    /// Connects again, however long it takes, and refuses what is asked for in the meantime. Leaves no session when
    /// nobody is left who could ask.
    async fn reconnect(&mut self) {
        let target = Arc::clone(&self.target);
        let mut connecting = Box::pin(connect_again(&target));
        loop {
            tokio::select! {
                place = &mut connecting => {
                    self.place = Some(place);
                    return;
                }
                pending = self.pending.recv() => match pending {
                    Some(pending) => answer(pending, Err(CommitError::Unavailable(Arc::new(Away)))),
                    None => return,
                },
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Also when the task panics: a reader that waits for changes must not wait forever.
        self.feed.close();
    }
}

/// A session that can commit groups, and what is its own as long as it lasts.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) session: Session,
    /// A number that no other writer has, for rows that only this one changes.
    slot: i32,
    /// The process of PostgreSQL that serves it.
    pub(super) process: i32,
}

impl Place {
    pub(super) async fn open(target: &Target) -> Result<Self, ConnectError> {
        let refused = |source| target.refused(source);
        let mut session = Session::open(target).await?;
        session.prepare(&group::statements()).await.map_err(refused)?;
        session.prepare(&[SLOT, PROCESS]).await.map_err(refused)?;
        let process = session.query(PROCESS, &[]).await.map_err(refused)?;
        let process = process.first().map_or(0, |row| row.get(0));
        let mut slot = 0;
        loop {
            let got = session.query(SLOT, &[&LOCK_CLASS_SLOTS, &slot]).await.map_err(refused)?;
            if got.first().is_some_and(|row| row.get(0)) {
                return Ok(Self { session, slot, process });
            }
            slot += 1;
        }
    }
}

async fn connect_again(target: &Target) -> Place {
    let mut pause = PAUSE_MIN;
    loop {
        match Place::open(target).await {
            Ok(place) => {
                tracing::info!(%target, "connected to PostgreSQL again");
                return place;
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "PostgreSQL is away"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// A group of which no batch is acknowledged.
struct Failure {
    reason: CommitError,
    ends_session: bool,
}

/// Commits a group, again if PostgreSQL has ended it for the sake of another one.
async fn commit(place: &Place, feed: &Feed, batches: &[&Batch]) -> Result<Vec<Verdict>, Failure> {
    for _ in 1..TRIES_MAX {
        match try_commit(place, feed, batches).await {
            Err(Tried::StoodInTheWay) => {}
            Err(Tried::Failed(failure)) => return Err(failure),
            Ok(verdicts) => return Ok(verdicts),
        }
    }
    match try_commit(place, feed, batches).await {
        Err(Tried::StoodInTheWay) => Err(Failure { reason: unavailable(Contended), ends_session: false }),
        Err(Tried::Failed(failure)) => Err(failure),
        Ok(verdicts) => Ok(verdicts),
    }
}

enum Tried {
    StoodInTheWay,
    Failed(Failure),
}

async fn try_commit(place: &Place, feed: &Feed, batches: &[&Batch]) -> Result<Vec<Verdict>, Tried> {
    let Place { session, slot, .. } = place;
    let committing = Box::pin(group::commit(session, *slot, feed, batches));
    let error = match tokio::time::timeout(GROUP_TIMEOUT, committing).await {
        Ok(Ok(verdicts)) => return Ok(verdicts),
        Ok(Err(error)) => error,
        Err(elapsed) => {
            return Err(Tried::Failed(Failure { reason: unavailable(elapsed), ends_session: true }));
        }
    };
    let ends_session = session.is_closed() || session.execute("ROLLBACK").await.is_err();
    Err(match error.code() {
        Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE) if !ends_session => {
            Tried::StoodInTheWay
        }
        _ => Tried::Failed(Failure { reason: commit_error(error), ends_session }),
    })
}

fn answer(pending: Pending, result: Result<Committed, CommitError>) {
    let _ = pending.answer.send(result); // The caller stopped waiting; what it asked for stands all the same.
}

fn commit_error(error: Error) -> CommitError {
    match error.code() {
        Some(&SqlState::DISK_FULL) => CommitError::Full,
        _ => unavailable(error),
    }
}

fn unavailable(reason: impl std::error::Error + Send + Sync + 'static) -> CommitError {
    let cause: Cause = Arc::new(reason);
    CommitError::Unavailable(cause)
}

#[derive(Debug, thiserror::Error)]
#[error("the connection to PostgreSQL is lost, and made again")]
struct Away;

#[derive(Debug, thiserror::Error)]
#[error("other nodes stood in its way {TRIES_MAX} times")]
struct Contended;
