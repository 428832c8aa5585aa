//! Ids of occurrences whose sender gave none.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// Ids of occurrences: none comes twice, whatever the machine's clock says, over restarts too.
#[derive(Debug)]
pub struct Ids {
    start: u64,
    next: AtomicU64,
}

impl Ids {
    /// Those of one process. `start` is random.
    pub fn new(start: u64) -> Ids {
        Ids { start, next: AtomicU64::default() }
    }

    /// The next one, written into `id`.
    pub fn write(&self, id: &mut String) {
        id.clear();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Writing to a string cannot fail.
        let _ = write!(id, "{:x}-{number:x}", self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_given_twice() {
        let (one, other) = (Ids::new(1), Ids::new(2));
        let mut seen = std::collections::BTreeSet::new();
        let mut id = String::new();
        for ids in [&one, &other, &one] {
            ids.write(&mut id);
            assert!(seen.insert(id.clone()), "{id}");
        }
    }
}
