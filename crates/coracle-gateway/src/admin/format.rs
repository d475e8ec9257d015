//! What an artifact is, told by its first bytes: WebAssembly, an archive, or neither.
//! A deploy asks, before anything else looks at the artifact.

use coracle_model::{Problem, code};

/// How much of an artifact is looked at: the first block of a tar, which names itself near its end.
pub(super) const HEAD_BYTES: usize = 512;

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// WebAssembly, or compiled code that pretends to be: the runtime knows it well.
    Wasm,
    /// A tar, compressed with gzip or not, or a zip.
    Archive,
}

impl Format {
    /// What begins with these bytes.
    ///
    /// # Errors
    /// `invalid-wasm` for a file that is neither.
    pub(super) fn of(head: &[u8]) -> Result<Self, Problem> {
        const GZIP: &[u8] = b"\x1f\x8b";
        const ZIP: &[u8] = b"PK\x03\x04";
        const ELF: &[u8] = b"\x7fELF";
        let is_tar = head.get(257..262) == Some(b"ustar");
        if is_tar || head.starts_with(GZIP) || head.starts_with(ZIP) {
            return Ok(Self::Archive);
        }
        if head.starts_with(b"\0asm") || head.starts_with(ELF) {
            return Ok(Self::Wasm);
        }
        let what = if head.starts_with(b"#!") { "a script" } else { "neither WebAssembly nor an archive" };
        Err(Problem::new(&code::INVALID_WASM, format!("the file is not WebAssembly: it is {what}"))
            .hint("a program is uploaded in a tar, tar.gz or zip; `coracle deploy FILE` makes one of any executable"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_told_apart_by_their_beginnings() {
        let mut tar = [0; HEAD_BYTES];
        tar[257..265].copy_from_slice(b"ustar  \0");
        let table: [(&[u8], Option<Format>); 8] = [
            (b"\0asm\x01\0\0\0", Some(Format::Wasm)),
            (b"\x7fELF\x02", Some(Format::Wasm)),
            (&tar, Some(Format::Archive)),
            (b"\x1f\x8b\x08", Some(Format::Archive)),
            (b"PK\x03\x04", Some(Format::Archive)),
            (b"#!/bin/sh\n", None),
            (b"", None),
            (b"\xfd7zXZ", None),
        ];
        for (head, format) in table {
            assert_eq!(Format::of(head).ok(), format, "{head:?}");
        }
    }
}
