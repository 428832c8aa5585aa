//! The alerts of a group in their order, in leaves: with a million of them, one that comes or goes moves a kilobyte.

use alloc::vec::Vec;
use core::cmp::Ordering;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows of one leaf.
const LEAF_ROWS: usize = 256;

/// A list in leaves, none of them empty. In snapshots it is a plain list: how it stands in leaves is no part of the state.
#[derive(Debug, Default)]
pub(crate) struct Members {
    leaves: Vec<Vec<u32>>,
    len: usize,
}

/// A place in the list; the default is its beginning.
pub(crate) type Place = (usize, usize);

impl Members {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &u32> {
        self.leaves.iter().flatten()
    }

    /// The row at a place, which moves on: for a walk in pieces, during which nothing is put in or taken out.
    pub fn walk(&self, place: &mut Place) -> Option<u32> {
        let row = *self.leaves.get(place.0)?.get(place.1)?;
        place.1 += 1;
        if self.leaves[place.0].len() == place.1 {
            *place = (place.0 + 1, 0);
        }
        Some(row)
    }

    /// Puts a row at its place; `false` if it is there already. `order` says where another row stands beside it.
    pub fn insert(&mut self, row: u32, order: impl Fn(u32) -> Ordering) -> bool {
        let before = |leaf: &Vec<u32>| leaf.last().is_some_and(|last| order(*last).is_lt());
        let mut leaf = self.leaves.partition_point(before);
        if leaf == self.leaves.len() {
            // Behind all others: a leaf is filled to its end before the next begins.
            match self.leaves.last() {
                Some(last) if last.len() < LEAF_ROWS => leaf -= 1,
                _ => self.leaves.push(Vec::new()),
            }
        }
        let list = &mut self.leaves[leaf];
        let Err(place) = list.binary_search_by(|other| order(*other)) else { return false };
        list.insert(place, row);
        self.len += 1;
        if list.len() > LEAF_ROWS {
            let second = list.split_off(LEAF_ROWS / 2);
            self.leaves.insert(leaf + 1, second);
        }
        true
    }

    /// Keeps those that `keep` says.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.leaves.iter_mut().for_each(|leaf| leaf.retain(|row| keep(*row)));
        self.leaves.retain(|leaf| !leaf.is_empty());
        self.len = self.leaves.iter().map(Vec::len).sum();
    }
}

/// From rows that are in order already.
impl FromIterator<u32> for Members {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Members {
        let mut members = Members::default();
        for row in rows {
            members.insert(row, |_| Ordering::Less);
        }
        members
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut list = serializer.serialize_seq(Some(self.len))?;
        for row in self.iter() {
            list.serialize_element(row)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        Ok(Vec::<u32>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_their_order_however_they_come_and_go() {
        let (mut members, mut plain) = (Members::default(), Vec::new());
        let mut state = 7u32;
        for _ in 0..5_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let row = state >> 19;
            let is_new = members.insert(row, |other| other.cmp(&row));
            assert_eq!(is_new, !plain.contains(&row));
            if is_new {
                plain.push(row);
            }
        }
        members.retain(|row| row % 3 != 0);
        plain.retain(|row| row % 3 != 0);
        plain.sort_unstable();
        assert_eq!(members.iter().copied().collect::<Vec<_>>(), plain);
        assert_eq!((members.len(), members.is_empty()), (plain.len(), false));
        let bytes = postcard::to_allocvec(&members).expect("plain data encodes");
        let restored: Members = postcard::from_bytes(&bytes).expect("our own bytes");
        let mut place = Place::default();
        let walked: Vec<u32> = core::iter::from_fn(|| restored.walk(&mut place)).collect();
        assert_eq!(walked, plain);
        assert!(members.leaves.iter().all(|leaf| leaf.len() <= LEAF_ROWS));
    }
}
