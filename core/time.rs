//! The two clocks: the journal's own, which never falls, and the wall clock, which is an offset to it.

use serde::{Deserialize, Serialize};

/// A moment on the journal's clock, in milliseconds. Starts at 0 with the journal, never falls, does not jump
/// when the wall clock does. Timers, retention and durations run on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct At(pub u64);

/// A moment on the wall clock: milliseconds since 1970-01-01T00:00:00Z, negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wall(pub i64);

impl At {
    /// The end of time: a due time that never comes.
    pub const NEVER: At = At(u64::MAX);

    /// This moment `milliseconds` later; stays at [`At::NEVER`] past the end.
    pub fn plus(self, milliseconds: u64) -> At {
        At(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is later.
    pub fn since(self, earlier: At) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment on the wall clock, when the wall clock is `offset_ms` ahead of the journal's clock.
    pub fn wall(self, offset_ms: i64) -> Wall {
        Wall(i64::try_from(self.0).unwrap_or(i64::MAX).saturating_add(offset_ms))
    }
}

impl Wall {
    /// This moment on the journal's clock, when the wall clock is `offset_ms` ahead of it. Moments before the
    /// journal began are 0.
    pub fn at(self, offset_ms: i64) -> At {
        At(u64::try_from(self.0.saturating_sub(offset_ms)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_and_journal_clock_convert_both_ways() {
        let offset = 1_700_000_000_000;
        assert_eq!(At(5).wall(offset), Wall(1_700_000_000_005));
        assert_eq!(Wall(1_700_000_000_005).at(offset), At(5));
        assert_eq!(Wall(12).at(offset), At(0), "before the journal began");
        assert_eq!(At::NEVER.plus(1), At::NEVER);
    }
}
