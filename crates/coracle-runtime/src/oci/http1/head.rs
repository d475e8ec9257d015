//! The head of a guest's response, out of the bytes that came: RFC 9112, sections 4 to 6.
//! `plain` asks for it until it is whole.

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::framing::{Chunk, Framing};
use super::{HEAD_BYTES_MAX, HEADERS_MAX, Malformed};

/// What is added to an answer on its way to the client: room for it costs less when it is made at once.
const HEADERS_ADDED: usize = 4;

/// A head, and what follows from it for the connection.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: Parts,
    pub(super) framing: Framing,
    /// Whether the connection carries on after the body.
    pub(super) is_kept: bool,
}

/// What a head is taken out of: how far the bytes were looked through in vain.
#[derive(Debug, Default)]
pub(super) struct Search {
    seen: usize,
}

impl Search {
    /// The head that these bytes begin with, and takes it off them; `None` while it is not whole.
    pub(super) fn take(&mut self, buffer: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
        // A head that comes byte by byte is not read anew with each of them.
        if buffer.is_empty() || (self.seen > 0 && !may_end(buffer, self.seen)) {
            return self.wait(buffer);
        }
        let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, buffer, &mut fields) {
            Ok(httparse::Status::Complete(length)) => {
                let head = Head::of(&response, method)?;
                buffer.advance(length);
                self.seen = 0;
                Ok(Some(head))
            }
            Ok(httparse::Status::Partial) => self.wait(buffer),
            Err(error) => Err(Malformed::Head(error)),
        }
    }

    fn wait(&mut self, buffer: &BytesMut) -> Result<Option<Head>, Malformed> {
        self.seen = buffer.len();
        if self.seen < HEAD_BYTES_MAX { Ok(None) } else { Err(Malformed::HeadTooLarge) }
    }
}

/// Whether there is an empty line that was not there when so many bytes were.
fn may_end(buffer: &[u8], seen: usize) -> bool {
    const LINE_END_BYTES: usize = 2;
    let new = &buffer[seen.saturating_sub(LINE_END_BYTES)..];
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

impl Head {
    fn of(response: &httparse::Response<'_, '_>, method: &Method) -> Result<Self, Malformed> {
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Malformed::Head(httparse::Error::Status))?;
        let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let (headers, said) = Said::in_fields(response.headers)?;
        let mut parts = Response::new(()).into_parts().0;
        (parts.status, parts.version, parts.headers) = (status, version, headers);
        if let Some(reason) = response.reason
            && status.canonical_reason() != Some(reason)
            && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
        {
            parts.extensions.insert(reason);
        }
        if said.is_chunked && version == Version::HTTP_10 {
            return Err(Malformed::Coding);
        }
        if said.is_chunked && said.length.is_some() {
            // Who believed the length would take the rest of the body for the next response.
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let framing = said.framing(status, method);
        let is_kept = framing != Framing::Close
            && status != StatusCode::SWITCHING_PROTOCOLS
            && if version == Version::HTTP_10 { said.keeps } else { !said.closes };
        Ok(Self { parts, framing, is_kept })
    }
}

/// What a head says of its body and of the connection.
#[derive(Debug, Default)]
struct Said {
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
}

impl Said {
    fn in_fields(fields: &[httparse::Header<'_>]) -> Result<(HeaderMap, Self), Malformed> {
        let mut said = Self::default();
        let mut headers = HeaderMap::with_capacity(fields.len() + HEADERS_ADDED);
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let name = name.map_err(|_| Malformed::Head(httparse::Error::HeaderName))?;
            if !said.note(&name, field.value)? {
                continue;
            }
            let value = HeaderValue::from_bytes(field.value);
            let value = value.map_err(|_| Malformed::Head(httparse::Error::HeaderValue))?;
            headers.append(name, value);
        }
        Ok((headers, said))
    }

    /// Notes what a header says, and whether it says anything that was not said before.
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Malformed> {
        if *name == header::CONTENT_LENGTH {
            let before = self.length.replace(number(value)?);
            // RFC 9110, section 8.6: the same number twice is that number.
            return if before.is_none_or(|before| self.length == Some(before)) {
                Ok(before.is_none())
            } else {
                Err(Malformed::Length)
            };
        }
        if *name == header::TRANSFER_ENCODING {
            // We ask for no other coding, and so there may be none: RFC 9112, section 7.
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Coding);
            }
            self.is_chunked = true;
        } else if *name == header::CONNECTION {
            for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                self.closes |= option.eq_ignore_ascii_case(b"close");
                self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(true)
    }

    /// RFC 9112, section 6.3.
    fn framing(&self, status: StatusCode, method: &Method) -> Framing {
        let has_no_body = *method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        match self.length {
            _ if has_no_body => Framing::NONE,
            _ if self.is_chunked => Framing::Chunked(Chunk::Size),
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        }
    }
}

fn number(value: &[u8]) -> Result<u64, Malformed> {
    // A sign would be read, too.
    let digits =
        str::from_utf8(value).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Malformed::Length)
}
