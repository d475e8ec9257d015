//! HTTP/1.1 by hand over a socket, so that a test may also send half a request, or go away in the middle.
//! Beside it, whole questions to a server, as anybody or as its admin.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::harness::Server;

/// A server that is silent for so long hangs, and the test with it.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
    body: Framing,
}

/// How the end of the body is known whose head was read last.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Bytes(u64),
    Chunks,
    Close,
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

impl Wire {
    pub(crate) fn to(server: &Server) -> Self {
        Self::try_to(address(server)).unwrap()
    }

    fn try_to(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Self { stream: BufReader::new(stream), body: Framing::Bytes(0) })
    }

    /// So many bytes, of whatever is spoken on the connection by now.
    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Another handle to the connection, to send by while this one reads.
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream.get_ref().try_clone().unwrap()
    }

    /// Asks for a path without a body, and leaves the answer to be read.
    pub(crate) fn get(server: &Server, path: &str) -> Self {
        let mut wire = Self::to(server);
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", address(server)));
        wire
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends what a server may refuse to read.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Reads the next head; the method of the request decides whether a body follows.
    pub(crate) fn head(&mut self, method: &str) -> Reply {
        self.try_head(method).unwrap()
    }

    fn try_head(&mut self, method: &str) -> io::Result<Reply> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut reply = Reply {
            status: status.unwrap_or_else(|| panic!("not a status line: {status_line:?}")),
            ..Reply::default()
        };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            reply.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        self.body = if method == "HEAD" || reply.status < 200 || matches!(reply.status, 204 | 304) {
            Framing::Bytes(0)
        } else if let Some(length) = reply.header("content-length") {
            Framing::Bytes(length.parse().unwrap())
        } else if reply.header("transfer-encoding") == Some("chunked") {
            Framing::Chunks
        } else {
            Framing::Close
        };
        Ok(reply)
    }

    /// The next piece of the body; `None` at its end, an error when it is cut off.
    pub(crate) fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.body {
            Framing::Bytes(0) => Ok(None),
            Framing::Bytes(left) => {
                let piece = self.some(left)?;
                self.body = Framing::Bytes(left - piece.len() as u64);
                Ok(Some(piece))
            }
            Framing::Close => Ok(self.some(u64::MAX).ok()),
            Framing::Chunks => {
                let length = u64::from_str_radix(self.line()?.trim(), 16)
                    .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                let mut chunk = vec![0; usize::try_from(length).unwrap()];
                self.stream.read_exact(&mut chunk)?;
                // After the last chunk there may be trailers; an empty line ends them.
                while !self.line()?.is_empty() {}
                if length == 0 {
                    self.body = Framing::Bytes(0);
                    return Ok(None);
                }
                Ok(Some(chunk))
            }
        }
    }

    /// Reads the rest of an answer, head and body.
    pub(crate) fn reply(&mut self, method: &str) -> Reply {
        self.try_reply(method).unwrap()
    }

    /// The same, of a server that may close the connection instead.
    pub(crate) fn try_reply(&mut self, method: &str) -> io::Result<Reply> {
        let mut reply = self.try_head(method)?;
        reply.whole = loop {
            match self.piece() {
                Ok(Some(piece)) => reply.body.extend(piece),
                Ok(None) => break true,
                Err(error) => {
                    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it hangs");
                    break false;
                }
            }
        };
        Ok(reply)
    }

    /// Whether the server has closed the connection, with nothing more to read.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Whether the server closes the connection, whatever it still says before.
    pub(crate) fn ends(&mut self) -> bool {
        loop {
            match self.stream.fill_buf() {
                Ok([]) => return true,
                Ok(bytes) => {
                    let length = bytes.len();
                    self.stream.consume(length);
                }
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }

    fn some(&mut self, at_most: u64) -> io::Result<Vec<u8>> {
        let bytes = self.stream.fill_buf()?;
        let length = bytes.len().min(usize::try_from(at_most).unwrap_or(usize::MAX));
        let piece = bytes[..length].to_vec();
        self.stream.consume(length);
        if piece.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(piece) }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        Ok(line.to_owned())
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and code of a problem, which must be whole: header, message, and a call id where a call was made.
    pub(crate) fn problem(&self) -> (u16, String) {
        let problem = self.json();
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(Some(problem["code"].as_str().unwrap()), self.header("x-coracle-error"), "{self:?}");
        assert!(problem["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        (self.status, problem["code"].as_str().unwrap().to_owned())
    }
}

/// Where a server listens, as a socket address.
pub(crate) fn address(server: &Server) -> &str {
    server.url.strip_prefix("http://").unwrap()
}

/// Asks for a path without a body.
pub(crate) fn get(server: &Server, path: &str) -> Reply {
    ask(server, "GET", path, &[], b"")
}

/// Sends a whole request and reads a whole answer.
pub(crate) fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    try_ask(address(server), method, path, headers, body).unwrap()
}

/// The same, of a server that may go away meanwhile.
pub(crate) fn try_ask(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut wire = Wire::try_to(address)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    wire.try_send(head + "\r\n")?;
    // A server may answer before it has read all, and close: what it says counts.
    let _ = wire.try_send(body);
    wire.try_reply(method)
}

/// The same as the server's admin, who is on the same machine.
pub(crate) fn admin(server: &Server, method: &str, path: &str, body: &[u8]) -> Reply {
    ask(server, method, path, &[("authorization", &bearer(&token(server)))], body)
}

/// The admin's token.
pub(crate) fn token(server: &Server) -> String {
    // Seen as the server sees it, which may have file systems of its own.
    let file = format!("/proc/{}/root{}/admin.token", server.pid(), server.data().display());
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// The `Authorization` that a token is sent with.
pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A server of somebody else on this machine, which says one thing to everybody.
pub(crate) fn neighbour_on_the_network() -> (String, std::thread::JoinHandle<()>) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\nconnection: close\r\n\r\nfrom the neighbour";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // It ends with the test's process.
    let serving = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut seen = Vec::new();
            let mut piece = [0; 1024];
            while !seen.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(length) if length > 0 => seen.extend(&piece[..length]),
                    _ => break,
                }
            }
            let _ = stream.write_all(ANSWER); // Whoever asked may be gone.
        }
    });
    (url, serving)
}
