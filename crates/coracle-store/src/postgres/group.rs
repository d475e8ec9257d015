//! A group of batches as one transaction of a few round trips: read all that they name, decide in memory, write all.
//! Called by the writer, with its session.

use std::sync::LazyLock;

use futures_util::future::{join, join3, join4};
use tokio_postgres::Error;

use super::entries::{self, Entries};
use super::feed::{self, Feed};
use super::follower;
use super::messages;
use super::plan::Plan;
use super::schema::{LOCK_CLASS, LOCK_ENTRIES};
use super::session::Session;
use crate::batch::Action;
use crate::{Batch, Change, CommitError, Committed};

/// Hears the notifications of all nodes' groups.
pub(super) const LISTEN: &str = "LISTEN coracle";
const NOTIFY: &str = "SELECT pg_notify('coracle', $1)";

const REVISIONS: &str = "SELECT nextval('coracle.revision') FROM generate_series(1, $1::int)";

/// Whoever changes entries is alone with that until the end of the transaction, so that revisions become visible in
/// order; whoever only relies on some keeps others from changing them.
static BEGIN_CHANGING: LazyLock<String> =
    LazyLock::new(|| format!("{BEGIN}; SELECT pg_advisory_xact_lock({LOCK_CLASS}, {LOCK_ENTRIES})"));
static BEGIN_REQUIRING: LazyLock<String> =
    LazyLock::new(|| format!("{BEGIN}; SELECT pg_advisory_xact_lock_shared({LOCK_CLASS}, {LOCK_ENTRIES})"));
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// What became of a batch.
pub(super) type Verdict = Result<Committed, CommitError>;

/// Every statement that a group may need.
pub(super) fn statements() -> Vec<&'static str> {
    [&[REVISIONS, NOTIFY][..], &entries::WRITES, &feed::STATEMENTS, &messages::STATEMENTS].concat()
}

/// Commits the batches, each wholly or not at all, and tells who watches and waits. The verdicts are true only if this
/// succeeds; after an error the session may be within a transaction.
pub(super) async fn commit(
    session: &Session,
    slot: i32,
    feed: &Feed,
    batches: &[&Batch],
) -> Result<Vec<Verdict>, Error> {
    let needs = Needs::of(batches);
    // Held from before the lock in the database until watchers were told: what this node commits is told by it, each
    // change for itself, and in order with what others committed.
    let mut told = if needs == Needs::Changes { Some(feed.lock().await) } else { None };
    let count = i32::try_from(batches.len()).unwrap_or(i32::MAX);
    let (begun, revisions, entries, plan) = join4(
        session.execute(needs.begin()),
        session.query(REVISIONS, &[&count]),
        Entries::load(session, batches),
        messages::load(session, batches),
    )
    .await;
    begun?;
    let mut revisions: Vec<u64> = revisions?.iter().map(|row| entries::revision(row, 0)).collect();
    revisions.sort_unstable();
    let mut decided = Decided { entries: entries?, plan: plan?, changes: Vec::new(), verdicts: Vec::new() };
    if let Some(told) = &mut told {
        feed.catch_up(session, told).await?;
    }
    for (batch, revision) in batches.iter().zip(revisions) {
        decided.decide(batch, revision);
    }

    let Decided { entries, mut plan, changes, mut verdicts } = decided;
    let newest = entries.newest();
    let written = join(entries.store(session), messages::write(session, &plan));
    if plan.is_settled() {
        // All in one round trip. The commit of a transaction in which something failed takes all back, and is no error
        // itself: what comes before it is asked as well.
        let ((stored, leading), finished) = join(written, finish(session, slot, newest, &plan)).await;
        stored.and(leading.map(drop)).and(finished)?;
    } else {
        let ((stored, leading), taken) = join(written, messages::take(session, &plan)).await;
        let (leading, taken) = stored.and(leading).and_then(|leading| Ok((leading, taken?)))?;
        plan.settle(leading, taken.iter().map(|(.., taken)| taken));
        for (index, number, taken) in taken {
            if let Some(Ok(committed)) = verdicts.get_mut(index) {
                committed.taken[number] = taken;
            }
        }
        finish(session, slot, newest, &plan).await?;
    }
    if let (Some(mut told), Some(newest)) = (told, newest) {
        feed.tell(&changes, newest, &mut told);
    }
    feed.doorbells.publish(&plan.arrived);
    Ok(verdicts)
}

/// Counts, tells the other nodes, and commits.
async fn finish(session: &Session, slot: i32, newest: Option<u64>, plan: &Plan<'_>) -> Result<(), Error> {
    let notify = async {
        if newest.is_none() && plan.arrived.is_empty() {
            return Ok(());
        }
        session.query(NOTIFY, &[&follower::payload(newest, &plan.arrived)]).await.map(drop)
    };
    let (counted, notified, committed) =
        join3(messages::count(session, slot, plan), notify, session.execute("COMMIT")).await;
    counted.and(notified).and(committed)
}

/// What a group finds and makes of it.
struct Decided<'b> {
    entries: Entries,
    plan: Plan<'b>,
    changes: Vec<Change>,
    verdicts: Vec<Verdict>,
}

impl<'b> Decided<'b> {
    /// Makes the next batch of the group true, unless something stands against it.
    fn decide(&mut self, batch: &'b Batch, revision: u64) {
        let refusal = self.entries.conflict(batch).or_else(|| self.plan.refusal(batch));
        self.verdicts.push(match refusal {
            Some(refusal) => Err(refusal),
            None => {
                self.changes.extend(self.entries.apply(batch, revision));
                let mut committed = Committed { revision, ..Committed::default() };
                self.plan.apply(self.verdicts.len(), batch, &mut committed);
                Ok(committed)
            }
        });
    }
}

/// What a group wants from the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Requirements,
    Changes,
}

impl Needs {
    fn of(batches: &[&Batch]) -> Self {
        let mut needs = Self::Nothing;
        for operation in batches.iter().flat_map(|batch| batch.operations()) {
            if !matches!(operation.action, Action::Require) {
                return Self::Changes;
            }
            needs = Self::Requirements;
        }
        needs
    }

    fn begin(self) -> &'static str {
        match self {
            Self::Nothing => BEGIN,
            Self::Requirements => &BEGIN_REQUIRING,
            Self::Changes => &BEGIN_CHANGING,
        }
    }
}
