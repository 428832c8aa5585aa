//! Long lists, gathered from the router in pieces: each is a question of its own, so that whoever asks for a hundred
//! thousand rows holds up nobody who sends an alert. A caller that hangs up ends it between two pieces.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ams2_core::{Machine, Wall};
use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::api::Api;
use crate::{
    flight::{Full, Room},
    router::{Router, Unanswered},
};

/// Rows that one question looks at, or units of as much work.
const LOOKED_MAX: u32 = 2_048;
/// Rows that one question writes: so many and as many bytes take it a few milliseconds.
const WRITTEN_MAX: usize = 256;
const PIECE_BYTES: usize = 1 << 20;
/// Pieces of an answer that wait for a slow reader.
const PIECES_MAX: usize = 4;
/// How often a piece looks whether there is room for it now.
const ROOM_LOOK: Duration = Duration::from_millis(50);
/// And how many times: longer than others take to read, or to be cut off.
const ROOM_LOOKS_MAX: u32 = 6_000;

/// A long array, written in pieces.
pub(crate) trait Listing: Send + 'static {
    /// Writes some more elements, each with a comma before it, until the quota is used up; `false` once all are written.
    fn write(&mut self, machine: &Machine, now: Wall, quota: &mut Quota, out: &mut Vec<u8>) -> bool;
}

/// Why there is no list.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Unwritten {
    /// The router does not answer.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// There is no room for it.
    #[error(transparent)]
    Full(#[from] Full),
}

/// A listing as an answer: each piece is one question to the router, and waits for the reader of those before it.
pub(crate) async fn streamed(
    api: &Api,
    room: Room,
    mut listing: impl Listing,
) -> Result<Response, Unwritten> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let mut is_first = true;
    // The first piece before anything is answered: a router that is busy is a status of its own.
    let (mut piece, mut more);
    (listing, piece, more) = ask(api, listing).await?;
    room.flight().add(piece.len())?;
    let api = api.clone();
    tokio::spawn(async move {
        loop {
            if is_first && !piece.is_empty() {
                // The comma before the first element.
                piece[0] = b'[';
                is_first = false;
            }
            if !more {
                piece.extend_from_slice(if is_first { b"[]" } else { b"]" });
            }
            if !piece.is_empty() {
                let held = hold(&room, piece).await.map_err(Unwritten::Full);
                let is_over = held.is_err();
                if sender.send(held).await.is_err() || is_over {
                    return;
                }
            }
            if !more {
                return;
            }
            match ask(&api, listing).await {
                Ok(next) => (listing, piece, more) = next,
                // The reader sees that the list breaks off.
                Err(why) => {
                    drop(sender.send(Err(why.into())).await);
                    return;
                }
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::new(Pieces(receiver))).into_response())
}

/// A piece that is counted. Where there is no room for it, it waits until others are read.
async fn hold(room: &Room, mut piece: Vec<u8>) -> Result<Bytes, Full> {
    for _ in 0..ROOM_LOOKS_MAX {
        match room.hold(piece) {
            Ok(held) => return Ok(held),
            Err((_, back)) => piece = back,
        }
        tokio::time::sleep(ROOM_LOOK).await;
    }
    Err(Full)
}

async fn ask<L: Listing>(api: &Api, mut listing: L) -> Result<(L, Vec<u8>, bool), Unanswered> {
    let clock = api.clock.clone();
    api.router
        .ask(move |folded| {
            let now = clock().wall(folded.machine.wall_offset_ms());
            let mut piece = Vec::new();
            let more = listing.write(&folded.machine, now, &mut Quota::default(), &mut piece);
            (listing, piece, more)
        })
        .await
}

/// A body whose pieces are made while it is sent.
struct Pieces(mpsc::Receiver<Result<Bytes, Unwritten>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Unwritten;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Unwritten>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(hyper::body::Frame::data)))
    }
}

/// Rows of one kind: those that `look` says are asked for, and writes where it gets where to.
pub(super) struct Rows<F> {
    bound: fn(&Machine) -> u32,
    look: Arc<F>,
    next: u32,
    /// How many more are written.
    left: usize,
}

impl<F> Listing for Rows<F>
where
    F: Fn(&Machine, u32, Option<&mut Vec<u8>>) -> bool + Send + Sync + 'static,
{
    fn write(&mut self, machine: &Machine, _: Wall, quota: &mut Quota, out: &mut Vec<u8>) -> bool {
        let bound = (self.bound)(machine);
        while self.next < bound && self.left > 0 && !quota.is_used() {
            let before = out.len();
            // Taken back if there is no row.
            out.push(b',');
            if (self.look)(machine, self.next, Some(out)) {
                self.left -= 1;
                quota.take(Took::rows(1, out.len() - before));
            } else {
                out.truncate(before);
                quota.take(Took::LOOK);
            }
            self.next += 1;
        }
        self.next < bound && self.left > 0
    }
}

