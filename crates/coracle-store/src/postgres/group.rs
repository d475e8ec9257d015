//! A group of batches as one transaction of a few round trips: read all that they name, decide in memory, write all.
//! Called by the writer, with its session.

use std::sync::LazyLock;

use futures_util::future::join3;
use tokio_postgres::Error;

use super::entries::{self, Entries};
use super::feed::{self, Feed};
use super::schema::{LOCK_CLASS, LOCK_ENTRIES};
use super::session::Session;
use crate::batch::Action;
use crate::{Batch, Change, CommitError, Committed};

/// Hears the notifications of all nodes' groups.
pub(super) const LISTEN: &str = "LISTEN coracle";

const REVISIONS: &str = "SELECT nextval('coracle.revision') FROM generate_series(1, $1::int)";
const NOTIFY: &str = "SELECT pg_notify('coracle', $1)";

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
    [&[REVISIONS, NOTIFY][..], &entries::WRITES, &feed::STATEMENTS].concat()
}

/// Commits the batches, each wholly or not at all, and tells the watchers. The verdicts are true only if this succeeds;
/// after an error the session may be within a transaction.
pub(super) async fn commit(
    session: &Session,
    feed: &Feed,
    batches: &[&Batch],
) -> Result<Vec<Verdict>, Error> {
    let needs = Needs::of(batches);
    // Held from before the lock in the database until watchers were told: what this node commits is told by it, each
    // change for itself, and in order with what others committed.
    let mut told = if needs == Needs::Changes { Some(feed.lock().await) } else { None };
    let count = i32::try_from(batches.len()).unwrap_or(i32::MAX);
    let (begun, entries, revisions) = join3(
        session.execute(needs.begin()),
        Entries::load(session, batches),
        session.query(REVISIONS, &[&count]),
    )
    .await;
    begun?;
    let mut entries = entries?;
    if let Some(told) = &mut told {
        feed.catch_up(session, told).await?;
    }
    let mut revisions: Vec<u64> = revisions?.iter().map(|row| entries::revision(row, 0)).collect();
    revisions.sort_unstable();

    let mut changes: Vec<Change> = Vec::new();
    let decide = |(batch, revision): (&&Batch, u64)| match entries.conflict(batch) {
        Some(conflict) => Err(conflict),
        None => {
            changes.extend(entries.apply(batch, revision));
            Ok(Committed { revision })
        }
    };
    let verdicts = batches.iter().zip(revisions).map(decide).collect();

    let newest = entries.newest();
    let notify = async {
        let Some(newest) = newest else { return Ok(()) };
        session.query(NOTIFY, &[&newest.to_string()]).await.map(drop)
    };
    let (stored, notified, committed) =
        join3(entries.store(session), notify, session.execute("COMMIT")).await;
    // The commit of a transaction in which something failed takes all back, and is no error itself.
    stored.and(notified).and(committed)?;
    if let (Some(mut told), Some(newest)) = (told, newest) {
        feed.tell(&changes, newest, &mut told);
    }
    Ok(verdicts)
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
        let requires = |action: &Action| matches!(action, Action::Require);
        let mut needs = Self::Nothing;
        for operation in batches.iter().flat_map(|batch| batch.operations()) {
            if !requires(&operation.action) {
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
