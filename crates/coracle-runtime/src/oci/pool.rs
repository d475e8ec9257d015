//! The connections to one guest: opened when none is free, kept while it keeps them.
//! `ingress` takes one for each call and gives it back after the response.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::oci::connection::{Failure, Line, Multiplexed, open_multiplexed};
use crate::oci::http1::Plain;

/// Connections that wait for a call; more are closed after theirs.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// How long an attempt to connect may take before it is made anew; on a loopback it takes microseconds, or for ever.
const KNOCK_MIN: Duration = Duration::from_millis(20);
const KNOCK_MAX: Duration = Duration::from_millis(320);

/// Gives unconnected TCP sockets that belong to the guest's network.
pub(crate) type Sockets =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<OwnedFd>> + Send>> + Send + Sync>;

/// How a guest is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, known beforehand: gRPC.
    Http2,
}

pub(super) struct Pool {
    sockets: Sockets,
    address: SocketAddr,
    pub(super) protocol: Protocol,
    // Std mutex: held to move one connection, never over an await.
    #[expect(clippy::vec_box, reason = "a connection passes through many hands, and is kept as it is")]
    idle: Mutex<Vec<Box<Plain>>>,
    // Held while the connection is opened, so that calls that come at once share one.
    shared: tokio::sync::Mutex<Option<Multiplexed>>,
}

impl Pool {
    pub(super) fn new(sockets: Sockets, port: u16, protocol: Protocol) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { sockets, address, protocol, idle: Mutex::default(), shared: tokio::sync::Mutex::default() }
    }

    /// A line to send a call on, and whether it has carried one before.
    pub(super) async fn line(&self) -> Result<(Line, Carried), Unconnected> {
        Ok(match self.protocol {
            Protocol::Http1 => {
                let (plain, carried) = self.plain().await?;
                (Line::Plain(plain), carried)
            }
            Protocol::Http2 => {
                let (sender, carried) = self.multiplexed().await?;
                (Line::Multiplexed(sender), carried)
            }
        })
    }

    /// The same, of HTTP/1.1.
    pub(super) async fn plain(&self) -> Result<(Box<Plain>, Carried), Unconnected> {
        match self.take() {
            Some(plain) => Ok((plain, Carried::Before)),
            None => {
                let stream = Box::pin(self.connect()).await?;
                Ok((Box::new(Plain::new(stream)), Carried::Nothing))
            }
        }
    }

    /// The same, of HTTP/2.
    pub(super) async fn multiplexed(&self) -> Result<(Multiplexed, Carried), Unconnected> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok((sender.clone(), Carried::Before));
        }
        let sender =
            open_multiplexed(self.connect().await?).await.map_err(|error| Unconnected::Http(error.into()))?;
        *shared = Some(sender.clone());
        Ok((sender, Carried::Nothing))
    }

    /// A connection to the guest, which sends at once.
    pub(super) async fn connect(&self) -> Result<TcpStream, Unconnected> {
        let mut patience = KNOCK_MIN;
        loop {
            match timeout(patience, self.knock()).await {
                Ok(connected) => return connected,
                // As many wait as it lets wait. The kernel would try again after a second: a new attempt is sooner.
                Err(_) => patience = (patience * 2).min(KNOCK_MAX),
            }
        }
    }

    async fn knock(&self) -> Result<TcpStream, Unconnected> {
        let socket = std::net::TcpStream::from((self.sockets)().await.map_err(Unconnected::NoSocket)?);
        socket.set_nonblocking(true).map_err(Unconnected::NoSocket)?;
        let socket = TcpSocket::from_std_stream(socket);
        socket.set_nodelay(true).map_err(Unconnected::NoSocket)?;
        socket.connect(self.address).await.map_err(Unconnected::Refused)
    }

    /// The connection that was used last, if the guest has not closed it.
    fn take(&self) -> Option<Box<Plain>> {
        loop {
            let mut plain = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if plain.is_free() {
                return Some(plain);
            }
        }
    }

    /// Keeps a connection whose call is over, if it can carry another.
    pub(super) fn keep(&self, mut plain: Box<Plain>) {
        if plain.is_free() {
            plain.rest();
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_CONNECTIONS_MAX {
                idle.push(plain);
            }
        }
    }

    /// Closes the connections that carry no call.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
        // Whoever opens it now has a call, which the guest is not idle with.
        if let Ok(mut shared) = self.shared.try_lock() {
            *shared = None;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("address", &self.address)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// What a line has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    /// Nothing yet: the guest has just accepted it.
    Nothing,
    /// Calls before: the guest may be about to close it.
    Before,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconnected {
    /// The sandbox gave no socket.
    #[error("no socket of its network: {0}")]
    NoSocket(#[source] io::Error),
    /// Nobody accepted it.
    #[error("{0}")]
    Refused(#[source] io::Error),
    /// The guest does not speak the protocol.
    #[error("{0}")]
    Http(#[source] Failure),
}
