//! Entries as rows: how they are read, by whoever asks and by the writer before it decides, and how they are written.
//! Called by [`Postgres`](super::Postgres) on a reader's session, and by `group.rs` on the writer's.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::join;
use tokio_postgres::{Error, Row};

use super::session::Session;
use crate::batch::{Action, Operation};
use crate::{Batch, Change, CommitError, Entry, KEY_BYTES_MAX, Key, SCAN_BYTES_MAX, Scan};

/// The statements of a reader.
pub(super) const READS: [&str; 2] = [GET, SCAN];
/// The statements of the writer.
pub(super) const WRITES: [&str; 3] = [FOUND, PUT, REMOVE];

const GET: &str = "SELECT value, revision FROM coracle.entry WHERE key = $1 AND value IS NOT NULL";

/// A page between two keys, of which the first belongs to it (`$2`) or not.
/// The window adds up what lies before each row; the sizes of values are known without reading them.
const SCAN: &str = "
    SELECT key, value, revision FROM (
        SELECT key, value, revision, sum(bytes) OVER (ORDER BY key) - bytes AS before FROM (
            SELECT key, value, revision, octet_length(key) + octet_length(value) AS bytes
            FROM coracle.entry
            WHERE key >= $1 AND ($2 OR key > $1) AND key < $3 AND value IS NOT NULL
            ORDER BY key LIMIT $4
        ) AS page
    ) AS page WHERE before < $5 ORDER BY key";

const FOUND: &str = "SELECT key, revision FROM coracle.entry WHERE key = ANY($1) AND value IS NOT NULL";

const PUT: &str = "
    INSERT INTO coracle.entry (key, value, revision) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[])
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, removed = NULL";

const REMOVE: &str = "
    UPDATE coracle.entry AS entry SET value = NULL, revision = gone.revision, removed = now()
    FROM unnest($1::text[], $2::bigint[]) AS gone (key, revision) WHERE entry.key = gone.key";

pub(super) async fn get(session: &Session, key: &Key) -> Result<Option<Entry>, Error> {
    let rows = session.query(GET, &[&key.as_str()]).await?;
    Ok(rows.first().map(|row| Entry { value: bytes(row, 0), revision: revision(row, 1) }))
}

pub(super) async fn scan(session: &Session, scan: &Scan) -> Result<Vec<(Key, Entry)>, Error> {
    // No key holds such a character, and PostgreSQL does not take all of them.
    if scan.prefix.chars().any(char::is_control) {
        return Ok(Vec::new());
    }
    let after = scan.after.as_ref().map(Key::as_str).filter(|after| *after >= scan.prefix.as_str());
    let start = after.unwrap_or(&scan.prefix);
    let end = behind(&scan.prefix);
    let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX);
    let rows =
        session.query(SCAN, &[&start, &after.is_none(), &end, &limit, &(SCAN_BYTES_MAX as i64)]).await?;
    Ok(rows
        .iter()
        .map(|row| (key(row, 0), Entry { value: bytes(row, 1), revision: revision(row, 2) }))
        .collect())
}

/// A text behind all keys that have this prefix and before all others, in the order of bytes.
pub(super) fn behind(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // Skips the numbers that are no characters, and ends at the last one.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return text;
        }
    }
    // Nothing is before all others: longer than any key, of the last character alone.
    char::MAX.to_string().repeat(KEY_BYTES_MAX / char::MAX.len_utf8() + 1)
}

/// The revisions of the keys that a group of batches names, as the batches before have left them, and what is to be
/// written. Decides in memory, so that hundreds of batches are one read and one write.
#[derive(Debug, Default)]
pub(super) struct Entries {
    found: HashMap<Key, u64>,
    written: HashMap<Key, Written>,
}

/// What a key is to have in the end.
#[derive(Debug)]
struct Written {
    value: Option<Bytes>,
    revision: u64,
}

impl Entries {
    /// Reads what these batches name.
    pub(super) async fn load(session: &Session, batches: &[&Batch]) -> Result<Self, Error> {
        let operations = batches.iter().flat_map(|batch| batch.operations());
        let keys: Vec<&str> = operations.map(|operation| operation.key.as_str()).collect();
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let rows = session.query(FOUND, &[&keys]).await?;
        let found = rows.iter().map(|row| (key(row, 0), revision(row, 1))).collect();
        Ok(Self { found, written: HashMap::new() })
    }

    /// The first condition of a batch that does not hold.
    pub(super) fn conflict(&self, batch: &Batch) -> Option<CommitError> {
        batch.operations().iter().find_map(|Operation { key, condition, .. }| {
            let found = self.found.get(key).copied();
            (!condition.holds(found)).then(|| CommitError::Conflict { key: key.clone(), found })
        })
    }

    /// Makes a batch true that does not conflict, and returns what it changes.
    pub(super) fn apply(&mut self, batch: &Batch, revision: u64) -> Vec<Change> {
        let mut changes = Vec::with_capacity(batch.operations().len());
        for Operation { key, action, .. } in batch.operations() {
            let value = match action {
                Action::Put(value) => {
                    self.found.insert(key.clone(), revision);
                    let entry = Entry { value: value.clone(), revision };
                    changes.push(Change::Put { key: key.clone(), entry });
                    Some(value.clone())
                }
                Action::Delete => {
                    if self.found.remove(key).is_none() {
                        continue;
                    }
                    changes.push(Change::Delete { key: key.clone(), revision });
                    None
                }
                Action::Require => continue,
            };
            self.written.insert(key.clone(), Written { value, revision });
        }
        changes
    }

    /// The greatest revision that is to be written, if anything is.
    pub(super) fn newest(&self) -> Option<u64> {
        self.written.values().map(|written| written.revision).max()
    }

    /// Writes all of it.
    pub(super) async fn store(&self, session: &Session) -> Result<(), Error> {
        let (mut keys, mut values, mut revisions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut gone, mut gone_revisions) = (Vec::new(), Vec::new());
        for (key, Written { value, revision }) in &self.written {
            match value {
                Some(value) => {
                    keys.push(key.as_str());
                    values.push(value.as_ref());
                    revisions.push(revision.cast_signed());
                }
                None => {
                    gone.push(key.as_str());
                    gone_revisions.push(revision.cast_signed());
                }
            }
        }
        let put = async {
            let any = !keys.is_empty();
            if any { session.query(PUT, &[&keys, &values, &revisions]).await.map(drop) } else { Ok(()) }
        };
        let remove = async {
            let any = !gone.is_empty();
            if any { session.query(REMOVE, &[&gone, &gone_revisions]).await.map(drop) } else { Ok(()) }
        };
        let (put, remove) = join(put, remove).await;
        put.and(remove)
    }
}

pub(super) fn key(row: &Row, column: usize) -> Key {
    Key::new(row.get(column)).expect("a key was checked before it was written")
}

pub(super) fn bytes(row: &Row, column: usize) -> Bytes {
    Bytes::copy_from_slice(row.get(column))
}

pub(super) fn revision(row: &Row, column: usize) -> u64 {
    row.get::<_, i64>(column).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_prefix_is_the_first_text_that_lacks_it() {
        let last = "\u{10ffff}".repeat(257);
        for (prefix, expected) in [
            ("", last.as_str()),
            ("a", "b"),
            ("a/", "a0"),
            ("a\u{10ffff}", "b"),
            ("\u{10ffff}", &last),
            ("\u{d7ff}", "\u{e000}"),
        ] {
            assert_eq!(behind(prefix), expected, "{prefix:?}");
        }
    }
}
