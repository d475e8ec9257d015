//! The sources of a project, and the news that somebody saved one.
//! The loop of `coracle dev` waits for it; what a build writes is no news, unless it is a source too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use coracle_model::{Problem, code};
use ignore::{DirEntry, WalkBuilder};
use sha2::{Digest as _, Sha256};

use super::stirs::Stirs;

/// Saves that follow each other this closely are one: an editor writes a file in several steps, and several files at once.
const QUIET: Duration = Duration::from_millis(40);

/// Saves that never end are heard after this long.
const UNQUIET_MAX: Duration = Duration::from_secs(1);

/// Files of a project, at most: more are no sources, but something that should be ignored.
const FILES_MAX: usize = 10_000;

/// Larger files are compared by their times alone, in bytes.
const HASHED_BYTES_MAX: u64 = 4 << 20;

/// Folders that tools fill, whether or not `.gitignore` says so.
const FILLED_BY_TOOLS: [&str; 5] = ["target", "node_modules", "__pycache__", "venv", "dist"];

/// Looks after the sources of a project.
#[derive(Debug)]
pub(super) struct Watch {
    project: Project,
    seen: Sources,
    /// Whether something happened since then, of which it is not known yet what.
    stirred: bool,
    stirs: Stirs,
}

/// What belongs to a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    /// Its folder, all of which is looked at; `None` when there are only files.
    pub(super) folder: Option<PathBuf>,
    /// Files and folders that count in any case: code that nothing builds.
    pub(super) code: Vec<PathBuf>,
    /// Files and folders that never count: what the build makes.
    pub(super) made: Vec<PathBuf>,
    /// Whether a file that is saved as it was changed all the same, because more than the file may be new.
    pub(super) every_save: bool,
}

/// Files, and what tells whether one changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sources {
    files: BTreeMap<PathBuf, Source>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone)]
struct Source {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Not of large ones, nor where every save counts.
    digest: Option<[u8; 32]>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self.digest, other.digest) {
            // A file that was written again as it was did not change.
            (Some(one), Some(other)) => one == other,
            _ => (self.bytes, self.modified) == (other.bytes, other.modified),
        }
    }
}

impl Eq for Source {}

impl Watch {
    /// Sees the sources as they are.
    pub(super) async fn of(project: Project) -> Result<Self, Problem> {
        let seen = look(&project, &Sources::default()).await?;
        let mut stirs = Stirs::new();
        stirs.listen(&seen.folders);
        // What happened between the two is found by the first look.
        Ok(Self { project, seen, stirred: true, stirs })
    }

    /// Sees the sources as they are now; says which changed since they were last seen.
    pub(super) async fn see(&mut self, project: Project) -> Result<Vec<PathBuf>, Problem> {
        let before = std::mem::take(&mut self.seen);
        self.project = project;
        self.seen = look(&self.project, &before).await?;
        self.stirs.listen(&self.seen.folders);
        // What happened in a folder that is new, before it was listened to, is found by the next look.
        self.stirred = before.folders != self.seen.folders;
        Ok(before.changed(&self.seen))
    }

    /// Waits until the sources are not as they were seen. May be dropped and asked again: nothing is missed.
    pub(super) async fn changed(&mut self) -> Result<(), Problem> {
        loop {
            if !self.stirred {
                self.stirs.heard().await;
                self.stirred = true;
            }
            let quiet = async { while tokio::time::timeout(QUIET, self.stirs.heard()).await.is_ok() {} };
            // Whether it became quiet or not: now is the time to look.
            let _ = tokio::time::timeout(UNQUIET_MAX, quiet).await;
            let now = look(&self.project, &self.seen).await?;
            self.stirs.listen(&now.folders);
            if now != self.seen {
                return Ok(());
            }
            self.stirred = false;
        }
    }
}

/// The sources as they are, looked at by a thread that may wait: a file system may be slow, and a pipe says nothing.
async fn look(project: &Project, before: &Sources) -> Result<Sources, Problem> {
    let (project, before) = (project.clone(), before.clone());
    let looked = tokio::task::spawn_blocking(move || project.sources(&before)).await;
    looked.map_err(|error| Problem::new(&code::INTERNAL, format!("look at the sources: {error}")))?
}

