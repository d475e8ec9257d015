//! Bundles: an archive of files, unpacked once into a folder that functions see read-only.
//! `images.rs` unpacks them beside the layers, because the rules are the same.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use coracle_model::Problem;

use super::budget::Budget;
use super::fault::{failed, invalid, shown, unreadable};
use super::path::EntryPath;
use super::tree::{Meta, Owners, Tree};
use super::unpack::unpack;

/// What a zip archive begins with: an entry, or its end if it is empty.
const ZIP_STARTS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
/// The longest target of a symbolic link, in bytes.
const LINK_BYTES_MAX: u64 = 4_095;
/// The mode of a file whose archive was made where files have none: it may be the program.
const MODE_UNSAID: u32 = 0o755;
/// The bits of a mode that say what kind of file it is, and those of a symbolic link.
const KIND: u32 = 0o170_000;
const LINK: u32 = 0o120_000;

/// Unpacks a tar, tar.gz, tar.zst or zip, by its first bytes, into an empty folder. Blocks.
pub(super) fn unpack_bundle(mut archive: File, into: &Path, budget: &Budget) -> Result<(), Problem> {
    let mut start = [0; 4];
    let read = archive.read_exact(&mut start).and_then(|()| archive.seek(SeekFrom::Start(0)));
    read.map_err(|error| failed("read the bundle", error))?;
    if ZIP_STARTS.contains(&&start[..]) {
        return unzip(archive, into, budget);
    }
    unpack(archive, into, Owners::Ours, budget).map(drop)
}

fn unzip(archive: File, into: &Path, budget: &Budget) -> Result<(), Problem> {
    let broken = |error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(error) => unreadable("the archive cannot be read", &error),
        error => invalid(format!("the archive cannot be read: {error}")),
    };
    let packed = archive.metadata().map_err(|error| failed("read the bundle", error))?.len();
    let mut archive = zip::ZipArchive::new(archive).map_err(broken)?;
    let mut tree = Tree::open(into, Owners::Ours, budget)?;
    let mut unpacked = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(broken)?;
        let path = EntryPath::parse(entry.name_raw())?;
        let mode = entry.unix_mode().unwrap_or(MODE_UNSAID);
        let meta = Meta { mode, uid: 0, gid: 0, changed: 0 };
        if entry.is_dir() {
            tree.folder(&path, meta)?;
            continue;
        }
        // What is said of its size may be a lie: what comes is counted.
        let mut content = Counted { inner: entry, packed, unpacked: &mut unpacked, budget };
        if mode & KIND == LINK {
            let mut target = Vec::new();
            let read = (&mut content).take(LINK_BYTES_MAX + 1).read_to_end(&mut target);
            read.map_err(|error| {
                unreadable(&format!("`{}` cannot be read", shown(path.as_bytes())), &error)
            })?;
            tree.symlink(&path, meta, &target)?;
        } else {
            tree.file(&path, meta, &mut content)?;
        }
    }
    tree.finish()
}

/// The content of an entry, held to the bounds while it comes.
struct Counted<'a, R> {
    inner: R,
    packed: u64,
    unpacked: &'a mut u64,
    budget: &'a Budget,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        *self.unpacked += read as u64;
        let within = self.budget.take_bytes(read as u64);
        let within = within.and_then(|()| self.budget.check_ratio(self.packed, *self.unpacked));
        within.map(|()| read).map_err(std::io::Error::other)
    }
}
