//! The world that is hit: nodes, and the database that they share where there are several.
//! `main.rs` builds it and has it hit; producers find in it a node that is there just now.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use own_postgres::OwnPostgres;
use tempfile::TempDir;

use crate::choices::Blow;
use crate::harness::{Data, Server};
use crate::wire;

/// Nodes on one store.
pub(crate) struct World {
    nodes: Vec<Node>,
    postgres: Option<OwnPostgres>,
    places: Arc<Places>,
    _key: TempDir,
}

/// Where those nodes answer that are there.
#[derive(Debug)]
pub(crate) struct Places {
    all: Mutex<Vec<Option<Place>>>,
    /// Told when a node is there again.
    came: Condvar,
}

/// Where a node answers, and to whom it shows everything.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) token: String,
}

struct Node {
    flags: Vec<String>,
    server: Option<Server>,
}

impl World {
    /// One node with a database in its data directory.
    pub(crate) fn on_sqlite() -> Self {
        Self::of(1, None)
    }

    /// Several nodes on one PostgreSQL.
    pub(crate) fn on_postgres(nodes: usize) -> Self {
        // Killed, it loses nothing that the system has; syncing is for machines that lose power.
        let postgres = OwnPostgres::start_with(&[("fsync", "off")]).expect("a PostgreSQL that starts");
        Self::of(nodes, Some(postgres))
    }

    fn of(count: usize, postgres: Option<OwnPostgres>) -> Self {
        let key = tempfile::tempdir().unwrap();
        let flags = flags(key.path(), postgres.as_ref());
        let node = |_| Node { flags: flags.clone(), server: None };
        let mut world = Self {
            nodes: (0..count).map(node).collect(),
            postgres,
            places: Arc::new(Places { all: Mutex::new(vec![None; count]), came: Condvar::new() }),
            _key: key,
        };
        (0..count).for_each(|which| world.start(which, Data::new()));
        world
    }

    /// How many nodes there are, and whether there is a database to be hit.
    pub(crate) fn size(&self) -> (usize, bool) {
        (self.nodes.len(), self.postgres.is_some())
    }

    /// The nodes that are there.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter_map(|node| node.server.as_ref())
    }

    /// Where one of them answers.
    pub(crate) fn place(&self) -> Place {
        self.places.any(&mut fastrand::Rng::new()).expect("somebody is there between blows")
    }

    /// Where the nodes answer, for those who do not know when they are hit.
    pub(crate) fn places(&self) -> Arc<Places> {
        Arc::clone(&self.places)
    }

    /// Does what is to be done, and mends it after as long as was chosen.
    pub(crate) fn suffer(&mut self, blow: Blow) {
        match blow {
            Blow::Node { which, back_after } => {
                let data = self.kill(which);
                std::thread::sleep(back_after);
                self.start(which, data);
            }
            Blow::Database { back_after } => {
                let postgres = self.postgres.as_mut().expect("it is only hit where it is");
                postgres.kill().expect("a PostgreSQL that runs");
                std::thread::sleep(back_after);
                postgres.start_again().expect("a PostgreSQL that starts again");
            }
        }
    }

    /// Kills all nodes, and starts them again when none is there.
    pub(crate) fn all_at_once(&mut self) {
        let data: Vec<Data> = (0..self.nodes.len()).map(|which| self.kill(which)).collect();
        data.into_iter().enumerate().for_each(|(which, data)| self.start(which, data));
    }

    fn kill(&mut self, which: usize) -> Data {
        self.places.put(which, None);
        self.nodes[which].server.take().expect("nobody is killed twice").kill()
    }

    fn start(&mut self, which: usize, data: Data) {
        let node = &mut self.nodes[which];
        let flags: Vec<&str> = node.flags.iter().map(String::as_str).collect();
        let server = node.server.insert(Server::start_with(data, &flags));
        let place = Place { address: wire::address(server).to_owned(), token: wire::token(server) };
        self.places.put(which, Some(place));
    }
}

impl Places {
    /// One of those that are there just now.
    pub(crate) fn any(&self, rng: &mut fastrand::Rng) -> Option<Place> {
        one_of(&self.lock(), rng)
    }

    /// One that is there, waited for if need be.
    pub(crate) fn wait(&self, rng: &mut fastrand::Rng) -> Place {
        let nobody = |all: &mut Vec<Option<Place>>| all.iter().all(Option::is_none);
        let all = self.came.wait_while(self.lock(), nobody).unwrap_or_else(PoisonError::into_inner);
        one_of(&all, rng).expect("somebody is there")
    }

    fn put(&self, which: usize, place: Option<Place>) {
        self.lock()[which] = place;
        self.came.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Place>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn one_of(all: &[Option<Place>], rng: &mut fastrand::Rng) -> Option<Place> {
    rng.choice(all.iter().flatten().collect::<Vec<_>>()).cloned()
}

fn flags(folder: &Path, postgres: Option<&OwnPostgres>) -> Vec<String> {
    let Some(postgres) = postgres else { return Vec::new() };
    // Whoever shares a database shares what seals its secrets; the first one makes it.
    let key = folder.join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    ["--store", &postgres.url(), "--key-file", key.to_str().unwrap()].map(str::to_owned).into()
}
