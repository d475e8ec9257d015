//! Machine code on disk, each file sealed: made here, by us, of that artifact, and not changed since.
//! Loading machine code is trusting it with everything, so nothing is mapped whose seal does not hold.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{collections::HashMap, io};

use coracle_model::{Contract, Digest, Problem, code};
use serde::{Deserialize, Serialize};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::wasm::compile::{Compiled, PartFiles};
use crate::wasm::engine::found_no_room;

/// The name of the key that seals, in the directory of the cache.
const KEY_FILE: &str = "seal.key";

/// How files of parts end.
const PARTS: &str = "parts";

/// The folder of machine code.
#[derive(Debug)]
pub(super) struct CodeCache {
    dir: PathBuf,
    key: Key,
    /// Names the engine's version and settings: code of another one is another file.
    engine: String,
    /// Files whose seal was checked by this process.
    // Std mutex: held for one look-up, never over the disk.
    checked: Mutex<HashMap<Digest, Checked>>,
}

struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What tells one file from another that took its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed_ns: i128,
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let changed_ns = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
        Ok(Self { device: meta.dev(), inode: meta.ino(), bytes: meta.size(), changed_ns })
    }
}

/// A file whose seal held: as it was then, and how what is in it is spoken to.
#[derive(Debug, Clone, Copy)]
struct Checked {
    file: Identity,
    contract: Contract,
}

/// Why there is no code to map.
#[derive(Debug)]
pub(super) enum NoCode {
    /// It was never made by this engine.
    Missing,
    /// Its file is not what was sealed.
    Damaged(String),
    /// The process has no room for another mapping.
    NoRoom(wasmtime::Error),
}

/// Code that is mapped, and what is known of it.
pub(super) struct Mapped {
    pub(super) component: Component,
    pub(super) contract: Contract,
    pub(super) bytes: u64,
}

/// What stands beside a file of code.
#[derive(Debug, Serialize, Deserialize)]
struct Seal {
    compiled: Compiled,
    /// The BLAKE3 of the code.
    hash: String,
    /// Binds all of the above to the artifact, the engine and the key.
    mac: String,
}

impl CodeCache {
    /// Opens the folder, or makes it: 0700, with a key of its own.
    ///
    /// # Errors
    /// When it cannot be used, or others may write in it.
    pub(super) fn open(dir: &Path, engine: &Engine) -> Result<Self, Problem> {
        let unusable = |what: String| {
            Problem::new(&code::DATA_UNUSABLE, format!("use the code cache {}: {what}", dir.display()))
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| unusable(error.to_string()))?;
        let meta = fs::metadata(dir).map_err(|error| unusable(error.to_string()))?;
        if meta.permissions().mode() & 0o022 != 0 {
            return Err(unusable("others may write in it".into())
                .hint(format!("run `chmod 700 {}`: whoever writes there runs code as you", dir.display())));
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(
                unusable("it belongs to another user".into()).hint("name another one with `CORACLE_CACHE`")
            );
        }
        let key = load_key(&dir.join(KEY_FILE)).map_err(|error| unusable(format!("its key: {error}")))?;
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = format!("{:016x}", hasher.finish());
        let cache = Self { dir: dir.to_owned(), key, engine, checked: Mutex::default() };
        cache.sweep();
        Ok(cache)
    }

    /// A name for code that is about to be made.
    pub(super) fn draft(&self, artifact: &Digest) -> PathBuf {
        let unique = crate::identity::random_bits();
        self.dir.join(format!("{artifact}.{unique:016x}.tmp"))
    }

