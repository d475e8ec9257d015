//! Which PostgreSQL is meant, as it may be shown: the password is never part of a message.
//! Read once by [`Postgres::open`](super::Postgres::open); asked for a connection by all that need one.

use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::CertificateError;
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
    tls: Tls,
    shown: String,
}

impl Target {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub(super) fn read(url: &str) -> Result<Self, ConnectError> {
        let fault = |reason| Err(ConnectError::Url { reason });
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return fault("it does not begin with `postgres://`");
        }
        let (url, asked) = Asked::read(url)?;
        const UNREADABLE: &str =
            "it cannot be read; in a password, write `@` as %40, `/` as %2F, `?` as %3F and `%` as %25";
        // What the parser says may quote the password, if that has characters of which a URL makes something else.
        let Ok(mut config) = url.parse::<Config>() else { return fault(UNREADABLE) };
        // What stands behind the first `@` of a password is no host either.
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            return fault(UNREADABLE);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return fault("it names no host; for a Unix socket, write `?host=/run/postgresql` behind it");
        }
        let tls = match (asked.mode, asked.authorities) {
            (Mode::Unsaid | Mode::Required, Some(file)) => {
                Tls::of_file(&file).map_err(|reason| ConnectError::Authorities { file, reason })?
            }
            (Mode::Required, None) => Tls::of_the_machine(),
            // Encryption that nobody asked for and nobody checks would fail where a server has a certificate of its own
            // making, as Debian's has.
            (Mode::Unsaid, None) | (Mode::Disabled, _) => Tls::Off,
        };
        config.ssl_mode(match tls {
            Tls::Off => SslMode::Disable,
            Tls::On(_) => SslMode::Require,
        });
        config.application_name("coracle").connect_timeout(CONNECT_TIMEOUT);
        config
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .tcp_user_timeout(CONNECT_TIMEOUT);
        let shown = shown(&config);
        Ok(Self { config, tls, shown })
    }

    pub(super) async fn connect(&self) -> Result<(Client, Line), ConnectError> {
        let connecting = Box::pin(self.config.connect(self.tls.clone()));
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
            None if let Some(reason) = mistrust(&source) => ConnectError::Untrusted { target, reason },
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

/// What a URL says of encryption. Its words are those of PostgreSQL's own clients, of which the parser knows some.
#[derive(Debug, Default)]
struct Asked {
    mode: Mode,
    authorities: Option<PathBuf>,
}

#[derive(Debug, Default)]
enum Mode {
    #[default]
    Unsaid,
    Disabled,
    Required,
}

impl Asked {
    /// Takes it out of a URL, and gives what is left.
    fn read(url: &str) -> Result<(String, Self), ConnectError> {
        let mut asked = Self::default();
        // A password may hold a question mark.
        let behind_password = url.find('@').unwrap_or(0);
        let Some(begin) = url[behind_password..].find('?').map(|at| behind_password + at) else {
            return Ok((url.to_owned(), asked));
        };
        let mut rest = Vec::new();
        for parameter in url[begin + 1..].split('&') {
            match parameter.split_once('=') {
                Some(("sslmode", mode)) => asked.mode = Mode::read(mode)?,
                // As the newest of those clients say it.
                Some(("sslrootcert", "system")) => {}
                Some(("sslrootcert", file)) => {
                    asked.authorities =
                        Some(percent_decode_str(file).decode_utf8_lossy().into_owned().into());
                }
                _ => rest.push(parameter),
            }
        }
        let (base, rest) = (&url[..begin], rest.join("&"));
        Ok((if rest.is_empty() { base.to_owned() } else { format!("{base}?{rest}") }, asked))
    }
}

impl Mode {
    fn read(text: &str) -> Result<Self, ConnectError> {
        match text {
            "disable" => Ok(Self::Disabled),
            "prefer" => Ok(Self::Unsaid),
            // What is required is always checked.
            "require" | "verify-full" => Ok(Self::Required),
            _ => Err(ConnectError::Url {
                reason: "its `sslmode` is none of `disable`, `require` and `verify-full`",
            }),
        }
    }
}

/// Why a certificate is not trusted, if that is what went wrong.
fn mistrust(error: &tokio_postgres::Error) -> Option<String> {
    let handshake = error.source()?.downcast_ref::<std::io::Error>()?.get_ref()?;
    let rustls::Error::InvalidCertificate(reason) = handshake.downcast_ref::<rustls::Error>()? else {
        return None;
    };
    Some(match reason {
        CertificateError::UnknownIssuer => "nobody who is trusted has signed it".to_owned(),
        // It has no variant of its own.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is that of an authority, and not of a server".to_owned()
        }
        reason => reason.to_string(),
    })
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
    /// The file of those who are trusted to sign its certificate cannot be used.
    #[error("read those who may sign the certificate of PostgreSQL, {}: {reason}", file.display())]
    Authorities {
        /// Which, as the URL names it.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody who is trusted says that it is the one that was meant.
    #[error("{target} shows a certificate that is not trusted: {reason}")]
    Untrusted {
        /// Where.
        target: String,
        /// What is wrong with it.
        reason: String,
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
    fn a_url_says_whether_the_connection_is_encrypted() {
        for (query, encrypted) in [
            ("", false),
            ("?sslmode=disable", false),
            ("?sslmode=prefer&connect_timeout=3", false),
            ("?connect_timeout=3&sslmode=require", true),
            ("?sslmode=verify-full&sslrootcert=system", true),
        ] {
            let url = format!("postgres://me:s3?cret@host/db{query}");
            let target = Target::read(&url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(matches!(target.tls, Tls::On(_)), encrypted, "{url}");
            assert_eq!(target.config.get_ssl_mode() == SslMode::Require, encrypted, "{url}");
        }
    }

    #[test]
    fn a_url_is_refused_without_a_word_of_its_password() {
        for (url, said) in [
            ("mysql://me:s3cret@host/db", "does not begin"),
            ("me:s3cret@host", "does not begin"),
            ("postgres://me:s3cret", "cannot be read"),
            ("postgres://me:s3cret@host:port/db", "cannot be read"),
            ("postgres://me:p@ss@w-s3cret@127.0.0.1:5432/db", "cannot be read"),
            ("postgres://me:s3cret@/db", "names no host"),
            ("postgres://me:s3cret@host/db?sslmode=maybe", "`sslmode`"),
            ("postgres://me:s3cret@host/db?sslrootcert=/nowhere/ca%2Epem", "/nowhere/ca.pem"),
            ("postgres://me:s3cret@host/db?sslrootcert=/dev/null", "no certificate"),
        ] {
            let refused = Target::read(url).err().unwrap_or_else(|| panic!("{url} is accepted"));
            let words = format!("{refused} {refused:?}");
            assert!(words.contains(said) && !words.contains("s3cret"), "{url}: {words}");
        }
    }
}
