//! Files that are there whole or not at all: written under a temporary name, synced, renamed, the directory synced.
//! Used by artifacts, backups and the data directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How the names of unfinished files end.
pub(crate) const PARTIAL_SUFFIX: &str = ".partial";

/// Has a file written under a temporary name beside its own, and moves it there, synced, if that succeeds.
pub(crate) fn write_whole<E: From<io::Error>>(
    to: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let partial = Partial::beside(to)?;
    write(partial.path())?;
    File::open(partial.path())?.sync_all()?;
    partial.rename(to)?;
    Ok(())
}

/// An unfinished file; removed when dropped, unless it was renamed.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
}

impl Partial {
    /// An empty file of mode 0600 in the same directory, under a name that nobody else has.
    pub(crate) fn beside(to: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name =
            to.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!(".{}.{}-{number}{PARTIAL_SUFFIX}", name.display(), std::process::id());
        let path = to.with_file_name(unique);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, in place of what has it now. The caller has synced the file.
    pub(crate) fn rename(self, to: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, to)?;
        sync_dir(directory_of(to))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // Gone already if it was renamed.
    }
}

/// Makes a new name, or the end of an old one, durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a directory and those above it, readable by their owner alone, durably; one that exists is left as it is.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|above| !above.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    missing.into_iter().try_for_each(|created| sync_dir(directory_of(created)))
}

/// Whether an error means that there is no room on the disk.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
