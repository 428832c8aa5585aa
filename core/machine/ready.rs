//! Deliveries that may be attempted, in the order of due time and number: four bytes each, for there may be a
//! million of them. A row's due time stays what it is while the row stands here. What is critical and goes to a server of
//! ours stands in a list of its own, before all else: a day of small things must not hold up one that burns.

use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeSeq};

use super::{pending::Delivery, slab::Slab};
use crate::At;

/// Rows of one leaf: what an insertion moves at most, a kilobyte.
const LEAF_ROWS: usize = 256;

/// Both lists.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    urgent: Sorted,
    others: Sorted,
}

/// A sorted list in leaves, none of them empty.
#[derive(Debug, Default)]
struct Sorted {
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
    pub fn insert(&mut self, rows: &Slab<Delivery>, delivery: u32, urgent: bool) {
        self.list(urgent).insert(rows, delivery);
    }

    /// Takes a delivery out, if it is there.
    pub fn remove(&mut self, rows: &Slab<Delivery>, delivery: u32, urgent: bool) {
        self.list(urgent).remove(rows, delivery);
    }

    fn list(&mut self, urgent: bool) -> &mut Sorted {
        if urgent { &mut self.urgent } else { &mut self.others }
    }

    /// The one whose turn it is at this time, or comes first.
    pub fn first(&self, rows: &Slab<Delivery>, now: At) -> Option<u32> {
        match (self.urgent.first(), self.others.first()) {
            (Some(urgent), Some(other)) if rows[urgent].due > now && rows[other].due < rows[urgent].due => {
                Some(other)
            }
            (urgent, other) => urgent.or(other),
        }
    }

    /// Those from this key on, the earliest first; of what is urgent none.
    pub fn since(&self, rows: &Slab<Delivery>, from: Key) -> impl Iterator<Item = u32> {
        self.others.since(rows, from)
    }

    /// All of them, the earliest of each list first.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.urgent.iter().chain(self.others.iter())
    }

    /// What is not urgent before what is, the earliest first.
    pub fn least_urgent(&self) -> impl Iterator<Item = u32> {
        self.others.iter().chain(self.urgent.iter())
    }

    /// The row at a place, which moves on: for a walk in pieces, during which nothing is put in or taken out.
    pub fn walk(&self, place: &mut (usize, usize)) -> Option<u32> {
        let urgent = self.urgent.leaves.len();
        if place.0 < urgent
            && let Some(row) = self.urgent.walk(place)
        {
            return Some(row);
        }
        let mut behind = (place.0 - urgent, place.1);
        let row = self.others.walk(&mut behind);
        *place = (behind.0 + urgent, behind.1);
        row
    }

    /// Puts what a snapshot had in one list into both.
    pub fn part(&mut self, is_urgent: impl Fn(u32) -> bool) {
        let all: Vec<u32> = self.iter().collect();
        let (urgent, others): (Vec<u32>, Vec<u32>) = all.into_iter().partition(|row| is_urgent(*row));
        (self.urgent, self.others) = (urgent.into_iter().collect(), others.into_iter().collect());
    }
}

impl Sorted {
    /// Puts a delivery at its place, once.
    fn insert(&mut self, rows: &Slab<Delivery>, delivery: u32) {
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
    fn remove(&mut self, rows: &Slab<Delivery>, delivery: u32) {
        if let Ok((leaf, place)) = self.search(rows, key(rows, delivery)) {
            self.leaves[leaf].remove(place);
            if self.leaves[leaf].is_empty() {
                self.leaves.remove(leaf);
            }
        }
    }

    /// The earliest.
    fn first(&self) -> Option<u32> {
        self.leaves.first()?.first().copied()
    }

    /// Those from this key on, the earliest first.
    fn since(&self, rows: &Slab<Delivery>, from: Key) -> impl Iterator<Item = u32> {
        let (Ok((leaf, place)) | Err((leaf, place))) = self.search(rows, from);
        let leaves = self.leaves.get(leaf..).unwrap_or_default();
        leaves.iter().flatten().skip(place).copied()
    }

    /// All of them, the earliest first.
    fn iter(&self) -> impl Iterator<Item = u32> {
        self.leaves.iter().flatten().copied()
    }

    /// The row at a place, which moves on: for a walk in pieces, during which nothing is put in or taken out.
    fn walk(&self, place: &mut (usize, usize)) -> Option<u32> {
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
impl FromIterator<u32> for Sorted {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Sorted {
        let mut ready = Sorted::default();
        for row in rows {
            match ready.leaves.last_mut() {
                Some(last) if last.len() < LEAF_ROWS => last.push(row),
                _ => ready.leaves.push([row].into()),
            }
        }
        ready
    }
}

/// A plain list: how it stands in leaves is no part of the state, and what is urgent follows from it; see [`Ready::part`].
impl Serialize for Ready {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.iter().count()))?;
        for row in self.iter() {
            list.serialize_element(&row)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Ready {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ready, D::Error> {
        let others = Vec::<u32>::deserialize(deserializer)?.into_iter().collect();
        Ok(Ready { urgent: Sorted::default(), others })
    }
}
