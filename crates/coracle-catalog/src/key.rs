//! The key that seals secrets: 32 random bytes in a file of their owner's.
//! Loaded by `serve.rs` before the catalog is opened; used by `secrets.rs`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use coracle_model::{Problem, code};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The key that seals secrets. It is never shown; [`id`](Self::id) names it.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; KEY_BYTES]>);

impl SecretKey {
    /// Reads the key file, or makes a new key and writes it, with mode 0600 and synced to the disk. Blocks.
    ///
    /// # Errors
    /// `DATA_UNUSABLE` if others can read the file, if it holds no key, or if it cannot be read or written.
    pub fn load_or_create(path: &Path) -> Result<Self, Problem> {
        match Self::find(path)? {
            Some(key) => Ok(key),
            None => {
                let key = Self(Zeroizing::new(random()?));
                write_whole(path, &*key.0)
                    .map_err(|error| unusable(path, &format!("cannot be written: {error}")))?;
                Ok(key)
            }
        }
    }

    /// Reads the key file, and makes none: it is of a database whose secrets others can read as well. Blocks.
    ///
    /// # Errors
    /// `DATA_UNUSABLE` if there is none, if others can read the file, if it holds no key, or if it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        Self::find(path)?.ok_or_else(|| {
            let file = path.display();
            Problem::new(&code::DATA_UNUSABLE, format!("read the key file {file}: no such file")).hint(format!(
                "copy it from another server; for the first one: (umask 077; head -c {KEY_BYTES} /dev/urandom > {file})"
            ))
        })
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The public name of the key: a hash of it, which gives nothing away.
    pub fn id(&self) -> String {
        let hash = blake3::derive_key("coracle 2026 the name of a secret key", &*self.0);
        hex(&hash[..8])
    }

    /// The admin token of a cluster: whoever has the key has it, and nobody else can make it.
    pub fn admin_token_text(&self) -> String {
        let id = blake3::derive_key("coracle 2026 the name of the admin token of a cluster", &*self.0);
        let secret =
            Zeroizing::new(blake3::derive_key("coracle 2026 the admin token of a cluster", &*self.0));
        crate::tokens::text_of(&id, &secret)
    }

    fn find(path: &Path) -> Result<Option<Self>, Problem> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(path, &format!("cannot be read: {error}"))),
        };
        let unread = |error| unusable(path, &format!("cannot be read: {error}"));
        let mode = file.metadata().map_err(unread)?.mode();
        if mode & 0o077 != 0 {
            return Err(unusable(path, &format!("can be read by others (mode {:04o})", mode & 0o7777))
                .hint(format!("chmod 600 {}", path.display())));
        }
        // One byte more than a key has, so that a longer file is told from a key.
        let mut bytes = Zeroizing::new([0; KEY_BYTES + 1]);
        let mut length = 0;
        while length < bytes.len() {
            match std::io::Read::read(&mut file, &mut bytes[length..]).map_err(unread)? {
                0 => break,
                read => length += read,
            }
        }
        if length != KEY_BYTES {
            return Err(unusable(path, &format!("holds no key: a key has exactly {KEY_BYTES} bytes"))
                .hint("restore it from a backup; without it the secrets of this database cannot be read"));
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(&bytes[..KEY_BYTES]);
        Ok(Some(Self(key)))
    }

    /// Seals a value. It opens only with the same key and for the same purpose.
    pub(crate) fn seal(&self, purpose: &str, value: &[u8]) -> Result<Vec<u8>, Problem> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload { msg: value, aad: purpose.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| Problem::new(&code::INTERNAL, "the secret could not be sealed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`seal`](Self::seal) made; `None` if it was sealed with another key or for another purpose, or was
    /// changed.
    pub(crate) fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id())
    }
}

/// Bytes that nobody else has.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(&code::INTERNAL, format!("the system gives no random bytes: {error}"))
    })?;
    Ok(bytes)
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file that is there as a whole or not at all, even if the machine stops.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    // What a crash left behind may have any mode.
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn unusable(path: &Path, reason: &str) -> Problem {
    Problem::new(&code::DATA_UNUSABLE, format!("the key file {} {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let key = SecretKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing partial is left");
        assert_eq!(SecretKey::load_or_create(&path).unwrap().id(), key.id());
    }

    #[test]
    fn a_key_file_that_must_be_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let problem = SecretKey::load(&path).unwrap_err();
        assert_eq!(problem.code, &code::DATA_UNUSABLE);
        assert_eq!(problem.message, format!("read the key file {}: no such file", path.display()));
        assert!(!path.exists());
        let key = SecretKey::load_or_create(&path).unwrap();
        assert_eq!(SecretKey::load(&path).unwrap().id(), key.id());
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused_with_the_command_to_type() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        SecretKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let problem = SecretKey::load_or_create(&path).unwrap_err();
            assert_eq!(problem.code, &code::DATA_UNUSABLE);
            assert_eq!(problem.hint, Some(format!("chmod 600 {}", path.display())));
        }
    }

    #[test]
    fn a_file_that_is_not_a_key_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        for bytes in [&b""[..], &[7; 31], &[7; 33]] {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert_eq!(SecretKey::load_or_create(&path).unwrap_err().code, &code::DATA_UNUSABLE);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn what_is_sealed_opens_only_with_its_key_for_its_purpose_and_unchanged() {
        let (key, other) = (SecretKey::from_bytes([1; 32]), SecretKey::from_bytes([2; 32]));
        let sealed = key.seal("default/api-key", b"hush").unwrap();
        assert_eq!(key.open("default/api-key", &sealed).as_deref().map(Vec::as_slice), Some(&b"hush"[..]));
        assert_eq!(other.open("default/api-key", &sealed), None);
        assert_eq!(key.open("shop/api-key", &sealed), None);
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(key.open("default/api-key", &changed), None, "byte {index}");
        }
        assert_eq!(key.open("default/api-key", &sealed[..20]), None);
        assert!(!sealed.windows(4).any(|window| window == b"hush"));
        assert!(!format!("{key:?}").contains("0101"), "{key:?}");
    }
}
