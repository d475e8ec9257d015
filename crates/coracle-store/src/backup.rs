//! A backup: one file that holds a data directory's database, artifacts and key, taken while the server serves.
//! Called by the `coracle backup` verb's handler, and by `coracle up --restore`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use coracle_model::Digest;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest as _, Sha256};

use crate::durable::{self, Partial};
use crate::embedded::is_full;
use crate::{ArtifactError, Artifacts, DataDir, DataDirError, Embedded, data_dir};

/// The version of the layout below, kept in `PRAGMA user_version`.
const VERSION: i64 = 1;
/// "CorB": says in the file's header what it is.
const APPLICATION_ID: i64 = 0x436f_7242;
/// Files are kept in parts of this size, so that neither side holds a large one in memory.
const PART_BYTES: usize = 1 << 20;
/// A backup is itself a SQLite file: one to copy, readable with any SQLite, and a truncated one does not go unnoticed.
const LAYOUT: &str = "
    CREATE TABLE file (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE part (name TEXT, number INTEGER, bytes BLOB NOT NULL, PRIMARY KEY (name, number)) STRICT;
";
const DATABASE: &str = "coracle.db";
const KEY: &str = "key";
const ARTIFACTS: &str = "artifacts/";

impl DataDir {
    /// Writes everything that matters into one file, as of one moment, while commits go on.
    ///
    /// It holds the database, the artifacts, and the key of the secrets if that is in this directory: without it the
    /// secrets could not be opened again. **So the file is as secret as the data directory**; its mode is 0600. It does
    /// not hold caches, logs or the admin token. A file that was at the path is replaced once the new one is complete
    /// and synced. Needs room for two copies of the database beside the file while it works. Blocks; call it from a
    /// blocking thread.
    ///
    /// # Errors
    /// [`BackupError`]; whatever was at the path is then untouched.
    pub fn backup(&self, database: &Embedded, artifacts: &Artifacts, to: &Path) -> Result<(), BackupError> {
        // Before the database is copied: an artifact that the copy names is not removed until it is copied as well.
        let _kept = artifacts.keep();
        let copy = Partial::beside(to)?;
        database.backup(copy.path())?;
        durable::write_whole(to, |partial| {
            let mut archive = Connection::open(partial)?;
            // Nobody sees the file before it is complete and synced, so that SQLite need not care.
            archive.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
            let transaction = archive.transaction()?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.execute_batch(LAYOUT)?;
            pack(&transaction, DATABASE, File::open(copy.path())?)?;
            match File::open(self.key()) {
                Ok(key) => _ = pack(&transaction, KEY, key)?,
                Err(absent) if absent.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(source.into()),
            }
            for digest in artifacts.list()? {
                let packed =
                    pack(&transaction, &format!("{ARTIFACTS}{digest}"), artifacts.open_file(&digest)?)?;
                artifacts.check(&digest, &packed)?;
            }
            transaction.commit()?;
            archive.close().map_err(|(_, source)| source)?;
            Ok(())
        })
    }

    /// Makes a data directory out of a backup, and opens it. The directory must be absent or empty.
    ///
    /// Until the last file is durable the directory carries a mark, and [`DataDir::open`] refuses it.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(from: &Path, root: &Path) -> Result<Self, RestoreError> {
        let archive = open_archive(from)?;
        if root.exists() && !data_dir::is_empty(root)? {
            return Err(RestoreError::NotEmpty { path: root.to_owned() });
        }
        let dir = Self::lock(root)?;
        write_private(&dir.marker(), |_| Ok(()))?;
        durable::sync_dir(root)?;
        dir.furnish()?;
        let artifacts = Artifacts::open(&dir.artifacts()).map_err(artifact_error)?;
        let mut names = archive.prepare("SELECT name, sha256 FROM file ORDER BY name")?;
        let names = names.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for file in names {
            let (name, sha256) = file?;
            let found = dir.unpack(&archive, &name, &artifacts)?;
            if found.map(|digest| digest.to_string()) != Some(sha256) {
                return Err(RestoreError::Damaged { path: from.to_owned(), name });
            }
        }
        durable::sync_dir(root)?;
        std::fs::remove_file(dir.marker())?;
        durable::sync_dir(root)?;
        Ok(dir)
    }

    /// Writes one file of an archive to its place; `None` if the name has none.
    fn unpack(
        &self,
        archive: &Connection,
        name: &str,
        artifacts: &Artifacts,
    ) -> Result<Option<Digest>, RestoreError> {
        if name.starts_with(ARTIFACTS) {
            let mut writer = artifacts.writer(u64::MAX).map_err(artifact_error)?;
            parts(archive, name, |bytes| writer.write(bytes).map_err(artifact_error))?;
            return Ok(Some(writer.finish().map_err(artifact_error)?));
        }
        let path = match name {
            DATABASE => self.database(),
            KEY => self.key(),
            _ => return Ok(None),
        };
        let mut hash = Sha256::new();
        write_private(&path, |file| {
            parts(archive, name, |bytes| {
                hash.update(bytes);
                Ok(file.write_all(bytes)?)
            })
        })?;
        Ok(Some(Digest::from_bytes(hash.finalize().into())))
    }
}

