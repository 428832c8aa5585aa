//! What is to be heard of again and again: how long it may be silent, and what a time counts for in which nobody listened.
//!
//! Silence is measured on the journal's clock, which stands still while the router is down.

use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

use super::Machine;
use crate::At;

/// A shorter downtime swallows no word of who tries again, as `curl --retry` does, in milliseconds.
const DOWNTIME_MS_MIN: u64 = 60_000;

/// How often something is to be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Patience {
    pub period_ms: u64,
    /// How much later it may be.
    pub grace_ms: u64,
}

/// A time in which nobody listened: from a moment of the journal's clock on, for so long by the wall clock, until a moment of
/// the journal's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    from: At,
    ms: u64,
    pub until: At,
}

impl Pause {
    /// How far the journal's clock went on meanwhile, in milliseconds: nothing while the router was down.
    pub fn clock_ms(&self) -> u64 {
        self.until.since(self.from)
    }
}

impl Patience {
    /// The longest silence without an alert.
    pub fn silence_ms(&self) -> u64 {
        self.period_ms.saturating_add(self.grace_ms)
    }

    /// Whether what was heard last at `since` may have said something in the pause. What was late before has that long once
    /// more only if its grace is not longer.
    pub fn may_have_spoken(&self, since: At, pause: Pause) -> bool {
        let expected = since.plus(self.period_ms);
        let was_late = expected <= pause.from && pause.ms < self.grace_ms;
        expected <= pause.from.plus(pause.ms) && !was_late
    }
}

impl Machine {
    /// Nobody listened for so long from this moment on: what may have been said meanwhile is waited for anew, as if it had been
    /// heard at `until`.
    pub(super) fn nobody_listened(&mut self, from: At, ms: u64, until: At) {
        if ms < DOWNTIME_MS_MIN {
            return;
        }
        let pause = Pause { from, ms, until };
        self.state.heartbeats.nobody_listened(pause);
        self.arm_heartbeats();
        self.clients_not_listened_to(pause);
    }

    /// A timer that comes up long after its time shows that the machine was suspended, or that its disk hung: that nobody
    /// listened since the last record, as far as anybody knows. Once a record.
    pub(super) fn look_for_pause(&mut self) {
        let (is_late, from) = (self.reached.since(self.now) >= DOWNTIME_MS_MIN, self.state.at);
        if is_late && self.paused_before != self.seq {
            self.paused_before = self.seq;
            self.nobody_listened(from, self.reached.since(from), self.reached);
        }
    }
}

/// A time in words, `24h 30m`, to its two largest units.
pub(super) fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut rest = ms;
    let parts = UNITS.iter().filter_map(|(unit, word)| {
        let count = rest / unit;
        rest %= unit;
        (count > 0).then(|| format!("{count}{word}"))
    });
    let parts: Vec<String> = parts.take(2).collect();
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_its_two_largest_units() {
        for (ms, words) in [
            (0, "0s"),
            (250, "250ms"),
            (90_000, "1m 30s"),
            (3_600_000, "1h"),
            (88_200_000, "1d 30m"),
            (90_061_001, "1d 1h"),
        ] {
            assert_eq!(span(ms), words);
        }
    }
}
