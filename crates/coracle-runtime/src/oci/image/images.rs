//! The images of a server: pulled or loaded, listed, removed; and the bundles that are unpacked beside them.
//! The gateway's admin API changes them; the sandboxes ask for the layers of one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, Bytes};
use coracle_model::{Digest, Problem, code};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::archive::{Archive, Packed};
use super::budget::{Budget, ImageBounds};
use super::bundle::unpack_bundle;
use super::config::{Configuration, ImageConfig};
use super::fault::{failed, invalid, unreadable};
use super::layers::{Layers, Pins, draft, settle};
use super::manifest::{Descriptor, Document, Manifest, for_this_machine};
use super::records::{Record, Records};
use super::reference::Reference;
use super::registry::{Credentials, Piece, Registry};

/// Layers of one image that come at the same time.
const LAYERS_AT_ONCE: usize = 3;
/// Pieces of a layer that wait to be unpacked.
const PIECES_MAX: usize = 16;

/// The images of a server. A clone is a handle to the same.
#[derive(Debug, Clone)]
pub struct Images(Arc<Room>);

#[derive(Debug)]
struct Room {
    folder: PathBuf,
    drafts: PathBuf,
    bounds: ImageBounds,
    layers: Arc<Layers>,
    // Std mutex: held for look-ups, and on blocking threads while a small file is written; never over .await.
    records: Mutex<Records>,
    bundles: tokio::sync::Mutex<()>,
}

/// An image that is there, ready to be stacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its whole name, as in `docker.io/library/nginx:latest`.
    pub reference: String,
    /// The SHA-256 of its manifest.
    pub digest: Digest,
    /// What it says of how it is run.
    pub config: ImageConfig,
    /// The folders of its layers, the uppermost first.
    pub layers: Vec<PathBuf>,
    /// The bytes of its layers as they came, mostly compressed.
    pub size: u64,
    /// When it was built, as it says.
    pub created: Option<Timestamp>,
    /// Whether it was loaded from an archive, and not pulled.
    pub loaded: bool,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// How many layers the image has.
    pub layers: usize,
    /// How many of them are there.
    pub layers_done: usize,
    /// How many bytes came, or were there already.
    pub bytes: u64,
    /// How many bytes its layers have.
    pub bytes_total: u64,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Images.
    pub images: u64,
    /// Layers that no image needs any more.
    pub layers: u64,
}

impl Images {
    /// Opens the images in this folder, and removes what a crash left unfinished. Blocks.
    ///
    /// # Errors
    /// `DISK_FULL`, or `INTERNAL` for what the system refuses.
    pub fn open(folder: &Path, bounds: ImageBounds) -> Result<Self, Problem> {
        let cannot = |error| failed(&format!("open the images in {}", folder.display()), error);
        fs::create_dir_all(folder).map_err(cannot)?;
        // The spawner mounts what is here, and works in another folder.
        let folder = &folder.canonicalize().map_err(cannot)?;
        let drafts = folder.join("tmp");
        match fs::remove_dir_all(&drafts) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
        fs::create_dir_all(folder.join("bundles")).and_then(|()| fs::create_dir(&drafts)).map_err(cannot)?;
        Ok(Self(Arc::new(Room {
            layers: Layers::open(folder.join("layers"), drafts.clone())?,
            records: Mutex::new(Records::open(folder.join("manifests"), drafts.clone())?),
            folder: folder.to_owned(),
            drafts,
            bounds,
            bundles: tokio::sync::Mutex::default(),
        })))
    }

