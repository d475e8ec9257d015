//! The catalog over the real database, from outside: what it promises to the gateway, to invoke and to an operator.
//! One file per promise; here stands the world that they share.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod deploys;
mod faults;
mod nodes;
mod records;
mod registries;
mod secrets;
mod tokens;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use coracle_catalog::{Catalog, Deploy, Deployment, SecretKey};
use coracle_model::{
    Clock, Code, Contract, Digest, FunctionName, FunctionRef, NamespaceName, Problem, SecretName, Settings,
};
use coracle_store::{Database, Embedded};
use jiff::Timestamp;
use tempfile::TempDir;

/// A database in a folder of its own, which can be closed and opened again.
struct World {
    folder: TempDir,
    clock: Arc<StillClock>,
}

impl World {
    fn new() -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::new(StillClock(Mutex::new(now))) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("coracle.db")
    }

    fn database(&self) -> Arc<Embedded> {
        Arc::new(Embedded::open(&self.path(), self.clock.clone()).unwrap())
    }

    async fn open(&self) -> Catalog {
        self.open_over(self.database()).await
    }

    async fn open_over(&self, database: Arc<dyn Database>) -> Catalog {
        self.try_open(database, 7).await.unwrap()
    }

    async fn try_open(&self, database: Arc<dyn Database>, key: u8) -> Result<Catalog, Problem> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        Catalog::open(database, SecretKey::from_bytes([key; 32]), clock).await
    }
}

/// A time that only a test moves.
#[derive(Debug)]
struct StillClock(Mutex<Timestamp>);

impl StillClock {
    fn set(&self, now: &str) {
        *self.0.lock().unwrap() = now.parse().unwrap();
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "the trait asks for it; the catalog measures no durations")]
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

fn f(text: &str) -> FunctionRef {
    FunctionRef::parse(text).unwrap()
}

fn ns(text: &str) -> NamespaceName {
    NamespaceName::parse(text).unwrap()
}

fn secret(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

/// A function whose code is told by one byte.
fn deployment(name: &str, code: u8, settings: Settings) -> Deployment {
    Deployment {
        name: FunctionName::parse(name).unwrap(),
        code: Code::Wasm(Digest::from_bytes([code; 32])),
        contract: Contract::Component,
        settings,
    }
}

/// A deploy to the default namespace.
fn deploy(app: Option<&str>, functions: Vec<Deployment>) -> Deploy {
    Deploy { namespace: NamespaceName::default(), app: app.map(|app| app.parse().unwrap()), functions }
}

fn one(name: &str, code: u8) -> Deploy {
    deploy(None, vec![deployment(name, code, Settings::default())])
}

fn routed(routes: &[&str]) -> Settings {
    Settings { routes: routes.iter().map(|route| route.parse().unwrap()).collect(), ..Settings::default() }
}

fn reading(secrets: &[&str]) -> Settings {
    Settings { secrets: secrets.iter().map(|name| secret(name)).collect(), ..Settings::default() }
}

/// The code of a problem, and whether it says what to do.
fn said<T: std::fmt::Debug>(result: Result<T, Problem>) -> (&'static str, String) {
    let problem = result.unwrap_err();
    (problem.code.name, problem.hint.unwrap_or_default())
}
