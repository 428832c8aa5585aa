//! Long lists, gathered from the router in pieces: each is a question of its own, so that whoever asks for a hundred
//! thousand rows holds up nobody who sends an alert. Nobody looks whether a caller is still there while the rows are looked
//! up. Once some are written, that fails when it has hung up, and no further piece is made.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ams2_core::{At, Machine, Wall};
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
/// Bytes that one question writes, give or take a row; less where a client's share is small.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces of an answer that wait for a slow reader.
const PIECES_MAX: usize = 4;

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
pub(crate) async fn streamed(api: &Api, room: Room, listing: impl Listing) -> Result<Response, Unwritten> {
    let pieces = pieces(api.router.clone(), api.clock.clone(), room, listing).await?;
    Ok(json(Body::new(pieces)))
}

/// JSON as an answer.
pub(crate) fn json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

async fn pieces(
    router: Router,
    clock: Clock,
    room: Room,
    listing: impl Listing,
) -> Result<Pieces, Unwritten> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let mut source = Source { router, clock, room };
    // The first piece before anything is answered: a router that is busy is a status of its own.
    let (mut array, first) = source.piece(Array { listing, is_begun: false }).await?;
    let Made { mut piece, mut more } = first.ok_or(Full)?;
    tokio::spawn(async move {
        loop {
            if !piece.is_empty() && sender.send(Ok(piece)).await.is_err() || !more {
                return;
            }
            let next = tokio::select! {
                next = source.piece_in_time(array) => next,
                () = sender.closed() => return,
            };
            match next {
                Ok(next) => (array, Made { piece, more }) = next,
                // The reader sees that the list breaks off.
                Err(why) => {
                    drop(sender.send(Err(why)).await);
                    return;
                }
            }
        }
    });
    Ok(Pieces(receiver))
}

type Clock = Arc<dyn Fn() -> At + Send + Sync>;

/// Where the pieces of one answer come from.
struct Source {
    router: Router,
    clock: Clock,
    room: Room,
}

/// A piece, counted until it is sent, and whether there are more.
struct Made {
    piece: Bytes,
    more: bool,
}

impl Source {
    /// The next piece, if there is room for one.
    async fn piece<L: Listing>(
        &mut self,
        mut array: Array<L>,
    ) -> Result<(Array<L>, Option<Made>), Unanswered> {
        let (clock, mut flight) = (self.clock.clone(), self.room.flight());
        let bytes = self.room.piece_bytes(PIECE_BYTES);
        self.router
            .ask(move |folded| {
                // Not before: one piece is made at a time, so that no other stands counted for more than it is.
                if flight.add(bytes).is_err() {
                    return (array, None);
                }
                let now = clock().wall(folded.machine.wall_offset_ms());
                let mut piece = Vec::new();
                let more = array.write(&folded.machine, now, &mut Quota::of(bytes), &mut piece);
                // What it has room for beside what it is would be counted by nobody.
                piece.shrink_to_fit();
                flight.settle(piece.len());
                (array, Some(Made { piece: flight.around(piece), more }))
            })
            .await
    }

    /// The next piece. Where there is no room for it, it waits until others are read.
    async fn piece_in_time<L: Listing>(
        &mut self,
        mut array: Array<L>,
    ) -> Result<(Array<L>, Made), Unwritten> {
        let end = tokio::time::Instant::now() + self.room.patience;
        loop {
            let freed = self.room.freed();
            if self.room.has(self.room.piece_bytes(PIECE_BYTES)) {
                let made;
                (array, made) = self.piece(array).await?;
                if let Some(made) = made {
                    return Ok((array, made));
                }
            }
            tokio::time::timeout_at(end, freed).await.map_err(|_| Full)?;
        }
    }
}

/// A listing as an array in JSON.
struct Array<L> {
    listing: L,
    is_begun: bool,
}

