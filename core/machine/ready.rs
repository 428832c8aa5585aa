//! Deliveries that may be attempted, in the order of due time and number: four bytes each, for there may be a
//! million of them. A row's due time stays what it is while the row stands here.

use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeSeq};

use super::{pending::Delivery, slab::Slab};
use crate::At;

/// Rows of one leaf: what an insertion moves at most, a kilobyte.
const LEAF_ROWS: usize = 256;

/// A sorted list in leaves, none of them empty.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    leaves: Vec<Vec<u32>>,
}

/// Due time and number.
type Key = (At, u64);

fn key(rows: &Slab<Delivery>, delivery: u32) -> Key {
    let row = &rows[delivery];
    (row.due, row.number)
}

impl Ready {
    /// Puts a delivery at its place, once.
    pub fn insert(&mut self, rows: &Slab<Delivery>, delivery: u32) {
        let new = key(rows, delivery);
        let (leaf, place) = match self.search(rows, new) {
            Ok(_) => return,
            Err(place) => place,
        };
        let Some(list) = self.leaves.get_mut(leaf) else {
            // Most come last: a leaf is filled to its end before the next begins.
            match self.leaves.last_mut() {
                Some(last) if last.len() < LEAF_ROWS => last.push(delivery),
                _ => self.leaves.push([delivery].into()),
            }
            return;
        };
        list.insert(place, delivery);
        if list.len() > LEAF_ROWS {
            let second = list.split_off(LEAF_ROWS / 2);
            self.leaves.insert(leaf + 1, second);
        }
    }

    /// Takes a delivery out, if it is there.
    pub fn remove(&mut self, rows: &Slab<Delivery>, delivery: u32) {
        if let Ok((leaf, place)) = self.search(rows, key(rows, delivery)) {
            self.leaves[leaf].remove(place);
            if self.leaves[leaf].is_empty() {
                self.leaves.remove(leaf);
            }
        }
    }

    /// The earliest.
    pub fn first(&self) -> Option<u32> {
        self.leaves.first()?.first().copied()
    }

    /// Those from this key on, the earliest first.
    pub fn since(&self, rows: &Slab<Delivery>, from: Key) -> impl Iterator<Item = u32> {
        let (Ok((leaf, place)) | Err((leaf, place))) = self.search(rows, from);
        let leaves = self.leaves.get(leaf..).unwrap_or_default();
        leaves.iter().flatten().skip(place).copied()
    }

    /// All of them, the earliest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.leaves.iter().flatten().copied()
    }

    /// The row at a place, which moves on: for a walk in pieces, during which nothing is put in or taken out.
    pub fn walk(&self, place: &mut (usize, usize)) -> Option<u32> {
        loop {
            let leaf = self.leaves.get(place.0)?;
            if let Some(row) = leaf.get(place.1) {
                place.1 += 1;
                return Some(*row);
            }
            *place = (place.0 + 1, 0);
        }
    }

    /// Leaf and place of the row with this key, or where it would be; past the last leaf for what comes last.
    fn search(&self, rows: &Slab<Delivery>, wanted: Key) -> Result<(usize, usize), (usize, usize)> {
        let leaf =
            self.leaves.partition_point(|leaf| leaf.last().is_some_and(|last| key(rows, *last) < wanted));
        let list = self.leaves.get(leaf).map_or(&[][..], Vec::as_slice);
        match list.binary_search_by_key(&wanted, |row| key(rows, *row)) {
            Ok(place) => Ok((leaf, place)),
            Err(place) => Err((leaf, place)),
        }
    }
}

/// From rows that are in order already.
impl FromIterator<u32> for Ready {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Ready {
        let mut ready = Ready::default();
        for row in rows {
            match ready.leaves.last_mut() {
                Some(last) if last.len() < LEAF_ROWS => last.push(row),
                _ => ready.leaves.push([row].into()),
            }
        }
        ready
    }
}

/// A plain list: how it stands in leaves is no part of the state.
impl Serialize for Ready {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.leaves.iter().map(Vec::len).sum()))?;
        for row in self.iter() {
            list.serialize_element(&row)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Ready {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ready, D::Error> {
        Ok(Vec::<u32>::deserialize(deserializer)?.into_iter().collect())
    }
}
