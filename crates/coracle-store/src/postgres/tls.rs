//! TLS to PostgreSQL, for `sslmode=require`: the server's certificate must be signed by somebody who is trusted, and be for its host.
//! Trusted are those whom this machine trusts, or those whom `sslrootcert` names instead. Called by `target.rs`.
//! There is a crate for this; it brings a second parser of certificates for channel binding.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

/// Makes TLS for a host.
#[derive(Debug, Clone)]
pub(super) enum Tls {
    /// Nobody asked for it.
    Off,
    /// It is asked for, and checked like this.
    On(Arc<ClientConfig>),
}

/// Makes TLS for one host; where it is off, and for a Unix socket, it is made as well, and not used.
pub(super) struct To {
    tls: Tls,
    host: String,
}

/// A connection under TLS.
pub(super) struct Encrypted(client::TlsStream<Socket>);

impl Tls {
    /// Trusts whom this machine trusts.
    pub(super) fn of_the_machine() -> Self {
        let mut roots = RootCertStore::empty();
        // What cannot be read is not trusted; a machine without any certificate trusts nobody.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::trusting(roots)
    }

    /// Trusts those whose certificates stand in this file, and nobody else.
    pub(super) fn of_file(file: &Path) -> Result<Self, String> {
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = read.map_err(|error| match error {
            rustls::pki_types::pem::Error::Io(error) => error.to_string(),
            error => format!("it is no PEM: {error}"),
        })?;
        let mut roots = RootCertStore::empty();
        match roots.add_parsable_certificates(certificates) {
            (0, _) => Err("it holds no certificate".to_owned()),
            _ => Ok(Self::trusting(roots)),
        }
    }

    fn trusting(roots: RootCertStore) -> Self {
        Self::On(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = To;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<To, io::Error> {
        Ok(To { tls: self.clone(), host: host.to_owned() })
    }
}

impl TlsConnect<Socket> for To {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Encrypted, io::Error>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Tls::On(config) = self.tls else { return Err(io::Error::other("nobody asked for TLS")) };
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            TlsConnector::from(config).connect(name, socket).await.map(Encrypted)
        })
    }
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