impl<L: Listing> Array<L> {
    fn write(&mut self, machine: &Machine, now: Wall, quota: &mut Quota, out: &mut Vec<u8>) -> bool {
        let more = self.listing.write(machine, now, quota, out);
        if !self.is_begun
            && let Some(comma) = out.first_mut()
        {
            // The one before the first element.
            *comma = b'[';
            self.is_begun = true;
        }
        if !more {
            out.extend_from_slice(if self.is_begun { b"]" } else { b"[]" });
        }
        more
    }
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

/// How much of a question's time a row took, as a share of [`LOOKED_MAX`], and how many bytes it wrote.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    looks: u32,
    bytes: usize,
}

impl Took {
    /// A look, and no more.
    pub const LOOK: Took = Took { looks: 1, bytes: 0 };

    /// A look after which something of so many bytes was kept as it is.
    pub fn found(bytes: usize) -> Took {
        Took { looks: u32::try_from(2 + bytes / 512).unwrap_or(u32::MAX), bytes: 0 }
    }

    /// A look after which so many rows of so many bytes were kept.
    pub fn rows(rows: usize, bytes: usize) -> Took {
        const A_ROW: usize = LOOKED_MAX as usize / WRITTEN_MAX;
        const BYTES: usize = PIECE_BYTES / LOOKED_MAX as usize;
        let looks = 1 + rows * A_ROW + bytes / BYTES;
        Took { looks: u32::try_from(looks).unwrap_or(u32::MAX), bytes }
    }
}

/// How much of its time a question has left, and how many bytes it may still write.
pub(crate) struct Quota {
    looks: u32,
    bytes: usize,
}

impl Quota {
    fn of(bytes: usize) -> Quota {
        Quota { looks: LOOKED_MAX, bytes }
    }

    /// Something took some of it.
    pub fn take(&mut self, took: Took) {
        self.looks = self.looks.saturating_sub(took.looks);
        self.bytes = self.bytes.saturating_sub(took.bytes);
    }

    /// Whether there is nothing left.
    pub fn is_used(&self) -> bool {
        self.looks == 0 || self.bytes == 0
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
                let (mut found, mut row, mut quota) = (found, next, Quota::of(PIECE_BYTES));
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
        time::Duration,
    };

    use ams2_core::{Input, Position, Record};
    use tokio::{sync::oneshot, time::timeout};

