//! Where a server keeps its state: a SQLite of its own in the data directory, or a PostgreSQL that it shares with others.
//! Called by `serve.rs`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::{Clock, Problem, code};
use coracle_store::{ArtifactError, Artifacts, ConnectError, DataDir, Database, Embedded, Postgres};

/// The URL of a shared database. It may hold a password, so it is never shown.
#[derive(Clone)]
pub(crate) struct StoreUrl(String);

/// Any text is taken here: whoever reads the command line would show one that is refused, and it may hold a password.
impl FromStr for StoreUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreUrl(…)")
    }
}

/// The database of a server.
#[derive(Debug)]
pub(crate) enum Storage {
    /// Its own.
    Alone(Arc<Embedded>),
    /// One that several servers share.
    Shared(Arc<Postgres>),
}

impl Storage {
    /// Opens the shared database, if there is one, else that of the data directory, whose commits may be made to take
    /// longer than they do.
    pub(crate) async fn open(
        url: Option<&StoreUrl>,
        data: &DataDir,
        clock: Arc<dyn Clock>,
        commit_delay: Duration,
    ) -> Result<Self, Problem> {
        let Some(StoreUrl(url)) = url else {
            let embedded = Embedded::open_slowed(&data.database(), clock, commit_delay).map_err(|error| {
                let root = data.root().display();
                Problem::new(&code::DATA_UNUSABLE, format!("use the data directory {root}: {error}"))
            })?;
            return Ok(Self::Alone(Arc::new(embedded)));
        };
        Ok(Self::Shared(Arc::new(Postgres::open(url).await.map_err(|error| refused(&error))?)))
    }

    /// The database, whichever it is.
    pub(crate) fn database(&self) -> Arc<dyn Database> {
        match self {
            Self::Alone(embedded) => Arc::clone(embedded) as Arc<dyn Database>,
            Self::Shared(postgres) => Arc::clone(postgres) as Arc<dyn Database>,
        }
    }

    /// The artifacts that lie with the database.
    pub(crate) fn artifacts(&self, data: &DataDir) -> Result<Artifacts, ArtifactError> {
        match self {
            Self::Alone(_) => Artifacts::open(&data.artifacts()),
            Self::Shared(postgres) => Artifacts::open_shared(&data.artifacts(), postgres),
        }
    }

    /// Whether other servers may be working on it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// The database, if it is this server's alone.
    pub(crate) fn embedded(&self) -> Option<Arc<Embedded>> {
        match self {
            Self::Alone(embedded) => Some(Arc::clone(embedded)),
            Self::Shared(_) => None,
        }
    }

    /// Waits for what was asked for, and closes it.
    pub(crate) async fn close(&self) {
        match self {
            Self::Alone(embedded) => embedded.close(),
            Self::Shared(postgres) => postgres.close().await,
        }
    }
}

fn refused(error: &ConnectError) -> Problem {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        why = format!("{why}: {source}");
        cause = source.source();
    }
    let hint = match error {
        ConnectError::Url { .. } => "write it as postgres://USER:PASSWORD@HOST:5432/DATABASE",
        ConnectError::Unreachable { .. } | ConnectError::Silent { .. } => {
            "see that PostgreSQL runs, and that this machine may reach it"
        }
        ConnectError::Authorities { .. } => {
            "name a file of certificates in PEM, as in `?sslmode=require&sslrootcert=/etc/coracle/ca.pem`"
        }
        ConnectError::Untrusted { .. } => {
            "name the file of whoever signed it, as in `?sslmode=require&sslrootcert=/etc/coracle/ca.pem`, and the host as the certificate does"
        }
        ConnectError::Login { .. } => {
            "write both into the URL: postgres://USER:PASSWORD@HOST/DATABASE, best in CORACLE_STORE"
        }
        ConnectError::TooOld { .. } => "upgrade PostgreSQL, or leave `--store` out to keep state in a file",
        ConnectError::Newer { .. } => "start the newest version of Coracle that any of the servers runs",
        _ => "the user must own the database, or may create a schema in it",
    };
    Problem::new(&code::STORE_UNAVAILABLE, why).hint(hint)
}
