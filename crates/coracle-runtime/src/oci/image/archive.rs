//! An archive of images: what `docker save`, `podman save`, `skopeo copy` or `buildah push` write.
//! `images.rs` loads it: an OCI layout in a tar, or Docker's own format; all of it blocking.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use coracle_model::{Digest, Problem};
use serde::Deserialize;
use tar::EntryType;

use super::budget::{Budget, too_large};
use super::decode::Decoded;
use super::fault::{failed, invalid, shown, unreadable};
use super::manifest::{
    DOCUMENT_BYTES_MAX, Descriptor, Document, Manifest, check_digest, digest_of, for_this_machine,
};
use super::path::EntryPath;

/// The most entries of an archive: each layer has a few.
const ENTRIES_MAX: usize = 10_000;
/// The most images of an archive.
const IMAGES_MAX: usize = 100;
/// Where a name stands in an index: whole, as containerd and Docker write it, or as others do.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An archive whose entries can be read in any order.
pub(super) struct Archive {
    file: Arc<File>,
    entries: HashMap<Vec<u8>, Place>,
    /// The folder that the layout lies in.
    prefix: Vec<u8>,
}

/// An image of an archive.
pub(super) struct Packed {
    pub(super) names: Vec<String>,
    pub(super) digest: Digest,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<PackedLayer>,
}

/// A layer of an image of an archive.
pub(super) struct PackedLayer {
    /// The digest that it must have as it lies there, if anything says one.
    pub(super) digest: Option<Digest>,
    pub(super) content: Slice,
}

#[derive(Debug, Clone)]
enum Place {
    At {
        offset: u64,
        length: u64,
    },
    /// The same as another entry.
    Link(Vec<u8>),
}