    use super::*;
    use crate::{
        flight::{Flights, PATIENCE},
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

    /// A router that has nothing.
    fn router() -> (Router, std::thread::JoinHandle<()>) {
        let router = Router::new();
        let panics = Panics::read(Arc::new(SimulatedDisk::new(1)), 1).expect("an empty disk");
        let thread =
            router.start(Folded::default(), panics, Arc::new(Nobody), Box::new(Nobody)).expect("a thread");
        (router, thread)
    }

    /// So many rows of so many bytes.
    struct Same {
        left: usize,
        bytes: usize,
        #[allow(dead_code, reason = "it ends when nobody makes pieces any more")]
        alive: Option<oneshot::Sender<()>>,
    }

    impl Listing for Same {
        fn write(&mut self, _: &Machine, _: Wall, quota: &mut Quota, out: &mut Vec<u8>) -> bool {
            while self.left > 0 && !quota.is_used() {
                self.left -= 1;
                out.push(b',');
                serde_json::to_writer(&mut *out, &"x".repeat(self.bytes - 3)).expect("text is JSON");
                quota.take(Took::rows(1, self.bytes));
            }
            self.left > 0
        }
    }

    async fn list(router: &Router, room: &Room, rows: usize, bytes: usize) -> Result<Pieces, Unwritten> {
        pieces(router.clone(), Arc::new(|| At(0)), room.clone(), Same { left: rows, bytes, alive: None })
            .await
    }

    async fn next(pieces: &mut Pieces) -> Option<Result<Bytes, Unwritten>> {
        timeout(DEADLINE, pieces.0.recv()).await.expect("in time")
    }

    /// More than any of this takes on a busy machine.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// The smallest room that a config may give.
    const SMALLEST: (usize, usize) = (1 << 20, 64 << 10);

    #[tokio::test]
    async fn a_list_of_any_rows_comes_whole_through_any_room_and_each_piece_is_counted() {
        let (router, thread) = router();
        for ((most, body_bytes), rows, bytes) in [
            (SMALLEST, 0, 10_000),
            (SMALLEST, 1, 10_000),
            (SMALLEST, 500, 10_000),
            // A row alone is more than the share, or than there is for all.
            (SMALLEST, 5, 300_000),
            (SMALLEST, 3, 2 << 20),
            ((256 << 20, 8 << 20), 500, 10_000),
        ] {
            let flights = Flights::default();
            let room = flights.room("me".into(), most, body_bytes, PATIENCE);
            let at_once = room.piece_bytes(PIECE_BYTES);
            let mut pieces = list(&router, &room, rows, bytes).await.expect("room");
            let mut text = Vec::new();
            while let Some(piece) = next(&mut pieces).await {
                let piece = piece.expect("it goes on");
                assert!(piece.len() <= at_once + bytes, "{rows} rows of {bytes}: {}", piece.len());
                assert!(flights.bytes() >= piece.len(), "{rows} rows of {bytes}");
                text.extend_from_slice(&piece);
            }
            let listed: Vec<String> = serde_json::from_slice(&text).expect("an array");
            assert_eq!((listed.len(), flights.bytes()), (rows, 0), "{rows} rows of {bytes}");
        }
        router.stop();
        thread.join().expect("no panic");
    }

    #[tokio::test]
    async fn a_piece_is_made_once_there_is_room_for_it_and_not_for_a_reader_that_left() {
        let (router, thread) = router();
        let flights = Flights::default();
        let room = flights.room("me".into(), SMALLEST.0, SMALLEST.1, PATIENCE);
        let fill = || {
            let mut rest = room.flight();
            while rest.add(1 << 10).is_ok() {}
            rest
        };
        let full = fill();
        let refused = list(&router, &room, 100, 10_000).await.map(|_| ());
        assert!(matches!(refused, Err(Unwritten::Full(_))), "{refused:?}");
        drop(full);

        // What takes the room while the first piece is there is let go when that is read.
        let mut pieces = list(&router, &room, 100, 10_000).await.expect("room");
        let full = fill();
        let first = next(&mut pieces).await.expect("a piece").expect("it goes on");
        let mut length = first.len();
        drop((first, full));
        while let Some(piece) = next(&mut pieces).await {
            length += piece.expect("it goes on").len();
        }
        assert_eq!((length, flights.bytes()), (100 * 10_000 + 1, 0));

        let (alive, gone) = oneshot::channel();
        let listing = Same { left: 100, bytes: 10_000, alive: Some(alive) };
        let pieces = super::pieces(router.clone(), Arc::new(|| At(0)), room.clone(), listing).await;
        let (mut pieces, _full) = (pieces.expect("room"), fill());
        let _first = next(&mut pieces).await.expect("a piece");
        // Now the second one waits for room.
        tokio::task::yield_now().await;
        drop(pieces);
        // Nobody says anything on it: it ends when the listing goes.
        assert!(timeout(DEADLINE, gone).await.expect("nobody waits for room").is_err());
        router.stop();
        thread.join().expect("no panic");
    }

    /// Whoever asks something else meanwhile is answered between two pieces, however many rows there are.
    #[tokio::test]
    async fn a_walk_over_many_rows_lets_others_ask_in_between() {
        let (router, thread) = router();
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
        let took = (0..LOOKED_MAX).map(|_| Took::rows(1, PIECE_BYTES / WRITTEN_MAX).looks);
        let pieces = took.sum::<u32>() / LOOKED_MAX;
        assert!((10..=20).contains(&pieces), "{pieces}");
        router.stop();
        thread.join().expect("no panic");
    }
}
