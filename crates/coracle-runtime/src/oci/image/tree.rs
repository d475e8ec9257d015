//! A folder that is being filled from an archive: nothing is ever made outside of it.
//! `unpack.rs` and `bundle.rs` make every file, folder and link through it.
//!
//! Parents are opened by the kernel (`openat2`) beneath the folder and through no link, and entries are made in the
//! open parent by a name without a slash. No path is looked at first and used afterwards, so none can change between.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_model::Problem;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, openat2, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::budget::Budget;
use super::fault::{failed, invalid, shown, unpacking, unreadable};
use super::path::EntryPath;

/// What overlayfs reads on a folder that hides the ones below it.
const OPAQUE: &str = "trusted.overlay.opaque";
/// Names of folders that are remembered until the end, in bytes: only then can their times be set.
const FOLDER_NAMES_BYTES_MAX: usize = 64 << 20;

/// Whose files they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// Those that the archive names, as in the layers of an image.
    Kept,
    /// The server's, readable by everybody: functions run as others.
    Ours,
}

/// What an archive says of an entry beside its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// When it was changed, in seconds since 1970.
    pub(super) changed: i64,
}

/// A folder that is being filled.
pub(super) struct Tree<'a> {
    root: OwnedFd,
    owners: Owners,
    budget: &'a Budget,
    /// The parent of the last entry: the next one often has the same.
    parent: Option<(EntryPath, OwnedFd)>,
    folders: Vec<(EntryPath, Meta)>,
    folder_names_bytes: usize,
}

