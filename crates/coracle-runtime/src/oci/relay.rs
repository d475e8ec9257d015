//! The way out of a sandbox: connections that its program opens on its own loopback are carried to where they may go.
//! The sandbox hands over the listeners that `routes` asks for; dropping the `Relay` ends all of it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::Destination;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::capabilities::outbound::{Egress, Unreached};
use crate::oci::proxy;
use crate::oci::routes::Way;
use crate::oci::tunnel::tunnel;

/// Connections that one instance may have open at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// How long a destination may take to accept.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long neither side may say anything: database clients keep connections that long.
const SILENCE_MAX: Duration = Duration::from_secs(3600);

/// How long accepting pauses when it fails, as when the process has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a program may still say after it was refused, in bytes, and how long that takes.
const LINGER_BYTES_MAX: u64 = 64 << 10;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Carries connections out of one sandbox, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Relay {
    #[expect(dead_code, reason = "held for its drop, which ends the tasks")]
    listening: JoinSet<()>,
}

impl Relay {
    /// Accepts on listeners that belong to the sandbox's network, as `routes` asked for them.
    pub(crate) fn start(listeners: Vec<(OwnedFd, Way)>, egress: &Egress) -> io::Result<Self> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut listening = JoinSet::new();
        for (listener, way) in listeners {
            let listener = std::net::TcpListener::from(listener);
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            listening.spawn(accept_all(listener, way, egress.clone(), Arc::clone(&places)));
        }
        Ok(Self { listening })
    }
}

async fn accept_all(listener: TcpListener, way: Way, egress: Egress, places: Arc<Semaphore>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                // Its only failure is a connection that is gone already.
                let _ = stream.set_nodelay(true);
                let (way, egress) = (way.clone(), egress.clone());
                connections.spawn(async move {
                    match way {
                        Way::Direct(to) => direct(stream, &to, &egress).await,
                        Way::Proxy => proxy::serve(stream, &egress).await,
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a sandbox's connection cannot be accepted");
                // Out of descriptors, mostly: at once it would fail again.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Carries a connection to its destination; one that cannot be reached is closed, as by the destination itself.
async fn direct(stream: TcpStream, to: &Destination, egress: &Egress) {
    match egress.reach(to, CONNECT_TIMEOUT).await {
        Ok(remote) => carry(stream, remote).await,
        Err(unreached) => {
            // What was denied is noted already.
            if !matches!(unreached, Unreached::Denied(_) | Unreached::NotPublic(_)) {
                egress.note(&format!("{to} was not reached: {unreached}"));
            }
            // A reset says at once what an end would leave open.
            let _ = stream.set_zero_linger();
        }
    }
}

/// Carries bytes both ways until both sides have ended; how they did is between them.
pub(super) async fn carry(stream: TcpStream, remote: TcpStream) {
    tunnel(stream, remote, SILENCE_MAX).await;
}

/// Writes a last word, and reads what is under way: a program that still sends would else see a broken connection.
pub(super) async fn say_and_close(mut stream: TcpStream, bytes: &[u8]) {
    let saying = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // A program that does not listen has had its chance.
    let _ = tokio::time::timeout(LINGER_TIME, saying).await;
}

#[cfg(test)]
mod tests;
