//! Layers on disk, each named by the digest of what it unpacked to: there whole or not at all, and once.
//! `images.rs` asks for the layers of an image; two that ask for one at the same time wait for the same work.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_model::{Digest, Problem};
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;

use super::budget::Budget;
use super::fault::failed;
use super::manifest::check_digest;
use super::tree::Owners;
use super::unpack::unpack;

/// A folder of unpacked layers, and the work on them.
#[derive(Debug)]
pub(super) struct Layers {
    folder: PathBuf,
    drafts: PathBuf,
    // Std mutex: held for map look-ups and renames, never over .await.
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    turns: HashMap<Digest, Arc<tokio::sync::Mutex<()>>>,
    /// How often each is needed by an image that is not complete yet.
    pinned: HashMap<Digest, usize>,
}

/// The layers of an image that is about to be: none of them is removed while this lives.
#[derive(Debug)]
pub(super) struct Pins {
    layers: Arc<Layers>,
    pinned: Vec<Digest>,
}

/// The right to unpack a layer that is not there.
#[derive(Debug)]
pub(super) struct Turn {
    layers: Arc<Layers>,
    layer: Digest,
    _alone: OwnedMutexGuard<()>,
}

impl Layers {
    /// The layers in this folder; what is not finished yet lies in `drafts`, on the same disk.
    pub(super) fn open(folder: PathBuf, drafts: PathBuf) -> Result<Arc<Self>, Problem> {
        fs::create_dir_all(&folder).map_err(|error| failed("make the folder of layers", error))?;
        Ok(Arc::new(Self { folder, drafts, work: Mutex::default() }))
    }

    /// Where a layer is, or will be.
    pub(super) fn path(&self, layer: &Digest) -> PathBuf {
        self.folder.join(layer.to_string())
    }

    pub(super) fn pin(self: &Arc<Self>, layers: &[Digest]) -> Pins {
        let mut work = self.work();
        for layer in layers {
            *work.pinned.entry(*layer).or_default() += 1;
        }
        Pins { layers: Arc::clone(self), pinned: layers.to_vec() }
    }

    /// Waits for whoever unpacks this layer; `None` once it is there.
    pub(super) async fn turn(self: &Arc<Self>, layer: Digest) -> Option<Turn> {
        let turn = {
            let mut work = self.work();
            work.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(work.turns.entry(layer).or_default())
        };
        let alone = turn.lock_owned().await;
        let there = self.path(&layer).is_dir();
        (!there).then(|| Turn { layers: Arc::clone(self), layer, _alone: alone })
    }

    /// Removes the layers that are not named here. Blocks.
    pub(super) fn keep(&self, needed: &HashSet<Digest>) -> Result<u64, Problem> {
        let cannot = |error| failed("remove layers that no image needs", error);
        let away = TempDir::new_in(&self.drafts).map_err(cannot)?;
        let mut removed = 0;
        {
            let work = self.work();
            for layer in fs::read_dir(&self.folder).map_err(cannot)? {
                let layer = layer.map_err(cannot)?;
                let digest: Option<Digest> = layer.file_name().to_str().and_then(|name| name.parse().ok());
                if digest.is_none_or(|digest| needed.contains(&digest) || work.pinned.contains_key(&digest)) {
                    continue;
                }
                // Gone at once, and deleted without the lock.
                fs::rename(layer.path(), away.path().join(layer.file_name())).map_err(cannot)?;
                removed += 1;
            }
        }
        away.close().map_err(cannot)?;
        Ok(removed)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Unpacks the layer from this stream, which must have these digests. Blocks.
    pub(super) fn unpack(
        self,
        stream: impl Read,
        packed: Option<&Digest>,
        budget: &Budget,
    ) -> Result<(), Problem> {
        let draft = draft(&self.layers.drafts)?;
        let measured = unpack(stream, draft.path(), Owners::Kept, budget)?;
        if let Some(packed) = packed {
            check_digest("a layer", packed, &measured.packed)?;
        }
        check_digest("an unpacked layer", &self.layer, &measured.unpacked)?;
        settle(draft, &self.layers.path(&self.layer))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut work = self.layers.work();
        for layer in &self.pinned {
            if let Some(count) = work.pinned.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    work.pinned.remove(layer);
                }
            }
        }
    }
}

/// An empty folder that is removed when dropped, with all that is in it.
pub(super) fn draft(drafts: &Path) -> Result<TempDir, Problem> {
    use std::os::unix::fs::PermissionsExt as _;
    let draft = TempDir::new_in(drafts).map_err(|error| failed("make a folder to unpack into", error))?;
    // The root of a function that runs as somebody else; the folders above are the server's alone.
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(draft.path(), mode).map_err(|error| failed("make a folder to unpack into", error))?;
    Ok(draft)
}

/// Gives what was unpacked, and is on the disk, its place.
pub(super) fn settle(draft: TempDir, place: &Path) -> Result<(), Problem> {
    let moved = fs::rename(draft.path(), place).and_then(|()| {
        // Moved away, there is nothing to remove any more.
        let _ = draft.keep();
        sync_folder_of(place)
    });
    moved.map_err(|error| failed("keep what was unpacked", error))
}

/// Brings the names in a file's folder to the disk.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
