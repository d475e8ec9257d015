//! The capability to reach hosts: who is asked for by name, what is dialled by address.
//! The WASI crates call it for every outgoing request and connection of a component, the relay for those of a program.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use coracle_model::{Destination, Outbound};
use http::{HeaderName, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::output::Output;

/// How long a connection may take when the guest names no time itself, and at the most.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// How long the head of a response may take, and how long a body may pause, when the guest names no time itself.
const RESPONSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);

/// A guest's way out.
#[derive(Debug, Clone)]
pub(crate) struct Egress {
    grants: Arc<[Outbound]>,
    output: Output,
    resolver: Resolver,
}

/// Who turns names into addresses.
#[derive(Debug, Clone)]
pub(super) enum Resolver {
    /// The system, as for every program on it.
    System,
    #[cfg(test)]
    Table(Arc<std::collections::HashMap<String, Vec<SocketAddr>>>),
}

/// Why a destination was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreached {
    /// No grant allows it; it was noted, with the line that would.
    #[error("outbound denied: {0}")]
    Denied(String),
    /// Its name stands for an address that is not public, and that no grant names; it was noted.
    #[error("outbound denied: {0}")]
    NotPublic(String),
    /// Its name stands for no address.
    #[error("no address was found: {0}")]
    Unresolved(String),
    /// There is no connection to any of its addresses.
    #[error("it cannot be connected to: {0}")]
    Unconnected(#[source] io::Error),
    /// It took too long.
    #[error("it did not accept the connection in time")]
    Late,
}

impl Egress {
    pub(crate) fn new(grants: Arc<[Outbound]>, output: Output) -> Self {
        Self { grants, output, resolver: Resolver::System }
    }

    /// The same, with these names and no others.
    #[cfg(test)]
    pub(crate) fn resolving(mut self, names: &[(&str, SocketAddr)]) -> Self {
        let mut table = std::collections::HashMap::<String, Vec<SocketAddr>>::new();
        for (name, address) in names {
            table.entry((*name).to_owned()).or_default().push(*address);
        }
        self.resolver = Resolver::Table(Arc::new(table));
        self
    }

    /// What was granted.
    pub(crate) fn grants(&self) -> &[Outbound] {
        &self.grants
    }

    /// Says in the function's log how a connection went.
    pub(crate) fn note(&self, text: &str) {
        self.output.note(text);
    }

    /// Whether a guest may connect a socket to this address: some grant names the address itself.
    pub(crate) fn may_connect(&self, address: SocketAddr) -> bool {
        let host = address.ip().to_string();
        let to = Destination::new("tcp", &host, Some(address.port()));
        let allowed = to
            .as_ref()
            .is_some_and(|to| to.is_named_by(&self.grants) && to.may_dial(address.ip(), &self.grants));
        if !allowed {
            self.deny(&format!("a connection to {address}"), to.as_ref());
        }
        allowed
    }

    /// Connects to a destination: by name it must be granted, and by address it must be one that may be dialled.
    pub(crate) async fn reach(&self, to: &Destination, within: Duration) -> Result<TcpStream, Unreached> {
        if !to.is_named_by(&self.grants) {
            return Err(Unreached::Denied(self.deny(&to.to_string(), Some(to))));
        }
        timeout(within, self.dial(to)).await.unwrap_or(Err(Unreached::Late))
    }

    /// Notes what was refused, and the line that would allow it.
    fn deny(&self, what: &str, to: Option<&Destination>) -> String {
        let line = to
            .map(|to| format!(": to allow it, add `{}` to the function in coracle.toml", to.manifest_line()));
        let denied = format!("{what}{}", line.unwrap_or_default());
        self.output.note(format!("outbound denied: {denied}"));
        self.output.denied();
        denied
    }

    /// Resolves a destination to addresses that may be dialled.
    async fn resolve(&self, to: &Destination) -> Result<Vec<SocketAddr>, Unreached> {
        let found = match to.host().parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, to.port())],
            Err(_) => self
                .resolver
                .look_up(to.host(), to.port())
                .await
                .map_err(|error| Unreached::Unresolved(error.to_string()))?,
        };
        let allowed: Vec<SocketAddr> =
            found.iter().copied().filter(|at| to.may_dial(at.ip(), &self.grants)).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, None) => Err(Unreached::Unresolved("no address".into())),
            (true, Some(private)) => Err(Unreached::NotPublic(self.deny_private(to, private.ip()))),
        }
    }

    fn deny_private(&self, to: &Destination, address: IpAddr) -> String {
        let by_address = Destination::new("*", &address.to_string(), Some(to.port()));
        self.deny(&format!("{to} is the address {address}, which is not public"), by_address.as_ref())
    }

    async fn dial(&self, to: &Destination) -> Result<TcpStream, Unreached> {
        connect(&self.resolve(to).await?).await.map_err(Unreached::Unconnected)
    }

    async fn send(self, request: http::Request<WasiBody>, times: Times) -> SendResult {
        let to = destination(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let is_tls = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
        let stream = self.reach(&to, times.connect).await?;
        if is_tls {
            let name =
                ServerName::try_from(to.host().to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
            let connect = tls().connect(name, stream);
            let stream = timeout(times.connect, connect)
                .await
                .map_err(|_| Error::ConnectionTimeout)?
                .map_err(Error::Tls)?;
            exchange(TokioIo::new(stream), request, times).await
        } else {
            exchange(TokioIo::new(stream), request, times).await
        }
    }
}

/// Connects to the first of these addresses that takes the connection.
pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it small requests wait; its only failure is a connection that is gone already.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Resolver {
    pub(super) async fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, port)).await?.collect()),
            #[cfg(test)]
            Self::Table(names) => Ok(names.get(name).cloned().unwrap_or_default()),
        }
    }
}