/// One image in the list that Docker writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    /// Looks through an archive; a compressed one is unpacked beside what is being made, first.
    pub(super) fn open(mut file: File, drafts: &Path, budget: &Budget) -> Result<Self, Problem> {
        let cannot = |error: &io::Error| unreadable("the archive cannot be read", error);
        let mut start = [0; 4];
        file.read_exact(&mut start)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .map_err(|error| cannot(&error))?;
        if start.starts_with(&[0x1f, 0x8b]) || start == [0x28, 0xb5, 0x2f, 0xfd] {
            let mut plain =
                tempfile::tempfile_in(drafts).map_err(|error| failed("unpack the archive", error))?;
            let mut decoded = Decoded::new(file, budget).map_err(|error| cannot(&error))?;
            io::copy(&mut decoded, &mut plain).map_err(|error| failed("unpack the archive", error))?;
            plain.seek(SeekFrom::Start(0)).map_err(|error| failed("unpack the archive", error))?;
            file = plain;
        }
        let entries = index(&file, budget)?;
        let layout =
            entries.keys().filter(|name| name.ends_with(b"index.json") || name.ends_with(b"manifest.json"));
        let folder = layout
            .filter_map(|name| Some(EntryPath::parse(name).ok()?.split()?.0))
            .min_by_key(|folder| folder.as_bytes().len());
        let folder = folder.ok_or_else(|| {
            invalid("the archive holds no image: there is no `index.json` and no `manifest.json` in it")
                .hint("make one with `docker save NAME -o image.tar`")
        })?;
        let mut prefix = folder.as_bytes().to_vec();
        if !folder.is_root() {
            prefix.push(b'/');
        }
        Ok(Self { file: Arc::new(file), entries, prefix })
    }

    /// The images, each for this machine.
    pub(super) fn images(&self) -> Result<Vec<Packed>, Problem> {
        let images = match self.slice("index.json") {
            Ok(_) => self.images_of_layout()?,
            Err(_) => self.images_of_docker()?,
        };
        match images.len() {
            0 => Err(invalid("the archive holds no image")),
            1..=IMAGES_MAX => Ok(images),
            more => {
                Err(too_large(format!("the archive holds {more} images, at most {IMAGES_MAX} are possible")))
            }
        }
    }

    fn images_of_layout(&self) -> Result<Vec<Packed>, Problem> {
        let Document::Index(listed) = Document::parse(&self.document("index.json")?)? else {
            return Err(invalid("`index.json` lists no images"));
        };
        listed.iter().take(IMAGES_MAX + 1).map(|descriptor| self.image_of_layout(descriptor)).collect()
    }

    fn image_of_layout(&self, listed: &Descriptor) -> Result<Packed, Problem> {
        let mut digest = listed.sha256()?;
        let mut document = Document::parse(&self.blob(&digest)?)?;
        if let Document::Index(manifests) = &document {
            digest = for_this_machine(manifests)?.sha256()?;
            document = Document::parse(&self.blob(&digest)?)?;
        }
        let Document::Image(Manifest { config, layers }) = document else {
            return Err(invalid("an index within an index names no image"));
        };
        let layer = |descriptor: &Descriptor| {
            let digest = descriptor.sha256()?;
            Ok(PackedLayer { digest: Some(digest), content: self.slice(&blob_path(&digest))? })
        };
        let names = NAMES.iter().find_map(|name| listed.annotations.get(*name)).cloned();
        Ok(Packed {
            names: names.into_iter().collect(),
            digest,
            config: self.blob(&config.sha256()?)?,
            layers: layers.iter().map(layer).collect::<Result<_, Problem>>()?,
        })
    }

    fn images_of_docker(&self) -> Result<Vec<Packed>, Problem> {
        let listed: Vec<Listed> = serde_json::from_slice(&self.document("manifest.json")?)
            .map_err(|error| invalid(format!("`manifest.json` cannot be read: {error}")))?;
        let image = |listed: Listed| {
            let config = self.document(&listed.config)?;
            let layer = |name: &String| Ok(PackedLayer { digest: None, content: self.slice(name)? });
            let layers: Vec<PackedLayer> = listed.layers.iter().map(layer).collect::<Result<_, Problem>>()?;
            let names = listed.repo_tags.unwrap_or_default();
            Ok(Packed { names, digest: digest_without_manifest(&config), config, layers })
        };
        listed.into_iter().take(IMAGES_MAX + 1).map(image).collect()
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Problem> {
        let path = blob_path(digest);
        let bytes = self.document(&path)?;
        check_digest(&format!("`{path}`"), digest, &digest_of(&bytes))?;
        Ok(bytes)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Problem> {
        let mut slice = self.slice(name)?;
        if slice.left > DOCUMENT_BYTES_MAX {
            return Err(too_large(format!(
                "`{}` has more than {} MiB",
                shown(name.as_bytes()),
                DOCUMENT_BYTES_MAX >> 20
            )));
        }
        let mut bytes = Vec::new();
        slice.read_to_end(&mut bytes).map_err(|error| failed("read the archive", error))?;
        Ok(bytes)
    }

    fn slice(&self, name: &str) -> Result<Slice, Problem> {
        let missing = || invalid(format!("the archive lacks `{}`, which it names", shown(name.as_bytes())));
        let name = [&self.prefix, EntryPath::parse(name.as_bytes())?.as_bytes()].concat();
        let mut place = self.entries.get(&name).ok_or_else(missing)?;
        // One link is what Docker writes; more of them could go round in a circle.
        if let Place::Link(target) = place {
            place = self.entries.get(target).ok_or_else(missing)?;
        }
        match place {
            Place::At { offset, length } => {
                Ok(Slice { file: Arc::clone(&self.file), at: *offset, left: *length })
            }
            Place::Link(_) => Err(missing()),
        }
    }
}

/// A part of an archive. Its length, as the descriptor's, is no promise: digests are.
pub(super) struct Slice {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Slice {
    pub(super) fn len(&self) -> u64 {
        self.left
    }
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

fn index(file: &File, budget: &Budget) -> Result<HashMap<Vec<u8>, Place>, Problem> {
    let broken = |error: &io::Error| unreadable("the archive cannot be read", error);
    let decoded = Decoded::new(file, budget).map_err(|error| broken(&error))?;
    let allowance = decoded.allowance();
    let mut archive = tar::Archive::new(decoded);
    let mut entries = HashMap::new();
    let mut found = archive.entries().map_err(|error| broken(&error))?;
    loop {
        allowance.headers();
        let Some(entry) = found.next() else { return Ok(entries) };
        let mut entry = entry.map_err(|error| broken(&error))?;
        allowance.content();
        if entries.len() >= ENTRIES_MAX {
            return Err(too_large(format!(
                "the archive has more than {ENTRIES_MAX} entries: it is no archive of images"
            )));
        }
        let path = EntryPath::parse(&entry.path_bytes())?;
        let place = match entry.header().entry_type() {
            EntryType::Regular => Some(Place::At { offset: entry.raw_file_position(), length: entry.size() }),
            EntryType::Link => {
                let target = entry.link_name_bytes().and_then(|target| EntryPath::parse(&target).ok());
                target.map(|target| Place::Link(target.as_bytes().to_vec()))
            }
            EntryType::Symlink => {
                entry.link_name_bytes().and_then(|target| beside(&path, &target)).map(Place::Link)
            }
            _ => None,
        };
        if let Some(place) = place {
            entries.insert(path.as_bytes().to_vec(), place);
        }
        io::copy(&mut entry, &mut io::sink()).map_err(|error| broken(&error))?;
    }
}

/// The entry that a symbolic link means, as Docker writes them: `../ID/layer.tar`.
fn beside(link: &EntryPath, target: &[u8]) -> Option<Vec<u8>> {
    let mut folder = link.split()?.0;
    let mut rest = target;
    while let Some(up) = rest.strip_prefix(b"../") {
        folder = folder.split()?.0;
        rest = up;
    }
    let path = [folder.as_bytes(), b"/", rest].concat();
    Some(EntryPath::parse(&path).ok()?.as_bytes().to_vec())
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{digest}")
}

/// What names an image of an archive that has no manifests: the digest of its configuration, marked as such.
///
/// The configuration names all layers by their digests, so it names the image as well as a manifest would.
fn digest_without_manifest(config: &[u8]) -> Digest {
    let marked = format!("an image without a manifest\n{}", digest_of(config));
    digest_of(marked.as_bytes())
}
