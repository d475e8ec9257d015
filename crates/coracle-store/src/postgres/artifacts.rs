//! Artifacts as rows: their bytes in parts, and when somebody last needed them.
//! Called by [`Artifacts`](crate::Artifacts) from blocking threads, when its directory is a cache of these.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use coracle_model::Digest;
use tokio::runtime::Handle;
use tokio_postgres::Error;

use super::readers::{Readers, unavailable};
use super::session::Session;
use super::target::Target;
use crate::{Cause, ReadError};

/// How much of an artifact is in one row, and in memory while it is on its way.
const PART_BYTES: usize = 1 << 20;

/// The statements of a reader.
pub(super) const READS: [&str; 6] = [PARTS, PART, TOUCH, TOUCHED, LIST, REMOVE];
/// The statements of one that writes an artifact.
const WRITES: [&str; 3] = [BEGIN_ARTIFACT, WRITE_PART, END_ARTIFACT];

const PARTS: &str = "SELECT parts FROM coracle.artifact WHERE digest = $1";
const PART: &str = "SELECT bytes FROM coracle.artifact_part WHERE digest = $1 AND number = $2";
const TOUCH: &str =
    "UPDATE coracle.artifact SET touched = greatest(touched, $2) WHERE digest = $1 RETURNING digest";
const TOUCHED: &str = "SELECT touched FROM coracle.artifact WHERE digest = $1";
const LIST: &str = "SELECT digest FROM coracle.artifact";
const REMOVE: &str = "DELETE FROM coracle.artifact WHERE digest = $1 AND touched < $2 RETURNING digest";

const BEGIN_ARTIFACT: &str = "
    INSERT INTO coracle.artifact (digest, parts, touched)
    VALUES ($1, 0, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    ON CONFLICT (digest) DO UPDATE SET touched = greatest(artifact.touched, excluded.touched)";
/// Also when it is there: should its bytes be damaged, these mend them.
const WRITE_PART: &str = "
    INSERT INTO coracle.artifact_part (digest, number, bytes) VALUES ($1, $2, $3)
    ON CONFLICT (digest, number) DO UPDATE SET bytes = excluded.bytes";
const END_ARTIFACT: &str = "UPDATE coracle.artifact SET parts = $2 WHERE digest = $1";

/// The artifacts of a database. Everything here blocks, and must not be called from a task.
#[derive(Clone)]
pub(crate) struct SharedArtifacts {
    target: Arc<Target>,
    readers: Arc<Readers>,
    runtime: Handle,
}

impl SharedArtifacts {
    /// To be made within the runtime that drives the connections.
    pub(super) fn new(target: Arc<Target>, readers: Arc<Readers>) -> Self {
        Self { target, readers, runtime: Handle::current() }
    }

    /// Writes all bytes under this digest, durably.
    pub(crate) fn put(&self, digest: &Digest, bytes: &mut impl Read) -> Result<(), Cause> {
        self.runtime.block_on(async {
            let mut session = Session::open(&self.target).await.map_err(cause)?;
            session.prepare(&WRITES).await.map_err(cause)?;
            write(&session, &digest.to_string(), bytes).await
        })
    }

    /// Hands the bytes to somebody in pieces; says whether there is such an artifact.
    pub(crate) fn fetch<E: From<Cause>>(
        &self,
        digest: &Digest,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let name = digest.to_string();
        let parts = self.ask(async |session| {
            let rows = session.query(PARTS, &[&name]).await?;
            Ok(rows.first().map(|row| row.get::<_, i32>(0)))
        })?;
        let Some(parts) = parts else { return Ok(false) };
        for number in 0..parts {
            let part = self.ask(async |session| session.query(PART, &[&name, &number]).await)?;
            // Somebody has removed it meanwhile.
            let Some(row) = part.first() else { return Ok(false) };
            take(row.get(0))?;
        }
        Ok(true)
    }

    /// Makes one young again; says whether it is there.
    pub(crate) fn touch(&self, digest: &Digest, now: SystemTime) -> Result<bool, Cause> {
        let (name, now) = (digest.to_string(), microseconds(now));
        self.ask(async |session| Ok(!session.query(TOUCH, &[&name, &now]).await?.is_empty()))
    }

    /// Whether one was written or touched since then; `None` if it is not there.
    pub(crate) fn is_touched_since(&self, digest: &Digest, since: SystemTime) -> Result<Option<bool>, Cause> {
        let name = digest.to_string();
        let rows = self.ask(async |session| session.query(TOUCHED, &[&name]).await)?;
        Ok(rows.first().map(|row| row.get::<_, i64>(0) >= microseconds(since)))
    }

    /// Removes one unless somebody has needed it since then; says whether it is gone by that.
    pub(crate) fn remove(&self, digest: &Digest, since: Option<SystemTime>) -> Result<bool, Cause> {
        let (name, since) = (digest.to_string(), since.map_or(i64::MAX, microseconds));
        self.ask(async |session| Ok(!session.query(REMOVE, &[&name, &since]).await?.is_empty()))
    }

    /// All of them.
    pub(crate) fn list(&self) -> Result<Vec<Digest>, Cause> {
        let rows = self.ask(async |session| session.query(LIST, &[]).await)?;
        Ok(rows.iter().filter_map(|row| row.get::<_, &str>(0).parse().ok()).collect())
    }

    fn ask<T>(&self, query: impl AsyncFnOnce(&Session) -> Result<T, Error>) -> Result<T, Cause> {
        let answer = self.runtime.block_on(async {
            let reader = self.readers.reader().await?;
            query(&reader).await.map_err(unavailable)
        });
        answer.map_err(|error| match error {
            ReadError::Unavailable(cause) => cause,
            invalid @ ReadError::Invalid { .. } => cause(invalid),
        })
    }
}

impl fmt::Debug for SharedArtifacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedArtifacts").field(&self.target).finish()
    }
}

/// Writes an artifact in one transaction: it is there whole, or not at all. A session that is dropped takes it back.
async fn write(session: &Session, digest: &str, bytes: &mut impl Read) -> Result<(), Cause> {
    session.execute("BEGIN").await.map_err(cause)?;
    session.query(BEGIN_ARTIFACT, &[&digest]).await.map_err(cause)?;
    let mut number = 0_i32;
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        bytes.by_ref().take(PART_BYTES as u64).read_to_end(&mut part).map_err(cause)?;
        if part.is_empty() {
            break;
        }
        session.query(WRITE_PART, &[&digest, &number, &part]).await.map_err(cause)?;
        number += 1;
    }
    session.query(END_ARTIFACT, &[&digest, &number]).await.map_err(cause)?;
    session.execute("COMMIT").await.map_err(cause)
}

fn microseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn cause(error: impl std::error::Error + Send + Sync + 'static) -> Cause {
    Arc::new(error)
}
