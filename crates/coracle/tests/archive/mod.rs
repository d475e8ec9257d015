//! Images in files, as `docker save` writes them, for tests that deploy one.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

/// `guests/serve` in a docker archive: a web server that says hello, and its environment at `/env/NAME`.
pub(crate) fn serve(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/serve/serve.c");
    let program = folder.join("serve");
    let compiled =
        Command::new("cc").args(["-static", "-O2", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(compiled.success());
    let tar = |files: &[(&str, &[u8])]| {
        let mut builder = Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            header.set_mtime(0);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let layer = tar(&[("serve", &fs::read(&program).unwrap())]);
    let diff: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "os": "linux", "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "config": { "Entrypoint": ["/serve"], "Env": ["COLOUR=red"], "ExposedPorts": { "9000/tcp": {} }, "User": "7:7" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff}")] }
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"] }]);
    let archive = folder.join("image.tar");
    let files: [(&str, &[u8]); 3] = [
        ("config.json", &serde_json::to_vec(&config).unwrap()),
        ("layer.tar", &layer),
        ("manifest.json", &serde_json::to_vec(&manifest).unwrap()),
    ];
    fs::write(&archive, tar(&files)).unwrap();
    archive
}
