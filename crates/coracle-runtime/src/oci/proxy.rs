//! A forward proxy within a sandbox, for grants that name no single host.
//! `relay` hands it the connections; what is asked in their first line is checked, dialled, and joined.

use std::time::Duration;

use coracle_model::{Destination, Outbound};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::capabilities::outbound::{Egress, Unreached};
use crate::oci::proxy_head::{Asked, HEAD_BYTES_MAX, Target, parse};
use crate::oci::relay::{CONNECT_TIMEOUT, carry, say_and_close};

/// How long a program may take for the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The answer to a tunnel that is open.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Serves one connection: one request, and what follows it.
pub(super) async fn serve(mut stream: TcpStream, egress: &Egress) {
    let mut bytes = Vec::new();
    let asked = match timeout(HEAD_TIMEOUT, read_head(&mut stream, &mut bytes)).await {
        Ok(Some(asked)) => asked,
        // It went away without a word.
        Ok(None) => return,
        Err(_) => Err(Refusal::new(408, "the head of the request did not come in time")),
    };
    let refusal = match asked {
        Ok(asked) => match connect(&asked, egress).await {
            Ok(remote) => return pass(stream, remote, &asked, &bytes).await,
            Err(refusal) => refusal,
        },
        Err(refusal) => refusal,
    };
    say_and_close(stream, refusal.render().as_bytes()).await;
}

/// Reads as far as the end of a head; `None` if there is none.
async fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Result<Asked, Refusal>> {
    loop {
        if stream.take((HEAD_BYTES_MAX + 1 - bytes.len()) as u64).read_buf(bytes).await.ok()? == 0 {
            return None;
        }
        match parse(bytes) {
            Ok(Some(asked)) => return Some(Ok(asked)),
            Ok(None) if bytes.len() > HEAD_BYTES_MAX => {
                return Some(Err(Refusal::new(431, "the head of the request is too large")));
            }
            Ok(None) => {}
            Err(refusal) => return Some(Err(refusal)),
        }
    }
}

async fn connect(asked: &Asked, egress: &Egress) -> Result<TcpStream, Refusal> {
    let to = destination(&asked.target, egress.grants());
    egress.reach(&to, CONNECT_TIMEOUT).await.map_err(|unreached| {
        let status = match unreached {
            Unreached::Denied(_) | Unreached::NotPublic(_) => 403,
            Unreached::Unresolved(_) | Unreached::Unconnected(_) => 502,
            Unreached::Late => 504,
        };
        let what = match unreached {
            Unreached::Denied(_) | Unreached::NotPublic(_) => unreached.to_string(),
            _ => format!("{to} was not reached: {unreached}"),
        };
        Refusal { status, what }
    })
}

/// What a request wants to reach. A tunnel has no scheme: it is whichever a grant of that host and port asks for.
fn destination(target: &Target, grants: &[Outbound]) -> Destination {
    let to = |scheme: &str| {
        Destination::new(scheme, &target.host, Some(target.port)).expect("a port was named, so there is one")
    };
    let Some(scheme) = target.scheme else {
        let usual = match target.port {
            80 => "http",
            443 => "https",
            _ => "*",
        };
        let granted = grants.iter().filter_map(Outbound::scheme).map(to);
        return std::iter::once(to(usual))
            .chain(granted)
            .find(|to| to.is_named_by(grants))
            .unwrap_or_else(|| to(usual));
    };
    to(scheme)
}

/// Joins both connections, after what each is owed first.
async fn pass(mut stream: TcpStream, mut remote: TcpStream, asked: &Asked, bytes: &[u8]) {
    let begun = async {
        match &asked.rewritten {
            Some(head) => remote.write_all(head).await?,
            None => stream.write_all(ESTABLISHED).await?,
        }
        // What came along with the head is for the destination already.
        remote.write_all(&bytes[asked.head_bytes..]).await
    };
    if begun.await.is_ok() {
        carry(stream, remote).await;
    }
}

/// Why a request is not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) what: String,
}

impl Refusal {
    pub(super) fn new(status: u16, what: impl Into<String>) -> Self {
        Self { status, what: what.into() }
    }

    fn render(&self) -> String {
        let status = http::StatusCode::from_u16(self.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        let (what, length) = (&self.what, self.what.len() + 1);
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{what}\n"
        )
    }
}
