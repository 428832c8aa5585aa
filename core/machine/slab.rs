//! Rows with stable numbers. Which number a new row gets depends on the rows alone, so a restored state numbers
//! on exactly as the original would.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Rows by number; numbers of removed rows are used again, the last removed first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Slab<T> {
    rows: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { rows: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds a row and answers its number.
    pub fn insert(&mut self, row: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.rows[number as usize] = Some(row);
            return number;
        }
        let number = u32::try_from(self.rows.len()).expect("fewer than 2^32 rows fit into memory");
        self.rows.push(Some(row));
        number
    }

    pub fn remove(&mut self, number: u32) -> Option<T> {
        let row = self.rows.get_mut(number as usize)?.take();
        if row.is_some() {
            self.free.push(number);
        }
        row
    }

    pub fn find(&self, number: u32) -> Option<&T> {
        self.rows.get(number as usize)?.as_ref()
    }

    pub fn find_mut(&mut self, number: u32) -> Option<&mut T> {
        self.rows.get_mut(number as usize)?.as_mut()
    }

    /// Rows with their numbers, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.rows.iter().zip(0u32..).filter_map(|(row, number)| row.as_ref().map(|row| (number, row)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.rows.iter_mut().zip(0u32..).filter_map(|(row, number)| row.as_mut().map(|row| (number, row)))
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
