//! Where the body of a response ends, and what of it the bytes hold that came so far: RFC 9112, sections 6 and 7.
//! `head` says how a body is framed, and `plain` reads it.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::{HEADERS_MAX, Malformed};

/// The line before a chunk, with extensions that nobody reads, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;

/// All trailers together, in bytes.
const TRAILER_BYTES_MAX: usize = 16 << 10;

/// Pieces up to so many bytes are copied out of the buffer, which can be read into again at once; longer ones take their part of it along.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// How the rest of a body is told from what comes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Framing {
    /// By so many bytes more.
    Length(u64),
    /// By chunks that say how long they are.
    Chunked(Chunk),
    /// By the end of the connection.
    Close,
}

/// Where in a body of chunks the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// To the line that says how long a chunk is.
    Size,
    /// To a chunk of which so many bytes are missing.
    Data(u64),
    /// To the end of the line that a chunk is.
    DataEnd,
    /// To the trailers, or the empty line in place of them.
    Trailers,
    /// Not to this body.
    Over,
}

impl Framing {
    /// A body that is empty.
    pub(super) const NONE: Self = Self::Length(0);

    /// Whether no more of it can come, but for the connection's own end.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Over))
    }

    /// The next piece of the body, taken from these bytes; `None` when it is over, or there must be more of them.
    pub(super) fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        match self {
            Self::Length(left) => Ok(data(left, buffer)),
            Self::Close => Ok(data(&mut { u64::MAX }, buffer)),
            Self::Chunked(chunk) => chunk.take(buffer),
        }
    }
}

impl Chunk {
    fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        loop {
            *self = match self {
                Self::Size => match size(buffer)? {
                    None => return Ok(None),
                    Some(0) => Self::Trailers,
                    Some(size) => Self::Data(size),
                },
                Self::Data(0) => Self::DataEnd,
                Self::Data(left) => return Ok(data(left, buffer)),
                Self::DataEnd => match buffer.first_chunk() {
                    Some(b"\r\n") => {
                        buffer.advance(2);
                        Self::Size
                    }
                    Some(_) => return Err(Malformed::Chunk),
                    None => return Ok(None),
                },
                Self::Trailers => match trailers(buffer)? {
                    None => return Ok(None),
                    Some(trailers) => {
                        *self = Self::Over;
                        return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                    }
                },
                Self::Over => return Ok(None),
            };
        }
    }
}

/// As much of what is left as is there.
fn data(left: &mut u64, buffer: &mut BytesMut) -> Option<Frame<Bytes>> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    if length == 0 {
        return None;
    }
    *left -= length as u64;
    let piece = if length > COPIED_BYTES_MAX {
        buffer.split_to(length).freeze()
    } else {
        let piece = Bytes::copy_from_slice(&buffer[..length]);
        buffer.advance(length);
        piece
    };
    Some(Frame::data(piece))
}

/// The size of the next chunk; `None` while its line is not whole.
fn size(buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    // An empty line would be read as the last chunk.
    if buffer.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
        return Err(Malformed::Chunk);
    }
    match httparse::parse_chunk_size(buffer) {
        Ok(httparse::Status::Complete((length, size))) if length <= CHUNK_LINE_BYTES_MAX => {
            buffer.advance(length);
            Ok(Some(size))
        }
        Ok(httparse::Status::Partial) if buffer.len() < CHUNK_LINE_BYTES_MAX => Ok(None),
        Ok(_) | Err(_) => Err(Malformed::Chunk),
    }
}

/// What follows the last chunk; `None` while it is not whole.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let (length, fields) = match httparse::parse_headers(buffer, &mut fields) {
        Ok(httparse::Status::Complete(parsed)) if parsed.0 <= TRAILER_BYTES_MAX => parsed,
        Ok(httparse::Status::Partial) if buffer.len() < TRAILER_BYTES_MAX => return Ok(None),
        Ok(_) | Err(_) => return Err(Malformed::Trailers),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Trailers)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed::Trailers)?;
        trailers.append(name, value);
    }
    buffer.advance(length);
    Ok(Some(trailers))
}
