//! What came before: an inform whose answer was lost or late is answered again and not taken again, and a v3 trap that somebody
//! recorded is not taken again either.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// How long something is known: longer than anybody waits for an answer, and than a trap of v3 is of now (row 83).
const KNOWN_FOR: Duration = Duration::from_secs(5 * 60);
/// Most that are known; beyond that the oldest is forgotten. The journal knows their ids for longer.
const KNOWN_MAX: usize = 100_000;

/// Whether something came before, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is new. It is under way from now on.
    No,
    /// It is on its way into the journal.
    UnderWay,
    /// It is kept.
    Kept,
}

/// What came lately, by its hash.
#[derive(Debug, Default)]
pub struct Repeats {
    known: HashMap<u128, bool>,
    order: VecDeque<(u128, Instant)>,
}

impl Repeats {
    /// Whether this came before.
    pub fn see(&mut self, what: u128, now: Instant) -> Before {
        while let Some((oldest, at)) = self.order.front()
            && (self.order.len() >= KNOWN_MAX || now.saturating_duration_since(*at) > KNOWN_FOR)
        {
            self.known.remove(oldest);
            self.order.pop_front();
        }
        match self.known.get(&what) {
            Some(true) => Before::Kept,
            Some(false) => Before::UnderWay,
            None => {
                self.known.insert(what, false);
                self.order.push_back((what, now));
                Before::No
            }
        }
    }

    /// It is in the journal.
    pub fn kept(&mut self, what: u128) {
        if let Some(is_kept) = self.known.get_mut(&what) {
            *is_kept = true;
        }
    }

    /// It did not get there: when it comes again it is new.
    pub fn refused(&mut self, what: u128) {
        self.known.remove(&what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_is_known_for_a_while_and_what_was_refused_is_not() {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        assert_eq!([repeats.see(1, start), repeats.see(1, start)], [Before::No, Before::UnderWay]);
        repeats.kept(1);
        assert_eq!(repeats.see(1, start + KNOWN_FOR), Before::Kept);
        assert_eq!(repeats.see(2, start), Before::No);
        repeats.refused(2);
        assert_eq!(repeats.see(2, start), Before::No);
        assert_eq!(repeats.see(1, start + KNOWN_FOR + Duration::from_secs(1)), Before::No);
        for n in 0..2 * KNOWN_MAX as u128 {
            repeats.see(1000 + n, start + KNOWN_FOR);
        }
        assert!(repeats.known.len() <= KNOWN_MAX && repeats.order.len() <= KNOWN_MAX);
    }
}