    /// Gets an image from its registry: what is there already is not asked for again.
    ///
    /// # Errors
    /// `INVALID_NAME`, `IMAGE_NOT_FOUND`, `IMAGE_INVALID`, `IMAGE_ARCHITECTURE`, `IMAGE_TOO_LARGE`,
    /// `REGISTRY_DENIED`, `REGISTRY_UNAVAILABLE`, `UNPACK_DENIED`, `DISK_FULL`.
    pub async fn pull(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Image, Problem> {
        let reference = Reference::parse(reference)?;
        let registry = Registry::of(reference.clone(), credentials.as_ref(), &self.0.bounds)?;
        let pulling = Box::pin(self.pull_from(&registry, &reference, &progress));
        let pulled = tokio::time::timeout(self.0.bounds.pull_time, pulling).await;
        pulled.unwrap_or_else(|_| {
            let minutes = self.0.bounds.pull_time.as_secs() / 60;
            let message = format!("cannot get `{reference}`: it took longer than {minutes} minutes");
            Err(Problem::new(&code::REGISTRY_UNAVAILABLE, message))
        })
    }

    /// Loads all images of an archive: an OCI layout or Docker's, in a tar, compressed or not.
    ///
    /// `tag` names the image where there is one; else the archive does.
    ///
    /// # Errors
    /// As for [`pull`](Self::pull), without the registry's; `BAD_REQUEST` for an image without a name.
    pub async fn load(&self, archive: File, tag: Option<&str>) -> Result<Vec<Image>, Problem> {
        let tag = tag.map(Reference::parse).transpose()?;
        let budget = Arc::new(Budget::new(self.0.bounds));
        let room = Arc::clone(&self.0);
        let packed = blocking(move || Archive::open(archive, &room.drafts, &budget)?.images()).await?;
        if tag.is_some() && packed.len() > 1 {
            let message = format!("one name cannot be that of {} images", packed.len());
            return Err(
                Problem::new(&code::BAD_REQUEST, message).hint("leave out `--tag`: the archive names them")
            );
        }
        let mut loaded = Vec::with_capacity(packed.len());
        for image in packed {
            let names = match &tag {
                Some(tag) => vec![tag.clone()],
                None => image.names.iter().map(|name| Reference::parse(name)).collect::<Result<_, _>>()?,
            };
            if names.is_empty() {
                return Err(Problem::new(&code::BAD_REQUEST, "the archive has an image without a name")
                    .hint("name it: coracle image load FILE --tag NAME"));
            }
            let digest = format!("sha256:{}", image.digest);
            if let Some(other) = names.iter().find(|name| name.digest().is_some_and(|named| named != digest))
            {
                return Err(invalid(format!("the archive names an image `{other}`, and it is {digest}")));
            }
            let (record, _pins) = Box::pin(self.unpack(image, &names[0])).await?;
            for name in names {
                loaded.push(self.keep(&name, record.clone()).await?);
            }
        }
        Ok(loaded)
    }

    /// A file for an archive that is on its way here; it has no name, and is gone when it is closed. Blocks.
    ///
    /// # Errors
    /// `DISK_FULL`, or what else the system refuses.
    pub fn new_archive(&self) -> Result<File, Problem> {
        tempfile::tempfile_in(&self.0.drafts).map_err(|error| failed("make a file for the archive", error))
    }

    /// All images, by name; one that has two names stands there twice.
    pub fn list(&self) -> Vec<Image> {
        let records = self.records();
        records.all().into_iter().map(|(name, record)| self.image(name, record)).collect()
    }

    /// The image whose manifest has this digest.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`.
    pub fn get(&self, digest: Digest) -> Result<Image, Problem> {
        let records = self.records();
        let record = records.get(&digest).ok_or_else(|| {
            Problem::new(
                &code::IMAGE_NOT_FOUND,
                format!("the image {} is not on this server", digest.short()),
            )
            .hint("deploy the function again, which gets it anew")
        })?;
        Ok(self.image(record.name.clone(), record))
    }

    /// The registry of an image, as its reference names it.
    ///
    /// # Errors
    /// `INVALID_NAME`.
    pub fn registry_of(reference: &str) -> Result<String, Problem> {
        Ok(Reference::parse(reference)?.registry().to_owned())
    }

    /// The image of this name, if it is there.
    pub fn find(&self, reference: &str) -> Option<Image> {
        let reference = Reference::parse(reference).ok()?.to_string();
        let records = self.records();
        records.find(&reference).map(|record| self.image(reference.clone(), record))
    }

    /// Takes the name away from an image; the image goes too, unless it has another name or is needed.
    ///
    /// # Errors
    /// `INVALID_NAME`, `IMAGE_NOT_FOUND`, and what the system refuses.
    pub async fn remove(&self, reference: &str, needed: HashSet<Digest>) -> Result<Pruned, Problem> {
        let reference = Reference::parse(reference)?.to_string();
        let images = self.clone();
        blocking(move || {
            {
                let mut records = images.records();
                let digest = records.unname(&reference)?.ok_or_else(|| {
                    Problem::new(&code::IMAGE_NOT_FOUND, format!("there is no image `{reference}`"))
                        .hint("`coracle image list` shows those there are")
                })?;
                if needed.contains(&digest) || records.is_named(&digest) {
                    return Ok(Pruned::default());
                }
            }
            images.forget(|record, named| named || needed.contains(&record.digest))
        })
        .await
    }

    /// Removes the images that are not named here by their digests, and then the layers that no image needs.
    ///
    /// # Errors
    /// What the system refuses.
    pub async fn prune(&self, needed: &HashSet<Digest>) -> Result<Pruned, Problem> {
        let (images, needed) = (self.clone(), needed.clone());
        blocking(move || images.forget(|record, _| needed.contains(&record.digest))).await
    }

    /// The folder of a bundle, unpacked from its archive once: a tar, tar.gz or zip.
    ///
    /// # Errors
    /// `IMAGE_INVALID`, `IMAGE_TOO_LARGE`, `DISK_FULL`.
    pub async fn bundle(&self, artifact: Digest, archive: File) -> Result<PathBuf, Problem> {
        let place = self.bundle_folder(&artifact);
        if place.is_dir() {
            return Ok(place);
        }
        // One after the other: a bundle is small, and made once.
        let _alone = self.0.bundles.lock().await;
        if place.is_dir() {
            return Ok(place);
        }
        let room = Arc::clone(&self.0);
        blocking(move || {
            let draft = draft(&room.drafts)?;
            unpack_bundle(archive, draft.path(), &Budget::new(room.bounds))?;
            match settle(draft, &place) {
                // A caller that went away left its work to be finished without it.
                Err(_) if place.is_dir() => Ok(place),
                settled => settled.map(|()| place),
            }
        })
        .await
    }

    /// Removes an unpacked bundle, if it is there. Blocks.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn forget_bundle(&self, artifact: &Digest) -> Result<(), Problem> {
        let cannot = |error| failed("remove a bundle", error);
        let away = draft(&self.0.drafts)?;
        match fs::rename(self.bundle_folder(artifact), away.path().join("bundle")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot(error)),
            _ => away.close().map_err(cannot),
        }
    }

    async fn pull_from(
        &self,
        registry: &Registry,
        reference: &Reference,
        progress: &(impl Fn(Progress) + Send + Sync),
    ) -> Result<Image, Problem> {
        let (bytes, mut digest) = registry.manifest().await?;
        let mut document = Document::parse(&bytes)?;
        if let Document::Index(manifests) = &document {
            let entry = for_this_machine(manifests)?;
            digest = entry.sha256()?;
            document = Document::parse(&registry.manifest_of(entry).await?)?;
        }
        let Document::Image(Manifest { config, layers }) = document else {
            return Err(invalid("an index within an index names no image"));
        };
        let configuration = Configuration::parse(&registry.blob(&config).await?)?;
        check_layers(&configuration, layers.len())?;
        let _pins = self.0.layers.pin(&configuration.layers);
        let size = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let (bytes, done) = (AtomicU64::new(0), AtomicUsize::new(0));
        let tell = |more: u64| {
            let bytes = bytes.fetch_add(more, Ordering::Relaxed) + more;
            let layers_done = done.load(Ordering::Relaxed);
            progress(Progress { layers: layers.len(), layers_done, bytes, bytes_total: size });
        };
        tell(0);
        let budget = Arc::new(Budget::new(self.0.bounds));
        let pulls = layers.iter().zip(&configuration.layers).map(|(layer, unpacked)| {
            let (budget, tell, done) = (&budget, &tell, &done);
            async move {
                let came = self.pull_layer(registry, layer, *unpacked, budget, tell).await?;
                done.fetch_add(1, Ordering::Relaxed);
                tell(if came { 0 } else { layer.size });
                Ok::<_, Problem>(())
            }
        });
        let pulls: Vec<_> = pulls.collect();
        stream::iter(pulls).buffer_unordered(LAYERS_AT_ONCE).try_collect::<Vec<()>>().await?;
        let Configuration { config, layers, created } = configuration;
        let name = reference.to_string();
        let record = Record { name, digest, config, layers, size, created, loaded: false };
        self.keep(reference, record).await
    }

    /// Gets and unpacks a layer; says whether it was not there already.
    async fn pull_layer(
        &self,
        registry: &Registry,
        layer: &Descriptor,
        unpacked: Digest,
        budget: &Arc<Budget>,
        passed: &(impl Fn(u64) + Send + Sync),
    ) -> Result<bool, Problem> {
        let packed = layer.sha256()?;
        let Some(turn) = self.0.layers.turn(unpacked).await else { return Ok(false) };
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let budget = Arc::clone(budget);
        let unpacking = blocking(move || {
            turn.unpack(Pieces { pieces, piece: Bytes::new(), ended: false }, Some(&packed), &budget)
        });
        let (sent, unpacked) = tokio::join!(registry.layer(layer, sender, passed), unpacking);
        // A registry that broke off is why unpacking failed.
        sent?;
        unpacked.map(|()| true)
    }

    /// Unpacks the layers of an image that was loaded; they are spared until it is kept.
    async fn unpack(&self, image: Packed, name: &Reference) -> Result<(Record, Pins), Problem> {
        let Configuration { config, layers, created } = {
            let configuration = Configuration::parse(&image.config)?;
            check_layers(&configuration, image.layers.len())?;
            configuration
        };
        let pins = self.0.layers.pin(&layers);
        let budget = Arc::new(Budget::new(self.0.bounds));
        let mut size = 0;
        for (layer, unpacked) in image.layers.into_iter().zip(&layers) {
            size += layer.content.len();
            if let Some(turn) = self.0.layers.turn(*unpacked).await {
                let budget = Arc::clone(&budget);
                blocking(move || turn.unpack(layer.content, layer.digest.as_ref(), &budget)).await?;
            }
        }
        let (name, digest) = (name.to_string(), image.digest);
        let record = Record { name, digest, config, layers, size, created, loaded: true };
        Ok((record, pins))
    }

    async fn keep(&self, reference: &Reference, record: Record) -> Result<Image, Problem> {
        let (images, reference) = (self.clone(), reference.to_string());
        blocking(move || {
            let image = images.image(reference.clone(), &record);
            images.records().put(&reference, record)?;
            Ok(image)
        })
        .await
    }

    fn forget(&self, is_kept: impl Fn(&Record, bool) -> bool) -> Result<Pruned, Problem> {
        let (images, needed) = {
            let mut records = self.records();
            let named: HashSet<Digest> = records
                .all()
                .iter()
                .filter(|(_, record)| records.is_named(&record.digest))
                .map(|(_, record)| record.digest)
                .collect();
            let gone = records.forget(|record| !is_kept(record, named.contains(&record.digest)))?;
            (gone.len() as u64, records.layers())
        };
        Ok(Pruned { images, layers: self.0.layers.keep(&needed)? })
    }

    fn image(&self, reference: String, record: &Record) -> Image {
        let layers = record.layers.iter().rev().map(|layer| self.0.layers.path(layer)).collect();
        let Record { digest, config, size, created, loaded, .. } = record.clone();
        Image { reference, digest, config, layers, size, created, loaded }
    }

    fn bundle_folder(&self, artifact: &Digest) -> PathBuf {
        self.0.folder.join("bundles").join(artifact.to_string())
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_layers(configuration: &Configuration, layers: usize) -> Result<(), Problem> {
    let named = configuration.layers.len();
    if named == layers {
        return Ok(());
    }
    Err(invalid(format!("the image has {layers} layers, and its configuration names {named}")))
}

/// Does what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Problem::new(&code::INTERNAL, format!("unpack an image: {error}"))))
}

/// What comes from a registry, for the thread that unpacks it.
struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Some(bytes)) => self.piece = bytes,
                Some(Piece::End) => self.ended = true,
                None => {
                    let broken = io::ErrorKind::ConnectionAborted.into();
                    return Err(io::Error::other(unreadable("the layer ended before its end", &broken)));
                }
            }
        }
        let read = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
