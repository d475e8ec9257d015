//! Machine code of single functions, kept from one compile for the next: what did not change is not compiled again.
//! A compile process reads the parts of the revision before, and writes those of its own; most of a component is its language's engine.
//!
//! Parts come from the compiler's own cache (`incremental-cache`), which names each by all that shapes it.
//! A compile that was taken over by hostile code could leave parts for the next, so they are for servers whose deployers trust each other.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmtime::CacheStore;

/// Parts that are not worth keeping, in bytes: JavaScript's engine makes some 100 MB of them.
const PARTS_BYTES_MAX: usize = 512 << 20;

/// The length of the digest at the end of a file.
const DIGEST_BYTES: usize = blake3::OUT_LEN;

/// The parts that were there, and those that are used or made now.
#[derive(Default)]
pub(super) struct Parts {
    /// A file as it was read, and where in it the value of each key stands.
    before: Vec<u8>,
    places: HashMap<Vec<u8>, Range<usize>>,
    // Std mutex: held for one insertion, by the threads of one compile.
    now: Mutex<HashMap<Vec<u8>, Part>>,
}

/// A part of the new file.
enum Part {
    Before(Range<usize>),
    Made(Vec<u8>),
}

impl Parts {
    /// Those in a file; none when it is missing or damaged, which costs time and nothing else.
    pub(super) fn read(file: &Path) -> Self {
        let before = fs::read(file).unwrap_or_default();
        match index(&before) {
            Some(places) => Self { before, places, now: Mutex::default() },
            None => Self::default(),
        }
    }

    /// Writes those that this compile used or made; nothing when they are too many.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let now = self.now();
        let value = |part: &'_ Part| match part {
            Part::Before(place) => place.len(),
            Part::Made(bytes) => bytes.len(),
        };
        if now.iter().map(|(key, part)| key.len() + value(part)).sum::<usize>() > PARTS_BYTES_MAX {
            return Ok(());
        }
        let mut out = Hashing {
            out: BufWriter::new(OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?),
            hasher: blake3::Hasher::new(),
        };
        for (key, part) in &*now {
            let value = match part {
                Part::Before(place) => &self.before[place.clone()],
                Part::Made(bytes) => bytes,
            };
            for bytes in [key, value] {
                out.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
                out.write_all(bytes)?;
            }
        }
        let digest = out.hasher.finalize();
        out.out.write_all(digest.as_bytes())?;
        out.out.flush()
    }

    fn now(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Part>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStore for Parts {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let place = self.places.get(key)?;
        self.now().insert(key.to_owned(), Part::Before(place.clone()));
        Some(Cow::Borrowed(&self.before[place.clone()]))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.now().insert(key.to_owned(), Part::Made(value));
        true
    }
}

/// Where each value stands in a file; none when it is not whole.
fn index(file: &[u8]) -> Option<HashMap<Vec<u8>, Range<usize>>> {
    let (entries, digest) = file.split_at_checked(file.len().checked_sub(DIGEST_BYTES)?)?;
    if blake3::hash(entries).as_bytes() != digest {
        return None;
    }
    let mut at = 0;
    let mut next = || {
        let length = entries.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)?;
        let place = at + 4..at + 4 + length as usize;
        at = place.end;
        entries.get(place.clone()).map(|bytes| (place, bytes))
    };
    let mut places = HashMap::new();
    while let Some((_, key)) = next() {
        places.insert(key.to_owned(), next()?.0);
    }
    Some(places)
}

/// A writer that knows the digest of what it wrote.
struct Hashing {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("before", &self.places.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("parts");
        (folder, file)
    }

    #[test]
    fn what_was_used_or_made_is_there_the_next_time_and_nothing_else() {
        let (_folder, file) = file();
        let first = Parts::default();
        assert!(first.get(b"a").is_none());
        assert!(first.insert(b"a", b"one".to_vec()) && first.insert(b"b", Vec::new()));
        first.write(&file).unwrap();

        let second = Parts::read(&file);
        assert_eq!(second.get(b"a").as_deref(), Some(&b"one"[..]));
        assert!(second.insert(b"c", b"two".to_vec()));
        fs::remove_file(&file).unwrap();
        second.write(&file).unwrap();

        let third = Parts::read(&file);
        assert_eq!(third.get(b"a").as_deref(), Some(&b"one"[..]));
        assert_eq!(third.get(b"b"), None, "nobody used it");
        assert_eq!(third.get(b"c").as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn a_file_that_is_damaged_anywhere_has_no_parts() {
        let (_folder, file) = file();
        let parts = Parts::default();
        parts.insert(b"key", b"value".to_vec());
        parts.write(&file).unwrap();
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, damaged).unwrap();
            assert_eq!(Parts::read(&file).get(b"key"), None);
            fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(Parts::read(&file).get(b"key"), None);
        }
    }
}
