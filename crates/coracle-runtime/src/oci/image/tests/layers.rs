//! What becomes of the entries of a layer, hostile ones included.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use coracle_model::{Problem, code};
use tempfile::TempDir;

use super::super::budget::Budget;
use super::super::tree::Owners;
use super::super::unpack::unpack;
use super::*;

/// Unpacks into `root` of a folder that has something beside it, and looks that the neighbour is as it was.
fn unpacked(bytes: &[u8], owners: Owners) -> (TempDir, Result<(), Problem>) {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("root")).unwrap();
    fs::write(outer.path().join("neighbour"), "untouched").unwrap();
    let done = unpack(bytes, &outer.path().join("root"), owners, &Budget::new(BOUNDS)).map(drop);
    assert_eq!(fs::read_to_string(outer.path().join("neighbour")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "something was made outside");
    (outer, done)
}

fn layer(entries: &[(Header, Vec<u8>)]) -> (TempDir, Result<(), Problem>) {
    unpacked(&tar(entries), Owners::Kept)
}

#[test]
fn files_folders_and_links_are_as_the_layer_has_them() {
    let mut program = entry(EntryType::Regular, "bin/run", "", b"run");
    program.0.set_mode(0o4755);
    program.0.set_cksum();
    let mut temporary = folder("tmp/");
    temporary.0.set_mode(0o1777);
    temporary.0.set_cksum();
    let (outer, done) = layer(&[
        program,
        temporary,
        hard_link("bin/again", "bin/run"),
        symlink("sh", "/bin/run"),
        symlink("out", "../../neighbour"),
        file("deep/er/file", "deep"),
        file("deep/er/file", "deeper"),
    ]);
    done.unwrap();
    let root = outer.path().join("root");
    let run = fs::metadata(root.join("bin/run")).unwrap();
    assert_eq!((run.uid(), run.gid(), run.mtime(), run.mode() & 0o7777), (7, 8, 1_000_000, 0o755));
    assert_eq!(fs::metadata(root.join("bin/again")).unwrap().ino(), run.ino());
    let tmp = fs::metadata(root.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 1_000_000));
    assert_eq!(fs::read_link(root.join("sh")).unwrap().to_str(), Some("/bin/run"));
    assert_eq!(fs::read_link(root.join("out")).unwrap().to_str(), Some("../../neighbour"));
    assert_eq!(fs::read_to_string(root.join("deep/er/file")).unwrap(), "deeper");
}

