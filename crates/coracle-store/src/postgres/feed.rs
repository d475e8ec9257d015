//! Telling watchers, in the order of revisions: what this node commits, and what others did in between.
//! Shared by the writer, which holds it while it changes entries, and by the follower of the other nodes.

use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use futures_util::future::join;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Error, Row};

use super::entries::{key, revision};
use super::session::Session;
use crate::arrivals::Doorbells;
use crate::watch::Hub;
use crate::{Change, Entry};

/// How many changes are read at once.
const PAGE: i64 = 100;

/// The statements that whoever reads the feed has to know.
pub(super) const STATEMENTS: [&str; 5] = [CHANGED, SWEPT, NEWEST, SWEEP, SWEEP_COUNTS];

/// Entries changed behind a revision and key. Revisions become visible in order, so that none is ever added before
/// one that was read.
const CHANGED: &str = "
    SELECT key, value, revision FROM coracle.entry
    WHERE (revision, key) > ($1, $2) ORDER BY revision, key LIMIT $3";
const SWEPT: &str = "SELECT revision FROM coracle.swept";
const NEWEST: &str = "SELECT coalesce(max(revision), 0) FROM coracle.entry";

/// Forgets removals that are older than any follower's pause should be.
const SWEEP: &str = "
    WITH gone AS (
        DELETE FROM coracle.entry WHERE value IS NULL AND removed < now() - interval '10 minutes' RETURNING revision
    )
    UPDATE coracle.swept SET revision = greatest(revision, (SELECT max(revision) FROM gone))
    WHERE EXISTS (SELECT FROM gone)";

/// Forgets the counts of topics that are empty. Rows that add up to nothing may go, whatever others there are.
const SWEEP_COUNTS: &str = "
    WITH locked AS (
        SELECT topic, slot, waiting, held, kept FROM coracle.count WHERE topic IN (
            SELECT topic FROM coracle.count GROUP BY topic
            HAVING sum(waiting) = 0 AND sum(held) = 0 AND sum(kept) = 0 LIMIT 1000
        ) FOR UPDATE SKIP LOCKED
    ), empty AS (
        SELECT topic FROM locked GROUP BY topic HAVING sum(waiting) = 0 AND sum(held) = 0 AND sum(kept) = 0
    )
    DELETE FROM coracle.count AS c USING locked JOIN empty USING (topic)
    WHERE c.topic = locked.topic AND c.slot = locked.slot";

/// Everybody who wants to hear of changes, and what they have been told so far.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) hub: Hub,
    pub(super) doorbells: Doorbells,
    told: Mutex<Told>,
    /// The process of PostgreSQL that serves the writer of this node.
    writer: AtomicI32,
}

/// The place in the order of revisions and keys up to which watchers were told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    revision: u64,
    // Empty: nothing of this revision was told, and everything before it.
    key: String,
}

impl Told {
    fn wholly(revision: u64) -> Self {
        Self { revision: revision + 1, key: String::new() }
    }
}

impl Feed {
    /// A feed of what happens from now on.
    pub(super) async fn open(session: &Session, process: i32) -> Result<Self, Error> {
        let told = Mutex::new(Told::wholly(newest(session).await?));
        let writer = AtomicI32::new(process);
        Ok(Self { hub: Hub::default(), doorbells: Doorbells::default(), told, writer })
    }

    /// From now on this process of PostgreSQL serves the writer, which rings for what it commits itself.
    pub(super) fn set_writer(&self, process: i32) {
        // Of the last commit of the process before nobody may have heard.
        if self.writer.swap(process, Ordering::SeqCst) != process {
            self.doorbells.look_everywhere();
        }
    }

    /// Whether a notification of that process is of this node.
    pub(super) fn is_of_writer(&self, process: i32) -> bool {
        self.writer.load(Ordering::SeqCst) == process
    }

    /// Nobody else tells anything while the guard lives.
    pub(super) async fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().await
    }

    /// Tells what was committed since, by whomever.
    pub(super) async fn catch_up(&self, session: &Session, told: &mut Told) -> Result<(), Error> {
        loop {
            let (since, key) = (told.revision.cast_signed(), told.key.clone());
            // In this order: a removal that the first no longer sees is known to the second as swept.
            let (changed, swept) =
                join(session.query(CHANGED, &[&since, &key, &PAGE]), session.query(SWEPT, &[])).await;
            let (changed, swept) = (changed?, swept?.first().map_or(0, |row| revision(row, 0)));
            if swept >= told.revision {
                *told = Told::wholly(newest(session).await?.max(swept));
                self.hub.publish(&[Change::Lagged]);
                return Ok(());
            }
            self.hub.publish(&changed.iter().map(change).collect::<Vec<_>>());
            let Some(last) = changed.last() else { return Ok(()) };
            *told = Told::wholly(revision(last, 2));
            if changed.len() < PAGE as usize {
                return Ok(());
            }
            *told = Told { revision: revision(last, 2), key: last.get::<_, &str>(0).to_owned() };
        }
    }

    /// Tells what this node has just committed, at revisions up to this one.
    pub(super) fn tell(&self, changes: &[Change], newest: u64, told: &mut Told) {
        self.hub.publish(changes);
        *told = Told::wholly(newest);
    }

    /// Ends all that watches and waits.
    pub(super) fn close(&self) {
        self.hub.close();
        self.doorbells.close();
    }
}

impl Told {
    /// Whether all of a revision was told.
    pub(super) fn has(&self, revision: u64) -> bool {
        self.revision > revision
    }
}

/// Forgets removals that everybody has had time to see, and topics that are empty.
pub(super) async fn sweep(session: &Session) -> Result<(), Error> {
    let (removals, counts) = join(session.query(SWEEP, &[]), session.query(SWEEP_COUNTS, &[])).await;
    removals.and(counts).map(drop)
}

async fn newest(session: &Session) -> Result<u64, Error> {
    Ok(session.query(NEWEST, &[]).await?.first().map_or(0, |row| revision(row, 0)))
}

fn change(row: &Row) -> Change {
    let (key, revision) = (key(row, 0), revision(row, 2));
    match row.get::<_, Option<&[u8]>>(1) {
        Some(value) => Change::Put { key, entry: Entry { value: Bytes::copy_from_slice(value), revision } },
        None => Change::Delete { key, revision },
    }
}
