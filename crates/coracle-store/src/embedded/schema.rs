//! The tables, their version, and how a connection is set up.
//! Called when the database is opened, and by each reader.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, OpenError, is_full};
use crate::loss::LOSSES_BYTES_MAX;

/// The version this program writes, kept in `PRAGMA user_version`.
const VERSION: i64 = 3;
/// "Cora": says in the file's header whose it is.
const APPLICATION_ID: i64 = 0x436f_7261;
/// Prepared statements that a connection keeps: more than there are.
const STATEMENTS_MAX: usize = 64;
/// The largest file whose structure is checked after an unclean end: a larger one would delay the start.
const CHECKED_BYTES_MAX: u64 = 64 << 20;

/// What each version adds to the one before; the first element makes version 1 from an empty file.
const UPGRADES: [&str; VERSION as usize] = ["
    CREATE TABLE entry (
        key      TEXT PRIMARY KEY,
        value    BLOB NOT NULL,
        revision INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- The revision of the last commit; one row. It outlives the entries, so that no revision is given twice.
    CREATE TABLE head (revision INTEGER NOT NULL) STRICT;
    INSERT INTO head VALUES (0);
", "
    -- The last position, and the last moment that a message was given, in microseconds since 1970: neither goes back.
    ALTER TABLE head ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE head ADD COLUMN moment INTEGER NOT NULL DEFAULT 0;
    -- The counts are those of the topic's messages: nobody counts a million rows to know that there are as many.
    CREATE TABLE topic (
        number  INTEGER PRIMARY KEY,
        name    TEXT NOT NULL UNIQUE,
        waiting INTEGER NOT NULL DEFAULT 0,
        held    INTEGER NOT NULL DEFAULT 0,
        kept    INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE holder (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        name   TEXT NOT NULL UNIQUE,
        info   BLOB NOT NULL,
        until  INTEGER NOT NULL
    ) STRICT;
    -- state: 0 waits, 1 waits behind another of its group, 2 is held, 3 is kept.
    CREATE TABLE message (
        position INTEGER PRIMARY KEY,
        topic    INTEGER NOT NULL,
        id       TEXT,
        grp      TEXT,
        appended INTEGER NOT NULL,
        due      INTEGER NOT NULL,
        attempt  INTEGER NOT NULL,
        state    INTEGER NOT NULL,
        holder   INTEGER
    ) STRICT;
    CREATE INDEX message_of_topic ON message (topic, position);
    CREATE INDEX message_due ON message (topic, due, position) WHERE state = 0;
    CREATE INDEX message_of_group ON message (topic, grp, position) WHERE grp IS NOT NULL AND state < 3;
    CREATE INDEX message_held ON message (holder) WHERE holder IS NOT NULL;
    CREATE INDEX message_id ON message (id) WHERE id IS NOT NULL;
    -- Apart from the message, so that leasing one does not write its payload again.
    CREATE TABLE payload (
        position INTEGER PRIMARY KEY,
        story    BLOB NOT NULL,
        payload  BLOB NOT NULL
    ) STRICT;
", "
    -- When its holder began with it; NULL if it is only leased ahead. Without meaning if nobody holds it.
    ALTER TABLE message ADD COLUMN begun INTEGER;
    UPDATE message SET begun = appended WHERE state = 2;
    -- The leases since its story was written that ended with their holder: see `loss.rs`.
    ALTER TABLE message ADD COLUMN losses TEXT;
"];

/// Whoever opens the file is alone with it, so whoever held messages is gone; and a topic that is empty is forgotten.
fn nobody_holds() -> String {
    let losses = losses_and_this();
    format!(
        "UPDATE message SET state = 0, holder = NULL, attempt = attempt - (begun IS NULL), losses = {losses}
             WHERE holder IS NOT NULL;
         UPDATE topic SET waiting = waiting + held, held = 0 WHERE held > 0;
         DELETE FROM holder;
         DELETE FROM topic WHERE waiting = 0 AND kept = 0;"
    )
}

/// The losses of a held message, if its holder is gone as well; in SQL, and as `loss.rs` reads them.
pub(super) fn losses_and_this() -> String {
    format!(
        "CASE WHEN begun IS NULL OR octet_length(losses) > {LOSSES_BYTES_MAX} THEN losses ELSE
             concat(losses, attempt, ' ', begun, ' ',
                 (SELECT name FROM holder WHERE number = message.holder), char(10))
         END"
    )
}

/// Opens the file for the writer, with the newest schema.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let file = |source| OpenError::File { path: path.to_owned(), source };
    let sqlite = |source| open_error(path, source);
    // SQLite gives its files beside this one the same mode.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(file)?;
    let ended_unclean = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
    let found = version(&connection).map_err(sqlite)?;
    let found = found.ok_or_else(|| OpenError::Foreign { path: path.to_owned() })?;
    if found > VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    configure(&connection).map_err(sqlite)?;
    if ended_unclean && std::fs::metadata(path).map_err(file)?.len() <= CHECKED_BYTES_MAX {
        check(&connection, path)?;
    }
    upgrade(&mut connection, found).map_err(sqlite)?;
    match give_back(&mut connection) {
        // There is a way to make room only if it opens; then the first who asks for it gives back: see `holders`.
        Err(error) if is_full(&error) => {
            tracing::warn!("the disk is full: what the last server held waits longer")
        }
        given => given.map_err(sqlite)?,
    }
    Ok(connection)
}

/// The highest number of a holder, zero if there is none. Of a file that was just opened all are gone, and numbers rise.
pub(super) fn holders(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(number), 0) FROM holder", [], |row| row.get(0))
}

/// Connects for writing to a file that [`open`] has accepted.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    configure(&connection)?;
    Ok(connection)
}

