//! Two connections joined, byte by byte, in both directions.
//! Upgraded calls and the relay end in it; the end of one direction is passed on, and the other goes on.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::sleep;

/// What is read ahead in one direction, in bytes.
const BUFFER_BYTES: usize = 16 << 10;

/// How often it is looked within the longest silence.
const LOOKS: u32 = 4;

/// What was carried, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    /// Bytes from the first to the second.
    pub(super) there: u64,
    /// Bytes from the second to the first.
    pub(super) back: u64,
    pub(super) end: End,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have said all.
    Closed,
    /// A connection broke.
    Broken,
    /// Neither side said anything for too long.
    Silent,
}

/// Carries bytes both ways until both sides have ended, one breaks, or both are silent for too long.
pub(super) async fn tunnel<A, B>(first: A, second: B, silence_max: Duration) -> Carried
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (there, back) = (AtomicU64::new(0), AtomicU64::new(0));
    let (mut first, mut second) = (Counted { io: first, read: &there }, Counted { io: second, read: &back });
    let copying = copy_bidirectional_with_sizes(&mut first, &mut second, BUFFER_BYTES, BUFFER_BYTES);
    let moved = || there.load(Ordering::Relaxed) + back.load(Ordering::Relaxed);
    let silence = async {
        let (mut last, mut quiet) = (moved(), 0);
        while quiet < LOOKS {
            sleep((silence_max / LOOKS).max(Duration::from_millis(1))).await;
            let now = moved();
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
    };
    let end = tokio::select! {
        biased;
        copied = copying => if copied.is_ok() { End::Closed } else { End::Broken },
        () = silence => End::Silent,
    };
    Carried { there: there.into_inner(), back: back.into_inner(), end }
}

/// A connection that counts what is read of it.
struct Counted<'a, T> {
    io: T,
    read: &'a AtomicU64,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let tunnel = tokio::spawn(tunnel(near, far, Duration::from_secs(60)));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"question");
        server.write_all(b"the answer").await.unwrap();
        drop(server);
        heard.clear();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"the answer");
        assert_eq!(tunnel.await.unwrap(), Carried { there: 8, back: 10, end: End::Closed });
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (mut client, near) = duplex(64);
        let (far, _server) = duplex(64);
        client.write_all(b"hello").await.unwrap();
        let carried = tunnel(near, far, Duration::from_secs(30)).await;
        assert_eq!(carried, Carried { there: 5, back: 0, end: End::Silent });
    }
}
