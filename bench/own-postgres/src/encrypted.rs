//! A PostgreSQL that is reached over TCP on the loopback, and by TLS alone, with a certificate of an authority of its own.
//! For tests of whoever checks such certificates. They are made by `openssl`, which comes with Debian's PostgreSQL.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use crate::{OwnPostgres, run};

/// What `openssl` reads: an authority, and a server of the host that is put in at the end.
const REQUEST: &str = "
[req]
distinguished_name = name
prompt = no
[name]
CN = coracle
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = CA:FALSE
subjectAltName = IP:";

impl OwnPostgres {
    /// Makes one that speaks TLS, and starts it.
    ///
    /// # Errors
    /// As for [`start`](Self::start), or with the words of `openssl`.
    pub fn start_encrypted() -> io::Result<Self> {
        let mut own = Self::make(&[])?;
        let address = free_address()?;
        own.certify(address)?;
        let (certificate, key) = (own.in_dir("server.pem"), own.in_dir("server.key"));
        let settings = [
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", certificate.display().to_string()),
            ("ssl_key_file", key.display().to_string()),
            ("listen_addresses", address.ip().to_string()),
            ("port", address.port().to_string()),
        ];
        own.settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        own.network = Some(address);
        own.start_again()?;
        Ok(own)
    }

    /// Where one that [speaks TLS](Self::start_encrypted) is reached over the network; its certificate is for this host.
    ///
    /// # Panics
    /// Of one that does not.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.network.expect("it was started to be reached over the network")
    }

    /// The certificate of who signed the server's, in PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.in_dir("authority.pem")
    }

    fn certify(&self, address: SocketAddr) -> io::Result<()> {
        std::fs::write(self.in_dir("request.cnf"), format!("{REQUEST}{}\n", address.ip()))?;
        self.openssl("authority", &[])?;
        self.openssl("server", &["-CA", "authority.pem", "-CAkey", "authority.key"])
    }

    /// Makes a key and a certificate, as PostgreSQL's owner, whose the key must be.
    fn openssl(&self, what: &str, signed: &[&str]) -> io::Result<()> {
        let mut command = Command::new("openssl");
        self.become_owner(&mut command);
        let (key, certificate, subject) =
            (format!("{what}.key"), format!("{what}.pem"), format!("/CN={what}"));
        command.args(["req", "-x509", "-config", "request.cnf", "-extensions", what, "-subj", &subject]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
        command.args(["-keyout", &key, "-out", &certificate]).args(signed);
        run(&mut command).map(drop)
    }

    fn in_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A port of an address of our own: nobody else takes it between now and when PostgreSQL does.
fn free_address() -> io::Result<SocketAddr> {
    let [.., high, middle, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, high.max(1), middle, low);
    TcpListener::bind((host, 0))?.local_addr()
}
