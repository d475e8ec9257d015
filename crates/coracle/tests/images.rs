//! Images from a file to a list and back, with the real binary; and passwords for registries.
//! What is inside a layer is tested where it is unpacked. Needs root, as images do, and Debian's python3.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;

use std::path::{Path, PathBuf};

use harness::{Data, Server};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn layer() -> Vec<u8> {
    tar(&[("bin/serve".into(), b"serve".to_vec()), ("etc/.wh.gone".into(), Vec::new())])
}

fn configuration(layer: &[u8], architecture: Option<&str>) -> Vec<u8> {
    let mut config = json!({
        "os": "linux",
        "config": { "Entrypoint": ["/bin/serve"], "ExposedPorts": { "9000/tcp": {} }, "User": "7" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))] }
    });
    if let Some(architecture) = architecture {
        config["architecture"] = architecture.into();
    }
    config.to_string().into_bytes()
}

/// An OCI layout in a tar.
fn layout(folder: &Path, name: &str, architecture: Option<&str>) -> PathBuf {
    let layer = layer();
    let config = configuration(&layer, architecture);
    let described =
        |bytes: &[u8]| json!({ "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() });
    let manifest = json!({ "schemaVersion": 2, "config": described(&config), "layers": [described(&layer)] });
    let manifest = manifest.to_string().into_bytes();
    let mut listed = described(&manifest);
    listed["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [listed] }).to_string().into_bytes();
    let blobs = [layer, config, manifest].map(|bytes| (format!("blobs/sha256/{}", digest(&bytes)), bytes));
    let files: Vec<_> = blobs.into_iter().chain([("index.json".into(), index)]).collect();
    let path = folder.join("layout.tar");
    std::fs::write(&path, tar(&files)).unwrap();
    path
}

/// What `docker save` writes.
fn docker(folder: &Path) -> PathBuf {
    let layer = layer();
    let config = configuration(&layer, None);
    let list = json!([{ "Config": "config.json", "RepoTags": ["shop:2"], "Layers": ["layer.tar"] }]);
    let files = [
        ("config.json".into(), config),
        ("layer.tar".into(), layer),
        ("manifest.json".into(), list.to_string().into_bytes()),
    ];
    let path = folder.join("docker.tar");
    std::fs::write(&path, tar(&files)).unwrap();
    path
}

fn names(listed: &Value) -> Vec<&str> {
    listed.as_array().unwrap().iter().map(|image| image["reference"].as_str().unwrap()).collect()
}

#[test]
fn images_are_loaded_listed_removed_and_pruned() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let layout = layout(folder.path(), "team/shop:1", None);
    let docker = docker(folder.path());
    let loaded = server.json(&["image", "load", layout.to_str().unwrap()]);
    assert_eq!(loaded[0]["reference"], "docker.io/team/shop:1");
    assert_eq!((&loaded[0]["port"], &loaded[0]["user"]), (&9000.into(), &"7".into()));
    server.ok(&["image", "load", docker.to_str().unwrap()]);
    server.ok(&["image", "load", docker.to_str().unwrap(), "--tag", "localhost:5000/other"]);
    let listed = server.json(&["image", "list"]);
    assert_eq!(
        names(&listed),
        ["docker.io/library/shop:2", "docker.io/team/shop:1", "localhost:5000/other:latest"]
    );
    assert!(server.ok(&["image", "list"]).contains("docker.io/team/shop:1"));
    let layers = || std::fs::read_dir(server.data().join("images/layers")).unwrap().count();
    assert_eq!(layers(), 1, "one layer, whoever brings it");

    server.ok(&["image", "remove", "team/shop:1"]);
    let gone = server.run(&["image", "remove", "team/shop:1"]);
    assert!(gone.stderr.starts_with("error[image-not-found]:"), "{}", gone.stderr);
    assert_eq!(names(&server.json(&["image", "list"])).len(), 2);
    let pruned = server.json(&["image", "prune"]);
    assert_eq!((&pruned["images"], layers()), (&1.into(), 0));
    assert_eq!(server.json(&["image", "list"]), json!([]));
}

#[test]
fn an_image_survives_a_kill_of_the_server() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    server.ok(&["image", "load", docker(folder.path()).to_str().unwrap()]);
    let server = Server::start_with(server.kill(), &[]);
    assert_eq!(names(&server.json(&["image", "list"])), ["docker.io/library/shop:2"]);
}

#[test]
fn an_image_that_cannot_be_used_says_why() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let other = layout(folder.path(), "shop", Some("s390x"));
    let refused = server.run(&["image", "load", other.to_str().unwrap()]);
    assert!(
        refused.stderr.starts_with("error[image-architecture]: the image is built for linux/s390x"),
        "{}",
        refused.stderr
    );
    std::fs::write(folder.path().join("letter"), "no archive").unwrap();
    let refused = server.run(&["image", "load", folder.path().join("letter").to_str().unwrap()]);
    assert!(refused.stderr.starts_with("error[image-invalid]:"), "{}", refused.stderr);
    // Bound, and never listened on: nobody else gets it meanwhile.
    let taken =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&taken, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = std::net::SocketAddr::try_from(rustix::net::getsockname(&taken).unwrap()).unwrap().port();
    let refused = server.run(&["image", "pull", &format!("127.0.0.1:{port}/shop")]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.starts_with("error[registry-unavailable]:"), "{}", refused.stderr);
}

