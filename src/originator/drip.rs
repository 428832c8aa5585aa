//! A bound on the whole time that an answer may take to be read, counted from its head: each piece of it has one of its own
//! (the write timeout), which a client that reads a byte now and then never reaches.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// How far a connection is with its answer. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Answering(Arc<Mutex<Stage>>);

#[derive(Clone, Copy, Default)]
enum Stage {
    /// There is nothing to answer, or it is sent.
    #[default]
    Idle,
    /// An answer is made and sent since then.
    Begun(Instant),
    /// All of it is made; some may wait to be read.
    Whole(Instant),
}

impl Answering {
    /// An answer begins, with this body.
    pub fn begin<B>(&self, body: B) -> Answer<B> {
        *self.stage() = Stage::Begun(Instant::now());
        Answer { body, answering: self.clone() }
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The body of an answer. The HTTP library lets it go once it has all of it.
pub(super) struct Answer<B> {
    body: B,
    answering: Answering,
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        let mut stage = self.answering.stage();
        if let Stage::Begun(since) = *stage {
            *stage = Stage::Whole(since);
        }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose writes end with an error when an answer is not sent within `most` of its beginning.
pub(super) struct Dripping<S> {
    stream: S,
    most: Duration,
    answering: Answering,
    /// The end of the time of the answer that is being sent.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Dripping<S> {
    pub fn new(stream: S, most: Duration, answering: Answering) -> Dripping<S> {
        Dripping { stream, most, answering, end: None }
    }

    /// What a write is answered with: an error once the time is over. Who is told to wait, and who has yet to write the rest,
    /// is woken then. Most answers are sent at once, and need no timer.
    fn judge<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let stage = *self.answering.stage();
        let since = match stage {
            Stage::Idle => {
                self.end = None;
                return polled;
            }
            Stage::Whole(_) if polled.is_ready() && self.end.is_none() => return polled,
            Stage::Begun(since) | Stage::Whole(since) => since,
        };
        let end = since + self.most;
        let waiting = self.end.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if waiting.deadline() != end {
            // Another answer than that of before.
            waiting.as_mut().reset(end);
        }
        if waiting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the answer is read too slowly",
            )));
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
            // Whoever writes flushes once nothing is left to write of what it has.
            let mut stage = self.answering.stage();
            if let Stage::Whole(_) = *stage {
                *stage = Stage::Idle;
            }
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

    const MOST: Duration = Duration::from_secs(60);
    const PIECES: usize = 100;

    /// Sends an answer in pieces of ten bytes, each flushed, to somebody who reads a byte and then does nothing for a while.
    async fn send(near: &mut Dripping<tokio::io::DuplexStream>, answering: &Answering) -> io::Result<()> {
        let body = answering.begin(());
        for _ in 0..PIECES {
            near.write_all(&[7; 10]).await?;
            near.flush().await?;
        }
        drop(body);
        near.flush().await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_cut_off_when_all_of_it_takes_too_long_however_fast_its_pieces_are_read() {
        for (pause_ms, sent) in [(1000, false), (70, false), (50, true), (0, true)] {
            let (near, mut far) = tokio::io::duplex(16);
            let reader = tokio::spawn(async move {
                while far.read_u8().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            });
            let answering = Answering::default();
            let mut near = Dripping::new(near, MOST, answering.clone());
            let since = Instant::now();
            // On a connection that is kept, each answer has its own time, and what lies between them is no time of theirs.
            for answer in 0..3 {
                let done = send(&mut near, &answering).await;
                assert_eq!(done.is_ok(), sent, "answer {answer}, a byte each {pause_ms} ms");
                if !sent {
                    assert_eq!(since.elapsed(), MOST, "a byte each {pause_ms} ms");
                    break;
                }
                tokio::time::sleep(2 * MOST).await;
                near.flush().await.expect("nothing is sent");
            }
            drop(near);
            reader.await.expect("no panic");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_rest_does_not_come_is_cut_off_though_nothing_waits_to_be_read() {
        let (near, _far) = tokio::io::duplex(1 << 10);
        let answering = Answering::default();
        let mut near = Dripping::new(near, MOST, answering.clone());
        let _body = answering.begin(());
        near.write_all(b"a piece").await.expect("room for it");
        let since = Instant::now();
        let cut = std::future::poll_fn(|cx| match Pin::new(&mut near).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            _ => Poll::Pending,
        });
        let cut = tokio::time::timeout(2 * MOST, cut).await.expect("it is cut off");
        assert_eq!((cut.kind(), since.elapsed()), (io::ErrorKind::TimedOut, MOST));
    }
}
