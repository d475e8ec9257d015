//! A backup holds what was true at one moment, while the writer goes on, and becomes a data directory again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_store::{
    Artifacts, Batch, Condition, DataDir, Database, Embedded, Key, RestoreError, VALUE_BYTES_MAX, read_all,
};
use rusqlite::Connection;
use tempfile::tempdir;

fn open(root: &Path) -> (DataDir, Embedded, Artifacts) {
    furnish(DataDir::open(root).expect("a data directory"))
}

fn furnish(dir: DataDir) -> (DataDir, Embedded, Artifacts) {
    let database =
        Embedded::open(&dir.database(), Arc::new(coracle_observe::clock::System)).expect("a database");
    let artifacts = Artifacts::open(&dir.artifacts()).expect("artifacts");
    (dir, database, artifacts)
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key of the test")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_a_committing_writer_is_of_one_moment() {
    const BACKUPS: usize = 5;
    let outer = tempdir().unwrap();
    let (dir, database, artifacts) = open(&outer.path().join("data"));
    // Large enough that a copy takes longer than a commit.
    for number in 0..8 {
        let batch =
            Batch::new().put(key(&format!("ballast/{number}")), vec![7; VALUE_BYTES_MAX], Condition::Any);
        database.commit(batch).await.unwrap();
    }
    let (database, stop) = (Arc::new(database), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn({
        let (database, stop) = (Arc::clone(&database), Arc::clone(&stop));
        async move {
            let mut last = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                last += 1;
                let both = Batch::new().put(key("left"), last.to_string(), Condition::Any);
                database.commit(both.put(key("right"), last.to_string(), Condition::Any)).await.unwrap();
            }
            last
        }
    });
    let mut changes = database.watch("left");
    let mut seen = Vec::new();
    for number in 0..BACKUPS {
        changes.next().await.expect("the writer writes");
        let file = outer.path().join(format!("backup-{number}"));
        tokio::task::block_in_place(|| dir.backup(&database, &artifacts, &file)).unwrap();
        let (_restored, copy, _) =
            furnish(DataDir::restore(&file, &outer.path().join(number.to_string())).unwrap());
        let (left, right) = (copy.get(&key("left")).await.unwrap(), copy.get(&key("right")).await.unwrap());
        assert!(left.is_some(), "what was told to a watch is in a later backup");
        assert_eq!(left, right, "half a commit is in no backup");
        assert_eq!(read_all(&copy, "ballast/").await.unwrap().len(), 8);
        seen.push(left.unwrap().revision);
    }
    stop.store(true, Ordering::SeqCst);
    assert!(writer.await.unwrap() > BACKUPS as u64, "the writer went on meanwhile");
    assert!(seen.is_sorted() && seen[0] < seen[BACKUPS - 1], "later backups hold later commits: {seen:?}");
}

#[tokio::test]
async fn a_backup_brings_back_the_database_the_artifacts_and_the_key() {
    let outer = tempdir().unwrap();
    let (dir, database, artifacts) = open(&outer.path().join("data"));
    let entry = database.commit(Batch::new().put(key("a"), "1", Condition::Absent)).await.unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let [large_digest, empty_digest] = [&large[..], &[]].map(|bytes| {
        let mut writer = artifacts.writer(u64::MAX).unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap()
    });
    std::fs::write(dir.key(), "the key").unwrap();
    std::fs::write(dir.admin_token(), "the token").unwrap();
    std::fs::write(dir.cache().join("code"), "compiled").unwrap();
    let file = outer.path().join("backup");
    std::fs::write(&file, "an older backup").unwrap();
    dir.backup(&database, &artifacts, &file).unwrap();

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600, "it holds the key");
    let mut left: Vec<_> =
        std::fs::read_dir(outer.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["backup", "data"], "nothing unfinished stays behind");

    let root = outer.path().join("restored");
    let (restored, copy, artifacts) = furnish(DataDir::restore(&file, &root).unwrap());
    assert_eq!(copy.get(&key("a")).await.unwrap().map(|found| found.revision), Some(entry.revision));
    assert_eq!(artifacts.read(&large_digest).unwrap(), large);
    assert_eq!(artifacts.read(&empty_digest).unwrap(), Vec::<u8>::new());
    assert_eq!(std::fs::read_to_string(restored.key()).unwrap(), "the key");
    assert_eq!((mode(&restored.key()), mode(&restored.database())), (0o600, 0o600));
    assert!(!restored.admin_token().exists() && !restored.cache().join("code").exists());
    drop((restored, copy));
    open(&root).1.commit(Batch::new().put(key("b"), "2", Condition::Absent)).await.unwrap();
}

#[test]
fn a_restore_never_overwrites() {
    let outer = tempdir().unwrap();
    let (dir, database, artifacts) = open(&outer.path().join("data"));
    let file = outer.path().join("backup");
    dir.backup(&database, &artifacts, &file).unwrap();
    let refused = DataDir::restore(&file, dir.root());
    assert!(matches!(refused, Err(RestoreError::NotEmpty { .. })), "{refused:?}");
}

#[test]
fn a_backup_that_is_damaged_or_something_else_is_refused() {
    let outer = tempdir().unwrap();
    let (dir, database, artifacts) = open(&outer.path().join("data"));
    let file = outer.path().join("backup");
    dir.backup(&database, &artifacts, &file).unwrap();
    let refused = |name: &str, from: &Path| DataDir::restore(from, &outer.path().join(name)).unwrap_err();

    let other = refused("other", &dir.database());
    assert!(matches!(other, RestoreError::NotABackup { .. }), "{other:?}");
    assert!(!outer.path().join("other").exists(), "what is refused at once leaves nothing behind");

    let alter = |sql| Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    alter("UPDATE part SET bytes = zeroblob(length(bytes)) WHERE name = 'coracle.db'");
    let damaged = refused("damaged", &file);
    assert!(matches!(&damaged, RestoreError::Damaged { name, .. } if name == "coracle.db"), "{damaged:?}");
    assert!(DataDir::open(&outer.path().join("damaged")).is_err(), "and is not taken for a data directory");

    alter("INSERT INTO file VALUES ('../../escape', '')");
    assert!(matches!(refused("escape", &file), RestoreError::Damaged { name, .. } if name == "../../escape"));

    alter("PRAGMA user_version = 7");
    assert!(matches!(refused("newer", &file), RestoreError::Newer { found: 7, known: 1, .. }));
}
