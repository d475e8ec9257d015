//! The tables, their version, and how a connection is set up.
//! Called when the database is opened, and by each reader.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, OpenError, is_full};

/// The version this program writes, kept in `PRAGMA user_version`.
const VERSION: i64 = 1;
/// "Cora": says in the file's header whose it is.
const APPLICATION_ID: i64 = 0x436f_7261;
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
"];

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
    Ok(connection)
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

fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(|source| open_error(path, source))? {
        sound if sound == "ok" => Ok(()),
        detail => Err(OpenError::Damaged { path: path.to_owned(), detail }),
    }
}

fn open_error(path: &Path, source: rusqlite::Error) -> OpenError {
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
