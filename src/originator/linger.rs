//! Closing a connection whose request was refused before it was read: what still comes is read for a while, because a close
//! over unread bytes is a reset, and a reset may reach the client before the answer does (RFC 9112 section 9.6).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Longest time for which a refused client may go on sending.
const LINGER: Duration = Duration::from_secs(2);
/// Most bytes of it that are read, twice a body of the usual limit: who sends more is cut off.
const LINGER_BYTES_MAX: usize = 16 << 20;

/// Whether the last request was refused before its body was read. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Notes it of the last request.
    pub fn set(&self, unread: bool) {
        self.0.store(unread, Ordering::Relaxed);
    }
}

/// A stream that reads on after its end was sent, where [`Unread`] says so.
pub(super) struct Lingering<S> {
    stream: S,
    unread: Unread,
    /// Once the end is sent: how long it may go on, and for how many bytes.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Lingering<S> {
    pub fn new(stream: S, unread: Unread) -> Lingering<S> {
        Lingering { stream, unread, waiting: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let (sleep, left) =
            this.waiting.get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER)), LINGER_BYTES_MAX));
        let mut bytes = [0; 16 << 10];
        while *left > 0 && sleep.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            // However it ended, there is nothing more to wait for.
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            *left = left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}
