//! One call as the guest sees it: what was asked, and the ways to answer.
//! Thin over `wasi:http/types`, since the tests are about that very interface.

use wasip2::http::types::{
    Fields, Headers, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// How much is read from a body at a time.
const CHUNK_BYTES_MAX: u64 = 64 << 10;

/// A request and the place where its response goes.
pub struct Exchange {
    pub request: IncomingRequest,
    response_out: ResponseOutparam,
    path_with_query: String,
}

impl Exchange {
    pub fn new(request: IncomingRequest, response_out: ResponseOutparam) -> Self {
        let path_with_query = request.path_with_query().unwrap_or_default();
        Self { request, response_out, path_with_query }
    }

    /// What was asked for, with the query.
    pub fn path_with_query(&self) -> &str {
        &self.path_with_query
    }

    /// What was asked for, up to the query.
    pub fn path(&self) -> &str {
        let path = self.path_with_query.split('?').next().unwrap_or("");
        if path.is_empty() { "/" } else { path }
    }

    /// The value of a query parameter.
    pub fn text(&self, key: &str) -> Option<String> {
        let (_, query) = self.path_with_query.split_once('?')?;
        let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == key)?;
        Some(value.into_owned())
    }

    /// The value of a query parameter that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        let value = self.text(key)?;
        Some(value.parse().unwrap_or_else(|_| panic!("{key} is not a number: {value}")))
    }

    /// The values of a request header.
    pub fn header(&self, name: &str) -> Vec<Vec<u8>> {
        self.request.headers().get(name)
    }

    /// Sends a whole response of text.
    pub fn answer(self, status: u16, text: &str) {
        let fields = content_type(b"text/plain; charset=utf-8");
        let mut body = self.begin(status, fields);
        body.write(text.as_bytes()).expect("write the answer");
        body.finish(None);
    }

    /// Sends the head of a response; what follows goes to the returned body.
    pub fn begin(self, status: u16, fields: Headers) -> Outgoing {
        let response = OutgoingResponse::new(fields);
        if response.set_status_code(status).is_err() {
            return self.begin_refused(status);
        }
        let body = response.body().expect("a response has one body");
        ResponseOutparam::set(self.response_out, Ok(response));
        Outgoing::new(body)
    }

    /// Takes the request body, to be read while the response is written.
    pub fn body(&self) -> Incoming {
        Incoming::new(self.request.consume().expect("a request has one body"))
    }

    fn begin_refused(self, status: u16) -> Outgoing {
        let mut body = self.begin(500, Fields::new());
        let complaint = format!("the host refused the status {status}\n");
        body.write(complaint.as_bytes()).expect("write the answer");
        body
    }
}

/// Header fields that name only the content type.
pub fn content_type(value: &[u8]) -> Headers {
    let fields = Fields::new();
    fields.append("content-type", value).expect("a content type is allowed");
    fields
}

/// A body that comes in.
pub struct Incoming {
    // Declared before the body, and so dropped before it: a stream is the child of its body.
    stream: InputStream,
    _body: IncomingBody,
}

impl Incoming {
    pub fn new(body: IncomingBody) -> Self {
        Self { stream: body.stream().expect("a body has one stream"), _body: body }
    }

    /// The next chunk, once there is one; `None` at the end.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        match self.stream.blocking_read(CHUNK_BYTES_MAX) {
            Ok(chunk) => Ok(Some(chunk)),
            Err(StreamError::Closed) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A body that goes out.
pub struct Outgoing {
    stream: OutputStream,
    body: OutgoingBody,
}

impl Outgoing {
    pub fn new(body: OutgoingBody) -> Self {
        Self { stream: body.write().expect("a body has one stream"), body }
    }

    /// Writes all of it, waiting while the host has no room.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let room = usize::try_from(self.stream.check_write()?).unwrap_or(usize::MAX);
            if room == 0 {
                self.stream.subscribe().block();
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.stream.write(now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Waits until what was written is on its way.
    pub fn flush(&mut self) -> Result<(), StreamError> {
        self.stream.blocking_flush()
    }

    /// Ends the body; the host may find that it is not as long as was declared.
    pub fn finish(self, trailers: Option<Headers>) {
        drop(self.stream);
        if let Err(error) = OutgoingBody::finish(self.body, trailers) {
            eprintln!("cannot finish the body: {error:?}");
        }
    }
}
