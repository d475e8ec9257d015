//! The path of an entry in an archive: relative to where it is unpacked, and never above it.
//! `unpack.rs` and `bundle.rs` parse every name that an archive gives before anything is done with it.

use coracle_model::Problem;

use super::fault::{invalid, shown};

/// The longest path, in bytes: what the kernel takes.
const PATH_BYTES_MAX: usize = 4_095;
/// The most folders within one another: removing them again holds each open.
const DEPTH_MAX: usize = 256;

/// A path below the root: no `..`, not absolute, nothing empty. The root itself is the empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Reads the name of an entry. An absolute one is taken below the root, as tar does.
    ///
    /// # Errors
    /// `IMAGE_INVALID` for one that goes up, or is too long.
    pub(super) fn parse(name: &[u8]) -> Result<Self, Problem> {
        let refused = |why: &str| Err(invalid(format!("the path `{}` {why}", shown(name))));
        let parts: Vec<&[u8]> =
            name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
        if parts.contains(&&b".."[..]) {
            return refused("goes up by `..`");
        }
        if name.contains(&0) {
            return refused("holds a zero byte");
        }
        let path = parts.join(&b'/');
        if path.len() > PATH_BYTES_MAX {
            return refused("is too long");
        }
        if parts.len() > DEPTH_MAX {
            return refused("is too deep");
        }
        Ok(Self(path))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder it lies in, and its name there; `None` for the root.
    pub(super) fn split(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/');
        Some(match slash {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self(Vec::new()), &self.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_is_parsed_stays_below_the_root(name: Vec<u8>) {
            if let Ok(path) = EntryPath::parse(&name) {
                let parts: Vec<_> = path.as_bytes().split(|byte| *byte == b'/').collect();
                assert!(path.is_root() || parts.iter().all(|part| !matches!(*part, b"" | b"." | b"..")));
                assert!(!path.as_bytes().contains(&0));
            }
        }
    }

    #[test]
    fn paths_are_taken_below_the_root_or_refused() {
        let path = |name: &str| EntryPath::parse(name.as_bytes()).ok().map(|path| path.0);
        for (name, taken) in [("./a/b/", "a/b"), ("/etc/passwd", "etc/passwd"), ("a//./b", "a/b"), ("./", "")]
        {
            assert_eq!(path(name).as_deref(), Some(taken.as_bytes()), "{name}");
        }
        for name in ["..", "../a", "a/../b", "/..", "a\0b", &"a/".repeat(300), &"a".repeat(5000)] {
            assert_eq!(path(name), None, "{name}");
        }
    }
}