impl Project {
    /// The sources as they are; what was hashed before and looks the same is not read again.
    fn sources(&self, before: &Sources) -> Result<Sources, Problem> {
        let mut sources = Sources::default();
        if let Some(folder) = &self.folder {
            if !folder.is_dir() {
                return Err(gone(folder));
            }
            self.add_all(&mut sources, folder, walk(folder), before)?;
        }
        for code in &self.code {
            if code.is_dir() {
                // What is deployed counts, also where git does not keep it.
                self.add_all(&mut sources, code, walk_code(code), before)?;
            } else {
                self.add(&mut sources, code, before);
            }
            if let Some(folder) = code.parent() {
                let folder = if folder == Path::new("") { Path::new(".") } else { folder };
                if !folder.is_dir() {
                    return Err(gone(folder));
                }
                sources.folders.insert(folder.to_owned());
            }
        }
        Ok(sources)
    }

    fn add(&self, sources: &mut Sources, path: &Path, before: &Sources) {
        // What is gone while we look will be gone the next time, too.
        let Ok(file) = fs::metadata(path) else { return };
        let (bytes, modified) = (file.len(), file.modified().ok());
        let known = before.files.get(path).filter(|known| (known.bytes, known.modified) == (bytes, modified));
        let source = known.cloned().unwrap_or_else(|| {
            let is_hashed = file.is_file() && bytes <= HASHED_BYTES_MAX && !self.every_save;
            let digest = is_hashed.then(|| fs::read(path).ok()).flatten();
            Source { bytes, modified, digest: digest.map(|bytes| Sha256::digest(bytes).into()) }
        });
        sources.files.insert(path.to_owned(), source);
    }

    /// Adds what a walk of a folder finds, but for what is made.
    fn add_all(
        &self,
        sources: &mut Sources,
        folder: &Path,
        found: ignore::Walk,
        before: &Sources,
    ) -> Result<(), Problem> {
        for entry in found.flatten() {
            let path = entry.path();
            if self.made.iter().any(|made| path.starts_with(made)) {
                continue;
            }
            if entry.file_type().is_some_and(|kind| kind.is_dir()) {
                sources.folders.insert(path.to_owned());
            } else {
                self.add(sources, path, before);
            }
            if sources.files.len() > FILES_MAX {
                return Err(too_many(folder));
            }
        }
        Ok(())
    }
}

impl Sources {
    /// The files that are only here, only there, or not the same.
    fn changed(&self, now: &Self) -> Vec<PathBuf> {
        let all: BTreeSet<_> = self.files.keys().chain(now.files.keys()).collect();
        all.into_iter().filter(|path| self.files.get(*path) != now.files.get(*path)).cloned().collect()
    }
}

/// The sources in a folder.
fn walk(folder: &Path) -> ignore::Walk {
    let mut walk = WalkBuilder::new(folder);
    // A project that is not in git yet has its `.gitignore` all the same.
    walk.require_git(false).git_global(false).filter_entry(is_no_tool_s).build()
}

/// A folder that is deployed as it is, hidden files and all.
fn walk_code(folder: &Path) -> ignore::Walk {
    WalkBuilder::new(folder).standard_filters(false).filter_entry(is_no_tool_s).build()
}

fn is_no_tool_s(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let is_filled = FILLED_BY_TOOLS.contains(&&*name) || name == ".git";
    entry.depth() == 0 || !is_filled || !entry.file_type().is_some_and(|kind| kind.is_dir())
}

fn gone(folder: &Path) -> Problem {
    Problem::new(&code::BAD_REQUEST, format!("the folder {} is gone", folder.display()))
        .hint("the function goes on as it was deployed; `coracle dev FOLDER` watches another folder")
}

