//! Requests of the platform's own: results of queued calls, posted to addresses that a caller or a setting names.
//! The queue sends them; the address that is dialled is checked, as for a guest, so that nobody sees through us what only we can reach.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_model::{Destination, Outbound, Problem, code};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::outbound::{Resolver, connect, tls};

/// How long a connection may take, with the look-up of its name and the handshake of TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What is read of the body of an answer, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The letters of a text from elsewhere that a message repeats.
const SHOWN_MAX: usize = 200;

const NAME: HeaderValue = HeaderValue::from_static(concat!("coracle/", env!("CARGO_PKG_VERSION")));

/// Headers of one connection, or that we set ourselves.
const OURS: [HeaderName; 12] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Sends what the platform itself has to say to somebody.
#[derive(Debug, Clone)]
pub struct Courier {
    resolver: Resolver,
    connect_timeout: Duration,
    delivery_timeout: Duration,
}

/// What is posted, and where.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// An address with `http` or `https`, and a host.
    pub url: Uri,
    /// Its headers; those of a connection are left out.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Courier {
    /// A courier that asks the system for addresses, as every program on it does, and gives a receiver so much time.
    pub fn new(delivery_timeout: Duration) -> Self {
        Self { resolver: Resolver::System, connect_timeout: CONNECT_TIMEOUT, delivery_timeout }
    }

    /// Whether an address may be sent to for callers of a function with these grants, as far as its text tells: names are looked up when it is sent to.
    ///
    /// # Errors
    /// `invalid-callback` if it is none that could be sent to, `callback-denied` if it is private and no grant names it.
    pub fn check(url: &Uri, grants: &[Outbound]) -> Result<(), Problem> {
        let to = destination(url)?;
        let address = match to.host() {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => host.parse().ok(),
        };
        match address {
            Some(address) if !to.may_deliver(address, grants) => Err(denied(&to, address)),
            _ => Ok(()),
        }
    }

    /// Posts it, and gives the answer with as much of its body as is read.
    ///
    /// # Errors
    /// `callback-denied` and `delivery-redirected`, which trying again does not mend; `delivery-failed` if there is no answer.
    pub async fn deliver(&self, delivery: Delivery, grants: &[Outbound]) -> Result<Response<Bytes>, Problem> {
        let to = destination(&delivery.url)?;
        let mut answer = None;
        let ended = timeout(self.delivery_timeout, self.exchange(&to, delivery, grants, &mut answer)).await;
        match (answer, ended) {
            // What its body lacks, if time or bytes ran out, changes nothing: the status is there.
            (Some(answer), _) => not_elsewhere(&to, answer.map(BytesMut::freeze)),
            (None, Ok(Err(problem))) => Err(problem),
            (None, _) => {
                let seconds = self.delivery_timeout.as_secs_f32();
                Err(failed(&to, format!("it did not answer within {seconds} s")))
            }
        }
    }

    async fn exchange(
        &self,
        to: &Destination,
        delivery: Delivery,
        grants: &[Outbound],
        answer: &mut Option<Response<BytesMut>>,
    ) -> Result<(), Problem> {
        let is_tls = delivery.url.scheme_str() == Some("https");
        let io = timeout(self.connect_timeout, self.connect(to, is_tls, grants)).await.map_err(|_| {
            let seconds = self.connect_timeout.as_secs_f32();
            failed(to, format!("it did not accept the connection within {seconds} s"))
        })??;
        let broken = |error: hyper::Error| failed(to, format!("the exchange broke off: {error}"));
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(io))
            .await
            .map_err(broken)?;
        // Dropped with this future, and the connection with it.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let (head, mut body) = sender.send_request(request(delivery)?).await.map_err(broken)?.into_parts();
        let read = answer.insert(Response::from_parts(head, BytesMut::new())).body_mut();
        read_some(&mut body, read).await;
        Ok(())
    }

    /// Connects to an address of the destination that may be sent to.
    async fn connect(
        &self,
        to: &Destination,
        is_tls: bool,
        grants: &[Outbound],
    ) -> Result<Connected, Problem> {
        let found = match to.host().parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, to.port())],
            Err(_) => self
                .resolver
                .look_up(to.host(), to.port())
                .await
                .map_err(|error| failed(to, format!("its name stands for no address: {error}")))?,
        };
        let allowed: Vec<_> = found.iter().copied().filter(|at| to.may_deliver(at.ip(), grants)).collect();
        match (allowed.is_empty(), found.first()) {
            (true, Some(private)) => return Err(denied(to, private.ip())),
            (true, None) => return Err(failed(to, "its name stands for no address")),
            (false, _) => {}
        }
        let stream = connect(&allowed)
            .await
            .map_err(|error| failed(to, format!("it cannot be connected to: {error}")))?;
        if !is_tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(to.host().to_owned())
            .map_err(|_| failed(to, "its host is no name that a certificate could have"))?;
        let stream =
            tls().connect(name, stream).await.map_err(|error| failed(to, format!("TLS failed: {error}")))?;
        Ok(Box::new(stream))
    }
}