impl<'a> Tree<'a> {
    /// Fills this folder, which is empty.
    pub(super) fn open(root: &Path, owners: Owners, budget: &'a Budget) -> Result<Self, Problem> {
        let opened =
            rustix::fs::open(root, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let root = opened.map_err(|errno| failed("open the folder to unpack into", errno))?;
        Ok(Self { root, owners, budget, parent: None, folders: Vec::new(), folder_names_bytes: 0 })
    }

    /// Makes a folder, or says more of one that is there.
    pub(super) fn folder(&mut self, path: &EntryPath, meta: Meta) -> Result<(), Problem> {
        if path.split().is_some() {
            let hid_what_is_below = self.in_parent(path, |parent, name| match kind(parent, name)? {
                Some(FileType::Directory) => Ok(false),
                None => mkdirat(parent, name, Mode::RWXU).map(|()| false),
                Some(there) => {
                    unlinkat(parent, name, AtFlags::empty())?;
                    mkdirat(parent, name, Mode::RWXU)?;
                    // Taken away and made anew in one layer: what lies below it stays taken away.
                    Ok(there == FileType::CharacterDevice)
                }
            })?;
            if hid_what_is_below {
                self.hide_below(path)?;
            }
        }
        self.folder_names_bytes += path.as_bytes().len() + size_of::<(EntryPath, Meta)>();
        if self.folder_names_bytes > FOLDER_NAMES_BYTES_MAX {
            return Err(super::budget::too_large("the names of its folders are too long".to_owned()));
        }
        self.folders.push((path.clone(), meta));
        Ok(())
    }

    /// Makes a file with this content.
    pub(super) fn file(
        &mut self,
        path: &EntryPath,
        meta: Meta,
        content: &mut impl Read,
    ) -> Result<(), Problem> {
        let owners = self.owners;
        let file = self.in_parent(path, |parent, name| {
            make_room(parent, name)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let mut file = File::from(file);
        copy(content, &mut file, path)?;
        let set = || {
            if owners == Owners::Kept {
                let (uid, gid) = owner(meta);
                fchown(&file, Some(uid), Some(gid))?;
            }
            fchmod(&file, Mode::from_raw_mode(file_mode(meta, owners)))?;
            futimens(&file, &times(meta))
        };
        set().map_err(|errno| unpacking(path.as_bytes(), errno))
    }

    /// Makes a symbolic link, whatever it points to: nothing here ever follows one.
    pub(super) fn symlink(&mut self, path: &EntryPath, meta: Meta, target: &[u8]) -> Result<(), Problem> {
        let owners = self.owners;
        self.in_parent(path, |parent, name| {
            make_room(parent, name)?;
            symlinkat(OsStr::from_bytes(target), parent, name)?;
            if owners == Owners::Kept {
                let (uid, gid) = owner(meta);
                chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            utimensat(parent, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Makes another name for a file that is there.
    pub(super) fn hard_link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), Problem> {
        let Some((folder, target_name)) = target.split() else {
            return Err(invalid(format!("`{}` is a hard link to the root", shown(path.as_bytes()))));
        };
        if path == target {
            return Ok(());
        }
        let from =
            beneath(self.root.as_fd(), &folder).map_err(|errno| missing_target(path, target, errno))?;
        let target_name = OsStr::from_bytes(target_name);
        if !matches!(kind(from.as_fd(), target_name), Ok(Some(FileType::RegularFile | FileType::Symlink))) {
            return Err(missing_target(path, target, Errno::NOENT));
        }
        self.in_parent(path, |parent, name| {
            make_room(parent, name)?;
            linkat(&from, target_name, parent, name, AtFlags::empty())
        })
    }

    /// Takes away what the layers below have by this name.
    pub(super) fn whiteout(&mut self, path: &EntryPath) -> Result<(), Problem> {
        let there = self.in_parent(path, |parent, name| {
            let there = kind(parent, name)?;
            if there.is_none() {
                mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            Ok(there)
        })?;
        match there {
            // Its own content stays; what is below is gone.
            Some(FileType::Directory) => self.hide_below(path),
            _ => Ok(()),
        }
    }

    /// Takes away all that the layers below have in this folder.
    pub(super) fn hide_below(&mut self, path: &EntryPath) -> Result<(), Problem> {
        let folder = self.open_folder(path)?;
        fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())
            .map_err(|errno| unpacking(path.as_bytes(), errno))
    }

    /// Gives the folders their modes, owners and times, and brings all of it to the disk.
    pub(super) fn finish(self) -> Result<(), Problem> {
        for (path, meta) in self.folders.iter().rev() {
            let set = || {
                let folder = beneath(self.root.as_fd(), path)?;
                if self.owners == Owners::Kept {
                    let (uid, gid) = owner(*meta);
                    fchown(&folder, Some(uid), Some(gid))?;
                }
                fchmod(&folder, Mode::from_raw_mode(folder_mode(*meta, self.owners)))?;
                futimens(&folder, &times(*meta))
            };
            match set() {
                // A later entry took its place.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(unpacking(path.as_bytes(), errno)),
            }
        }
        rustix::fs::syncfs(&self.root).map_err(|errno| failed("write what was unpacked to the disk", errno))
    }

    /// Does something in the folder of an entry, by the entry's name in it.
    fn in_parent<T>(
        &mut self,
        path: &EntryPath,
        make: impl FnOnce(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T, Problem> {
        let Some((folder, name)) = path.split() else {
            return Err(invalid("an entry that is not a folder stands for the root"));
        };
        self.budget.take_entry()?;
        if self.parent.as_ref().is_none_or(|(open, _)| *open != folder) {
            let opened = self.open_folder(&folder)?;
            self.parent = Some((folder, opened));
        }
        let Some((_, parent)) = &self.parent else { return Err(invalid("an entry has no folder")) };
        let made = make(parent.as_fd(), OsStr::from_bytes(name));
        if made.is_err() {
            // It may not be there any more.
            self.parent = None;
        }
        made.map_err(|errno| unpacking(path.as_bytes(), errno))
    }

    /// Opens a folder, and makes it if an archive names what is in it and not itself.
    fn open_folder(&self, path: &EntryPath) -> Result<OwnedFd, Problem> {
        match beneath(self.root.as_fd(), path) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(|errno| unpacking(path.as_bytes(), errno)),
        }
        let Some((folder, name)) = path.split() else { return Err(unpacking(b"/", Errno::NOENT)) };
        // As deep as a path may be, which is bounded.
        let parent = self.open_folder(&folder)?;
        self.budget.take_entry()?;
        let mode = Mode::from_raw_mode(0o755);
        mkdirat(&parent, OsStr::from_bytes(name), mode).map_err(|errno| unpacking(path.as_bytes(), errno))?;
        beneath(self.root.as_fd(), path).map_err(|errno| unpacking(path.as_bytes(), errno))
    }
}

/// Opens a folder beneath another, through no link and on no other file system.
fn beneath(root: BorrowedFd<'_>, path: &EntryPath) -> rustix::io::Result<OwnedFd> {
    let name = if path.is_root() { OsStr::new(".") } else { OsStr::from_bytes(path.as_bytes()) };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    openat2(root, name, flags, Mode::empty(), resolve)
}

/// What has this name, if anything.
fn kind(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes what a later entry of the same name replaces. Never written into: it may be a hard link to something else.
fn make_room(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    match kind(parent, name)? {
        None => Ok(()),
        Some(FileType::Directory) => unlinkat(parent, name, AtFlags::REMOVEDIR),
        Some(_) => unlinkat(parent, name, AtFlags::empty()),
    }
}

fn copy(content: &mut impl Read, file: &mut File, path: &EntryPath) -> Result<(), Problem> {
    // Told apart, because a stream that breaks is the image's fault, and a disk that is full is not.
    let mut writing = Writing { file, failed: false };
    match io::copy(content, &mut writing) {
        Ok(_) => Ok(()),
        Err(error) if writing.failed => Err(failed(&format!("write `{}`", shown(path.as_bytes())), error)),
        Err(error) => Err(unreadable(&format!("read the content of `{}`", shown(path.as_bytes())), &error)),
    }
}

struct Writing<'a> {
    file: &'a mut File,
    failed: bool,
}

impl io::Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect_err(|error| self.failed = error.kind() != io::ErrorKind::Interrupted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn missing_target(path: &EntryPath, target: &EntryPath, errno: Errno) -> Problem {
    let (path, target) = (shown(path.as_bytes()), shown(target.as_bytes()));
    invalid(format!("`{path}` is a hard link to `{target}`, which is no file of the same layer: {errno}"))
}

fn owner(meta: Meta) -> (Uid, Gid) {
    (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid))
}

/// Without set-user-ID and set-group-ID: no sandbox honours them, and on the host's disk they could only do harm.
fn file_mode(meta: Meta, owners: Owners) -> u32 {
    let mode = meta.mode & 0o777;
    match owners {
        Owners::Kept => mode,
        Owners::Ours if mode & 0o111 != 0 => mode | 0o755,
        Owners::Ours => mode | 0o644,
    }
}

/// With the sticky bit, which `/tmp` needs, and the one by which new files get their folder's group.
fn folder_mode(meta: Meta, owners: Owners) -> u32 {
    match owners {
        Owners::Kept => meta.mode & 0o3777,
        Owners::Ours => (meta.mode & 0o777) | 0o755,
    }
}

fn times(meta: Meta) -> Timestamps {
    let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
    Timestamps { last_access: omitted, last_modification: Timespec { tv_sec: meta.changed, tv_nsec: 0 } }
}
