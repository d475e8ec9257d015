//! The floor: what hyper costs by itself on this machine, to be compared with a whole platform.
//! `cargo xtask bench` starts it with the header lines that our own server answers, so that both send the same bytes.

mod spawn;

use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What the tiny guest answers.
const BODY: &[u8] = b"ok\n";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The same runtime settings as the server under test: one worker for each core that it may use.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    match args.as_slice() {
        [flag, program] if flag == "--spawn" => spawning(&listener, program).await,
        lines => fixed(&listener, headers(lines)?).await,
    }
}

/// Answers every request with the same bytes.
async fn fixed(listener: &TcpListener, headers: HeaderMap) -> Result<(), Box<dyn Error>> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let headers = headers.clone();
        tokio::spawn(async move {
            let answer = service_fn(|_| {
                let mut response = Response::new(Full::new(Bytes::from_static(BODY)));
                response.headers_mut().clone_from(&headers);
                async { Ok::<_, Infallible>(response) }
            });
            // A client that goes away ends its own connection, and nothing else.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Answers every request with what a program makes of its body.
async fn spawning(listener: &TcpListener, program: &str) -> Result<(), Box<dyn Error>> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let program = program.to_owned();
        tokio::spawn(async move {
            let answer = service_fn(|request| spawn::answer(&program, request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// `NAME: VALUE` lines; hyper adds `date` and `content-length` by itself.
fn headers(lines: &[String]) -> Result<HeaderMap, Box<dyn Error>> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header line is NAME: VALUE")?;
        headers.append(name.parse::<HeaderName>()?, value.trim().parse::<HeaderValue>()?);
    }
    Ok(headers)
}
