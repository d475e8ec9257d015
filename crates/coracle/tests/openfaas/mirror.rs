//! The image of these tests: `guests/mirror`, a static program that says what it is asked.
//! Every server of `face.rs` has it loaded.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// What it is called.
pub(crate) const IMAGE: &str = "ghcr.io/team/mirror:1";

/// A docker archive of it.
pub(crate) fn archive(folder: &Path) -> PathBuf {
    let layer = tar(&[("mirror", &program(folder))]);
    let diff: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = json!({
        "os": "linux", "architecture": architecture,
        "config": { "Entrypoint": ["/mirror"], "User": "7:7" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff}")] }
    })
    .to_string();
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"] }]).to_string();
    let archive = folder.join("image.tar");
    let files: [(&str, &[u8]); 3] =
        [("config.json", config.as_bytes()), ("layer.tar", &layer), ("manifest.json", manifest.as_bytes())];
    std::fs::write(&archive, tar(&files)).unwrap();
    archive
}

fn program(folder: &Path) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/mirror/mirror.c");
    let program = folder.join("mirror");
    let compiled =
        Command::new("cc").args(["-static", "-O2", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(compiled.success());
    std::fs::read(&program).unwrap()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}
