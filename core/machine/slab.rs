//! Rows with stable numbers. Which number a new row gets depends on the rows alone, so a restored state numbers
//! on exactly as the original would. Rows stand in pages: growing moves none, and takes no memory ahead of need. A page
//! without rows gives its memory back, so that a flood leaves no more behind than the numbers that it had.

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
    pages: Vec<Page<T>>,
    /// Rows with a number, in use or not.
    len: usize,
}

/// A page; without memory while none of its rows is in use, unless it is the last.
#[derive(Clone, Debug)]
struct Page<T> {
    rows: Vec<Option<T>>,
    used: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { rows: Pages::new(), free: Vec::new() }
    }
}

impl<T> Pages<T> {
    fn new() -> Pages<T> {
        Pages { pages: Vec::new(), len: 0 }
    }

    fn push(&mut self, row: Option<T>) {
        let number = self.len;
        self.len += 1;
        if number / PAGE_ROWS == self.pages.len() {
            self.pages.push(Page { rows: Vec::new(), used: 0 });
            self.free_if_unused(number.saturating_sub(1));
        }
        if let Some(row) = row {
            self.put(number, row);
        }
    }

    fn find(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.pages.get(number / PAGE_ROWS)?.rows.get(number % PAGE_ROWS)?.as_ref()
    }

    fn find_mut(&mut self, number: u32) -> Option<&mut T> {
        let number = number as usize;
        self.pages.get_mut(number / PAGE_ROWS)?.rows.get_mut(number % PAGE_ROWS)?.as_mut()
    }

    /// Puts a row where none is.
    fn put(&mut self, number: usize, row: T) {
        let page = &mut self.pages[number / PAGE_ROWS];
        page.rows.reserve_exact(PAGE_ROWS - page.rows.len());
        let place = number % PAGE_ROWS;
        while page.rows.len() <= place {
            page.rows.push(None);
        }
        page.used += usize::from(page.rows[place].replace(row).is_none());
    }

    fn take(&mut self, number: u32) -> Option<T> {
        let number = number as usize;
        let page = self.pages.get_mut(number / PAGE_ROWS)?;
        let row = page.rows.get_mut(number % PAGE_ROWS)?.take()?;
        page.used -= 1;
        self.free_if_unused(number);
        Some(row)
    }

    /// The last page keeps its memory: what comes and goes there does so often.
    fn free_if_unused(&mut self, number: usize) {
        let (place, last) = (number / PAGE_ROWS, self.len.saturating_sub(1) / PAGE_ROWS);
        if let Some(page) = self.pages.get_mut(place).filter(|page| page.used == 0 && place < last) {
            page.rows = Vec::new();
        }
    }

    /// Each row that is in use or not, by number.
    fn iter(&self) -> impl Iterator<Item = Option<&T>> {
        (0..self.len).map(|number| self.find(number as u32))
    }
}

impl<T> Slab<T> {
    /// Adds a row and answers its number.
    pub fn insert(&mut self, row: T) -> u32 {
        if let Some(number) = self.free.pop()
            && number < self.bound()
        {
            self.rows.put(number as usize, row);
            return number;
        }
        let number = self.bound();
        self.rows.push(Some(row));
        number
    }

    pub fn remove(&mut self, number: u32) -> Option<T> {
        let row = self.rows.take(number);
        if row.is_some() {
            self.free.push(number);
        }
        row
    }

    pub fn find(&self, number: u32) -> Option<&T> {
        self.rows.find(number)
    }

    pub fn find_mut(&mut self, number: u32) -> Option<&mut T> {
        self.rows.find_mut(number)
    }

    /// Rows with their numbers, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let pages = self.rows.pages.iter().zip((0u32..).step_by(PAGE_ROWS));
        let rows = pages.flat_map(|(page, first)| page.rows.iter().zip(first..));
        rows.filter_map(|(row, number)| row.as_ref().map(|row| (number, row)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let pages = self.rows.pages.iter_mut().zip((0u32..).step_by(PAGE_ROWS));
        let rows = pages.flat_map(|(page, first)| page.rows.iter_mut().zip(first..));
        rows.filter_map(|(row, number)| row.as_mut().map(|row| (number, row)))
    }

    pub fn len(&self) -> usize {
        self.rows.len - self.free.len()
    }

    /// One past the highest number ever used.
    pub fn bound(&self) -> u32 {
        u32::try_from(self.rows.len).expect("fewer than 2^32 rows fit into memory")
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
        let mut list = serializer.serialize_seq(Some(self.len))?;
        for row in self.iter() {
            list.serialize_element(&row)?;
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
                let mut rows = Pages::new();
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
    fn a_flood_leaves_no_pages_behind() {
        let mut slab = Slab::default();
        for number in 0..10_000u32 {
            slab.insert(number);
        }
        for number in (0..10_000).filter(|number| *number != 5_000) {
            slab.remove(number);
        }
        let with_memory = |slab: &Slab<u32>| slab.rows.pages.iter().filter(|p| p.rows.capacity() > 0).count();
        assert_eq!(with_memory(&slab), 2, "the page of the row that is left, and the last one");
        let bytes = postcard::to_allocvec(&slab).expect("plain data encodes");
        let mut restored: Slab<u32> = postcard::from_bytes(&bytes).expect("our own bytes");
        assert!(with_memory(&restored) <= 2);
        for slab in [&mut slab, &mut restored] {
            assert_eq!((slab.len(), slab.bound(), slab.find(5_000)), (1, 10_000, Some(&5_000)));
            assert_eq!([slab.insert(1), slab.insert(2)], [9_999, 9_998]);
            assert_eq!(slab.iter().map(|(number, _)| number).collect::<Vec<_>>(), [5_000, 9_998, 9_999]);
            slab.iter_mut().for_each(|(number, row)| *row = number);
            assert_eq!(slab.remove(3), None);
            assert_eq!((slab[9_998], slab.find(9_000)), (9_998, None));
        }
    }

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