/// Counts the rows below `bound` that `look` says are asked for, and answers the first `limit` of them; with how many there
/// are in all. A row that comes or goes meanwhile may count or not.
pub(super) async fn listed<F>(
    api: &Api,
    room: Room,
    limit: usize,
    bound: fn(&Machine) -> u32,
    look: F,
) -> Result<(Response, usize), Unwritten>
where
    F: Fn(&Machine, u32, Option<&mut Vec<u8>>) -> bool + Send + Sync + 'static,
{
    let look = Arc::new(look);
    let counted = look.clone();
    let count = move |machine: &Machine, row, count: &mut usize| {
        *count += usize::from(counted(machine, row, None));
        Took::LOOK
    };
    let found = walk(&api.router, bound, 0, count).await?;
    let response = streamed(api, room, Rows { bound, look, next: 0, left: limit }).await?;
    Ok((response, found))
}

/// How much of a question's time a row took, as a share of [`LOOKED_MAX`].
pub(crate) struct Took(u32);

impl Took {
    /// A look, and no more.
    pub const LOOK: Took = Took(1);

    /// A look after which something of so many bytes was kept as it is.
    pub fn found(bytes: usize) -> Took {
        Took(u32::try_from(2 + bytes / 512).unwrap_or(u32::MAX))
    }

    /// A look after which so many rows of so many bytes were kept.
    pub fn rows(rows: usize, bytes: usize) -> Took {
        const A_ROW: usize = LOOKED_MAX as usize / WRITTEN_MAX;
        const BYTES: usize = PIECE_BYTES / LOOKED_MAX as usize;
        Took(u32::try_from(1 + rows * A_ROW + bytes / BYTES).unwrap_or(u32::MAX))
    }
}

/// How much of its time a question has used.
#[derive(Default)]
pub(crate) struct Quota(u32);

impl Quota {
    /// Something took some of it.
    pub fn take(&mut self, took: Took) {
        self.0 = self.0.saturating_add(took.0);
    }

    /// Whether there is nothing left.
    pub fn is_used(&self) -> bool {
        self.0 >= LOOKED_MAX
    }
}

/// Looks at all rows below `bound`, and keeps what it finds in `found`.
pub(crate) async fn walk<T: Send + 'static>(
    router: &Router,
    bound: fn(&Machine) -> u32,
    found: T,
    look: impl Fn(&Machine, u32, &mut T) -> Took + Send + Sync + 'static,
) -> Result<T, Unanswered> {
    let look = Arc::new(look);
    let (mut found, mut next) = (found, 0u32);
    loop {
        let look = look.clone();
        let is_last;
        (found, next, is_last) = router
            .ask(move |folded| {
                let (mut found, mut row, mut quota) = (found, next, Quota::default());
                let bound = bound(&folded.machine);
                while row < bound && !quota.is_used() {
                    quota.take(look(&folded.machine, row, &mut found));
                    row += 1;
                }
                (found, row, row >= bound)
            })
            .await?;
        if is_last {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        sync::Mutex,
        task::{Context, Waker},
    };

    use ams2_core::{At, Input, Position, Record};

    use super::*;
    use crate::{
        handler::Attempt,
        journal::simulated::SimulatedDisk,
        poison::Panics,
        router::{Append, Folded, Follow},
    };

    struct Nobody;

    impl Append for Nobody {
        fn keep(&self, _: Input) {}
        fn now(&self) -> At {
            At(0)
        }
    }

    impl Follow for Nobody {
        fn deliver(&mut self, _: Attempt) {}
        fn installed(&mut self, _: Position, _: &str) {}
        fn decided(&mut self, _: &Record) {}
    }

    /// Whoever asks something else meanwhile is answered between two pieces, however many rows there are.
    #[tokio::test]
    async fn a_walk_over_many_rows_lets_others_ask_in_between() {
        let router = Router::new();
        let panics = Panics::read(Arc::new(SimulatedDisk::new(1)), 1).expect("an empty disk");
        let thread =
            router.start(Folded::default(), panics, Arc::new(Nobody), Box::new(Nobody)).expect("a thread");
        const ROWS: u32 = 10_000;
        let order = Arc::new(Mutex::new(Vec::new()));
        let (noted, asked) = (order.clone(), router.clone());
        let look = move |_: &Machine, row: u32, count: &mut usize| {
            *count += 1;
            if row == 0 {
                let noted = noted.clone();
                let mut other = Box::pin(asked.ask(move |_| noted.lock().expect("no panic").push("other")));
                // It is in the queue from now on.
                assert!(other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            if row == ROWS - 1 {
                noted.lock().expect("no panic").push("the last row");
            }
            Took::LOOK
        };
        assert_eq!(walk(&router, |_| ROWS, 0, look).await, Ok(ROWS as usize));
        assert_eq!(*order.lock().expect("no panic"), ["other", "the last row"]);
        // Rows that are kept make shorter pieces.
        let took = (0..LOOKED_MAX).map(|_| Took::rows(1, PIECE_BYTES / WRITTEN_MAX).0);
        let pieces = took.sum::<u32>() / LOOKED_MAX;
        assert!((10..=20).contains(&pieces), "{pieces}");
        router.stop();
        thread.join().expect("no panic");
    }
}
