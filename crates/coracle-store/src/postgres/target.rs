//! Which PostgreSQL is meant, as it may be shown: the password is never part of a message.
//! Read once by [`Postgres::open`](super::Postgres::open); asked for a connection by all that need one.

use std::fmt;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Connection, Socket};

use super::tls::{Encrypted, Tls};

/// How long a connection may take to be made, from the first packet to the end of the greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is silent for so long is asked whether it is still there, and again until it answers.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);

/// A connection that nobody drives yet.
pub(super) type Line = Connection<Socket, Encrypted>;

/// A PostgreSQL and a database in it.
pub(super) struct Target {
    config: Config,
    shown: String,
}

impl Target {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub(super) fn read(url: &str) -> Result<Self, ConnectError> {
        let fault = |reason| Err(ConnectError::Url { reason });
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return fault("it does not begin with `postgres://`");
        }
        // What the parser says may quote the password, if that has characters of which a URL makes something else.
        let Ok(mut config) = url.parse::<Config>() else {
            return fault(
                "it cannot be read; in a password, write `@` as %40, `/` as %2F, `?` as %3F and `%` as %25",
            );
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return fault("it names no host; for a Unix socket, write `?host=/run/postgresql` behind it");
        }
        if config.get_ssl_mode() == SslMode::Prefer {
            // Encryption that nobody asked for and nobody checks would fail where a server has a certificate of its own
            // making, as Debian's has.
            config.ssl_mode(SslMode::Disable);
        }
        config.application_name("coracle").connect_timeout(CONNECT_TIMEOUT);
        config
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .tcp_user_timeout(CONNECT_TIMEOUT);
        let shown = shown(&config);
        Ok(Self { config, shown })
    }

    pub(super) async fn connect(&self) -> Result<(Client, Line), ConnectError> {
        let connecting = Box::pin(self.config.connect(Tls));
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|source| self.refused(source)),
            Err(_) => Err(ConnectError::Silent { target: self.shown.clone(), waited: CONNECT_TIMEOUT }),
        }
    }

    /// What a refusal of PostgreSQL means.
    pub(super) fn refused(&self, source: tokio_postgres::Error) -> ConnectError {
        let target = self.shown.clone();
        match source.code() {
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                ConnectError::Login { target, source }
            }
            Some(_) => ConnectError::Refused { target, source },
            // A password that is asked for and not there is noticed on our side.
            None if source.to_string().contains("configuration") => ConnectError::Login { target, source },
            None => ConnectError::Unreachable { target, source },
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The URL again, without its password.
fn shown(config: &Config) -> String {
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    let ports = config.get_ports();
    let host = |(number, host): (usize, &Host)| {
        let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(dir) => dir.join(format!(".s.PGSQL.{port}")).display().to_string(),
        }
    };
    let hosts: Vec<String> = match config.get_hosts() {
        [] => config.get_hostaddrs().iter().map(ToString::to_string).collect(),
        hosts => hosts.iter().enumerate().map(host).collect(),
    };
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

/// A PostgreSQL that cannot be used. The target is its URL without the password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not one of a PostgreSQL.
    #[error("the URL of the store cannot be used: {reason}")]
    Url {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody answers there.
    #[error("connect to {target}")]
    Unreachable {
        /// Where.
        target: String,
        /// The reason.
        source: tokio_postgres::Error,
    },
    /// Somebody is there, and says nothing.
    #[error("connect to {target}: no answer within {} s", waited.as_secs())]
    Silent {
        /// Where.
        target: String,
        /// How long was waited.
        waited: Duration,
    },
    /// It does not accept the user, the password, or where we come from.
    #[error("{target} does not let this user in: check the user name, the password and pg_hba.conf")]
    Login {
        /// Where.
        target: String,
        /// Its words.
        source: tokio_postgres::Error,
    },
    /// It is older than what this program needs.
    #[error("{target} is PostgreSQL {found}, this program needs {needed} or newer")]
    TooOld {
        /// Where.
        target: String,
        /// Its version, in its own words.
        found: String,
        /// The oldest that will do.
        needed: i32,
    },
    /// A newer program has upgraded the tables.
    #[error(
        "{target} has schema version {found}, this program knows versions up to {known}: use the newer program again"
    )]
    Newer {
        /// Where.
        target: String,
        /// The version of the tables.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// It refused something that is needed.
    #[error("use {target}")]
    Refused {
        /// Where.
        target: String,
        /// Its words.
        source: tokio_postgres::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_shown_without_its_password() {
        for (url, expected) in [
            ("postgres://me:s3cret@db.example/app", "postgres://me@db.example:5432/app"),
            ("postgresql://me:s3cret@one:1,two:2/app", "postgres://me@one:1,two:2/app"),
            (
                "postgres://me:s3cret@/app?host=/run/postgresql",
                "postgres://me@/run/postgresql/.s.PGSQL.5432/app",
            ),
        ] {
            let target = Target::read(url).expect(url);
            assert_eq!(target.to_string(), expected, "{url}");
            assert!(!format!("{target:?}").contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn a_url_is_refused_without_a_word_of_its_password() {
        for (url, said) in [
            ("mysql://me:s3cret@host/db", "does not begin"),
            ("me:s3cret@host", "does not begin"),
            ("postgres://me:s3cret", "cannot be read"),
            ("postgres://me:s3cret@host:port/db", "cannot be read"),
            ("postgres://me:s3cret@/db", "names no host"),
            ("postgres://me:s3cret@host/db?sslmode=maybe", "cannot be read"),
        ] {
            let refused = Target::read(url).err().unwrap_or_else(|| panic!("{url} is accepted"));
            let words = format!("{refused} {refused:?}");
            assert!(words.contains(said) && !words.contains("s3cret"), "{url}: {words}");
        }
    }
}
