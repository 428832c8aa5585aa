//! Rows by hash. An entry keeps half of its hash, so that growing reads no row: with a hundred thousand rows all over
//! memory that would take longer than a step may.

use hashbrown::HashTable;

/// Numbers of rows by the hash of what names them.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashTable<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    half: u32,
    row: u32,
}

/// Room for so many entries is never given back.
const ROOM_KEPT: usize = 4_096;

fn half(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// The table's own hash: its low bits choose the place, its high ones are compared first.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Table {
    /// The row with this hash that is the wanted one.
    pub fn find(&self, hash: u64, mut is_wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        let half = half(hash);
        let same = |entry: &Entry| entry.half == half && is_wanted(entry.row);
        self.entries.find(spread(half), same).map(|entry| entry.row)
    }

    /// Adds a row that is not in it.
    pub fn insert(&mut self, hash: u64, row: u32) {
        let half = half(hash);
        self.entries.insert_unique(spread(half), Entry { half, row }, |entry| spread(entry.half));
    }

    /// Takes a row out, if it is in it.
    pub fn remove(&mut self, hash: u64, row: u32) {
        if let Ok(entry) = self.entries.find_entry(spread(half(hash)), |entry| entry.row == row) {
            entry.remove();
        }
        // A flood is over: what is left moves, which is a sixteenth of what growing moved.
        let (len, room) = (self.entries.len(), self.entries.capacity());
        if room > ROOM_KEPT && len < room / 16 {
            self.entries.shrink_to(2 * len, |entry| spread(entry.half));
        }
    }

    /// Another row takes the place of one with the same hash.
    pub fn replace(&mut self, hash: u64, row: u32, by: u32) {
        if let Ok(mut entry) = self.entries.find_entry(spread(half(hash)), |entry| entry.row == row) {
            entry.get_mut().row = by;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// All rows, in no order that may reach an effect.
    pub fn rows(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().map(|entry| entry.row)
    }
}
