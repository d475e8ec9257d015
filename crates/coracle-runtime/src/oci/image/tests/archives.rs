//! Archives of images, and bundles: what is loaded, kept, removed and refused.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use coracle_model::code;

use super::*;

fn on_disk(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

/// An OCI layout in a tar, in a folder of it.
fn layout(made: &Made, name: Option<&str>, below: &str) -> Vec<u8> {
    let size = made.blobs[&made.manifest].len();
    let mut listed = json!({ "digest": format!("sha256:{}", made.manifest), "size": size });
    if let Some(name) = name {
        listed["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    }
    let mut builder = Builder::new(Vec::new());
    let mut add = |path: String, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes).unwrap();
    };
    for (digest, bytes) in &made.blobs {
        add(format!("{below}blobs/sha256/{digest}"), bytes);
    }
    add(format!("{below}oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
    add(
        format!("{below}index.json"),
        json!({ "schemaVersion": 2, "manifests": [listed] }).to_string().as_bytes(),
    );
    builder.into_inner().unwrap()
}

/// What `docker save` wrote before it knew layouts: a layer that is there already is a link to the first.
fn docker(layer: &[u8]) -> Vec<u8> {
    let digest = digest_of(layer);
    let config = configuration(architecture(), &[digest, digest]);
    let list = json!([{ "Config": "c.json", "RepoTags": ["app:1", "app:2"], "Layers": ["a/layer.tar", "b/layer.tar"] }]);
    tar(&[
        entry(EntryType::Regular, "a/layer.tar", "", layer),
        symlink("b/layer.tar", "../a/layer.tar"),
        entry(EntryType::Regular, "c.json", "", &config),
        entry(EntryType::Regular, "manifest.json", "", list.to_string().as_bytes()),
    ])
}

#[tokio::test]
async fn a_layout_is_loaded_listed_found_and_removed_with_its_layers() {
    let outer = tempfile::tempdir().unwrap();
    let images = images(outer.path());
    let made = hello();
    for (below, packed) in [("", false), ("./", true), ("image/", false)] {
        let archive = layout(&made, Some("team/hello:1"), below);
        let archive = if packed { gzip(&archive) } else { archive };
        let loaded = images.load(on_disk(&archive), None).await.unwrap();
        assert_eq!(loaded[0].reference, "docker.io/team/hello:1");
    }
    let image = images.find("team/hello:1").unwrap();
    assert_eq!((image.digest, image.config.port), (made.manifest, Some(8080)));
    assert_eq!(std::fs::read_to_string(image.layers[0].join("etc/greeting")).unwrap(), "hello");
    assert_eq!(std::fs::read_to_string(image.layers[1].join("bin/serve")).unwrap(), "serve");
    images.load(on_disk(&layout(&made, None, "")), Some("other")).await.unwrap();

    let again = Images::open(&outer.path().join("images"), BOUNDS).unwrap();
    let names: Vec<_> = again.list().into_iter().map(|image| image.reference).collect();
    assert_eq!(names, ["docker.io/library/other:latest", "docker.io/team/hello:1"]);
    assert_eq!(again.get(made.manifest).unwrap().layers, image.layers);

    assert_eq!(again.remove("other", HashSet::new()).await.unwrap().images, 0);
    let needed = HashSet::from([made.manifest]);
    assert_eq!(again.remove("team/hello:1", needed.clone()).await.unwrap().images, 0);
    assert_eq!(again.remove("team/hello:1", needed.clone()).await.unwrap_err().code, &code::IMAGE_NOT_FOUND);
    assert_eq!(again.prune(&needed).await.unwrap().layers, 0);
    assert!(again.get(made.manifest).is_ok());
    let pruned = again.prune(&HashSet::new()).await.unwrap();
    assert_eq!((pruned.images, pruned.layers), (1, 2));
    assert!(again.list().is_empty() && !image.layers[0].exists());
}

#[tokio::test]
async fn an_archive_of_docker_is_loaded_under_all_its_names() {
    let outer = tempfile::tempdir().unwrap();
    let images = images(outer.path());
    let loaded = images.load(on_disk(&docker(&tar(&[file("a", "a")]))), None).await.unwrap();
    let names: Vec<_> = loaded.iter().map(|image| image.reference.as_str()).collect();
    assert_eq!(names, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    assert_eq!(loaded[0].layers.len(), 2);
    assert_eq!(loaded[0].digest, loaded[1].digest);
}

#[tokio::test]
async fn an_archive_that_is_not_right_leaves_nothing() {
    let layer = tar(&[file("a", "a")]);
    let missing = {
        let mut made = hello();
        let gone = digest_of(&gzip(&tar(&[
            folder("bin"),
            file("bin/serve", "serve"),
            file("bin/gone", "gone"),
            folder("etc"),
        ])));
        made.blobs.remove(&gone).unwrap();
        made
    };
    let changed = {
        let mut made = hello();
        for bytes in made.blobs.values_mut().filter(|bytes| bytes.starts_with(&[0x1f, 0x8b])) {
            *bytes = gzip(&layer);
        }
        made
    };
    let other_content =
        image_with(configuration(architecture(), &[digest_of(b"other")]), vec![layer.clone()]);
    let one_too_few = image_with(configuration(architecture(), &[]), vec![layer.clone()]);
    let other_machine = image_of("s390x", &[(layer.clone(), layer.clone())]);
    let escapes = tar(&[file("../a", "a")]);
    let escapes = image_of(architecture(), &[(escapes.clone(), escapes)]);
    let table = [
        (layout(&missing, Some("a"), ""), "image-invalid"),
        (layout(&changed, Some("a"), ""), "image-invalid"),
        (layout(&other_content, Some("a"), ""), "image-invalid"),
        (layout(&one_too_few, Some("a"), ""), "image-invalid"),
        (layout(&escapes, Some("a"), ""), "image-invalid"),
        (layout(&other_machine, Some("a"), ""), "image-architecture"),
        (layout(&hello(), None, ""), "bad-request"),
        (tar(&[file("letter.txt", "dear")]), "image-invalid"),
        (b"no archive".to_vec(), "image-invalid"),
        (Vec::new(), "image-invalid"),
    ];
    let outer = tempfile::tempdir().unwrap();
    let images = images(outer.path());
    for (index, (archive, code)) in table.into_iter().enumerate() {
        let problem = images.load(on_disk(&archive), None).await.unwrap_err();
        assert_eq!(problem.code.name, code, "{index}: {problem}");
    }
    assert!(images.list().is_empty());
    assert_eq!(std::fs::read_dir(outer.path().join("images/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_a_crash_left_is_swept() {
    let outer = tempfile::tempdir().unwrap();
    drop(images(outer.path()));
    std::fs::create_dir_all(outer.path().join("images/tmp/half/a/layer")).unwrap();
    drop(images(outer.path()));
    assert_eq!(std::fs::read_dir(outer.path().join("images/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_bundle_is_unpacked_once_from_tar_and_zip_and_forgotten() {
    let outer = tempfile::tempdir().unwrap();
    let images = images(outer.path());
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o700);
    zip.start_file("app/run", options).unwrap();
    zip.write_all(b"run").unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let plain = tar(&[folder("app"), file("app/run", "run")]);
    for (index, archive) in [plain.clone(), gzip(&plain), zip].into_iter().enumerate() {
        let digest = digest_of(&archive);
        let folder = images.bundle(digest, on_disk(&archive)).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("app/run")).unwrap(), "run", "{index}");
        assert_eq!(images.bundle(digest, on_disk(b"")).await.unwrap(), folder, "it is there");
        images.forget_bundle(&digest).unwrap();
        assert!(!folder.exists());
    }
    let hostile = {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("../run", zip::write::SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap().into_inner()
    };
    let problem = images.bundle(digest_of(&hostile), on_disk(&hostile)).await.unwrap_err();
    assert_eq!(problem.code, &code::IMAGE_INVALID);
}
