//! Artifacts: bytes in files that are named by their SHA-256, each there whole or not at all; of several machines, the
//! files are a cache of what the database has. Written at deploy, read by the runtime; synchronous, so that callers
//! choose the blocking thread.

use std::fs::{DirEntry, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use coracle_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::durable::{self, PARTIAL_SUFFIX, Partial};
use crate::postgres::SharedArtifacts;
use crate::{Cause, Postgres};

/// How much is read at once to compute a digest.
const HASH_CHUNK_BYTES: usize = 64 << 10;

/// A directory of artifacts. A clone means the same directory.
///
/// Only one process may write to it, which the lock of the [`DataDir`](crate::DataDir) sees to.
#[derive(Debug, Clone)]
pub struct Artifacts(Arc<Room>);

#[derive(Debug)]
struct Room {
    dir: PathBuf,
    leftovers: usize,
    // Read by a backup while it copies, written by a removal: what the copied database names must still be there.
    kept: RwLock<()>,
    // What the files are a cache of, if they are one.
    shared: Option<SharedArtifacts>,
}

impl Artifacts {
    /// Opens the directory, creating it with mode 0700 if it is absent, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// [`ArtifactError::Full`] or [`ArtifactError::File`].
    pub fn open(dir: &Path) -> Result<Self, ArtifactError> {
        Self::open_as(dir, None)
    }

    /// Opens the artifacts of a database, with the directory as this node's cache of them. Called within the runtime of
    /// the database; what is called on it later waits for the database, on a blocking thread.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_shared(dir: &Path, database: &Postgres) -> Result<Self, ArtifactError> {
        Self::open_as(dir, Some(database.artifacts()))
    }

    fn open_as(dir: &Path, shared: Option<SharedArtifacts>) -> Result<Self, ArtifactError> {
        durable::create_dir(dir).map_err(|source| failed("create", dir, source))?;
        let mut leftovers = 0;
        for file in files(dir)? {
            if file.file_name().as_encoded_bytes().ends_with(PARTIAL_SUFFIX.as_bytes()) {
                std::fs::remove_file(file.path()).map_err(|source| failed("remove", &file.path(), source))?;
                leftovers += 1;
            }
        }
        Ok(Self(Arc::new(Room { dir: dir.to_owned(), leftovers, kept: RwLock::new(()), shared })))
    }

    /// How many unfinished files of an earlier process were removed when this was opened.
    #[must_use]
    pub fn leftovers(&self) -> usize {
        self.0.leftovers
    }

    /// Starts a new artifact of at most this many bytes.
    ///
    /// # Errors
    /// [`ArtifactError::Full`] or [`ArtifactError::File`].
    pub fn writer(&self, bytes_max: u64) -> Result<ArtifactWriter, ArtifactError> {
        let dir = &self.0.dir;
        let partial = Partial::beside(&dir.join("artifact"))
            .map_err(|source| failed("create a file in", dir, source))?;
        let file = File::options().write(true).open(partial.path());
        let file = file.map_err(|source| failed("open", partial.path(), source))?;
        Ok(ArtifactWriter {
            artifacts: self.clone(),
            file: Some(file),
            partial,
            hash: Sha256::new(),
            bytes: 0,
            bytes_max,
        })
    }

    /// Opens an artifact for reading, without a look at its bytes: [`verify`](Self::verify) does that. One that only the
    /// database has is fetched first, and verified on its way.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Unavailable`] or [`ArtifactError::File`]; while it is fetched, also
    /// [`ArtifactError::Full`] and [`ArtifactError::Corrupt`].
    pub fn open_file(&self, digest: &Digest) -> Result<File, ArtifactError> {
        match (self.open_here(digest), &self.0.shared) {
            (Err(ArtifactError::Missing { .. }), Some(shared)) => {
                self.fetch(shared, digest)?;
                self.open_here(digest)
            }
            (opened, _) => opened,
        }
    }

    fn open_here(&self, digest: &Digest) -> Result<File, ArtifactError> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ArtifactError::Missing { digest: *digest },
            _ => failed("open", &path, source),
        })
    }

    /// Brings an artifact from the database into the cache.
    fn fetch(&self, shared: &SharedArtifacts, digest: &Digest) -> Result<(), ArtifactError> {
        let mut copy = self.writer(u64::MAX)?;
        if !shared.fetch(digest, |bytes| copy.write(bytes))? {
            return Err(ArtifactError::Missing { digest: *digest });
        }
        // Under the name that its bytes have: if that is another one, nobody asks for it.
        let found = copy.name_file()?;
        if found == *digest {
            return Ok(());
        }
        let (path, moved_to) = (self.path(&found), self.0.dir.join(format!("{digest}.corrupt")));
        std::fs::rename(&path, &moved_to).map_err(|source| failed("move aside", &path, source))?;
        Err(ArtifactError::Corrupt { digest: *digest, moved_to })
    }

    /// Reads an artifact into memory, and checks that its bytes are the ones it is named by.
    ///
    /// # Errors
    /// As for [`verify`](Self::verify).
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, ArtifactError> {
        self.mending(digest, || {
            let mut bytes = Vec::new();
            let read = self.open_file(digest)?.read_to_end(&mut bytes);
            read.map_err(|source| failed("read", &self.path(digest), source))?;
            self.check(digest, &Digest::from_bytes(Sha256::digest(&bytes).into()))?;
            Ok(bytes)
        })
    }

    /// Checks that an artifact's bytes are the ones it is named by. If not, the file is moved aside as `*.corrupt`, and
    /// fetched anew if a database has it.
    ///
    /// # Errors
    /// [`ArtifactError::Corrupt`], or as for [`open_file`](Self::open_file).
    pub fn verify(&self, digest: &Digest) -> Result<(), ArtifactError> {
        self.mending(digest, || self.check_file(digest))
    }

    fn check_file(&self, digest: &Digest) -> Result<(), ArtifactError> {
        let mut file = self.open_file(digest)?;
        let (mut hash, mut chunk) = (Sha256::new(), vec![0; HASH_CHUNK_BYTES]);
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return self.check(digest, &Digest::from_bytes(hash.finalize().into())),
                Ok(length) => hash.update(&chunk[..length]),
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(failed("read", &self.path(digest), source)),
            }
        }
    }

    /// Tries again if the file was damaged and the database has the artifact.
    fn mending<T>(
        &self,
        digest: &Digest,
        look: impl Fn() -> Result<T, ArtifactError>,
    ) -> Result<T, ArtifactError> {
        match (look(), &self.0.shared) {
            (Err(ArtifactError::Corrupt { .. }), Some(shared)) => {
                tracing::warn!(%digest, "the file of an artifact was damaged, and is fetched anew");
                self.fetch(shared, digest)?;
                look()
            }
            (looked, _) => looked,
        }
    }

    /// The digests of all artifacts, in order: those in the directory, and those in the database.
    ///
    /// # Errors
    /// [`ArtifactError::File`] or [`ArtifactError::Unavailable`].
    pub fn list(&self) -> Result<Vec<Digest>, ArtifactError> {
        let digest = |file: DirEntry| file.file_name().to_str()?.parse().ok();
        let mut digests: Vec<Digest> = files(&self.0.dir)?.into_iter().filter_map(digest).collect();
        if let Some(shared) = &self.0.shared {
            digests.extend(shared.list()?);
        }
        digests.sort_unstable();
        digests.dedup();
        Ok(digests)
    }

    /// Whether an artifact is there, and was neither written nor [touched](Self::touch) since then, on any node.
    ///
    /// # Errors
    /// [`ArtifactError::File`] or [`ArtifactError::Unavailable`].
    pub fn is_untouched_since(&self, digest: &Digest, since: SystemTime) -> Result<bool, ArtifactError> {
        if let Some(shared) = &self.0.shared
            && let Some(touched) = shared.is_touched_since(digest, since)?
        {
            return Ok(!touched);
        }
        let path = self.path(digest);
        match std::fs::metadata(&path).and_then(|file| file.modified()) {
            Ok(modified) => Ok(modified < since),
            // Somebody else removed it.
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed("look at", &path, source)),
        }
    }

    /// Makes an artifact young again, because somebody is about to need it.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Unavailable`] or [`ArtifactError::File`].
    pub fn touch(&self, digest: &Digest, now: SystemTime) -> Result<(), ArtifactError> {
        let Some(shared) = &self.0.shared else {
            let file = self.open_here(digest)?;
            return file.set_modified(now).map_err(|source| failed("touch", &self.path(digest), source));
        };
        if !shared.touch(digest, now)? {
            // Of this node alone, from a time with another database: now all have it.
            self.verify(digest)?;
            shared.put(digest, &mut self.open_here(digest)?)?;
        }
        Ok(())
    }

    /// Removes an artifact that was neither written nor [touched](Self::touch) since then, on any node; says whether it
    /// was removed. What this node has of an artifact that others removed goes as well.
    ///
    /// # Errors
    /// [`ArtifactError::File`] or [`ArtifactError::Unavailable`].
    pub fn remove_untouched(&self, digest: &Digest, since: SystemTime) -> Result<bool, ArtifactError> {
        if !self.is_untouched_since(digest, since)? {
            return Ok(false);
        }
        // Somebody may have touched it since the look: the database decides.
        if let Some(shared) = &self.0.shared
            && !shared.remove(digest, Some(since))?
            && shared.is_touched_since(digest, since)?.is_some()
        {
            return Ok(false);
        }
        self.remove_here(digest)?;
        Ok(true)
    }

    /// Removes an artifact, for all nodes; says whether it was there. Waits for a backup that is under way.
    /// A crash soon afterwards may bring the artifact back.
    ///
    /// # Errors
    /// [`ArtifactError::File`] or [`ArtifactError::Unavailable`].
    pub fn remove(&self, digest: &Digest) -> Result<bool, ArtifactError> {
        let there = match &self.0.shared {
            Some(shared) => shared.remove(digest, None)?,
            None => false,
        };
        Ok(self.remove_here(digest)? || there)
    }

    fn remove_here(&self, digest: &Digest) -> Result<bool, ArtifactError> {
        let _alone = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed("remove", &path, source)),
        }
    }

    /// Nothing is removed while the guard lives.
    pub(crate) fn keep(&self) -> RwLockReadGuard<'_, ()> {
        self.0.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves an artifact aside whose bytes turned out to have another digest.
    pub(crate) fn check(&self, digest: &Digest, found: &Digest) -> Result<(), ArtifactError> {
        if digest == found {
            return Ok(());
        }
        let (path, moved_to) = (self.path(digest), self.0.dir.join(format!("{digest}.corrupt")));
        std::fs::rename(&path, &moved_to).map_err(|source| failed("move aside", &path, source))?;
        Err(ArtifactError::Corrupt { digest: *digest, moved_to })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.dir.join(digest.to_string())
    }
}

