//! The data directory: everything that one server keeps, behind a lock so that no second server shares it.
//! Opened first thing by `coracle up`.

use std::fs::{DirEntry, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::durable;

/// A data directory that this process owns until the value is dropped.
///
/// The lock is an open file: a child forked without `exec` shares it, so fork such children before.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens a data directory, creating it with mode 0700 if it is absent, and takes its lock.
    ///
    /// An existing directory must be empty or a data directory already; its mode becomes 0700.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn open(root: &Path) -> Result<Self, DataDirError> {
        let dir = Self::lock(root)?;
        if dir.marker().exists() {
            return Err(DataDirError::Interrupted { path: root.to_owned() });
        }
        dir.furnish()?;
        Ok(dir)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of the [`Embedded`](crate::Embedded) database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("coracle.db")
    }

    /// The directory of [`Artifacts`](crate::Artifacts).
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// The directory of what can be made again, such as compiled code; it exists, and is not part of a backup.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The directory of images and unpacked bundles; not part of a backup: both come from elsewhere.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The directory of the functions' logs; it exists, and is not part of a backup.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The file in which the CLI on the same machine finds its token; not part of a backup.
    #[must_use]
    pub fn admin_token(&self) -> PathBuf {
        self.root.join("admin.token")
    }

    /// The file of the key that secrets are encrypted with; part of a backup if it is here.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.root.join("key")
    }

    /// The mark of a restore that has not come to its end.
    pub(crate) fn marker(&self) -> PathBuf {
        self.root.join("restoring")
    }

    /// Creates the directory if need be and takes its lock, without a look at what else is inside.
    pub(crate) fn lock(root: &Path) -> Result<Self, DataDirError> {
        durable::create_dir(root).map_err(|source| failed("create", root, source))?;
        let path = root.join("lock");
        if !path.exists() && !is_empty(root)? {
            return Err(DataDirError::Foreign { path: root.to_owned() });
        }
        let owner_only = Permissions::from_mode(0o700);
        std::fs::set_permissions(root, owner_only)
            .map_err(|source| failed("set the mode of", root, source))?;
        let file = |source| failed("lock", &path, source);
        let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let mut lock = options.open(&path).map_err(file)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).map_err(file)?;
                return Err(DataDirError::Locked { path: root.to_owned(), pid: pid.trim().parse().ok() });
            }
            Err(errno) => return Err(file(errno.into())),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(file)?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    pub(crate) fn furnish(&self) -> Result<(), DataDirError> {
        for dir in [self.artifacts(), self.cache(), self.logs()] {
            durable::create_dir(&dir).map_err(|source| failed("create", &dir, source))?;
        }
        Ok(())
    }
}

/// A data directory that was not opened.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process owns it.
    #[error(
        "data directory {} is in use by process {}: stop it, or name another directory",
        path.display(),
        pid.map_or("unknown".to_owned(), |pid| pid.to_string())
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, unless it has not yet written its number.
        pid: Option<u32>,
    },
    /// It holds files, and they are not ours.
    #[error("{} is not a data directory and not empty: name another directory", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// A restore into it has not come to its end.
    #[error("a restore into {} was interrupted: remove the directory and restore again", path.display())]
    Interrupted {
        /// The directory.
        path: PathBuf,
    },
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

/// Whether a directory holds nothing; what a new file system brings along does not count.
pub(crate) fn is_empty(dir: &Path) -> Result<bool, DataDirError> {
    let files = std::fs::read_dir(dir).and_then(|files| files.collect::<io::Result<Vec<DirEntry>>>());
    let files = files.map_err(|source| failed("list", dir, source))?;
    Ok(files.iter().all(|file| file.file_name() == "lost+found"))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_new_data_directory_is_for_its_owner_alone() {
        let outer = tempdir().unwrap();
        let dir = DataDir::open(&outer.path().join("a/b")).unwrap();
        for path in [dir.root().to_owned(), dir.artifacts(), dir.cache(), dir.logs(), outer.path().join("a")]
        {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_second_owner_is_refused_with_the_first_ones_pid() {
        let outer = tempdir().unwrap();
        let first = DataDir::open(outer.path()).unwrap();
        let refused = DataDir::open(outer.path()).unwrap_err();
        let pid = std::process::id();
        assert!(matches!(refused, DataDirError::Locked { pid: Some(found), .. } if found == pid));
        assert!(refused.to_string().contains(&format!("in use by process {pid}:")), "{refused}");
        drop(first);
        DataDir::open(outer.path()).expect("it is free again");
    }

    #[test]
    fn a_directory_of_something_else_is_refused_and_left_alone() {
        let outer = tempdir().unwrap();
        std::fs::write(outer.path().join("letter.txt"), "dear").unwrap();
        std::fs::set_permissions(outer.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(DataDir::open(outer.path()), Err(DataDirError::Foreign { .. })));
        assert_eq!(std::fs::metadata(outer.path()).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_restore_that_was_interrupted_is_not_taken_for_a_data_directory() {
        let outer = tempdir().unwrap();
        let dir = DataDir::open(outer.path()).unwrap();
        std::fs::write(dir.marker(), "").unwrap();
        drop(dir);
        assert!(matches!(DataDir::open(outer.path()), Err(DataDirError::Interrupted { .. })));
    }
}
