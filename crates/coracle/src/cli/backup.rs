//! `coracle backup FILE`: a consistent copy of all that survives a restart, taken while the server serves.
//! The file appears when it is whole; `coracle up --data NEW --restore FILE` reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use coracle_api::client::Chunks;
use coracle_model::{Problem, code};
use serde_json::json;

use super::ago::bytes;
use crate::options::Common;
use crate::stop::{Done, Stop};
use crate::{print, talk};

/// Take a copy of everything that survives a restart, while the server runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  coracle backup shop.backup\n  coracle up --data NEW --restore shop.backup"
)]
pub(crate) struct Args {
    /// The file to write, readable by you alone
    file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    if !args.force && args.file.exists() {
        let problem =
            Problem::new(&code::ALREADY_EXISTS, format!("cannot back up: {} exists", args.file.display()));
        return Err(problem.hint("replace it with `--force`").into());
    }
    let backup = common.client()?.backup().await?;
    let mut partial = Partial::create(&args.file).map_err(|error| unwritable(&args.file, &error))?;
    let size = receive(backup, &mut partial, &args.file).await?;
    partial.finish(&args.file).map_err(|error| unwritable(&args.file, &error))?;
    if common.json {
        return print::json(&json!({ "file": args.file, "bytes": size }));
    }
    talk::say(format_args!("backed up to {}, {}", args.file.display(), bytes(size)));
    talk::hint(format_args!("restore it: coracle up --data NEW --restore {}", args.file.display()));
    Ok(())
}

async fn receive(mut backup: Chunks, partial: &mut Partial, file: &Path) -> Done<u64> {
    let mut size = 0;
    while let Some(chunk) = backup.next().await? {
        partial.file.write_all(&chunk).map_err(|error| unwritable(file, &error))?;
        size += chunk.len() as u64;
    }
    Ok(size)
}

fn unwritable(file: &Path, error: &io::Error) -> Stop {
    let code = if error.kind() == io::ErrorKind::StorageFull { &code::DISK_FULL } else { &code::BAD_REQUEST };
    Problem::new(code, format!("cannot write {}: {error}", file.display())).into()
}

/// A file beside the one that is meant; it goes when it is dropped unfinished.
struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    fn create(file: &Path) -> io::Result<Self> {
        let mut path = file.as_os_str().to_owned();
        path.push(format!(".{}.part", std::process::id()));
        let path = PathBuf::from(path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path })
    }

    fn finish(self, file: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, file)?;
        let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // Renamed, it is not there any more.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_backup_appears_when_it_is_whole_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.backup");
        drop(Partial::create(&file).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "an unfinished one leaves nothing");
        let mut partial = Partial::create(&file).unwrap();
        partial.file.write_all(b"all").unwrap();
        assert!(!file.exists());
        partial.finish(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"all");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
