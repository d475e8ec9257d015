//! Images that lie in a file, as `docker save` writes them: they are loaded, and not deployed.
//! `plan.rs` asks before it packs a file, and before it has an image pulled whose name is that of a file.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

use coracle_model::{FunctionName, Problem, code};
use flate2::read::MultiGzDecoder;

/// More entries have neither images nor bundles.
const ENTRIES_MAX: usize = 200_000;

/// How archives are named that may have an image in them.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// That a file is an image, and what to type in place of this.
pub(super) fn problem(file: &Path, name: &FunctionName) -> Problem {
    let shown = file.display();
    let message = format!("cannot deploy {shown}: this is an image in a file, which is loaded first");
    // Names of images have no capitals.
    let tag = name.as_str().to_lowercase();
    Problem::new(&code::BAD_REQUEST, message).hint(format!(
        "coracle image load {shown} --tag {tag}, then coracle deploy --image {tag} --name {name}"
    ))
}

/// Whether what was typed as the name of an image is that of an archive here.
pub(super) fn is_named(image: &str, file: &Path) -> bool {
    let is_path = image.starts_with(['.', '/']) || ENDINGS.iter().any(|ending| image.ends_with(ending));
    is_path && file.is_file()
}

/// Whether a file is an archive with all that an image has, and nothing else.
pub(super) fn is_image(file: &Path) -> bool {
    // What cannot be read is nobody's image; whoever packs or unpacks it says why.
    look(file).unwrap_or(false)
}

fn look(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut magic = [0; 2];
    file.read_exact(&mut magic)?;
    file.rewind()?;
    if magic == [0x1f, 0x8b] {
        let mut tar = tar::Archive::new(MultiGzDecoder::new(file));
        return all_are_of_an_image(tar.entries()?);
    }
    let mut tar = tar::Archive::new(file);
    all_are_of_an_image(tar.entries_with_seek()?)
}

/// An app may well have a `manifest.json` too; but then it has more besides.
fn all_are_of_an_image<R: Read>(entries: tar::Entries<'_, R>) -> io::Result<bool> {
    let mut is_listed = false;
    for entry in entries.take(ENTRIES_MAX) {
        let entry = entry?;
        let path = entry.path()?;
        let Some(top) = path.strip_prefix(".").unwrap_or(&path).iter().next() else { continue };
        match top.to_str() {
            Some("oci-layout" | "manifest.json") => is_listed = true,
            Some("blobs" | "index.json" | "repositories") => {}
            Some(name) if is_digest(name) => {}
            _ => return Ok(false),
        }
    }
    Ok(is_listed)
}

/// Whether it is a layer or a configuration, as Docker names them.
fn is_digest(name: &str) -> bool {
    let name = name.split('.').next().unwrap_or(name);
    name.len() == 64 && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn tar(names: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(2);
            tar.append_data(&mut header, name, &b"[]"[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn is_image_of(bytes: &[u8]) -> bool {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        is_image(file.path())
    }

    #[test]
    fn an_image_is_told_from_a_bundle() {
        let digest = "a".repeat(64);
        let layer = format!("{digest}/layer.tar");
        let config = format!("{digest}.json");
        let table: [(&[&str], bool); 7] = [
            (&["blobs/sha256/x", "index.json", "oci-layout"], true),
            (&["./blobs/sha256/x", "./index.json", "./manifest.json", "./oci-layout"], true),
            (&[&layer, &config, "manifest.json", "repositories"], true),
            (&["manifest.json", "server.py"], false),
            (&["index.json", "blobs/x"], false),
            (&["app/oci-layout"], false),
            (&[], false),
        ];
        for (names, expected) in table {
            assert_eq!(is_image_of(&tar(names)), expected, "{names:?}");
            assert_eq!(is_image_of(&gzip(&tar(names))), expected, "{names:?}, compressed");
        }
        for bytes in [&b""[..], b"\0asm\x01\0\0\0", b"#!/bin/sh\n", b"\x1f\x8bnothing"] {
            assert!(!is_image_of(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn the_name_of_an_image_is_no_file_unless_it_looks_like_one() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["nginx", "shop.tar"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let is_named = |image: &str| is_named(image, &folder.path().join(image));
        assert!(is_named("shop.tar") && is_named("./shop.tar") && is_named("./nginx"));
        assert!(!is_named("nginx") && !is_named("other.tar") && !is_named("./nothing"));
    }
}
