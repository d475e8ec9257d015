//! Artifacts in PostgreSQL: written on one node, there for all, and kept as long as any node needs them.
//! Each node has a directory of its own as its cache.

use std::path::Path;
use std::time::{Duration, SystemTime};

use coracle_model::Digest;
use coracle_store::{ArtifactError, Artifacts, Postgres};
use own_postgres::OwnPostgres;
use tempfile::{TempDir, tempdir};

/// A node's connection, its artifacts, and the directory that has them.
struct Node {
    _database: Postgres,
    artifacts: Artifacts,
    dir: TempDir,
}

impl Node {
    async fn start(own: &OwnPostgres) -> Self {
        let database = Postgres::open(&own.url()).await.expect("a node that starts");
        let dir = tempdir().expect("a temporary directory");
        let artifacts = Artifacts::open_shared(dir.path(), &database).expect("an empty cache");
        Self { _database: database, artifacts, dir }
    }

    fn cached(&self, digest: &Digest) -> std::path::PathBuf {
        self.dir.path().join(digest.to_string())
    }
}

fn put(artifacts: &Artifacts, bytes: &[u8]) -> Result<Digest, ArtifactError> {
    let mut writer = artifacts.writer(64 << 20)?;
    writer.write(bytes)?;
    writer.finish()
}

/// Some bytes that fill several rows, and the last of them in part.
fn large() -> Vec<u8> {
    (0..(3 << 20) + 17_u32).map(|number| (number % 251) as u8).collect()
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_all_can_read() {
    let own = OwnPostgres::start_with(&[("fsync", "off")]).expect("a PostgreSQL that starts");
    let (here, there) = (Node::start(&own).await, Node::start(&own).await);
    blocking(move || {
        let digest = put(&here.artifacts, &large()).unwrap();
        assert!(!there.cached(&digest).exists());
        assert_eq!(there.artifacts.list().unwrap(), [digest]);
        assert!(there.artifacts.read(&digest).unwrap() == large());
        assert!(there.cached(&digest).exists(), "it is kept here from now on");

        std::fs::write(there.cached(&digest), b"sour").unwrap();
        there.artifacts.verify(&digest).expect("damage is mended from the database");
        assert!(there.artifacts.read(&digest).unwrap() == large());
        std::fs::remove_file(here.cached(&digest)).unwrap();
        assert!(here.artifacts.read(&digest).unwrap() == large());

        let absent = Digest::from_bytes([7; 32]);
        assert!(matches!(here.artifacts.open_file(&absent), Err(ArtifactError::Missing { .. })));
        assert!(matches!(
            here.artifacts.touch(&absent, SystemTime::UNIX_EPOCH),
            Err(ArtifactError::Missing { .. })
        ));
        assert_eq!(put(&there.artifacts, b"").unwrap(), put(&here.artifacts, b"").unwrap());
        assert_eq!(partials(here.dir.path()), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_any_node_has_touched_is_not_removed() {
    let own = OwnPostgres::start_with(&[("fsync", "off")]).expect("a PostgreSQL that starts");
    let (here, there) = (Node::start(&own).await, Node::start(&own).await);
    blocking(move || {
        let (one, two) = (put(&here.artifacts, b"one").unwrap(), put(&here.artifacts, b"two").unwrap());
        let written = std::fs::metadata(here.cached(&one)).unwrap().modified().unwrap();
        let at = |seconds| written + Duration::from_secs(seconds);
        there.artifacts.read(&one).unwrap();
        assert!(!here.artifacts.remove_untouched(&one, at(0) - Duration::from_secs(60)).unwrap());
        there.artifacts.touch(&two, at(100)).unwrap();
        there.artifacts.touch(&two, at(50)).unwrap();
        assert!(here.artifacts.remove_untouched(&one, at(60)).unwrap());
        assert!(!here.artifacts.remove_untouched(&two, at(60)).unwrap(), "another node has touched it");
        assert_eq!(here.artifacts.list().unwrap(), [two]);
        assert!(matches!(here.artifacts.read(&one), Err(ArtifactError::Missing { .. })));

        let listed = there.artifacts.list().unwrap();
        assert!(listed.contains(&one), "the other node's copy of it is still there");
        assert!(there.artifacts.remove_untouched(&one, at(60)).unwrap(), "and goes when that node looks");
        assert_eq!(there.artifacts.list().unwrap(), [two]);
        assert_eq!(own.sql("postgres", "SELECT count(*) FROM coracle.artifact_part").unwrap(), "1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_not_acknowledged_while_the_database_is_away() {
    let mut own = OwnPostgres::start().expect("a PostgreSQL that starts");
    let node = Node::start(&own).await;
    blocking(move || {
        let kept = put(&node.artifacts, b"kept").unwrap();
        own.kill().unwrap();
        assert!(matches!(put(&node.artifacts, b"new"), Err(ArtifactError::Unavailable(_))));
        assert_eq!(node.artifacts.read(&kept).unwrap(), b"kept", "what is cached is there all the same");
        own.start_again().unwrap();
        assert_eq!(node.artifacts.list().unwrap(), [kept]);
        put(&node.artifacts, b"new").unwrap();
        assert_eq!(partials(node.dir.path()), 0);
    })
    .await;
}

fn partials(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir).expect("a directory");
    let files = files.map(|file| file.expect("a file").file_name());
    files.filter(|name| name.to_string_lossy().ends_with(".partial")).count()
}
