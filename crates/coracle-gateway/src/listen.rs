//! Connections: accepted, bounded, served in HTTP/1.1 or h2c on one port, and drained at the end.
//! `serve.rs` of the binary opens the socket; every request goes to `data`.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use coracle_invoke::Afterwards;
use coracle_model::Body;
use coracle_observe::metrics::Metrics;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::Admin;
use crate::activity::{Activity, Explaining};
use crate::apart::Apart;
use crate::data::{Front, address_named, ask};

/// Connections at once, at the most; beyond that new ones wait in the kernel.
pub const CONNECTIONS_MAX: u32 = 20_000;

/// The bounds on the connections of a socket.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once.
    pub connections: u32,
    /// How long a client may take for the head of its next request, or take nothing of an answer.
    pub head_timeout: Duration,
}

/// The usual time for the head of a request, and between two requests of a connection.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Those who read metrics by themselves are few.
const METRICS_CONNECTIONS_MAX: u32 = 100;

/// The head of a request, in bytes and in headers; for more headers than these hyper would ask the allocator, at every request.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;

/// Requests at once in one connection of HTTP/2.
const STREAMS_MAX: u32 = 100;

/// How long a connection that has nothing to answer is kept when the server stops.
const DRAIN_SILENCE: Duration = Duration::from_millis(200);

/// How long accepting pauses when the process has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves a socket until `stop` says so, then lets each connection finish what it began.
///
/// A connection whose client asks nothing and takes nothing for `head_timeout` is closed.
/// It returns when all connections are closed; the caller bounds how long it waits.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    metrics: Metrics,
    bounds: Bounds,
    stop: watch::Receiver<bool>,
) {
    let answer = move |request, client| front.clone().answer(request, client);
    accept_all(listener, answer, metrics, bounds, stop).await;
}

/// Serves `/metrics` and `/healthz` alone, without a token, until `stop` says so.
pub async fn serve_metrics(listener: TcpListener, admin: Admin, stop: watch::Receiver<bool>) {
    let metrics = admin.observe.metrics.clone();
    let router = admin.metrics_router();
    let answer = move |request, _| ask(router.clone(), request);
    let bounds = Bounds { connections: METRICS_CONNECTIONS_MAX, head_timeout: HEAD_TIMEOUT };
    accept_all(listener, answer, metrics, bounds, stop).await;
}

/// Who asks, as far as the connection tells.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// The address as guests are told it, who hear of it with every call.
    pub(crate) named: HeaderValue,
    /// What calls leave to be done when the connection has nothing more to write.
    pub(crate) after: Afterwards,
}

async fn accept_all<A, F>(
    listener: TcpListener,
    answer: A,
    metrics: Metrics,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) where
    A: Fn(Request<Incoming>, Arc<Client>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let builder = Arc::new(builder());
    let places = Arc::new(Semaphore::new(bounds.connections as usize));
    let draining = stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        let (answer, builder) = (answer.clone(), Arc::clone(&builder));
        let (metrics, draining) = (metrics.clone(), draining.clone());
        tokio::spawn(async move {
            let after = Afterwards::of_connection();
            let client = Client { address: peer.ip(), named: address_named(peer.ip()), after: after.clone() };
            let place = Place::taken(place, metrics);
            connection(stream, place, Arc::new(client), answer, &builder, bounds, draining).await;
            // A connection that ended with its answer had no time for them.
            while let Some(chore) = after.take() {
                chore.run().await;
            }
        });
    }
    drop(listener);
    // Every connection gives its place back.
    let _ = places.acquire_many(bounds.connections).await;
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Ours is for both protocols, and costs no timer for each request.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // One buffer costs hyper and the kernel less than a list of them; `Answering` keeps it short.
        .writev(false)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(HEAD_TIMEOUT);
    builder
}

/// One connection among those that may be open, and counted for as long as it is.
#[derive(Debug)]
struct Place {
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn taken(permit: OwnedSemaphorePermit, metrics: Metrics) -> Self {
        metrics.server().connections.add(1);
        Self { metrics, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.server().connections.add(-1);
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            // A connection that broke off while it was accepted is nobody's fault; too many open files is ours.
            let is_theirs = matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
            );
            if is_theirs {
                tracing::debug!(%error, "a connection could not be accepted");
            } else {
                tracing::warn!(%error, "no connection can be accepted for a while");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None
        }
    }
}

async fn connection<A, F>(
    stream: TcpStream,
    place: Place,
    client: Arc<Client>,
    answer: A,
    builder: &auto::Builder<TokioExecutor>,
    bounds: Bounds,
    mut draining: watch::Receiver<bool>,
) where
    A: Fn(Request<Incoming>, Arc<Client>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Without it small responses wait; its only failure is a connection that is gone already.
    let _ = stream.set_nodelay(true);
    let (activity, after) = (Activity::default(), client.after.clone());
    let io = Explaining::new(TokioIo::new(stream), activity.clone(), place);
    let begins = activity.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let begun = begins.begin(request.version());
        let answering = answer(request, Arc::clone(&client));
        async move { Ok::<_, Infallible>(begun.answered_by(answering.await)) }
    });
    // A connection that changes its protocol is over for hyper, and goes on in the call that changed it.
    let connection = builder.serve_connection_with_upgrades(io, service);
    let mut connection = std::pin::pin!(connection);
    let abandoned = Apart::new(activity.abandoned_for(bounds.head_timeout));
    let stopping = Apart::new(draining.wait_for(|stop| *stop));
    tokio::select! {
        biased;
        // How a connection ends is its client's matter; calls have their own records.
        _ = connection.as_mut() => return,
        never = tidy(after) => match never {},
        () = abandoned => return,
        _ = stopping => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = connection => {}
        // Half a head would be waited for until its end.
        () = activity.idle_for(DRAIN_SILENCE) => {}
    }
}

/// Does what calls left behind, whenever the connection has nothing more to write.
async fn tidy(after: Afterwards) -> Infallible {
    loop {
        // Nobody wakes it: chores are left while the connection is polled, which is just before.
        let chore = poll_fn(|_| after.take().map_or(Poll::Pending, Poll::Ready)).await;
        chore.run().await;
    }
}

#[cfg(test)]
mod tests {
    use coracle_observe::metrics::Metrics;
    use http::{StatusCode, header};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Agrees to every other protocol, and says back what is said.
    async fn echo(mut request: Request<Incoming>) -> Response<Body> {
        let client = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(client.await.unwrap()));
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut reply = Response::new(Body::empty());
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        reply.headers_mut().insert(header::CONNECTION, "upgrade".parse().unwrap());
        reply.headers_mut().insert(header::UPGRADE, "echo".parse().unwrap());
        reply
    }

    #[tokio::test]
    async fn a_connection_that_changes_its_protocol_keeps_its_place_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, (stop, stopped)) = (Metrics::default(), watch::channel(false));
        let bounds = Bounds { connections: 2, head_timeout: HEAD_TIMEOUT };
        let serving =
            tokio::spawn(accept_all(listener, |request, _| echo(request), metrics.clone(), bounds, stopped));

        let mut client = TcpStream::connect(address).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(client.read_buf(&mut head).await.unwrap(), 0);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));

        // What looks like a refusal of ours is not one here.
        let said = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        client.write_all(said).await.unwrap();
        let mut heard = vec![0; said.len()];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, said);

        stop.send(true).unwrap();
        assert_eq!(metrics.server().connections.get(), 1);
        assert!(!serving.is_finished());
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        serving.await.unwrap();
        assert_eq!(metrics.server().connections.get(), 0);
    }
}
