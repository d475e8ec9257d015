//! Reading: a few connections that never wait for the writer, used from blocking threads.
//! Called by [`Embedded`](super::Embedded) alone.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row};
use tokio::sync::Semaphore;

use super::{closed, schema};
use crate::{Entry, Key, ReadError, SCAN_BYTES_MAX, Scan};

/// How many reads run at once; more of them wait.
const READERS_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    running: Arc<Semaphore>,
    // Std mutex: held to push or pop, never over `.await`. At most `READERS_MAX` connections, opened when needed.
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, running: Arc::new(Semaphore::new(READERS_MAX)), idle: Mutex::default() }
    }

    /// Runs a query on a connection of its own, on a blocking thread.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let permit = Arc::clone(&self.running).acquire_owned().await;
        let permit = permit.map_err(|_| ReadError::Unavailable(closed()))?;
        let readers = Arc::clone(self);
        let read = move || {
            let result = readers.with_connection(query);
            // Given back here and not by the caller, who may be gone while the query still runs.
            drop(permit);
            result
        };
        let joined = tokio::task::spawn_blocking(read).await;
        let result = joined.map_err(|panicked| ReadError::Unavailable(Arc::new(panicked)))?;
        result.map_err(|source| ReadError::Unavailable(Arc::new(source)))
    }

    pub(super) fn close(&self) {
        self.running.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn with_connection<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| schema::open_reader(&self.path), Ok)?;
        // On an error the connection is let go: the next read opens a new one.
        let result = query(&connection)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.running.is_closed() {
            idle.push(connection);
        }
        Ok(result)
    }
}

pub(super) fn get(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Entry>> {
    let mut statement = connection.prepare_cached("SELECT value, revision FROM entry WHERE key = ?1")?;
    statement.query_row([key.as_str()], |row| entry(row, 0)).optional()
}

pub(super) fn scan(connection: &Connection, scan: &Scan) -> rusqlite::Result<Vec<(Key, Entry)>> {
    // One bound and not two, so that SQLite starts exactly there; the end is found by looking, because "the first text
    // behind all with this prefix" need not be a text.
    let after = scan.after.as_ref().map(Key::as_str).filter(|after| *after >= scan.prefix.as_str());
    let (sql, start) = match after {
        Some(after) => ("SELECT key, value, revision FROM entry WHERE key > ?1 ORDER BY key", after),
        None => ("SELECT key, value, revision FROM entry WHERE key >= ?1 ORDER BY key", scan.prefix.as_str()),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([start])?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < scan.limit && bytes < SCAN_BYTES_MAX {
        let Some(row) = rows.next()? else { break };
        let key = row.get_ref(0)?.as_str()?;
        if !key.starts_with(&scan.prefix) {
            break;
        }
        let key = Key::new(key)
            .map_err(|invalid| Error::FromSqlConversionFailure(0, Type::Text, Box::new(invalid)))?;
        let entry = entry(row, 1)?;
        bytes += key.as_str().len() + entry.value.len();
        page.push((key, entry));
    }
    Ok(page)
}

/// An entry from two columns, value and revision.
fn entry(row: &Row<'_>, first: usize) -> rusqlite::Result<Entry> {
    let value = Bytes::copy_from_slice(row.get_ref(first)?.as_blob()?);
    Ok(Entry { value, revision: row.get::<_, i64>(first + 1)?.cast_unsigned() })
}
