//! Rows with stable numbers. Which number a new row gets depends on the rows alone, so a restored state numbers
//! on exactly as the original would. Rows stand in pages: growing moves none, and takes no memory ahead of need.

use alloc::vec::Vec;
use core::{fmt, marker::PhantomData};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeSeq};

/// Rows of one page: a page of the largest rows is some ten kilobytes.
const PAGE_ROWS: usize = 64;

/// Rows by number; numbers of removed rows are used again, the last removed first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
pub(crate) struct Slab<T> {
    rows: Pages<T>,
    free: Vec<u32>,
}

/// A list in pages, each full but the last. In snapshots it is a plain list.
#[derive(Clone, Debug)]
struct Pages<T> {
    pages: Vec<Vec<Option<T>>>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { rows: Pages { pages: Vec::new() }, free: Vec::new() }
    }
}

impl<T> Pages<T> {
    fn len(&self) -> usize {
        let full = self.pages.len().saturating_sub(1) * PAGE_ROWS;
        full + self.pages.last().map_or(0, Vec::len)
    }

    fn push(&mut self, row: Option<T>) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE_ROWS => page.push(row),
            _ => {
                let mut page = Vec::with_capacity(PAGE_ROWS);
                page.push(row);
                self.pages.push(page);
            }
        }
    }

    fn get(&self, number: u32) -> Option<&Option<T>> {
        self.pages.get(number as usize / PAGE_ROWS)?.get(number as usize % PAGE_ROWS)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Option<T>> {
        self.pages.get_mut(number as usize / PAGE_ROWS)?.get_mut(number as usize % PAGE_ROWS)
    }
}

impl<T> Slab<T> {
    /// Adds a row and answers its number.
    pub fn insert(&mut self, row: T) -> u32 {
        if let Some(number) = self.free.pop()
            && let Some(free) = self.rows.get_mut(number)
        {
            *free = Some(row);
            return number;
        }
        let number = u32::try_from(self.rows.len()).expect("fewer than 2^32 rows fit into memory");
        self.rows.push(Some(row));
        number
    }

    pub fn remove(&mut self, number: u32) -> Option<T> {
        let row = self.rows.get_mut(number)?.take();
        if row.is_some() {
            self.free.push(number);
        }
        row
    }

    pub fn find(&self, number: u32) -> Option<&T> {
        self.rows.get(number)?.as_ref()
    }

    pub fn find_mut(&mut self, number: u32) -> Option<&mut T> {
        self.rows.get_mut(number)?.as_mut()
    }

    /// Rows with their numbers, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let rows = self.rows.pages.iter().flatten().zip(0u32..);
        rows.filter_map(|(row, number)| row.as_ref().map(|row| (number, row)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let rows = self.rows.pages.iter_mut().flatten().zip(0u32..);
        rows.filter_map(|(row, number)| row.as_mut().map(|row| (number, row)))
    }

    pub fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// One past the highest number ever used.
    pub fn bound(&self) -> u32 {
        self.rows.len() as u32
    }
}

/// A row that other rows point to, so that it must be there.
impl<T> core::ops::Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        self.find(number).expect("rows are removed only when nothing points to them")
    }
}

impl<T> core::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.find_mut(number).expect("rows are removed only when nothing points to them")
    }
}

impl<T: Serialize> Serialize for Pages<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for row in self.pages.iter().flatten() {
            list.serialize_element(row)?;
        }
        list.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pages<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pages<T>, D::Error> {
        struct Rows<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Rows<T> {
            type Value = Pages<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rows")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Pages<T>, A::Error> {
                let mut rows = Pages { pages: Vec::new() };
                while let Some(row) = list.next_element()? {
                    rows.push(row);
                }
                Ok(rows)
            }
        }
        deserializer.deserialize_seq(Rows(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_over_pages_and_snapshots() {
        let mut slab = Slab::default();
        for number in 0..1000u32 {
            assert_eq!(slab.insert(number), number);
        }
        assert_eq!((slab.remove(70), slab.remove(70), slab.remove(999)), (Some(70), None, Some(999)));
        let bytes = postcard::to_allocvec(&slab).expect("plain data encodes");
        let mut restored: Slab<u32> = postcard::from_bytes(&bytes).expect("our own bytes");
        for slab in [&mut slab, &mut restored] {
            assert_eq!((slab.len(), slab.bound()), (998, 1000));
            assert_eq!(slab.iter().map(|(number, row)| u32::from(number != *row)).sum::<u32>(), 0);
            assert_eq!([slab.insert(1), slab.insert(2), slab.insert(3)], [999, 70, 1000]);
        }
    }
}
