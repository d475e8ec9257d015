//! Answers that are read while they come: bytes, the lines of logs, and calls as they end.
//! `coracle logs -f`, `calls -f`, `call` and `backup` read them.

use std::marker::PhantomData;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::ClientError;
use crate::LogLine;

/// The longest line that is read, in bytes; the server cuts text long before.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A body, piece by piece. Dropped, it closes the connection.
#[derive(Debug)]
pub struct Chunks {
    url: String,
    body: Incoming,
}

impl Chunks {
    pub(super) fn new(url: &str, body: Incoming) -> Self {
        Self { url: url.to_owned(), body }
    }

    /// The next piece; `None` at the end of a body that is whole.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when it ends before its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| self.broken(format!("it ended in the middle ({error})")))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// All that comes, if it is not more than this.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when it is more, or ends before its end.
    pub async fn collect(&mut self, bytes_max: usize) -> Result<Bytes, ClientError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            if all.len() + chunk.len() > bytes_max {
                return Err(self.broken(format!("it is longer than {bytes_max} bytes")));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Protocol { url: self.url.clone(), reason }
    }
}

/// The lines of logs, as they come.
#[derive(Debug)]
pub struct LogLines {
    lines: Lines<LogLine>,
    functions_skipped: usize,
}

impl LogLines {
    pub(super) fn new(lines: Lines<LogLine>, functions_skipped: usize) -> Self {
        Self { lines, functions_skipped }
    }

    /// Functions whose older lines do not come, because so many others wrote later.
    pub fn functions_skipped(&self) -> usize {
        self.functions_skipped
    }

    /// The next line; `None` when there are no more.
    ///
    /// # Errors
    /// As of [`Lines::next`].
    pub async fn next(&mut self) -> Result<Option<LogLine>, ClientError> {
        self.lines.next().await
    }
}

/// JSON objects, one a line, as they come.
#[derive(Debug)]
pub struct Lines<T> {
    chunks: Chunks,
    pending: BytesMut,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn new(chunks: Chunks) -> Self {
        Self { chunks, pending: BytesMut::new(), of: PhantomData }
    }

    /// The next one; `None` when there are no more.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] for what cannot be read, or when it ends in the middle.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.pending[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.pending.split_to(searched + end);
                self.pending.advance(1);
                let line = serde_json::from_slice(&line);
                return line.map(Some).map_err(|error| self.chunks.broken(error.to_string()));
            }
            searched = self.pending.len();
            if searched > LINE_BYTES_MAX {
                return Err(self.chunks.broken(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
            }
            match self.chunks.next().await? {
                Some(chunk) => self.pending.extend_from_slice(&chunk),
                None if self.pending.is_empty() => return Ok(None),
                None => return Err(self.chunks.broken("it ended in the middle of a line".to_owned())),
            }
        }
    }
}
