//! An HTTP/1.1 connection of few lines, so that what is measured is the server.
//! The parts of the benchmark that time single calls, deploy thousands, or stream a lot, call through it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest silence of a server that is measured.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The size of the pieces in which bodies are sent and read.
const PIECE_BYTES: usize = 64 << 10;

/// A connection to a server.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    /// The header lines of every request.
    headers: String,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Its header lines, `name: value`.
    pub(crate) headers: Vec<String>,
    pub(crate) body_bytes: u64,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    pub(crate) fn open(url: &str) -> Result<Self, String> {
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        let connect = || {
            let stream = TcpStream::connect(host)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE_MAX))?;
            stream.set_write_timeout(Some(SILENCE_MAX))?;
            let stream = BufReader::with_capacity(PIECE_BYTES, stream);
            Ok(Self { stream, headers: format!("host: {host}\r\n") })
        };
        connect().map_err(|error: io::Error| format!("connect to {host}: {error}"))
    }

    /// From now on says who asks.
    pub(crate) fn with_token(self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// From now on sends this header with every request.
    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// Asks for a path, and reads the answer to its end.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.exchange("GET", path, &mut io::empty(), 0, &mut io::sink())
    }

    /// Sends a body of so many zeroes, and reads the answer to its end.
    pub(crate) fn post(&mut self, path: &str, body_bytes: u64) -> Result<Answer, String> {
        self.exchange("POST", path, &mut io::repeat(0), body_bytes, &mut io::sink())
    }

    /// Sends a body, and keeps that of the answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(Answer, Vec<u8>), String> {
        let mut answered = Vec::new();
        let answer = self.exchange(method, path, &mut &*body, body.len() as u64, &mut answered)?;
        Ok((answer, answered))
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        body: &mut dyn Read,
        body_bytes: u64,
        answered: &mut dyn Write,
    ) -> Result<Answer, String> {
        let mut exchange = || {
            self.send(method, path, body, body_bytes)?;
            read_answer(&mut self.stream, answered)
        };
        exchange().map_err(|error: io::Error| format!("{method} {path}: {error}"))
    }

    fn send(&mut self, method: &str, path: &str, body: &mut dyn Read, body_bytes: u64) -> io::Result<()> {
        let headers = &self.headers;
        let mut piece =
            format!("{method} {path} HTTP/1.1\r\n{headers}content-length: {body_bytes}\r\n\r\n").into_bytes();
        let stream = self.stream.get_mut();
        // The beginning of the body goes with the head: a small request is one write.
        let mut left = body_bytes;
        loop {
            let room = PIECE_BYTES.saturating_sub(piece.len()) as u64;
            left -= body.take(left.min(room)).read_to_end(&mut piece)? as u64;
            stream.write_all(&piece)?;
            if left == 0 {
                return Ok(());
            }
            piece.clear();
        }
    }
}

fn read_answer(stream: &mut impl BufRead, body: &mut dyn Write) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::other(format!("not an HTTP answer: {what}"));
    let status_line = line(stream)?;
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| bad(&status_line))?;
    let mut headers = Vec::new();
    loop {
        let header = line(stream)?;
        if header.is_empty() {
            break;
        }
        headers.push(header);
    }
    let value = |name: &str| {
        let of_name =
            |header: &&String| header.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name));
        headers.iter().find(of_name).and_then(|header| header.split_once(':')).map(|(_, value)| value.trim())
    };
    let body_bytes = if value("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
        let mut total = 0;
        loop {
            let size = line(stream)?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16).map_err(|_| bad(&size))?;
            pass(stream, size, body)?;
            total += size;
            // The line that ends the chunk; of the last one, the end of no trailers.
            while !line(stream)?.is_empty() {}
            if size == 0 {
                break total;
            }
        }
    } else {
        let length = value("content-length").and_then(|length| length.parse().ok());
        let length = length.ok_or_else(|| bad("a body without a length"))?;
        pass(stream, length, body)?;
        length
    };
    Ok(Answer { status, headers, body_bytes })
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn pass(stream: &mut impl BufRead, bytes: u64, body: &mut dyn Write) -> io::Result<()> {
    let passed = io::copy(&mut stream.take(bytes), body)?;
    if passed == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, status: u16, body: &str, after: &str) {
        let (mut stream, mut read) = (text.as_bytes(), Vec::new());
        let answer = read_answer(&mut stream, &mut read).unwrap();
        assert_eq!((answer.status, answer.body_bytes), (status, body.len() as u64));
        assert_eq!(read, body.as_bytes());
        assert_eq!(stream, after.as_bytes());
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\nHTTP", 200, "ok\n", "HTTP");
        check(
            "HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\nX",
            502,
            "abc0123456789abcdef",
            "X",
        );
    }

    #[test]
    fn a_request_is_sent_whole_with_its_token() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let body = vec![7; 3 * PIECE_BYTES / 2];
        let (sent, server) = (body.clone(), move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = format!(
                "PUT /a HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer t\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let mut got = vec![0; head.len() + body.len()];
            stream.read_exact(&mut got).unwrap();
            assert!(got.starts_with(head.as_bytes()) && got.ends_with(&body));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        });
        let server = std::thread::spawn(server);
        let mut connection = Connection::open(&format!("http://{address}")).unwrap().with_token("t");
        let (answer, answered) = connection.ask("PUT", "/a", &sent).unwrap();
        server.join().unwrap();
        assert_eq!((answer.status, answered), (200, b"ok".to_vec()));
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let mut stream = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok".as_bytes();
        assert!(read_answer(&mut stream, &mut io::sink()).is_err());
    }
}
