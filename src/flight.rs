//! Bytes of bodies and answers that are in memory at once: over all, and by whose they are. Whoever sends much at a time,
//! or reads slowly what it asked for, leaves room for others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use smol_str::SmolStr;
use tokio::sync::{Notify, futures::OwnedNotified};

/// One client has at most this part of all.
const SHARE: usize = 4;
/// And of that one piece of an answer at most this part.
const PIECES: usize = 4;
/// Who found no room is to come again after so long.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long tests wait for room.
#[cfg(test)]
pub const PATIENCE: Duration = Duration::from_secs(300);

/// There is no room: for anybody, or for this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is received and answered at once; try again in {} s", RETRY_AFTER.as_secs())]
pub struct Full;

/// What is in memory now. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Flights {
    counts: Arc<Mutex<Counts>>,
    /// Told whenever some of it is gone.
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_client: HashMap<SmolStr, usize>,
}

impl Counts {
    fn add(&mut self, whose: &SmolStr, bytes: usize) {
        self.all += bytes;
        *self.by_client.entry(whose.clone()).or_default() += bytes;
    }

    fn take(&mut self, whose: &SmolStr, bytes: usize) {
        self.all -= bytes;
        if let Some(own) = self.by_client.get_mut(whose) {
            *own -= bytes;
            if *own == 0 {
                self.by_client.remove(whose);
            }
        }
    }
}

impl Flights {
    /// The room of one client: a quarter of `most`, and as much as one body of the largest size takes with what it inflates
    /// to, if there is room at all.
    ///
    /// `patience`: how long a piece of an answer waits for room in it.
    pub fn room(&self, whose: SmolStr, most: usize, body_bytes: usize, patience: Duration) -> Room {
        let share = (most / SHARE).max(2 * body_bytes).min(most);
        Room { flights: self.clone(), whose, most, share, patience }
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What one client may have in memory. Clones are of the same client.
#[derive(Clone, Debug)]
pub struct Room {
    flights: Flights,
    whose: SmolStr,
    most: usize,
    share: usize,
    /// How long a piece of an answer waits for room: longer than others take to read, or to be cut off.
    pub patience: Duration,
}

impl Room {
    /// Nothing yet.
    pub fn flight(&self) -> Flight {
        Flight { room: self.clone(), bytes: 0 }
    }

    /// How large pieces of an answer are, of which several are to fit: `wanted` bytes where that is so, else a part of the share.
    pub fn piece_bytes(&self, wanted: usize) -> usize {
        wanted.min(self.share / PIECES)
    }

    /// Whether there is room for so much now.
    pub fn has(&self, bytes: usize) -> bool {
        self.fits(&self.flights.lock(), bytes)
    }

    /// Waits until something is gone, from now on.
    pub fn freed(&self) -> OwnedNotified {
        self.flights.freed.clone().notified_owned()
    }

    fn fits(&self, counts: &Counts, bytes: usize) -> bool {
        let own = counts.by_client.get(&self.whose).copied().unwrap_or(0);
        counts.all + bytes <= self.most && own + bytes <= self.share
    }
}

/// Counts bytes for as long as they are in memory.
#[derive(Debug)]
pub struct Flight {
    room: Room,
    bytes: usize,
}

impl Flight {
    /// Some more bytes, if there is room for them.
    pub fn add(&mut self, bytes: usize) -> Result<(), Full> {
        let mut counts = self.room.flights.lock();
        if !self.room.fits(&counts, bytes) {
            return Err(Full);
        }
        counts.add(&self.room.whose, bytes);
        self.bytes += bytes;
        Ok(())
    }

    /// What was to be added is there, and has so many bytes: what is less is free for others, and what is more counts,
    /// whether or not there is room for it.
    pub fn settle(&mut self, bytes: usize) {
        let mut counts = self.room.flights.lock();
        match bytes.checked_sub(self.bytes) {
            Some(more) => counts.add(&self.room.whose, more),
            None => {
                counts.take(&self.room.whose, self.bytes - bytes);
                self.room.flights.freed.notify_waiters();
            }
        }
        self.bytes = bytes;
    }

    /// These bytes, which it counts until they are gone.
    pub fn around(self, bytes: Vec<u8>) -> Bytes {
        struct Held(Vec<u8>, #[allow(dead_code, reason = "it counts until it is dropped")] Flight);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Bytes::from_owner(Held(bytes, self))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.room.flights.lock().take(&self.room.whose, self.bytes);
            self.room.flights.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_others_and_what_is_gone_counts_no_more() {
        let flights = Flights::default();
        let room = |whose: &str| flights.room(whose.into(), 1000, 50, PATIENCE);
        let (mut one, mut again) = (room("one").flight(), room("one").flight());
        assert_eq!((one.add(200), again.add(50), again.add(1)), (Ok(()), Ok(()), Err(Full)));
        let mut others: Vec<Flight> = ["two", "three", "four"].map(|whose| room(whose).flight()).into();
        assert!(others.iter_mut().all(|other| other.add(250).is_ok()));
        assert_eq!(room("five").flight().add(1), Err(Full), "all is full");
        drop(one);
        assert_eq!(again.add(200), Ok(()));
        drop(others);
        let mut piece = room("five").flight();
        assert_eq!(piece.add(3), Ok(()));
        let piece = piece.around(vec![7; 3]);
        assert_eq!((&piece[..], flights.bytes()), (&[7, 7, 7][..], 253));
        drop((piece, again));
        assert_eq!(flights.bytes(), 0);
        // What was reserved counts for what it is, though it is more than there is room for.
        let mut reserved = room("six").flight();
        assert_eq!((room("six").piece_bytes(100), reserved.add(62)), (62, Ok(())));
        reserved.settle(300);
        assert_eq!((flights.bytes(), room("six").has(1)), (300, false));
        reserved.settle(200);
        assert_eq!((flights.bytes(), room("six").has(50), room("six").has(51)), (200, true, false));
        drop(reserved);
        assert_eq!(flights.bytes(), 0);
        // Twice the largest body fits into any share.
        let mut large = flights.room("one".into(), 100, 50, PATIENCE).flight();
        assert_eq!((large.add(100), large.add(1)), (Ok(()), Err(Full)));
    }
}
