//! The images of these tests: `guests/mirror`, a static program that says what it is asked, alone and behind a watchdog of its own.
//! Every server of `face.rs` has the first one loaded.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What it is called.
pub(crate) const IMAGE: &str = "ghcr.io/team/mirror:1";

/// A docker archive of it.
pub(crate) fn archive(folder: &Path) -> PathBuf {
    let layer = tar(&[("mirror", &program(folder, "mirror"))]);
    archive_of(folder, &layer, &json!({ "Entrypoint": ["/mirror"], "User": "7:7" }))
}

/// A docker archive of an image that brings a watchdog, which runs the mirror as its environment says.
pub(crate) fn archive_with_watchdog(folder: &Path) -> PathBuf {
    let (mirror, fwatchdog) = (program(folder, "mirror"), program(folder, "fwatchdog"));
    let layer = tar(&[("mirror", &mirror), ("usr/bin/fwatchdog", &fwatchdog)]);
    let config =
        json!({ "Cmd": ["fwatchdog"], "Env": ["PATH=/usr/bin", "fprocess=/mirror cat"], "User": "7:7" });
    archive_of(folder, &layer, &config)
}

fn archive_of(folder: &Path, layer: &[u8], config: &Value) -> PathBuf {
    let diff: String = Sha256::digest(layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = json!({
        "os": "linux", "architecture": architecture,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff}")] }
    })
    .to_string();
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"] }]).to_string();
    let archive = folder.join("image.tar");
    let files: [(&str, &[u8]); 3] =
        [("config.json", config.as_bytes()), ("layer.tar", layer), ("manifest.json", manifest.as_bytes())];
    std::fs::write(&archive, tar(&files)).unwrap();
    archive
}

fn program(folder: &Path, name: &str) -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/mirror");
    let (source, program) = (sources.join(format!("{name}.c")), folder.join(name));
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
