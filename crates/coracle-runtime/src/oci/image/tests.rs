//! What is done with images from outside: archives and layers made here, well and badly, and a registry on loopback.
//! Layers keep owners and have whiteouts, so that these tests need root, as the feature does.

mod archives;
mod layers;
mod pulls;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use coracle_model::Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::manifest::{architecture, digest_of};
use super::{ImageBounds, Images};

/// Bounds that a test can reach.
const BOUNDS: ImageBounds = ImageBounds {
    unpacked_bytes: 4 << 20,
    entries: 100,
    ratio: 200,
    ratio_free_bytes: 1 << 20,
    silence: std::time::Duration::from_millis(300),
    pull_time: std::time::Duration::from_secs(60),
};

fn images(folder: &Path) -> Images {
    Images::open(&folder.join("images"), BOUNDS).unwrap()
}

/// An entry of a tar, as hostile as need be: its name is written as it is.
fn entry(kind: EntryType, name: &str, target: &str, content: &[u8]) -> (Header, Vec<u8>) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_000_000);
    header.set_size(content.len() as u64);
    let raw = header.as_old_mut();
    raw.name[..name.len()].copy_from_slice(name.as_bytes());
    raw.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    (header, content.to_vec())
}

fn file(name: &str, content: &str) -> (Header, Vec<u8>) {
    entry(EntryType::Regular, name, "", content.as_bytes())
}

fn folder(name: &str) -> (Header, Vec<u8>) {
    entry(EntryType::Directory, name, "", b"")
}

fn symlink(name: &str, target: &str) -> (Header, Vec<u8>) {
    entry(EntryType::Symlink, name, target, b"")
}

fn hard_link(name: &str, target: &str) -> (Header, Vec<u8>) {
    entry(EntryType::Link, name, target, b"")
}

fn tar(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (header, content) in entries {
        builder.append(header, &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image, as blobs by digest; its parts can be made wrong before they are used.
struct Made {
    blobs: BTreeMap<Digest, Vec<u8>>,
    manifest: Digest,
}

/// The configuration of an image of these unpacked layers.
fn configuration(architecture: &str, unpacked: &[Digest]) -> Vec<u8> {
    let diff_ids: Vec<_> = unpacked.iter().map(|digest| format!("sha256:{digest}")).collect();
    let config = json!({
        "os": "linux", "architecture": architecture,
        "config": { "Entrypoint": ["/bin/serve"], "Env": ["A=b"], "ExposedPorts": { "8080/tcp": {} } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids }
    });
    config.to_string().into_bytes()
}

/// An image of layers, each plain and as it is sent.
fn image_of(architecture: &str, layers: &[(Vec<u8>, Vec<u8>)]) -> Made {
    let unpacked: Vec<_> = layers.iter().map(|(plain, _)| digest_of(plain)).collect();
    image_with(configuration(architecture, &unpacked), layers.iter().map(|(_, sent)| sent.clone()).collect())
}

fn image_with(config: Vec<u8>, sent: Vec<Vec<u8>>) -> Made {
    let described =
        |bytes: &[u8]| json!({ "digest": format!("sha256:{}", digest_of(bytes)), "size": bytes.len() });
    let layers: Vec<Value> = sent.iter().map(|layer| described(layer)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described(&config), "layers": layers
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = digest_of(&manifest);
    let blobs = sent.into_iter().chain([config, manifest]).map(|bytes| (digest_of(&bytes), bytes)).collect();
    Made { blobs, manifest: digest }
}

/// A small image that is right.
fn hello() -> Made {
    let base = tar(&[folder("bin"), file("bin/serve", "serve"), file("bin/gone", "gone"), folder("etc")]);
    let upper = tar(&[folder("bin"), file("bin/.wh.gone", ""), file("etc/greeting", "hello")]);
    image_of(architecture(), &[(base.clone(), gzip(&base)), (upper.clone(), upper)])
}