/// Puts a file into an archive, part by part.
fn pack(archive: &Connection, name: &str, file: File) -> Result<Digest, BackupError> {
    let mut insert = archive.prepare_cached("INSERT INTO part (name, number, bytes) VALUES (?1, ?2, ?3)")?;
    let (mut hash, mut part) = (Sha256::new(), Vec::with_capacity(PART_BYTES));
    for number in 0_i64.. {
        part.clear();
        (&file).take(PART_BYTES as u64).read_to_end(&mut part)?;
        if part.is_empty() {
            break;
        }
        hash.update(&part);
        insert.execute((name, number, &part))?;
    }
    let digest = Digest::from_bytes(hash.finalize().into());
    archive.execute("INSERT INTO file (name, sha256) VALUES (?1, ?2)", (name, digest.to_string()))?;
    Ok(digest)
}

/// Takes a file out of an archive, part by part.
fn parts(
    archive: &Connection,
    name: &str,
    mut each: impl FnMut(&[u8]) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let mut parts = archive.prepare_cached("SELECT bytes FROM part WHERE name = ?1 ORDER BY number")?;
    let mut parts = parts.query([name])?;
    while let Some(part) = parts.next()? {
        each(part.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
    }
    Ok(())
}

fn open_archive(path: &Path) -> Result<Connection, RestoreError> {
    // Opened by us first: SQLite's own message does not say why a file cannot be opened.
    File::open(path)?;
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let header = pragma("application_id").and_then(|id| Ok((id, pragma("user_version")?)));
    match header {
        Ok((APPLICATION_ID, version)) if version <= VERSION => {}
        Ok((APPLICATION_ID, found)) => {
            return Err(RestoreError::Newer { path: path.to_owned(), found, known: VERSION });
        }
        _ => return Err(RestoreError::NotABackup { path: path.to_owned() }),
    }
    Ok(connection)
}

/// Creates a file of mode 0600 that was not there, and syncs it.
fn write_private(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    write(&mut file)?;
    Ok(file.sync_all()?)
}

/// A backup that was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk of the backup is full.
    #[error("the disk of the backup is full")]
    Full,
    /// Another program has locked the database for longer than we wait.
    #[error("the database is locked by another program")]
    Busy,
    /// An artifact could not be read.
    #[error("read an artifact for the backup")]
    Artifact(#[source] ArtifactError),
    /// The database could not be copied.
    #[error("copy the database for the backup")]
    Sqlite(#[source] rusqlite::Error),
    /// The operating system refused.
    #[error("write the backup")]
    File(#[source] io::Error),
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Sqlite(error) }
    }
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        if durable::is_full(&error) { Self::Full } else { Self::File(error) }
    }
}

impl From<ArtifactError> for BackupError {
    fn from(error: ArtifactError) -> Self {
        Self::Artifact(error)
    }
}

/// A backup that was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is something else.
    #[error("{} is not a backup", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// A newer program has written it.
    #[error("backup {} has version {found}, this program knows versions up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A file inside does not have the bytes that were put there.
    #[error("backup {} is damaged: `{name}` has other bytes than were backed up", path.display())]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// The file inside it.
        name: String,
    },
    /// There is something in the directory already.
    #[error("cannot restore into {}: it is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The disk of the data directory is full.
    #[error("the disk of the data directory is full")]
    Full,
    /// The data directory could not be made or locked.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The backup could not be read.
    #[error("read the backup")]
    Sqlite(#[from] rusqlite::Error),
    /// The operating system refused.
    #[error("restore the backup")]
    File(#[source] io::Error),
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        if durable::is_full(&error) { Self::Full } else { Self::File(error) }
    }
}

fn artifact_error(error: ArtifactError) -> RestoreError {
    match error {
        ArtifactError::Full => RestoreError::Full,
        ArtifactError::File { source, .. } => source.into(),
        other => RestoreError::File(io::Error::other(other)),
    }
}
