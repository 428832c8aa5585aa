//! A bound on the whole time that an answer may take to be read: each piece has one of its own (the write timeout), which a
//! client that reads a byte now and then never reaches.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// A stream whose writes end with an error when something has waited to be read for `most` without a moment in which
/// nothing did.
pub(super) struct Dripping<S> {
    stream: S,
    most: Duration,
    /// Runs while something waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Dripping<S> {
    pub fn new(stream: S, most: Duration) -> Dripping<S> {
        Dripping { stream, most, waiting: None }
    }

    /// What a write is answered with while something waits.
    fn judge<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            let most = self.most;
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(most)));
            if waiting.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the answer is read too slowly",
                )));
            }
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Dripping<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Dripping<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() {
            // Whoever writes flushes once nothing is left to write.
            self.waiting = None;
        }
        self.judge(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_cut_off_when_it_is_read_byte_by_byte_and_not_when_it_is_read() {
        const MOST: Duration = Duration::from_secs(60);
        for (seconds, sent) in [(1, false), (0, true)] {
            let (near, mut far) = tokio::io::duplex(16);
            let reader = tokio::spawn(async move {
                while far.read_u8().await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
            });
            let mut near = Dripping::new(near, MOST);
            let written = async {
                near.write_all(&[7; 1000]).await?;
                near.flush().await
            };
            assert_eq!(written.await.is_ok(), sent, "a byte each {seconds} s");
            drop(near);
            reader.await.expect("no panic");
        }
    }
}
