//! Connections to the server behind the proxy, kept open between requests.
//! `main.rs` takes one for each request; there are as many as there were requests at once.

use std::cell::RefCell;
use std::error::Error;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The connections that nobody uses, or whose last response is still being read.
#[derive(Debug)]
pub(crate) struct Pool {
    to: SocketAddr,
    kept: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    /// Connections to this address.
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, kept: RefCell::default() }
    }

    /// One that takes a request now.
    pub(crate) async fn take(&self) -> Result<SendRequest<Incoming>, Box<dyn Error + Send + Sync>> {
        if let Some(connection) = self.kept_and_ready() {
            return Ok(connection);
        }
        let stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // When it breaks, whoever sends on it is told.
        tokio::task::spawn_local(async { drop(connection.await) });
        sender.ready().await?;
        Ok(sender)
    }

    /// Gives one back, even if its last response was not read to the end.
    pub(crate) fn put(&self, connection: SendRequest<Incoming>) {
        self.kept.borrow_mut().push(connection);
    }

    fn kept_and_ready(&self) -> Option<SendRequest<Incoming>> {
        let mut kept = self.kept.borrow_mut();
        kept.retain(|connection| !connection.is_closed());
        let at = kept.iter().rposition(SendRequest::is_ready)?;
        Some(kept.swap_remove(at))
    }
}
