//! HTTP/1.1 as we speak it to a guest: one call at a time, in as few system calls and hand-overs as there can be.
//! `connection` carries calls with it; what is pure (heads and bodies in bytes) stands apart from what reads and writes.

mod framing;
mod head;
mod plain;
mod sending;

#[cfg(test)]
mod tests;

pub(super) use plain::Plain;
pub(super) use sending::Sending;

/// The head of a guest's response, in bytes and in headers.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;
pub(super) const HEADERS_MAX: usize = 128;

/// What a guest sent is not HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// The head cannot be read.
    #[error("{0} in its head")]
    Head(httparse::Error),
    /// A head of more than [`HEAD_BYTES_MAX`].
    #[error("its head is longer than {} KiB", HEAD_BYTES_MAX >> 10)]
    HeadTooLarge,
    /// A length that is no number, or two that differ.
    #[error("its content-length is not one number")]
    Length,
    /// A transfer coding that nobody asked for.
    #[error("its transfer-encoding is not `chunked`")]
    Coding,
    /// A chunk that cannot be read.
    #[error("its body is not in chunks as its head says")]
    Chunk,
    /// Trailers that cannot be read, or are too long.
    #[error("its trailers are not valid or too long")]
    Trailers,
}

/// Why an exchange came to no good end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// The connection ended or broke before all was said.
    #[error("the connection ended")]
    Ended,
    /// What came is not HTTP/1.1.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// There was no more of the request, and no end of it either.
    #[error("the body of the request broke off")]
    Request,
}