/// The words that `wasi:http` has for it.
impl From<Unreached> for Error {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Denied(_) => Self::HttpRequestDenied,
            Unreached::NotPublic(_) => Self::DestinationIpProhibited,
            Unreached::Unresolved(why) => Self::DnsError { rcode: Some(why), info_code: None },
            Unreached::Unconnected(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Self::ConnectionRefused
            }
            Unreached::Unconnected(error) => Self::Connect(error),
            Unreached::Late => Self::ConnectionTimeout,
        }
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type SendResult = Result<(http::Response<WasiBody>, Io), Error>;

/// How long each step may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    connect: Duration,
    head: Duration,
    between_chunks: Duration,
}

impl Times {
    fn of(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        Self {
            connect: options.connect_timeout.unwrap_or(CONNECT_TIMEOUT_MAX).min(CONNECT_TIMEOUT_MAX),
            head: options.first_byte_timeout.unwrap_or(RESPONSE_TIMEOUT_DEFAULT),
            between_chunks: options.between_bytes_timeout.unwrap_or(RESPONSE_TIMEOUT_DEFAULT),
        }
    }
}

fn destination(uri: &http::Uri) -> Option<Destination> {
    Destination::new(uri.scheme_str()?, uri.host()?, uri.port_u16())
}

async fn exchange<S>(stream: TokioIo<S>, mut request: http::Request<WasiBody>, times: Times) -> SendResult
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = timeout(times.connect, http1::handshake(stream))
        .await
        .map_err(|_| Error::ConnectionTimeout)?
        .map_err(Error::Hyper)?;
    // To an origin, a request names its path; the host stands in its header already.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut connection = Box::pin(connection);
    let response = {
        let head = timeout(times.head, sender.send_request(request));
        tokio::pin!(head);
        tokio::select! {
            biased;
            head = &mut head => head.map_err(|_| Error::ConnectionReadTimeout)?.map_err(Error::Hyper)?,
            ended = &mut connection => {
                ended.map_err(Error::Hyper)?;
                // The connection ended in peace: what it received is on its way to the head.
                head.await.map_err(|_| Error::ConnectionReadTimeout)?.map_err(Error::Hyper)?
            }
        }
    };
    let response = response.map(|body| Paced::new(body, times.between_chunks).boxed_unsync());
    Ok((response, Box::new(async move { connection.await.map_err(Error::Hyper) })))
}

/// The body of a response that may not pause for long.
struct Paced {
    body: hyper::body::Incoming,
    pause_max: Duration,
    pause: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl Paced {
    fn new(body: hyper::body::Incoming, pause_max: Duration) -> Self {
        Self { body, pause_max, pause: None }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
        use std::task::Poll;
        if let Poll::Ready(frame) = std::pin::Pin::new(&mut self.body).poll_frame(cx) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)));
        }
        let pause_max = self.pause_max;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause_max)));
        pause.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// What trusts whom the machine trusts.
pub(super) fn tls() -> TlsConnector {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut roots = rustls::RootCertStore::empty();
        // What cannot be read is not trusted; a machine without any certificate trusts nobody.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    });
    TlsConnector::from(Arc::clone(config))
}

impl WasiHttpHooks for Egress {
    /// Headers that belong to one connection, not to a message: a guest may not set them, and sees none.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        const CONNECTION: [HeaderName; 6] = [
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
            header::PROXY_AUTHENTICATE,
            header::PROXY_AUTHORIZATION,
            header::HOST,
        ];
        CONNECTION.contains(name)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        Box::new(self.clone().send(request, Times::of(options)))
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS_BUFFERED
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }
}

/// What a guest may write ahead of its reader.
const BODY_CHUNKS_BUFFERED: usize = 4;
/// What a guest may write at once, in bytes.
const BODY_CHUNK_BYTES_MAX: usize = 64 << 10;
