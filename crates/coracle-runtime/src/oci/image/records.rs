//! What is known of the images that are there: a small file for each, and one for their names.
//! `images.rs` holds it in memory; a change is on the disk before anybody is told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use coracle_model::{Digest, Problem, code};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::config::ImageConfig;
use super::fault::failed;
use super::layers::sync_folder_of;

/// The most names of images on one server.
const REFERENCES_MAX: usize = 10_000;

/// An image as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// What it was first asked for by.
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    /// The digests of its unpacked layers, lowest first.
    pub(super) layers: Vec<Digest>,
    /// The bytes of its layers as they came.
    pub(super) size: u64,
    pub(super) created: Option<Timestamp>,
    /// Whether it came from an archive, so that no registry is asked for it.
    #[serde(default)]
    pub(super) loaded: bool,
}

/// All images and their names.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
    drafts: PathBuf,
    images: HashMap<Digest, Record>,
    references: BTreeMap<String, Digest>,
}

impl Records {
    /// Reads what is in this folder. What cannot be read is said, skipped and left alone.
    pub(super) fn open(folder: PathBuf, drafts: PathBuf) -> Result<Self, Problem> {
        let cannot = |error| failed("read the images", error);
        fs::create_dir_all(&folder).map_err(cannot)?;
        let mut images = HashMap::new();
        for file in fs::read_dir(&folder).map_err(cannot)? {
            let path = file.map_err(cannot)?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let Some(digest) = name.and_then(|name| name.parse::<Digest>().ok()) else { continue };
            match read::<Record>(&path) {
                Ok(record) if record.digest == digest => drop(images.insert(digest, record)),
                Ok(_) => {
                    tracing::error!(file = %path.display(), "the record of an image is that of another; it is skipped")
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), error, "the record of an image cannot be read; it is skipped")
                }
            }
        }
        let mut records = Self { folder, drafts, images, references: BTreeMap::new() };
        let names = records.names_file();
        if names.exists() {
            match read::<BTreeMap<String, Digest>>(&names) {
                Ok(references) => records.references = references,
                Err(error) => {
                    tracing::error!(file = %names.display(), error, "the names of images cannot be read; images are known by their first names")
                }
            }
        }
        let images = &records.images;
        records.references.retain(|_, digest| images.contains_key(digest));
        Ok(records)
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Record> {
        self.images.get(digest)
    }

    pub(super) fn find(&self, reference: &str) -> Option<&Record> {
        self.images.get(self.references.get(reference)?)
    }

    /// Every name with its image, in order, and then the images that have no name any more.
    pub(super) fn all(&self) -> Vec<(String, &Record)> {
        let named: HashSet<&Digest> = self.references.values().collect();
        let found = self
            .references
            .iter()
            .filter_map(|(name, digest)| Some((name.clone(), self.images.get(digest)?)));
        let mut nameless: Vec<&Record> =
            self.images.values().filter(|record| !named.contains(&record.digest)).collect();
        nameless.sort_by(|a, b| (&a.name, a.digest).cmp(&(&b.name, b.digest)));
        found.chain(nameless.into_iter().map(|record| (record.name.clone(), record))).collect()
    }

    /// Keeps an image under a name, which may have been another's.
    pub(super) fn put(&mut self, reference: &str, record: Record) -> Result<(), Problem> {
        if self.references.len() >= REFERENCES_MAX && !self.references.contains_key(reference) {
            let message = format!("there are {REFERENCES_MAX} images already");
            return Err(Problem::new(&code::LIMIT_REACHED, message).hint("coracle image prune"));
        }
        self.write(&self.image_file(&record.digest), &record)?;
        let mut references = self.references.clone();
        references.insert(reference.to_owned(), record.digest);
        self.write(&self.names_file(), &references)?;
        self.references = references;
        self.images.insert(record.digest, record);
        Ok(())
    }

    /// Takes a name away; the image stays. Says which one it was.
    pub(super) fn unname(&mut self, reference: &str) -> Result<Option<Digest>, Problem> {
        let mut references = self.references.clone();
        let Some(digest) = references.remove(reference) else { return Ok(None) };
        self.write(&self.names_file(), &references)?;
        self.references = references;
        Ok(Some(digest))
    }

    /// Whether an image has a name.
    pub(super) fn is_named(&self, digest: &Digest) -> bool {
        self.references.values().any(|named| named == digest)
    }

    /// Forgets the images for which this is so, with their names.
    pub(super) fn forget(&mut self, is_unneeded: impl Fn(&Record) -> bool) -> Result<Vec<Digest>, Problem> {
        let gone: Vec<Digest> =
            self.images.values().filter(|record| is_unneeded(record)).map(|record| record.digest).collect();
        let mut references = self.references.clone();
        references.retain(|_, digest| !gone.contains(digest));
        if references.len() != self.references.len() {
            self.write(&self.names_file(), &references)?;
            self.references = references;
        }
        for digest in &gone {
            fs::remove_file(self.image_file(digest)).map_err(|error| failed("forget an image", error))?;
            self.images.remove(digest);
        }
        Ok(gone)
    }

    /// The layers that images need.
    pub(super) fn layers(&self) -> HashSet<Digest> {
        self.images.values().flat_map(|record| record.layers.iter().copied()).collect()
    }

    fn image_file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.json"))
    }

    fn names_file(&self) -> PathBuf {
        self.folder.join("names.json")
    }

    /// Writes a file that is there as a whole or as it was.
    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), Problem> {
        let write = || {
            let mut draft = NamedTempFile::new_in(&self.drafts)?;
            draft.write_all(&serde_json::to_vec(value)?)?;
            draft.as_file().sync_all()?;
            draft.persist(path)?;
            sync_folder_of(path)
        };
        write().map_err(|error: std::io::Error| failed("keep the record of an image", error))
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}