#[test]
fn what_is_taken_away_is_marked_as_overlayfs_reads_it() {
    let (outer, done) = layer(&[
        file("etc/.wh.passwd", ""),
        file("var/.wh..wh..opq", ""),
        file("var/new", "new"),
        file(".wh.again", ""),
        folder("again"),
        file(".wh..wh.plnk", ""),
    ]);
    done.unwrap();
    let root = outer.path().join("root");
    let gone = fs::symlink_metadata(root.join("etc/passwd")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0; 1];
    for opaque in ["var", "again"] {
        let length = rustix::fs::getxattr(root.join(opaque), "trusted.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..length], b"y", "{opaque}");
    }
    assert!(!root.join(".wh..wh.plnk").exists() && root.join("var/new").exists());
}

#[test]
fn no_entry_gets_out_of_its_layer() {
    let hostile: [&[(Header, Vec<u8>)]; 9] = [
        &[file("../neighbour", "overwritten")],
        &[file("a/../../neighbour", "overwritten")],
        &[symlink("up", ".."), file("up/neighbour", "overwritten")],
        &[symlink("up", "../neighbour"), folder("up"), file("up/../neighbour", "overwritten")],
        &[folder("a"), symlink("a/up", "/"), folder("a/up/made-by-a-test")],
        &[hard_link("link", "../neighbour")],
        &[symlink("up", ".."), hard_link("link", "up/neighbour")],
        &[symlink("up", ".."), file("up/.wh.neighbour", "")],
        &[hard_link("link", "nothing")],
    ];
    for (index, entries) in hostile.iter().enumerate() {
        let (_outer, done) = layer(entries);
        assert_eq!(done.unwrap_err().code, &code::IMAGE_INVALID, "{index}");
    }
    assert!(!Path::new("/made-by-a-test").exists());
}

#[test]
fn a_link_that_is_replaced_is_not_written_through() {
    let (outer, done) = layer(&[
        symlink("file", "../neighbour"),
        file("file", "mine"),
        file("one", "one"),
        hard_link("two", "one"),
        file("two", "two"),
        file("/etc/absolute", "taken below the root"),
    ]);
    done.unwrap();
    let root = outer.path().join("root");
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    assert_eq!((read("file"), read("one"), read("two")), ("mine".into(), "one".into(), "two".into()));
    assert_eq!(read("etc/absolute"), "taken below the root");
}

#[test]
fn devices_and_pipes_are_left_out() {
    let kinds = [EntryType::Char, EntryType::Block, EntryType::Fifo];
    let entries: Vec<_> =
        kinds.iter().map(|kind| entry(*kind, "device", "", b"")).chain([file("file", "")]).collect();
    let (outer, done) = layer(&entries);
    done.unwrap();
    assert_eq!(fs::read_dir(outer.path().join("root")).unwrap().count(), 1);
}

#[test]
fn a_layer_without_end_is_refused() {
    let many: Vec<_> = (0..200).map(|index| file(&format!("f{index}"), "")).collect();
    let deep = [file(&"d/".repeat(40), ""), file(&format!("{}f", "e/".repeat(45)), "")];
    let big = [entry(EntryType::Regular, "big", "", &vec![7; 5 << 20])];
    let bomb = gzip(&tar(&[entry(EntryType::Regular, "zeros", "", &vec![0; 3 << 20])]));
    let long_name =
        tar(&[entry(EntryType::GNULongName, "././@LongLink", "", &vec![b'a'; 2 << 20]), file("x", "")]);
    assert_eq!(layer(&many).1.unwrap_err().code, &code::IMAGE_TOO_LARGE);
    assert_eq!(layer(&big).1.unwrap_err().code, &code::IMAGE_TOO_LARGE);
    assert_eq!(unpacked(&bomb, Owners::Kept).1.unwrap_err().code, &code::IMAGE_TOO_LARGE);
    assert_eq!(unpacked(&long_name, Owners::Kept).1.unwrap_err().code, &code::IMAGE_INVALID);
    layer(&deep).1.unwrap();
}

#[test]
fn a_layer_that_breaks_off_or_is_no_tar_is_refused() {
    let whole = tar(&[file("a", "content"), file("b", "content")]);
    for bytes in
        [&whole[..600], &gzip(&whole)[..40], &b"no tar at all, but long enough to be one".repeat(20)[..]]
    {
        assert_eq!(unpacked(bytes, Owners::Kept).1.unwrap_err().code, &code::IMAGE_INVALID);
    }
    unpacked(&zstd::encode_all(&whole[..], 1).unwrap(), Owners::Kept).1.unwrap();
}

#[test]
fn the_files_of_a_bundle_are_readable_and_the_servers() {
    let mut hidden = file("hidden", "x");
    hidden.0.set_mode(0o600);
    hidden.0.set_cksum();
    let (outer, done) = unpacked(&tar(&[hidden, file(".wh.file", "a name like any other")]), Owners::Ours);
    done.unwrap();
    let hidden = fs::metadata(outer.path().join("root/hidden")).unwrap();
    assert_eq!((hidden.mode() & 0o777, hidden.uid()), (0o644, rustix::process::geteuid().as_raw()));
    assert!(outer.path().join("root/.wh.file").exists());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_layer_says_nothing_is_made_outside(
        steps in proptest::collection::vec((0..5_u8, "[a-c./]{1,12}", "[a-c./]{1,12}"), 1..8)
    ) {
        let entries: Vec<_> = steps.iter().map(|(kind, name, target)| match kind {
            0 => file(name, "x"),
            1 => folder(name),
            2 => symlink(name, target),
            3 => hard_link(name, target),
            _ => file(&format!("{name}/.wh.a"), ""),
        }).collect();
        // Refused or not: the helper looks at what lies beside.
        let _ = layer(&entries);
    }
}