/// A connection, under TLS or not.
type Connected = Box<dyn Stream>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

fn destination(url: &Uri) -> Result<Destination, Problem> {
    let to = match (url.scheme_str(), url.host()) {
        (Some(scheme @ ("http" | "https")), Some(host)) => Destination::new(scheme, host, url.port_u16()),
        _ => None,
    };
    to.ok_or_else(|| {
        let message = format!("nothing can be sent to `{}`", shown(&url.to_string()));
        Problem::new(&code::INVALID_CALLBACK, message).hint("name it as in `https://example.com/results`")
    })
}

fn request(Delivery { url, mut headers, body }: Delivery) -> Result<Request<Full<Bytes>>, Problem> {
    for name in OURS {
        headers.remove(name);
    }
    let authority = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let host = HeaderValue::from_str(authority)
        .map_err(|error| Problem::new(&code::INVALID_CALLBACK, format!("its host is no header: {error}")))?;
    headers.insert(HOST, host);
    headers.entry(USER_AGENT).or_insert(NAME);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers;
    // To an origin, a request names its path; the host stands in its header.
    *request.uri_mut() = url.path_and_query().cloned().map_or(Uri::from_static("/"), Uri::from);
    Ok(request)
}

/// Reads a body up to its bound; how it ends is nobody's business.
async fn read_some(body: &mut Incoming, read: &mut BytesMut) {
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        let room = BODY_BYTES_MAX - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if read.len() == BODY_BYTES_MAX {
            return;
        }
    }
}

/// An answer, unless it sends us elsewhere: where that is was checked by nobody.
fn not_elsewhere(to: &Destination, answer: Response<Bytes>) -> Result<Response<Bytes>, Problem> {
    if !answer.status().is_redirection() {
        return Ok(answer);
    }
    let location = answer.headers().get(LOCATION).map(|at| String::from_utf8_lossy(at.as_bytes()));
    let elsewhere = location.map(|at| format!(" to `{}`", shown(&at))).unwrap_or_default();
    let message = format!("{to} answered {}, a redirect{elsewhere}", answer.status().as_u16());
    Err(Problem::new(&code::DELIVERY_REDIRECTED, message)
        .hint("redirects are not followed: name the address that it leads to"))
}

fn denied(to: &Destination, address: IpAddr) -> Problem {
    let by_address = to.at(address);
    let (what, grants) = if *to == by_address || to.host() == "localhost" {
        (format!("{to} is not public"), format!("\"{to}\""))
    } else {
        (format!("{to} is the address {address}, which is not public"), format!("\"{to}\", \"{by_address}\""))
    };
    Problem::new(&code::CALLBACK_DENIED, format!("nothing is sent there: {what}"))
        .hint(format!("to allow it, add `outbound = [{grants}]` to the function in coracle.toml"))
}

fn failed(to: &Destination, why: impl std::fmt::Display) -> Problem {
    Problem::new(&code::DELIVERY_FAILED, format!("nothing was delivered to {to}: {why}"))
}