    /// Seals a draft and gives it its name.
    pub(super) fn keep(&self, artifact: &Digest, draft: &Path, compiled: Compiled) -> io::Result<()> {
        let mut file = File::open(draft)?;
        let hash = hash_of(&mut file)?;
        let mac = self.mac(artifact, &compiled, &hash);
        let seal = serde_json::to_vec(&Seal { compiled, hash, mac })?;
        let draft_seal = draft.with_extension("seal.tmp");
        let name = || {
            let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft_seal)?;
            // Not synced, nor is the code: what a crash of the machine leaves of them does not match, and is made anew.
            out.write_all(&seal)?;
            fs::set_permissions(draft, fs::Permissions::from_mode(0o600))?;
            // The code first: a seal without its code is "missing", code without its seal as well.
            fs::rename(draft, self.path(artifact, "cwasm"))?;
            fs::rename(&draft_seal, self.path(artifact, "seal"))
        };
        name().inspect_err(|_| {
            // It may never have been made.
            let _ = fs::remove_file(&draft_seal);
        })?;
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).remove(artifact);
        Ok(())
    }

    /// The parts for a draft: those of the artifact before it, and where its own are to go.
    pub(super) fn part_files(&self, draft: &Path, before: Option<&Digest>) -> PartFiles {
        let before = before.map(|before| self.path(before, PARTS));
        PartFiles { before, now: draft.with_extension("parts.tmp") }
    }

    /// Gives parts their name once their code is kept, in the place of those that were before.
    pub(super) fn keep_parts(&self, artifact: &Digest, files: &PartFiles, code_is_kept: bool) {
        // They only save time: whatever fails here, the next compile does without them.
        if !code_is_kept {
            let _ = fs::remove_file(&files.now);
        } else if fs::rename(&files.now, self.path(artifact, PARTS)).is_ok()
            && let Some(before) = &files.before
        {
            let _ = fs::remove_file(before);
        }
    }

    /// What is known of code that was made, without mapping it.
    pub(super) fn known(&self, artifact: &Digest) -> Result<Compiled, NoCode> {
        let (mut file, identity) = self.open_code(artifact)?;
        self.check(artifact, &mut file, identity)
    }

    /// Maps code, once its seal holds; a file that was checked already is not read for it.
    pub(super) fn map(&self, artifact: &Digest, engine: &Engine) -> Result<Mapped, NoCode> {
        let (mut file, identity) = self.open_code(artifact)?;
        let contract = match self.checked(artifact, identity) {
            Some(contract) => contract,
            None => self.check(artifact, &mut file, identity)?.contract,
        };
        let component = deserialize(engine, &file).map_err(|error| {
            if found_no_room(&error) { NoCode::NoRoom(error) } else { NoCode::Damaged(format!("{error:#}")) }
        })?;
        Ok(Mapped { component, contract, bytes: identity.bytes })
    }

    /// Takes a damaged file out of the way.
    pub(super) fn discard(&self, artifact: &Digest) {
        for extension in ["seal", "cwasm", PARTS] {
            // Whether it was there does not matter: it will be made anew.
            let _ = fs::remove_file(self.path(artifact, extension));
        }
    }

    fn open_code(&self, artifact: &Digest) -> Result<(File, Identity), NoCode> {
        let file = File::open(self.path(artifact, "cwasm")).map_err(missing)?;
        let identity = Identity::of(&file).map_err(missing)?;
        Ok((file, identity))
    }

    /// How the code in this very file is spoken to, if its seal was checked.
    fn checked(&self, artifact: &Digest, file: Identity) -> Option<Contract> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.get(artifact).filter(|checked| checked.file == file).map(|checked| checked.contract)
    }

    fn check(&self, artifact: &Digest, file: &mut File, identity: Identity) -> Result<Compiled, NoCode> {
        let damaged = |what: &str| NoCode::Damaged(what.to_owned());
        let seal = fs::read(self.path(artifact, "seal")).map_err(missing)?;
        let seal: Seal = serde_json::from_slice(&seal).map_err(|_| damaged("its seal cannot be read"))?;
        let mac = self.mac(artifact, &seal.compiled, &seal.hash);
        if !same(mac.as_bytes(), seal.mac.as_bytes()) {
            return Err(damaged("its seal was not made here"));
        }
        if self.checked(artifact, identity).is_none() {
            if hash_of(file).map_err(missing)? != seal.hash {
                return Err(damaged("its bytes are not those that were sealed"));
            }
            let checked = Checked { file: identity, contract: seal.compiled.contract };
            self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(*artifact, checked);
        }
        Ok(seal.compiled)
    }

    fn mac(&self, artifact: &Digest, compiled: &Compiled, hash: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher.update(artifact.as_bytes());
        hasher.update(self.engine.as_bytes());
        hasher.update(hash.as_bytes());
        hasher.update(compiled.contract.to_string().as_bytes());
        for import in &compiled.imports {
            hasher.update(b"\n");
            hasher.update(import.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    fn path(&self, artifact: &Digest, extension: &str) -> PathBuf {
        self.dir.join(format!("{artifact}.{}.{extension}", self.engine))
    }

    /// Removes drafts that a crash left behind; another server that shares the folder may be making one now, so only old ones go.
    fn sweep(&self) {
        const DRAFT_AGE_MAX_S: u64 = 3_600;
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let is_draft = entry.path().extension().is_some_and(|extension| extension == "tmp");
            if !is_draft {
                continue;
            }
            let age = entry.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
            if age.is_some_and(|age| age.as_secs() > DRAFT_AGE_MAX_S) {
                // Gone already is as good.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn missing(error: io::Error) -> NoCode {
    match error.kind() {
        io::ErrorKind::NotFound => NoCode::Missing,
        _ => NoCode::Damaged(error.to_string()),
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

fn hash_of(file: &mut File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            length => hasher.update(&buffer[..length]),
        };
    }
}

fn load_key(path: &Path) -> io::Result<Key> {
    let read = || -> io::Result<Key> {
        let mut key = [0; 32];
        File::open(path)?.read_exact(&mut key)?;
        Ok(Key(key))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        key => return key,
    }
    // Written aside and linked, so that two servers that start at once agree on one key.
    let draft = path.with_extension(format!("{:016x}.tmp", crate::identity::random_bits()));
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&key)?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(),
    }
}

/// Maps a file of machine code through the descriptor of the file that was checked.
#[expect(unsafe_code, reason = "the engine cannot check machine code; the seal does")]
fn deserialize(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    let path = if cfg!(target_os = "linux") {
        format!("/proc/self/fd/{}", file.as_raw_fd())
    } else {
        format!("/dev/fd/{}", file.as_raw_fd())
    };
    // SAFETY: the bytes were made by `precompile_component` of this engine's version and settings, in a process of ours:
    // their seal was checked by this process, of this very file and not changed since (its inode, size and time of change), in a folder that only our user may write to.
    // Files are never written again once they have their name, only replaced or unlinked, so the mapping does not change.
    unsafe { Component::deserialize_file(engine, path) }
}
