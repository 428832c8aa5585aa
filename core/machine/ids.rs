//! Names that senders give, so that what comes twice counts once: the `id`s of clients, and the places at which alerts that
//! other servers hand on were accepted first.
//!
//! Each sender has a window of its own. Where all windows together are full, whoever has most gives way: who sends a million
//! takes nothing from who sends ten.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::At;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    senders: BTreeMap<u64, Window>,
    /// How many there are in all.
    count: usize,
    /// Senders by the oldest of each, and by about how many each has.
    by_age: BTreeSet<(At, u64)>,
    by_count: BTreeSet<(u32, u64)>,
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Most of all senders together.
    pub most: usize,
    /// The longest time, in milliseconds.
    pub age_ms: u64,
}

#[derive(Debug, Default)]
struct Window {
    /// Newest last.
    order: VecDeque<(At, u128)>,
    known: BTreeSet<u128>,
}

/// About how many: the number of digits of the count in twos.
fn rank(count: usize) -> u32 {
    usize::BITS - count.leading_zeros()
}

impl Ids {
    /// Keeps a name, unless its sender gave it before; whether it did.
    pub fn is_known(&mut self, sender: u64, name: u128, now: At, bounds: Bounds) -> bool {
        let window = self.senders.entry(sender).or_default();
        if !window.known.insert(name) {
            return true;
        }
        if window.order.is_empty() {
            self.by_age.insert((now, sender));
        }
        let before = rank(window.order.len());
        window.order.push_back((now, name));
        let after = rank(window.order.len());
        if before != after {
            self.by_count.remove(&(before, sender));
            self.by_count.insert((after, sender));
        }
        self.count += 1;
        while self.count > bounds.most
            && let Some((_, sender)) = self.by_count.last().copied()
        {
            self.forget_oldest(sender);
        }
        false
    }

    /// Forgets one whose time is over; `false` if there is none.
    pub fn expire_one(&mut self, now: At, bounds: Bounds) -> bool {
        let Some((oldest, sender)) = self.by_age.first().copied() else { return false };
        let is_over = now.since(oldest) > bounds.age_ms;
        if is_over {
            self.forget_oldest(sender);
        }
        is_over
    }

    fn forget_oldest(&mut self, sender: u64) {
        let Some(window) = self.senders.get_mut(&sender) else { return };
        let before = rank(window.order.len());
        let Some((at, name)) = window.order.pop_front() else { return };
        window.known.remove(&name);
        self.by_age.remove(&(at, sender));
        self.count -= 1;
        let (after, next) = (rank(window.order.len()), window.order.front().map(|(at, _)| *at));
        if before != after {
            self.by_count.remove(&(before, sender));
        }
        match next {
            Some(next) => {
                self.by_age.insert((next, sender));
                if before != after {
                    self.by_count.insert((after, sender));
                }
            }
            None => drop(self.senders.remove(&sender)),
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.count
    }
}

/// The windows alone; what finds things in them is made again.
impl Serialize for Ids {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.senders.iter().map(|(sender, window)| (sender, &window.order)))
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ids, D::Error> {
        let mut ids = Ids::default();
        for (sender, order) in BTreeMap::<u64, VecDeque<(At, u128)>>::deserialize(deserializer)? {
            let Some((oldest, _)) = order.front().copied() else { continue };
            ids.count += order.len();
            ids.by_age.insert((oldest, sender));
            ids.by_count.insert((rank(order.len()), sender));
            let known = order.iter().map(|(_, name)| *name).collect();
            ids.senders.insert(sender, Window { order, known });
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { most: 10, age_ms: 1_000 };

    #[test]
    fn who_has_most_gives_way_and_the_oldest_of_his_first() {
        let mut ids = Ids::default();
        for name in 0..3 {
            assert!(!ids.is_known(1, name, At(0), BOUNDS));
        }
        for name in 0..1_000 {
            assert!(!ids.is_known(2, name, At(1), BOUNDS), "the same name of another is another's");
        }
        assert_eq!(ids.len(), 10);
        assert!((0..3).all(|name| ids.is_known(1, name, At(2), BOUNDS)), "a flood takes nothing from others");
        assert!((993..1_000).all(|name| ids.is_known(2, name, At(2), BOUNDS)), "the newest are known");
        assert!(!ids.is_known(2, 992, At(2), BOUNDS));
    }

    #[test]
    fn what_is_too_old_goes_and_a_snapshot_keeps_the_rest() {
        let mut ids = Ids::default();
        for (sender, name, at) in [(1, 1, 0), (2, 1, 500), (1, 2, 900)] {
            assert!(!ids.is_known(sender, name, At(at), BOUNDS));
        }
        assert!(!ids.expire_one(At(1_000), BOUNDS), "nothing is older than that");
        assert!(ids.expire_one(At(1_001), BOUNDS) && !ids.expire_one(At(1_001), BOUNDS));
        let bytes = postcard::to_allocvec(&ids).expect("plain data encodes");
        let mut again: Ids = postcard::from_bytes(&bytes).expect("what was written is read");
        assert_eq!((again.len(), again.by_age.len(), again.by_count.len()), (2, 2, 2));
        assert!(again.is_known(1, 2, At(1_001), BOUNDS) && again.is_known(2, 1, At(1_001), BOUNDS));
        assert!(again.expire_one(At(9_000), BOUNDS) && again.expire_one(At(9_000), BOUNDS));
        assert_eq!((again.len(), again.senders.len(), again.by_count.len()), (0, 0, 0));
    }
}