/// Runs what follows as on a kernel without overlayfs: `mount` with the flags that nothing else of ours has finds no such device.
///
/// seccomp(2) cannot read the name of a filesystem, so that `coracle status` still finds it.
const NO_OVERLAYFS: &str = r"
import ctypes, os, platform, struct, sys
MOUNT = {'x86_64': 165, 'aarch64': 40}[platform.machine()]
NOSUID_NODEV, ENODEV, ALLOW, ERRNO = 6, 19, 0x7FFF0000, 0x00050000
filter = b''.join(struct.pack('HBBI', *line) for line in [
    (0x20, 0, 0, 0), (0x15, 0, 3, MOUNT),
    (0x20, 0, 0, 16 + 3 * 8), (0x15, 0, 1, NOSUID_NODEV),
    (0x06, 0, 0, ERRNO | ENODEV), (0x06, 0, 0, ALLOW),
])
lines = ctypes.create_string_buffer(filter)
program = struct.pack('HxxxxxxP', len(filter) // 8, ctypes.addressof(lines))
if ctypes.CDLL(None, use_errno=True).prctl(22, 2, program, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn without_overlayfs_an_image_is_refused_and_the_kernel_named() {
    let (data, folder) = (Data::new(), tempfile::tempdir().unwrap());
    let server = Server::start_within(&["python3", "-c", NO_OVERLAYFS], data, &[]);
    server.ok(&["image", "load", docker(folder.path()).to_str().unwrap()]);
    let refused = server.run(&["deploy", "--image", "shop:2", "--name", "shop"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("this kernel has no overlayfs"), "{}", refused.stderr);
    assert!(refused.stderr.contains("modprobe overlay"), "{}", refused.stderr);
}

#[test]
fn a_password_for_a_registry_is_kept_and_shown_nowhere() {
    let server = Server::start();
    let kept =
        server.run_with(&["image", "login", "registry.example.com:5000", "--username", "ada"], b"hush-7f\n");
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    let (secrets, shown) = (server.ok(&["secret", "list"]), kept.to_text());
    assert!(!secrets.contains("registry.example.com"), "it is no secret of a function: {secrets}");
    assert!(!shown.contains("hush-7f") && !secrets.contains("hush-7f"), "{shown}{secrets}");
    server.ok(&["image", "logout", "registry.example.com:5000"]);
    let gone = server.run(&["image", "logout", "registry.example.com:5000"]);
    assert!(gone.stderr.starts_with("error[secret-not-found]:"), "{}", gone.stderr);
    assert_eq!(server.run_with(&["image", "login", "ghcr.io", "-u", "ada"], b"\n").code, 1);
}
