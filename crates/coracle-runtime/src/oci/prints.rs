//! What a program prints on one of its streams, read as it comes, and what it left there when it ended.
//! `stdio` reads the standard output and the standard error of each call's program through it.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// The most that is read at once, in bytes: what the kernel keeps in a pipe.
pub(super) const READ_BYTES_MAX: usize = 64 << 10;

/// One stream of a program, at our end.
#[derive(Debug)]
pub(super) struct Prints {
    pipe: pipe::Receiver,
    buffer: BytesMut,
    at_once: usize,
}

impl Prints {
    /// Our end of a stream, and how many bytes of it are read at once while the program runs.
    pub(super) fn of(pipe: OwnedFd, at_once: usize) -> io::Result<Self> {
        Ok(Self { pipe: pipe::Receiver::from_owned_fd(pipe)?, buffer: BytesMut::new(), at_once })
    }

    /// What comes next; `None` when nobody can print there any more. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.buffer.reserve(self.at_once);
        match self.pipe.read_buf(&mut self.buffer).await {
            Ok(1..) => Some(self.buffer.split().freeze()),
            Ok(0) | Err(_) => None,
        }
    }

    /// How many bytes lie there.
    pub(super) fn left(&self) -> usize {
        // A pipe that cannot be asked has nothing.
        rustix::io::ioctl_fionread(&self.pipe).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Of what lies there, so much at the most; `None` if there is nothing.
    ///
    /// The kernel is asked, and not whoever waits for its events: on a busy machine those come later than this question.
    pub(super) fn take(&self, most: usize) -> Option<Bytes> {
        let mut bytes = vec![0; most.min(READ_BYTES_MAX)];
        match rustix::io::read(&self.pipe, &mut bytes[..]) {
            Ok(read @ 1..) => {
                bytes.truncate(read);
                Some(bytes.into())
            }
            Ok(0) | Err(_) => None,
        }
    }
}