/// Connects for reading, beside the writer.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time: SQLite's own mutex would guard nothing.
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
}

/// The version of the schema: 0 for an empty file, `None` for a file of something else.
fn version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (pragma("application_id")?, tables) {
        (APPLICATION_ID, _) => Some(pragma("user_version")?),
        (0, 0) => Some(0),
        _ => None,
    })
}

fn upgrade(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    if found == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for statements in UPGRADES.iter().skip(usize::try_from(found).unwrap_or_default()) {
        transaction.execute_batch(statements)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Gives back what the last server held, if it left anything.
fn give_back(connection: &mut Connection) -> rusqlite::Result<()> {
    if !connection.prepare("SELECT 1 FROM holder")?.exists([])? {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(&nobody_holds())?;
    transaction.commit()
}

fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(|source| open_error(path, source))? {
        sound if sound == "ok" => Ok(()),
        detail => Err(OpenError::Damaged { path: path.to_owned(), detail }),
    }
}

pub(super) fn open_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign { path },
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, detail: source.to_string() },
        _ if is_full(&source) => OpenError::Full { path },
        _ => OpenError::Sqlite { path, source },
    }
}

/// The path of a file that SQLite keeps beside the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_database_of_each_earlier_version_is_upgraded_and_keeps_its_entries() {
        for version in 1..VERSION {
            let dir = tempdir().unwrap();
            let path = dir.path().join("coracle.db");
            let earlier = Connection::open(&path).unwrap();
            for statements in UPGRADES.iter().take(usize::try_from(version).unwrap()) {
                earlier.execute_batch(statements).unwrap();
            }
            earlier.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            earlier.pragma_update(None, "user_version", version).unwrap();
            earlier
                .execute_batch("INSERT INTO entry VALUES ('a', x'01', 7); UPDATE head SET revision = 7;")
                .unwrap();
            drop(earlier);
            let connection = open(&path).unwrap();
            assert_eq!(super::version(&connection).unwrap(), Some(VERSION));
            let kept = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!((kept("SELECT count(*) FROM entry"), kept("SELECT revision FROM head")), (1, 7));
        }
    }
}