/// An artifact in the making. Dropped without [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct ArtifactWriter {
    artifacts: Artifacts,
    // `None` after a write that failed, whose bytes may be there in part.
    file: Option<File>,
    partial: Partial,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
}

impl ArtifactWriter {
    /// Adds bytes. After an error every further call fails: start again.
    ///
    /// # Errors
    /// [`ArtifactError::TooLarge`], [`ArtifactError::Full`] or [`ArtifactError::File`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        let mut file = self.take_file()?;
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(ArtifactError::TooLarge { bytes_max: self.bytes_max });
        }
        file.write_all(bytes).map_err(|source| failed("write", self.partial.path(), source))?;
        self.hash.update(bytes);
        self.file = Some(file);
        Ok(())
    }

    /// Makes the artifact durable under its digest, in the database first if there is one. The same bytes written twice
    /// are one artifact.
    ///
    /// # Errors
    /// [`ArtifactError::Full`], [`ArtifactError::Unavailable`] or [`ArtifactError::File`].
    pub fn finish(self) -> Result<Digest, ArtifactError> {
        if let Some(shared) = &self.artifacts.0.shared {
            let digest = Digest::from_bytes(self.hash.clone().finalize().into());
            // After a write that failed there is nothing to keep.
            self.file.as_ref().ok_or_else(|| self.gone())?;
            let path = self.partial.path();
            let mut bytes = File::open(path).map_err(|source| failed("open", path, source))?;
            shared.put(&digest, &mut bytes)?;
        }
        self.name_file()
    }

    /// Gives the file its name, durably.
    fn name_file(mut self) -> Result<Digest, ArtifactError> {
        let file = self.take_file()?;
        file.sync_all().map_err(|source| failed("sync", self.partial.path(), source))?;
        let digest = Digest::from_bytes(self.hash.finalize().into());
        // Also when the name is taken: should the older file be damaged, this one mends it.
        let path = self.artifacts.path(&digest);
        self.partial.rename(&path).map_err(|source| failed("name", &path, source))?;
        Ok(digest)
    }

    fn take_file(&mut self) -> Result<File, ArtifactError> {
        self.file.take().ok_or_else(|| self.gone())
    }

    fn gone(&self) -> ArtifactError {
        failed("write", self.partial.path(), io::Error::other("an earlier write failed"))
    }
}

