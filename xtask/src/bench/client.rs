//! An HTTP/1.1 connection of few lines, so that what is measured is the server.
//! The parts of the benchmark that time single calls, or stream a lot, call through it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest silence of a server that is measured.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The size of the pieces in which bodies are sent and read.
const PIECE_BYTES: usize = 64 << 10;

/// A connection to a server.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
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
            Ok(Self { stream: BufReader::with_capacity(PIECE_BYTES, stream), host: host.to_owned() })
        };
        connect().map_err(|error: std::io::Error| format!("connect to {host}: {error}"))
    }

    /// Asks for a path, and reads the answer to its end.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.exchange("GET", path, 0)
    }

    /// Sends a body of so many zeroes, and reads the answer to its end.
    pub(crate) fn post(&mut self, path: &str, body_bytes: u64) -> Result<Answer, String> {
        self.exchange("POST", path, body_bytes)
    }

    fn exchange(&mut self, method: &str, path: &str, body_bytes: u64) -> Result<Answer, String> {
        let exchange = |this: &mut Self| {
            this.send(method, path, body_bytes)?;
            read_answer(&mut this.stream)
        };
        exchange(self).map_err(|error: std::io::Error| format!("{method} {path}: {error}"))
    }

    fn send(&mut self, method: &str, path: &str, body_bytes: u64) -> std::io::Result<()> {
        let host = &self.host;
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {body_bytes}\r\n\r\n");
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        let piece = [0; PIECE_BYTES];
        let mut left = body_bytes;
        while left > 0 {
            let some = left.min(PIECE_BYTES as u64) as usize;
            stream.write_all(&piece[..some])?;
            left -= some as u64;
        }
        Ok(())
    }
}

fn read_answer(stream: &mut impl BufRead) -> std::io::Result<Answer> {
    let bad = |what: &str| std::io::Error::other(format!("not an HTTP answer: {what}"));
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
            skip(stream, size)?;
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
        skip(stream, length)?;
        length
    };
    Ok(Answer { status, headers, body_bytes })
}

fn line(stream: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn skip(stream: &mut impl BufRead, bytes: u64) -> std::io::Result<()> {
    let skipped = std::io::copy(&mut stream.take(bytes), &mut std::io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, status: u16, body_bytes: u64, after: &str) {
        let mut stream = text.as_bytes();
        let answer = read_answer(&mut stream).unwrap();
        assert_eq!((answer.status, answer.body_bytes), (status, body_bytes));
        assert_eq!(stream, after.as_bytes());
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\nHTTP", 200, 3, "HTTP");
        check(
            "HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\nX",
            502,
            19,
            "X",
        );
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let mut stream = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok".as_bytes();
        assert!(read_answer(&mut stream).is_err());
    }
}
