//! A full disk: a clear refusal, nothing acknowledged lost, and work goes on once there is room.
//! The child has a small file system of its own, in a mount namespace that ends with it.

mod child;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coracle_store::{
    Append, ArtifactError, Artifacts, BackupError, Batch, Begin, CommitError, DataDir, Database as _,
    Embedded, Holder, OpenError, Topic, read_all,
};
use tempfile::tempdir;

const MEBIBYTE: usize = 1 << 20;

/// Runs a test of this program as a child whose directory is a file system of 2 MiB.
fn on_a_small_disk(test: &str) {
    let dir = tempdir().expect("a temporary directory");
    let mount = "mount -t tmpfs -o size=2m,mode=0700 tmpfs \"$0\" && exec \"$@\"";
    let path = dir.path().to_str().expect("a path in UTF-8");
    let root = rustix::process::geteuid().is_root();
    // Somebody who is not root may still be root of a namespace of their own.
    let unshare =
        if root { vec!["unshare", "--mount"] } else { vec!["unshare", "--map-root-user", "--mount"] };
    let output =
        child::run(child::command(&[&unshare[..], &["sh", "-c", mount, path]].concat(), test, dir.path()));
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}\n{said}");
    assert!(printed.contains("the child came to its end"), "{printed}\n{said}");
}

fn fill(path: &Path) {
    let full = std::fs::write(path, vec![0; 4 * MEBIBYTE]).expect_err("the disk is small");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_commit_on_a_full_disk_is_refused_and_nothing_is_lost() {
    let Some(dir) = child::dir() else {
        return on_a_small_disk("a_commit_on_a_full_disk_is_refused_and_nothing_is_lost");
    };
    let (path, spare) = (dir.join("coracle.db"), dir.join("spare"));
    std::fs::write(&spare, vec![0; MEBIBYTE / 2]).unwrap();
    child::block_on(async {
        let database = Embedded::open(&path, Arc::new(coracle_observe::clock::System)).unwrap();
        let mut acknowledged = 0;
        let refused = loop {
            match child::commit(&database, acknowledged + 1, vec![7; 10_000]).await {
                Ok(_) => acknowledged += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, CommitError::Full), "{refused:?}");
        assert!(acknowledged > 20, "there was room for some");
        let count = async |database: &Embedded| read_all(database, "").await.unwrap().len();
        assert_eq!(count(&database).await, acknowledged as usize, "it is still readable");
        std::fs::remove_file(&spare).unwrap();
        child::commit(&database, acknowledged + 1, vec![7; 10_000]).await.expect("there is room again");
        drop(database);
        let database = Embedded::open(&path, Arc::new(coracle_observe::clock::System)).unwrap();
        assert_eq!(count(&database).await, acknowledged as usize + 1);
    });
    println!("the child came to its end");
}

#[test]
fn opening_a_database_on_a_full_disk_says_so() {
    let Some(dir) = child::dir() else {
        return on_a_small_disk("opening_a_database_on_a_full_disk_says_so");
    };
    fill(&dir.join("spare"));
    let refused =
        Embedded::open(&dir.join("coracle.db"), Arc::new(coracle_observe::clock::System)).unwrap_err();
    assert!(matches!(refused, OpenError::Full { .. }), "{refused:?}");
    std::fs::remove_file(dir.join("spare")).unwrap();
    Embedded::open(&dir.join("coracle.db"), Arc::new(coracle_observe::clock::System))
        .expect("what the failed start left behind does no harm");
    println!("the child came to its end");
}

#[test]
fn what_a_server_held_that_is_gone_is_given_back_once_there_is_room() {
    let Some(dir) = child::dir() else {
        return on_a_small_disk("what_a_server_held_that_is_gone_is_given_back_once_there_is_room");
    };
    let path = dir.join("coracle.db");
    let open = || Embedded::open(&path, Arc::new(coracle_observe::clock::System)).expect("a database");
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let gone = Holder::new("gone").unwrap();
    child::block_on(async {
        let held = Append {
            topic: Topic::new("t").unwrap(),
            id: None,
            group: None,
            begin: Begin::Held(gone.clone()),
            payload: "one".into(),
        };
        open().commit(Batch::new().keep(gone.clone(), "", year).append(held)).await.unwrap();
        fill(&dir.join("spare"));
        // Enough to open the file, and too little to write in it.
        let spare = std::fs::File::options().write(true).open(dir.join("spare")).unwrap();
        spare.set_len(spare.metadata().unwrap().len() - (40 << 10)).unwrap();
        let database = open();
        let refused = database.commit(Batch::new().reclaim()).await.unwrap_err();
        assert!(matches!(refused, CommitError::Full), "{refused:?}");
        drop(spare);
        std::fs::remove_file(dir.join("spare")).unwrap();
        let here = Holder::new("here").unwrap();
        let committed = database.commit(Batch::new().keep(here, "", year).reclaim()).await.unwrap();
        assert_eq!(committed.reclaimed, 1);
        assert_eq!(
            database.commit(Batch::new().reclaim()).await.unwrap().reclaimed,
            0,
            "whoever is here stays"
        );
    });
    println!("the child came to its end");
}

#[test]
fn an_artifact_or_backup_on_a_full_disk_is_refused_and_leaves_nothing() {
    let Some(dir) = child::dir() else {
        return on_a_small_disk("an_artifact_or_backup_on_a_full_disk_is_refused_and_leaves_nothing");
    };
    let data = DataDir::open(&dir.join("data")).unwrap();
    let artifacts = Artifacts::open(&data.artifacts()).unwrap();
    let database = Embedded::open(&data.database(), Arc::new(coracle_observe::clock::System)).unwrap();
    let mut first = artifacts.writer(u64::MAX).unwrap();
    first.write(&vec![7; MEBIBYTE]).unwrap();
    let first = first.finish().unwrap();

    let mut second = artifacts.writer(u64::MAX).unwrap();
    let refused = second.write(&vec![8; MEBIBYTE]).unwrap_err();
    assert!(matches!(refused, ArtifactError::Full), "{refused:?}");
    assert!(second.finish().is_err(), "half an artifact is none");
    assert_eq!(artifacts.list().unwrap(), [first]);
    artifacts.verify(&first).unwrap();

    let refused = data.backup(&database, &artifacts, &dir.join("backup")).unwrap_err();
    assert!(matches!(refused, BackupError::Full), "{refused:?}");
    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["data"], "the unfinished backup is gone");
    println!("the child came to its end");
}
