//! A tar into a folder: a layer with its whiteouts, or the files of a bundle.
//! `layers.rs` unpacks layers with it, `bundle.rs` tars; both blocking, both into a folder that nobody sees yet.
//!
//! What is left out: devices other than whiteouts, pipes and sockets, which a sandbox makes for itself, and extended
//! attributes, whose file capabilities no sandbox honours.

use std::io::Read;
use std::path::Path;

use coracle_model::Problem;
use tar::{Archive, Entry, EntryType};

use super::budget::Budget;
use super::decode::{Decoded, Measured};
use super::fault::{invalid, shown, unreadable};
use super::path::EntryPath;
use super::tree::{Meta, Owners, Tree};

/// How the name begins of an entry that takes something away.
const WHITEOUT: &[u8] = b".wh.";
/// The name of the entry that takes away all that is below in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How the names begin by which AUFS keeps account; they mean nothing here.
const AUFS: &[u8] = b".wh..wh.";

/// Unpacks a tar, compressed or not, into an empty folder. Those of images keep their owners and have whiteouts.
///
/// # Errors
/// `IMAGE_INVALID`, `IMAGE_TOO_LARGE`, `UNPACK_DENIED`, `DISK_FULL`, and the problem that a stream broke off with.
pub(super) fn unpack(
    stream: impl Read,
    into: &Path,
    owners: Owners,
    budget: &Budget,
) -> Result<Measured, Problem> {
    let broken = |error: &std::io::Error| unreadable("the archive cannot be read", error);
    let decoded = Decoded::new(stream, budget).map_err(|error| broken(&error))?;
    let allowance = decoded.allowance();
    let mut tree = Tree::open(into, owners, budget)?;
    let mut archive = Archive::new(decoded);
    let mut left_out = 0_u64;
    {
        let mut entries = archive.entries().map_err(|error| broken(&error))?;
        loop {
            allowance.headers();
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(|error| broken(&error))?;
            allowance.content();
            if !place(&mut tree, &mut entry, owners, budget)? {
                left_out += 1;
            }
            // What is left of it is content, and read as such.
            std::io::copy(&mut entry, &mut std::io::sink()).map_err(|error| broken(&error))?;
        }
    }
    let measured = archive.into_inner().finish().map_err(|error| broken(&error))?;
    tree.finish()?;
    if left_out > 0 {
        tracing::info!(
            entries = left_out,
            "devices, pipes and sockets of an image were left out: a sandbox has its own"
        );
    }
    Ok(measured)
}

/// Puts one entry where it belongs; says whether it is there now.
fn place<R: Read>(
    tree: &mut Tree<'_>,
    entry: &mut Entry<'_, R>,
    owners: Owners,
    budget: &Budget,
) -> Result<bool, Problem> {
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(true);
    }
    let path = EntryPath::parse(&entry.path_bytes())?;
    if owners == Owners::Kept
        && let Some((folder, name)) = path.split()
        && name.starts_with(WHITEOUT)
    {
        take_away(tree, &folder, name)?;
        return Ok(true);
    }
    let meta = meta(entry, &path)?;
    match kind {
        EntryType::Directory => tree.folder(&path, meta)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            if kind == EntryType::GNUSparse {
                // Its holes are not in the stream, where all else is counted.
                budget.take_bytes(entry.size())?;
            }
            tree.file(&path, meta, entry)?;
        }
        EntryType::Symlink => tree.symlink(&path, meta, &target(entry, &path)?)?,
        EntryType::Link => tree.hard_link(&path, &EntryPath::parse(&target(entry, &path)?)?)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn take_away(tree: &mut Tree<'_>, folder: &EntryPath, name: &[u8]) -> Result<(), Problem> {
    if name == OPAQUE {
        return tree.hide_below(folder);
    }
    if name.starts_with(AUFS) {
        return Ok(());
    }
    let gone = &name[WHITEOUT.len()..];
    if matches!(gone, b"" | b"." | b"..") {
        return Err(invalid(format!("`{}` takes nothing away", shown(name))));
    }
    let mut path = folder.as_bytes().to_vec();
    path.push(b'/');
    path.extend_from_slice(gone);
    tree.whiteout(&EntryPath::parse(&path)?)
}

fn target<R: Read>(entry: &Entry<'_, R>, path: &EntryPath) -> Result<Vec<u8>, Problem> {
    let target = entry.link_name_bytes().filter(|target| !target.is_empty() && !target.contains(&0));
    let target =
        target.ok_or_else(|| invalid(format!("`{}` is a link to nothing", shown(path.as_bytes()))))?;
    Ok(target.into_owned())
}

fn meta<R: Read>(entry: &Entry<'_, R>, path: &EntryPath) -> Result<Meta, Problem> {
    let what = || format!("the head of `{}` cannot be read", shown(path.as_bytes()));
    let header = entry.header();
    let wrong = |error| unreadable(&what(), &error);
    let id = |field: &[u8; 8], read: std::io::Result<u64>| {
        // An owner that is left out is root, as tar itself reads it.
        if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
            return Ok(0);
        }
        // The last number stands for "as it is" where owners are set.
        let id = u32::try_from(read.map_err(wrong)?).ok().filter(|id| *id != u32::MAX);
        id.ok_or_else(|| invalid(what()))
    };
    Ok(Meta {
        mode: header.mode().map_err(wrong)?,
        uid: id(&header.as_old().uid, header.uid())?,
        gid: id(&header.as_old().gid, header.gid())?,
        // A time that is no time is none that matters.
        changed: header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0),
    })
}