fn too_many(folder: &Path) -> Problem {
    Problem::new(&code::BAD_REQUEST, format!("{} has more than {FILES_MAX} files to watch", folder.display()))
        .hint(
            "name the folders of tools in its .gitignore, or run `coracle dev` in the folder of one project",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let made = vec![folder.path().join("out.wasm")];
        let project =
            Project { folder: Some(folder.path().to_owned()), code: Vec::new(), made, every_save: false };
        (folder, project)
    }

    fn names(changed: &[PathBuf], folder: &tempfile::TempDir) -> Vec<String> {
        changed.iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    #[test]
    fn sources_are_what_no_tool_and_no_gitignore_claims() {
        let (folder, project) = project(&[
            ("src/lib.rs", ""),
            ("out.wasm", ""),
            ("target/x.rs", ""),
            ("node_modules/a/b.js", ""),
            (".git/config", ""),
            (".gitignore", "*.log\n"),
            ("a.log", ""),
            ("src/target", "a file may have that name"),
        ]);
        let sources = project.sources(&Sources::default()).unwrap();
        let files: Vec<_> = sources.files.into_keys().collect();
        assert_eq!(names(&files, &folder), ["src/lib.rs", "src/target"]);
        let folders: Vec<_> = sources.folders.into_iter().collect();
        assert_eq!(names(&folders, &folder), ["", "src"]);
    }

    #[tokio::test]
    async fn only_what_has_other_bytes_changed() {
        let (folder, project) = project(&[("a", "one"), ("b", "two")]);
        let mut watch = Watch::of(project.clone()).await.unwrap();
        fs::write(folder.path().join("a"), "one").unwrap();
        assert_eq!(watch.see(project.clone()).await.unwrap(), [] as [PathBuf; 0]);
        fs::write(folder.path().join("a"), "three").unwrap();
        fs::remove_file(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("c"), "").unwrap();
        let changed = watch.see(project).await.unwrap();
        assert_eq!(names(&changed, &folder), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn where_every_save_counts_the_bytes_may_be_the_same() {
        let (folder, project) = project(&[("a", "one")]);
        let project =
            Project { folder: None, code: vec![folder.path().join("a")], every_save: true, ..project };
        let mut watch = Watch::of(project.clone()).await.unwrap();
        let saved = fs::File::options().write(true).open(folder.path().join("a")).unwrap();
        saved.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(saved);
        watch.changed().await.unwrap();
        assert_eq!(names(&watch.see(project.clone()).await.unwrap(), &folder), ["a"]);
        assert_eq!(watch.see(project).await.unwrap(), [] as [PathBuf; 0]);
    }

    #[tokio::test]
    async fn a_save_is_noticed_also_in_a_folder_that_is_new() {
        let (folder, project) = project(&[("a", "")]);
        let mut watch = Watch::of(project.clone()).await.unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/b"), "").unwrap();
        watch.changed().await.unwrap();
        watch.see(project.clone()).await.unwrap();
        fs::write(folder.path().join("sub/b"), "saved").unwrap();
        watch.changed().await.unwrap();
        let changed = watch.see(project).await.unwrap();
        assert_eq!(names(&changed, &folder), ["sub/b"]);
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_by_another_is_watched_on() {
        let (folder, project) = project(&[("sub/a", "")]);
        let mut watch = Watch::of(project.clone()).await.unwrap();
        let (sub, old) = (folder.path().join("sub"), folder.path().join("target"));
        fs::rename(&sub, &old).unwrap();
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("a"), "").unwrap();
        // Nothing changed, and it may go on looking until something does.
        let save = async { fs::write(sub.join("a"), "saved").unwrap() };
        let (changed, ()) = tokio::join!(watch.changed(), async {
            tokio::task::yield_now().await;
            save.await;
        });
        changed.unwrap();
        assert_eq!(names(&watch.see(project).await.unwrap(), &folder), ["sub/a"]);
    }

    #[tokio::test]
    async fn a_folder_that_is_removed_is_an_error_that_says_so() {
        let (folder, project) = project(&[("a", "")]);
        let mut watch = Watch::of(project).await.unwrap();
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(watch.changed().await.unwrap_err().message.ends_with("is gone"));
    }

    #[tokio::test]
    async fn without_help_of_the_system_a_save_is_noticed_too() {
        let (folder, project) = project(&[("a", "")]);
        let mut watch = Watch::of(project).await.unwrap();
        watch.stirs = Stirs::Untold;
        fs::write(folder.path().join("a"), "saved").unwrap();
        watch.changed().await.unwrap();
    }
}
