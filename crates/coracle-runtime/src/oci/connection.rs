//! One connection to a guest, and a request on it.
//! `pool` opens and keeps them; whoever waits for something of a connection of HTTP/1.1 drives it meanwhile.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::bodies::request::RequestBody;
use crate::oci::shared_stream::SharedStream;

/// The head of a guest's response, in bytes and in headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;

/// What of a body may be under way in HTTP/2, in bytes: of one response, and of all in a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// What carries a call.
pub(super) enum Line {
    /// A connection of its own, for as long as the call takes.
    Plain(Plain),
    /// A stream of a connection that all calls share.
    Multiplexed(http2::SendRequest<RequestBody>),
}

impl Line {
    /// Sends a request, and waits for the head of its response.
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Unsent> {
        match self {
            Self::Plain(plain) => plain.send(request).await,
            Self::Multiplexed(sender) => {
                // A connection that is gone says so when it is sent to.
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            }
        }
    }

    /// Moves the connection on, for a task that waits for something of it.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Self::Plain(plain) = self {
            plain.drive(cx);
        }
    }

    /// Tells the guest that what it has sent so far came, for a task that waits for more of it.
    pub(super) fn acknowledge(&self) {
        if let Self::Plain(plain) = self {
            plain.stream.acknowledge();
        }
    }
}

/// Why a request has no response; the request is still there if nothing of it was sent.
pub(super) type Unsent = TrySendError<Request<RequestBody>>;

/// A connection of HTTP/1.1, which carries one call at a time.
///
/// It has no task: the call that it carries drives it, so that a call needs no switch between tasks.
/// Dropping it closes it, whatever it was doing.
pub(super) struct Plain {
    sender: http1::SendRequest<RequestBody>,
    /// `None` when it is over, or gave its socket away.
    driver: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    stream: SharedStream,
}

impl Plain {
    pub(super) async fn open(stream: TcpStream) -> hyper::Result<Self> {
        let stream = SharedStream::new(stream);
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream.clone()))
            .await?;
        Ok(Self { sender, driver: Some(Box::pin(driver.with_upgrades())), stream })
    }

    async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Unsent> {
        let mut response = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            response.as_mut().poll(cx)
        })
        .await
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether another request can be sent at once: the last one is through, and the guest has not closed.
    pub(super) fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && !self.sender.is_closed() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>, cx: &mut Context<'_>) {
    // How it ended, those who wait for a head or a body are told.
    if let Some(running) = driver
        && let Poll::Ready(_) = running.as_mut().poll(cx)
    {
        *driver = None;
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").field("is_over", &self.driver.is_none()).finish_non_exhaustive()
    }
}

/// Opens a connection of HTTP/2, which lives as long as somebody can send on it or waits for an answer.
pub(super) async fn open_multiplexed(stream: TcpStream) -> hyper::Result<http2::SendRequest<RequestBody>> {
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    // How it ends, those who wait for an answer are told.
    tokio::spawn(driver);
    Ok(sender)
}
