//! Several servers on a PostgreSQL of their own, with one key.
//! For the tests of what they share.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use own_postgres::OwnPostgres;
use tempfile::TempDir;

use crate::harness::{Data, Server};

/// Servers that share a database and a key.
pub(crate) struct Cluster {
    pub(crate) postgres: OwnPostgres,
    pub(crate) url: String,
    dir: TempDir,
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start(nodes: usize) -> Self {
        let postgres = OwnPostgres::start().unwrap();
        let url = postgres.database("coracle").unwrap();
        let mut cluster = Self { postgres, url, dir: tempfile::tempdir().unwrap(), nodes: Vec::new() };
        let key = cluster.key();
        std::fs::write(&key, [7; 32]).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        // All at once, so that they meet on an empty database.
        cluster.nodes = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..nodes).map(|_| scope.spawn(|| cluster.node(Data::new()))).collect();
            starting.into_iter().map(|node| node.join().unwrap()).collect()
        });
        cluster
    }

    /// A node with a cache of its own: what it runs, it has from the database.
    pub(crate) fn node(&self, data: Data) -> Server {
        let (key, cache) = (self.key(), data.path().join("cache"));
        let flags =
            ["--store", &self.url, "--key-file", key.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
        Server::start_with(data, &flags)
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key")
    }
}
