//! The capability to reach hosts: who is asked for by name, what is dialled by address.
//! The WASI crates call it for every outgoing request and connection of a guest.

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
}

impl Egress {
    pub(crate) fn new(grants: Arc<[Outbound]>, output: Output) -> Self {
        Self { grants, output }
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

    /// Notes what was refused, and the line that would allow it.
    fn deny(&self, what: &str, to: Option<&Destination>) {
        let line = to
            .map(|to| format!(": to allow it, add `{}` to the function in coracle.toml", to.manifest_line()));
        self.output.note(format!("outbound denied: {what}{}", line.unwrap_or_default()));
        self.output.denied();
    }

    /// Resolves a destination to addresses that may be dialled.
    async fn resolve(&self, to: &Destination) -> Result<Vec<SocketAddr>, Error> {
        let found: Vec<SocketAddr> = match to.host().parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, to.port())],
            Err(_) => tokio::net::lookup_host((to.host(), to.port()))
                .await
                .map_err(|error| Error::DnsError { rcode: Some(error.to_string()), info_code: None })?
                .collect(),
        };
        let allowed: Vec<SocketAddr> =
            found.iter().copied().filter(|at| to.may_dial(at.ip(), &self.grants)).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, None) => Err(Error::DnsError { rcode: Some("no address".into()), info_code: None }),
            (true, Some(private)) => {
                self.note_private(to, private.ip());
                Err(Error::DestinationIpProhibited)
            }
        }
    }

    fn note_private(&self, to: &Destination, address: IpAddr) {
        let by_address = Destination::new("*", &address.to_string(), Some(to.port()));
        self.deny(&format!("{to} is the address {address}, which is not public"), by_address.as_ref());
    }

    async fn dial(&self, to: &Destination) -> Result<TcpStream, Error> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.resolve(to).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Without it small requests wait; its only failure is a connection that is gone already.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(if last.kind() == io::ErrorKind::ConnectionRefused {
            Error::ConnectionRefused
        } else {
            Error::Connect(last)
        })
    }

    async fn send(self, request: http::Request<WasiBody>, times: Times) -> SendResult {
        let to = destination(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        if !to.is_named_by(&self.grants) {
            self.deny(&to.to_string(), Some(&to));
            return Err(Error::HttpRequestDenied);
        }
        let is_tls = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
        let stream = timeout(times.connect, self.dial(&to)).await.map_err(|_| Error::ConnectionTimeout)??;
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

fn tls() -> TlsConnector {
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
