//! Forgetting what was kept for long enough: how calls ended, dead calls, idempotency keys.
//! A task of the queue's; each server sweeps, and what another has swept is swept.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::Problem;
use coracle_store::{
    Batch, CommitError, Condition, Key, Read, ReadFrom, SCAN_ENTRIES_MAX, Scan, TRIM_MAX, Topic,
};
use jiff::{SignedDuration, Timestamp};

use crate::Filter;
use crate::engine::Engine;
use crate::put::{OnceRecord, uncommitted, unread};
use crate::topics::{ONCE_PREFIX, Room};
use crate::{cancel, purge, read};

/// How often is swept what comes fast.
const EVERY: Duration = Duration::from_secs(60);
/// Every how many times idempotency keys are swept too.
const KEYS_EVERY: u32 = 60;
/// How long dead calls are kept.
const DEAD_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Sweeps for as long as it runs.
pub(crate) async fn run(engine: Arc<Engine>) {
    for round in 1u32.. {
        tokio::time::sleep(EVERY).await;
        let swept = once(&engine, round.is_multiple_of(KEYS_EVERY)).await;
        if let Err(problem) = swept {
            tracing::warn!(%problem, "what was kept for long enough is swept later");
        }
    }
}

/// Sweeps once.
pub(crate) async fn once(engine: &Engine, keys_too: bool) -> Result<(), Problem> {
    let now = engine.now();
    for count in read::topics(engine, &Filter::All).await? {
        let before = |kept| now.saturating_sub(kept).unwrap_or(Timestamp::MIN);
        match Room::of(&count.topic) {
            Some(Room::Ended(_)) => {
                let kept = SignedDuration::try_from(engine.options.results_kept).unwrap_or(DEAD_KEPT);
                trim(engine, &count.topic, before(kept)).await?;
            }
            Some(Room::Named(..)) => trim(engine, &count.topic, before(DEAD_KEPT)).await?,
            // Their bodies may be kept beside them.
            Some(Room::Dead(_)) => purge::before(engine, &count.topic, before(DEAD_KEPT)).await?,
            _ => {}
        }
    }
    cancel::forget_ended(engine).await?;
    if keys_too { forget_keys(engine, now).await } else { Ok(()) }
}

async fn trim(engine: &Engine, topic: &Topic, before: Timestamp) -> Result<(), Problem> {
    // Mostly there is nothing to trim, and one look tells.
    let first = Read { topic: topic.clone(), from: ReadFrom::Start, limit: 1 };
    let page = engine.database.read(first).await.map_err(unread)?;
    if page.iter().all(|message| message.appended >= before) {
        return Ok(());
    }
    loop {
        let batch = Batch::new().trim(topic.clone(), before);
        let committed = engine.database.commit(batch).await.map_err(uncommitted)?;
        if committed.trimmed < TRIM_MAX as u64 {
            return Ok(());
        }
        // Calls that wait to be written go first.
        tokio::task::yield_now().await;
    }
}

/// Forgets the idempotency keys whose time is over.
async fn forget_keys(engine: &Engine, now: Timestamp) -> Result<(), Problem> {
    let mut after: Option<Key> = None;
    loop {
        let scan = Scan { prefix: ONCE_PREFIX.to_owned(), after: after.take(), limit: SCAN_ENTRIES_MAX };
        let page = engine.database.scan(scan).await.map_err(unread)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        let is_over = |value: &[u8]| {
            serde_json::from_slice::<OnceRecord>(value).map_or(true, |record| record.until <= now)
        };
        let over = page.into_iter().filter(|(_, entry)| is_over(&entry.value));
        let batch = over
            .fold(Batch::new(), |batch, (key, entry)| batch.delete(key, Condition::Revision(entry.revision)));
        if batch.is_empty() {
            continue;
        }
        match engine.database.commit(batch).await {
            // One of them was taken anew: the others are forgotten the next time.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(uncommitted(error)),
        }
    }
}
