//! Bytes of bodies and answers that are in memory at once: over all, and by whose they are. Whoever sends much at a time,
//! or reads slowly what it asked for, leaves room for others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use smol_str::SmolStr;

/// One client has at most this part of all.
const SHARE: usize = 4;
/// Who found no room is to come again after so long.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// There is no room: for anybody, or for this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is received and answered at once; try again in {} s", RETRY_AFTER.as_secs())]
pub struct Full;

/// What is in memory now. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Flights(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_client: HashMap<SmolStr, usize>,
}

impl Flights {
    /// The room of one client: a quarter of `most`, but one body of the largest size fits always, inflated, too.
    pub fn room(&self, whose: SmolStr, most: usize, body_bytes: usize) -> Room {
        let share = (most / SHARE).max(2 * body_bytes).min(most);
        Room { flights: self.clone(), whose, most, share }
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> usize {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).all
    }
}

/// What one client may have in memory. Clones are of the same client.
#[derive(Clone, Debug)]
pub struct Room {
    flights: Flights,
    whose: SmolStr,
    most: usize,
    share: usize,
}

impl Room {
    /// Nothing yet.
    pub fn flight(&self) -> Flight {
        Flight { room: self.clone(), bytes: 0 }
    }

    /// A piece of an answer, counted until it is sent.
    pub fn hold(&self, piece: Vec<u8>) -> Result<Bytes, (Full, Vec<u8>)> {
        let mut flight = self.flight();
        match flight.add(piece.len()) {
            Ok(()) => Ok(flight.around(piece)),
            Err(full) => Err((full, piece)),
        }
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
        let Room { flights, whose, most, share } = &self.room;
        let mut counts = flights.0.lock().unwrap_or_else(|e| e.into_inner());
        let own = counts.by_client.get(whose).copied().unwrap_or(0);
        if counts.all + bytes > *most || own + bytes > *share {
            return Err(Full);
        }
        counts.all += bytes;
        *counts.by_client.entry(whose.clone()).or_default() += bytes;
        self.bytes += bytes;
        Ok(())
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
        if self.bytes == 0 {
            return;
        }
        let mut counts = self.room.flights.0.lock().unwrap_or_else(|e| e.into_inner());
        counts.all -= self.bytes;
        if let Some(own) = counts.by_client.get_mut(&self.room.whose) {
            *own -= self.bytes;
            if *own == 0 {
                counts.by_client.remove(&self.room.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_others_and_what_is_gone_counts_no_more() {
        let flights = Flights::default();
        let room = |whose: &str| flights.room(whose.into(), 1000, 50);
        let (mut one, mut again) = (room("one").flight(), room("one").flight());
        assert_eq!((one.add(200), again.add(50), again.add(1)), (Ok(()), Ok(()), Err(Full)));
        let mut others: Vec<Flight> = ["two", "three", "four"].map(|whose| room(whose).flight()).into();
        assert!(others.iter_mut().all(|other| other.add(250).is_ok()));
        assert_eq!(room("five").flight().add(1), Err(Full), "all is full");
        drop(one);
        assert_eq!(again.add(200), Ok(()));
        let piece = room("five").hold(vec![7; 3]);
        assert_eq!(piece.map_err(|(full, _)| full), Err(Full));
        drop(others);
        let piece = room("five").hold(vec![7; 3]).expect("room");
        assert_eq!((&piece[..], flights.bytes()), (&[7, 7, 7][..], 253));
        drop((piece, again));
        assert_eq!(flights.bytes(), 0);
        // Twice the largest body fits into any share.
        let mut large = flights.room("one".into(), 100, 50).flight();
        assert_eq!((large.add(100), large.add(1)), (Ok(()), Err(Full)));
    }
}
