//! What was told, past the end of its group. Alertmanager keeps its notification log by the names of group and receiver: a
//! group that comes back says nothing that it said before its end, until its repeat is due. With `compat: alertmanager`
//! so do we; otherwise a group that ends leaves nothing behind.

use alloc::collections::{BTreeMap, BTreeSet};
use serde::{Deserialize, Serialize};

use super::{
    Machine,
    state::{Entry, Group, Lane},
};
use crate::At;

/// Alertmanager's default retention, in milliseconds: nothing is kept longer.
const RETENTION_MS: u64 = 120 * 3_600_000;
/// Entries at most: some 10 MB. What is dropped early is told once more, never lost.
const ENTRIES_MAX: usize = 100_000;

/// Entries of groups that ended, by the key of the group's lanes and the action.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    entries: BTreeMap<(u64, u32), (Entry, At)>,
    /// The same, by when they are forgotten.
    ends: BTreeSet<(At, (u64, u32))>,
}

impl Log {
    /// Keeps an entry for twice the repeat interval, as Alertmanager does.
    fn keep(&mut self, key: (u64, u32), entry: Entry, repeat_ms: u64, now: At) {
        let end = entry.at.plus(repeat_ms.saturating_mul(2).min(RETENTION_MS));
        self.take(key, now);
        if end > now {
            self.entries.insert(key, (entry, end));
            self.ends.insert((end, key));
        }
        while let Some((end, oldest)) = self.ends.first().copied()
            && (end <= now || self.entries.len() > ENTRIES_MAX)
        {
            self.ends.remove(&(end, oldest));
            self.entries.remove(&oldest);
        }
    }

    /// The number of an action that is gone is another's now.
    pub(super) fn forget_action(&mut self, number: u32) {
        self.entries.retain(|key, _| key.1 != number);
        self.ends.retain(|(_, key)| key.1 != number);
    }

    fn take(&mut self, key: (u64, u32), now: At) -> Option<Entry> {
        let (entry, end) = self.entries.remove(&key)?;
        self.ends.remove(&(end, key));
        (end > now).then_some(entry)
    }
}

impl Machine {
    /// Whether decisions are Alertmanager's to the letter.
    pub(super) fn is_as_alertmanager(&self) -> bool {
        self.state.config().is_some_and(|config| config.muting.as_alertmanager)
    }

    /// A group ends: what its lanes were told is kept.
    pub(super) fn log_group(&mut self, group: &mut Group) {
        if self.is_as_alertmanager() {
            let repeat_ms = self.routing.nodes[group.route as usize].repeat_interval_ms;
            let key = self.lane_key(&group.name.key);
            for lane in &mut group.lanes {
                self.log_lane(key, lane, repeat_ms);
            }
        }
    }

    /// A lane of the group of this key ends.
    pub(super) fn log_lane(&mut self, key: u64, lane: &mut Lane, repeat_ms: u64) {
        if let Some(entry) = lane.entry.take().filter(|_| self.is_as_alertmanager()) {
            self.state.log.keep((key, lane.action), entry, repeat_ms, self.now);
        }
    }

    /// A group begins: what an earlier one of its name was told is known to it.
    pub(super) fn know_log(&mut self, group: u32) {
        if self.state.log.entries.is_empty() {
            return;
        }
        let key = self.lane_key(&self.state.groups[group].name.key);
        for lane in &mut self.state.groups[group].lanes {
            if lane.entry.is_none() {
                let entry = self.state.log.take((key, lane.action), self.now);
                // The group counts its notifications from the first again.
                lane.entry = entry.map(|entry| Entry { number: 0, ..entry });
            }
        }
    }

    /// A config came into force.
    pub(super) fn forget_log(&mut self) {
        if !self.is_as_alertmanager() {
            self.state.log = Log::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: u64) -> Entry {
        Entry { firing: [at].into(), resolved: [].into(), at: At(at), number: 1, memo: None }
    }

    #[test]
    fn an_entry_is_kept_for_twice_the_repeat_interval_and_taken_once() {
        let mut log = Log::default();
        let taken = |log: &mut Log, key, now| log.take(key, At(now)).map(|entry| entry.at.0);
        log.keep((1, 0), entry(10), 50, At(20));
        log.keep((1, 1), entry(10), 50, At(20));
        log.keep((2, 0), entry(10), u64::MAX, At(20));
        assert_eq!(taken(&mut log, (1, 0), 109), Some(10));
        assert_eq!(taken(&mut log, (1, 0), 109), None, "it is the new group's");
        assert_eq!(taken(&mut log, (1, 1), 110), None, "it is too old");
        assert_eq!(taken(&mut log, (2, 0), RETENTION_MS + 9), Some(10), "however rarely it repeats");
        log.keep((1, 0), entry(10), 50, At(110));
        assert!(log.entries.is_empty() && log.ends.is_empty());
        log.keep((1, 0), entry(10), 50, At(20));
        log.keep((1, 0), entry(30), 50, At(40));
        assert_eq!((log.entries.len(), log.ends.len()), (1, 1), "the newer one counts");
        log.keep((1, 1), entry(200), 50, At(200));
        assert_eq!(log.entries.len(), 1, "what is too old goes");
        assert_eq!(taken(&mut log, (1, 1), 200), Some(200));
    }

    #[test]
    fn the_log_has_a_bound() {
        let mut log = Log::default();
        for number in 0..ENTRIES_MAX as u64 + 10 {
            log.keep((number, 0), entry(number), RETENTION_MS, At(number));
        }
        assert_eq!((log.entries.len(), log.ends.len()), (ENTRIES_MAX, ENTRIES_MAX));
        assert!(
            log.take((9, 0), At(200_000)).is_none() && log.take((10, 0), At(200_000)).is_some(),
            "the oldest go"
        );
    }
}