/// The start of a text that may be anything.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Longer than any test takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A receiver that answers one request with these bytes, or never; it gives what it read.
    async fn receiver(answer: Option<&'static str>) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"{\"id\":7}") {
                if stream.read_buf(&mut read).await.unwrap() == 0 {
                    break;
                }
            }
            match answer {
                // The other side may have read enough.
                Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                None => drop(stream.read_buf(&mut read).await),
            }
            String::from_utf8(read).unwrap()
        });
        (port, served)
    }

    fn delivery(url: &str) -> Delivery {
        let mut headers = HeaderMap::new();
        headers.insert("x-call-id", HeaderValue::from_static("order-17"));
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        headers.insert("host", HeaderValue::from_static("elsewhere"));
        Delivery { url: url.parse().unwrap(), headers, body: Bytes::from_static(b"{\"id\":7}") }
    }

    fn grants(grants: &[&str]) -> Vec<Outbound> {
        grants.iter().map(|grant| grant.parse().unwrap()).collect()
    }

    /// What came of it, with the port left out.
    async fn said(courier: &Courier, url: &str, port: u16, granted: &[&str]) -> String {
        let at = |text: &str| text.replace("PORT", &port.to_string());
        let granted: Vec<_> = granted.iter().map(|grant| at(grant)).collect();
        let granted: Vec<_> = granted.iter().map(String::as_str).collect();
        let text = match courier.deliver(delivery(&at(url)), &grants(&granted)).await {
            Ok(answer) => format!("{} {:?}", answer.status(), answer.body()),
            Err(problem) => match &problem.hint {
                Some(hint) => format!("{problem:?} / {hint}"),
                None => format!("{problem:?}"),
            },
        };
        text.replace(&port.to_string(), "PORT")
    }

    #[tokio::test]
    async fn what_is_sent_arrives_whole_and_the_answer_comes_back() {
        let (port, served) = receiver(Some("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok")).await;
        let granted = [&*format!("http://127.0.0.1:{port}")];
        let url = format!("http://127.0.0.1:{port}/done?id=7");
        let answer = Courier::new(PATIENCE).deliver(delivery(&url), &grants(&granted)).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (202, &b"ok"[..]));
        let read = served.await.unwrap().replace(&port.to_string(), "PORT");
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            read,
            format!(
                "POST /done?id=7 HTTP/1.1\r\nx-call-id: order-17\r\nhost: 127.0.0.1:PORT\r\n\
                 user-agent: coracle/{version}\r\nconnection: close\r\ncontent-length: 8\r\n\r\n{{\"id\":7}}"
            )
        );
    }

    #[tokio::test]
    async fn a_redirect_is_told_and_not_followed() {
        let answer =
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/secrets\r\ncontent-length: 0\r\n\r\n";
        let (port, served) = receiver(Some(answer)).await;
        let said =
            said(&Courier::new(PATIENCE), "http://127.0.0.1:PORT/", port, &["http://127.0.0.1:PORT"]).await;
        expect!["delivery-redirected: http://127.0.0.1:PORT answered 302, a redirect to `http://169.254.169.254/secrets` / redirects are not followed: name the address that it leads to"].assert_eq(&said);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn who_never_answers_is_given_up() {
        let (port, _served) = receiver(None).await;
        let courier = Courier::new(Duration::from_millis(50));
        let said = said(&courier, "http://127.0.0.1:PORT/", port, &["http://127.0.0.1:PORT"]).await;
        expect![
            "delivery-failed: nothing was delivered to http://127.0.0.1:PORT: it did not answer within 0.05 s"
        ]
        .assert_eq(&said);
    }

    #[tokio::test]
    async fn a_private_address_is_not_dialled_unless_it_was_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = [
            ("http://127.0.0.1:PORT/", vec![]),
            ("http://127.0.0.1:PORT/", vec!["http://127.0.0.0/8:PORT"]),
            ("http://localhost:PORT/", vec!["http://127.0.0.1:PORT"]),
            ("https://127.0.0.1:PORT/", vec!["http://127.0.0.1:PORT"]),
        ];
        let mut all = String::new();
        for (url, granted) in table {
            all += &format!("{}\n", said(&Courier::new(PATIENCE), url, port, &granted).await);
        }
        expect![[r#"
            callback-denied: nothing is sent there: http://127.0.0.1:PORT is not public / to allow it, add `outbound = ["http://127.0.0.1:PORT"]` to the function in coracle.toml
            callback-denied: nothing is sent there: http://127.0.0.1:PORT is not public / to allow it, add `outbound = ["http://127.0.0.1:PORT"]` to the function in coracle.toml
            callback-denied: nothing is sent there: http://localhost:PORT is not public / to allow it, add `outbound = ["http://localhost:PORT"]` to the function in coracle.toml
            callback-denied: nothing is sent there: https://127.0.0.1:PORT is not public / to allow it, add `outbound = ["https://127.0.0.1:PORT"]` to the function in coracle.toml
        "#]].assert_eq(&all);
        // Nobody came.
        drop(listener);
    }

    #[tokio::test]
    async fn a_name_that_stands_for_a_private_address_is_found_out_when_it_is_dialled() {
        let at: SocketAddr = "10.0.0.7:9000".parse().unwrap();
        let table = std::collections::HashMap::from([("hooks.example.com".to_owned(), vec![at])]);
        let resolver = Resolver::Table(std::sync::Arc::new(table));
        let courier = Courier { resolver, ..Courier::new(PATIENCE) };
        let url = "http://hooks.example.com:9000/x";
        assert!(Courier::check(&url.parse().unwrap(), &[]).is_ok());
        let problem = courier.deliver(delivery(url), &[]).await.unwrap_err();
        expect![[r#"callback-denied: nothing is sent there: http://hooks.example.com:9000 is the address 10.0.0.7, which is not public / to allow it, add `outbound = ["http://hooks.example.com:9000", "http://10.0.0.7:9000"]` to the function in coracle.toml"#]].assert_eq(&format!("{problem:?} / {}", problem.hint.as_deref().unwrap_or_default()));
    }

    #[tokio::test]
    async fn nobody_there_and_no_http_are_told_apart() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let nobody =
            said(&Courier::new(PATIENCE), "http://127.0.0.1:PORT/", port, &["http://127.0.0.1:PORT"]).await;
        let (port, _served) = receiver(Some("SSH-2.0-OpenSSH\r\n")).await;
        let other =
            said(&Courier::new(PATIENCE), "http://127.0.0.1:PORT/", port, &["http://127.0.0.1:PORT"]).await;
        expect![[r#"
            delivery-failed: nothing was delivered to http://127.0.0.1:PORT: it cannot be connected to: Connection refused (os error 111)
            delivery-failed: nothing was delivered to http://127.0.0.1:PORT: the exchange broke off: invalid HTTP version parsed"#]].assert_eq(&format!("{nobody}\n{other}"));
    }

    #[tokio::test]
    async fn of_an_endless_answer_some_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        });
        let granted = grants(&[&*format!("http://127.0.0.1:{port}")]);
        let url = format!("http://127.0.0.1:{port}/");
        let answer = Courier::new(PATIENCE).deliver(delivery(&url), &granted).await.unwrap();
        assert_eq!(answer.body().len(), BODY_BYTES_MAX);
    }

    #[test]
    fn what_is_private_by_its_text_is_refused_before_it_is_kept() {
        let check = |url: &str, granted: &[&str]| {
            Courier::check(&url.parse().unwrap(), &grants(granted)).map_err(|problem| problem.code.name)
        };
        for url in [
            "http://127.0.0.1/",
            "http://10.0.0.7:9000/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]:80/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost:8080/",
            "http://LOCALHOST./",
            "http://0.0.0.0/",
        ] {
            assert_eq!(check(url, &["*://*:*"]), Err("callback-denied"), "{url}");
        }
        assert_eq!(check("http://10.0.0.7:9000/x", &["http://10.0.0.7:9000"]), Ok(()));
        assert_eq!(check("https://example.com/", &[]), Ok(()));
        assert_eq!(check("ftp://example.com/", &[]), Err("invalid-callback"));
    }
}
