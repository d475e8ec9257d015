//! The image of which the measured functions are: one static web server, as `docker save` would write it.
//! `sandbox.rs` makes it once; our server and containerd get the same archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::surroundings::{root, run_to_end};

/// What the image is called, here and at containerd.
pub(super) const TAG: &str = "docker.io/bench/serve:1";

/// What the web server answers.
pub(super) const ANSWER: &[u8] = b"hello\n";

const SOURCE: &str = "guests/serve/serve.c";

/// An image, and the program that is all of it.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) archive: PathBuf,
    /// To run it without a sandbox.
    pub(super) program: PathBuf,
    /// What its processes alone are called with, so that they are known among all of the machine.
    pub(super) mark: String,
}

impl Image {
    /// Compiles the program and packs it, in a directory that this makes.
    pub(super) fn build(dir: &Path) -> Result<Self, String> {
        fs::create_dir_all(dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
        let program = dir.join("serve");
        let source = root().join(SOURCE);
        run_to_end(Command::new("cc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
        tar(dir, "layer.tar", &["serve"])?;
        let layer = dir.join("layer.tar");
        let layer = fs::read(&layer).map_err(|error| format!("read {}: {error}", layer.display()))?;
        let mark = format!("bench-{}", std::process::id());
        for (name, text) in
            [("config.json", config(&mark, &hex(&Sha256::digest(layer)))?), ("manifest.json", manifest())]
        {
            fs::write(dir.join(name), text).map_err(|error| format!("write {name}: {error}"))?;
        }
        tar(dir, "image.tar", &["config.json", "layer.tar", "manifest.json"])?;
        Ok(Self { archive: dir.join("image.tar"), program, mark })
    }
}

fn tar(dir: &Path, archive: &str, files: &[&str]) -> Result<(), String> {
    let options = ["--format=gnu", "--owner=0", "--group=0", "--mode=0755", "-cf", archive];
    run_to_end(Command::new("tar").current_dir(dir).args(options).args(files))
}

fn config(mark: &str, layer: &str) -> Result<String, String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => return Err(format!("images have no name for {other} that this knows")),
    };
    Ok(format!(
        "{{\"os\":\"linux\",\"architecture\":\"{architecture}\",\
         \"config\":{{\"Entrypoint\":[\"/serve\",\"{mark}\"],\"ExposedPorts\":{{\"8080/tcp\":{{}}}},\"User\":\"7:7\"}},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{layer}\"]}}}}"
    ))
}

fn manifest() -> String {
    format!("[{{\"Config\":\"config.json\",\"RepoTags\":[\"{TAG}\"],\"Layers\":[\"layer.tar\"]}}]")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