/// An artifact that was not written or not read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The disk is full; nothing was kept.
    #[error("the disk of the artifacts is full")]
    Full,
    /// It has more bytes than the caller allowed.
    #[error("the artifact has more than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// There is no such artifact.
    #[error("there is no artifact {digest}")]
    Missing {
        /// Its digest.
        digest: Digest,
    },
    /// Its bytes are not the ones it is named by; it counts as missing from now on.
    #[error("artifact {digest} is corrupt, its file was moved to {}", moved_to.display())]
    Corrupt {
        /// Its digest.
        digest: Digest,
        /// Where the damaged file is now.
        moved_to: PathBuf,
    },
    /// The database that has the artifacts does not answer.
    #[error("the database of the artifacts is unavailable")]
    Unavailable(#[from] Cause),
    /// The operating system refused.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> ArtifactError {
    if durable::is_full(&source) {
        return ArtifactError::Full;
    }
    ArtifactError::File { action, path: path.to_owned(), source }
}

fn files(dir: &Path) -> Result<Vec<DirEntry>, ArtifactError> {
    let files = std::fs::read_dir(dir).and_then(|files| files.collect());
    files.map_err(|source| failed("list", dir, source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::{TempDir, tempdir};

    use super::*;

    fn fresh() -> (TempDir, Artifacts) {
        let dir = tempdir().unwrap();
        let artifacts = Artifacts::open(&dir.path().join("artifacts")).unwrap();
        (dir, artifacts)
    }

    fn put(artifacts: &Artifacts, parts: &[&[u8]]) -> Digest {
        let mut writer = artifacts.writer(100).unwrap();
        parts.iter().for_each(|part| writer.write(part).unwrap());
        writer.finish().unwrap()
    }

    fn file_names(artifacts: &Artifacts) -> Vec<String> {
        let mut names: Vec<String> = files(&artifacts.0.dir)
            .unwrap()
            .into_iter()
            .map(|file| file.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_artifact_is_named_by_the_sha256_of_its_bytes() {
        let (_dir, artifacts) = fresh();
        let digest = put(&artifacts, &[b"a", b"", b"bc"]);
        // The first test vector of FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), abc);
        assert_eq!(artifacts.read(&digest).unwrap(), b"abc");
        artifacts.verify(&digest).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&artifacts.0.dir), mode(&artifacts.path(&digest))), (0o700, 0o600));
    }

    #[test]
    fn what_was_touched_is_young_again() {
        let (_dir, artifacts) = fresh();
        let (one, two) = (put(&artifacts, &[b"one"]), put(&artifacts, &[b"two"]));
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        let at = |seconds| then + std::time::Duration::from_secs(seconds);
        artifacts.touch(&one, at(0)).unwrap();
        artifacts.touch(&two, at(0)).unwrap();
        artifacts.touch(&two, at(10)).unwrap();
        let untouched = |since| [&one, &two].map(|it| artifacts.is_untouched_since(it, at(since)).unwrap());
        assert_eq!(untouched(5), [true, false]);
        assert_eq!(untouched(0), [false, false]);
        artifacts.remove(&one).unwrap();
        assert_eq!(untouched(5), [false, false]);
        assert!(matches!(artifacts.touch(&one, at(0)), Err(ArtifactError::Missing { .. })));
    }

    #[test]
    fn the_same_bytes_twice_are_one_file() {
        let (_dir, artifacts) = fresh();
        let (first, second) = (put(&artifacts, &[b"same"]), put(&artifacts, &[b"sa", b"me"]));
        assert_eq!(first, second);
        assert_eq!(file_names(&artifacts), [first.to_string()]);
    }

    #[test]
    fn a_writer_that_is_dropped_or_writes_too_much_leaves_nothing() {
        let (_dir, artifacts) = fresh();
        let mut dropped = artifacts.writer(100).unwrap();
        dropped.write(b"half").unwrap();
        assert_eq!(
            (file_names(&artifacts).len(), artifacts.list().unwrap().len()),
            (1, 0),
            "it is not there yet"
        );
        drop(dropped);
        let mut large = artifacts.writer(4).unwrap();
        large.write(b"1234").unwrap();
        assert!(matches!(large.write(b"5"), Err(ArtifactError::TooLarge { bytes_max: 4 })));
        assert!(large.write(b"").is_err() && large.finish().is_err(), "what failed once stays failed");
        assert!(file_names(&artifacts).is_empty());
    }

    #[test]
    fn what_a_crash_left_unfinished_is_removed_and_counted() {
        let (dir, artifacts) = fresh();
        let whole = put(&artifacts, &[b"whole"]);
        for _ in 0..2 {
            // A crash runs no destructors.
            std::mem::forget(artifacts.writer(100).unwrap());
        }
        assert_eq!((artifacts.leftovers(), file_names(&artifacts).len()), (0, 3));
        let artifacts = Artifacts::open(&dir.path().join("artifacts")).unwrap();
        assert_eq!(artifacts.leftovers(), 2);
        assert_eq!(file_names(&artifacts), [whole.to_string()]);
    }

    #[test]
    fn damage_is_noticed_moved_aside_and_mended_by_the_same_bytes() {
        let (_dir, artifacts) = fresh();
        type Check = fn(&Artifacts, &Digest) -> Result<(), ArtifactError>;
        let checks: [Check; 2] = [
            |artifacts, digest| artifacts.verify(digest),
            |artifacts, digest| artifacts.read(digest).map(drop),
        ];
        for check in checks {
            let digest = put(&artifacts, &[b"sound"]);
            std::fs::write(artifacts.path(&digest), b"sour").unwrap();
            let Err(ArtifactError::Corrupt { moved_to, .. }) = check(&artifacts, &digest) else {
                panic!("other bytes go unnoticed");
            };
            assert_eq!(std::fs::read(moved_to).unwrap(), b"sour");
            assert!(matches!(check(&artifacts, &digest), Err(ArtifactError::Missing { .. })));
            assert!(artifacts.list().unwrap().is_empty());
            assert_eq!(put(&artifacts, &[b"sound"]), digest);
            check(&artifacts, &digest).unwrap();
            std::fs::write(artifacts.path(&digest), b"sour").unwrap();
            put(&artifacts, &[b"sound"]);
            check(&artifacts, &digest).expect("a second writing mends also what nobody has noticed");
            artifacts.remove(&digest).unwrap();
        }
    }

    #[test]
    fn artifacts_are_listed_in_order_and_removed_once() {
        let (_dir, artifacts) = fresh();
        let mut digests: Vec<Digest> = (0..5).map(|n| put(&artifacts, &[&[n]])).collect();
        digests.sort();
        assert_eq!(artifacts.list().unwrap(), digests);
        assert!(artifacts.remove(&digests[0]).unwrap());
        assert!(!artifacts.remove(&digests[0]).unwrap());
        assert_eq!(artifacts.list().unwrap(), digests[1..]);
    }
}
