//! What is held back, by plain rules: by the silences that were made and the wall clock, and by what fires.

use std::collections::{BTreeMap, BTreeSet};

use ams2_core::{
    At, Fingerprint, Wall,
    effect::{HoldReason, SilenceChange},
    matcher::Op,
    silence::{SetSilence, SilenceId, SilenceOrder},
};

use super::{Lane, Oracle};

/// See the module's head.
#[derive(Debug, Default)]
pub struct Muting {
    silences: BTreeMap<SilenceId, Silence>,
    /// The order of the record under way.
    pub order: Option<SilenceOrder>,
    /// What `notify: each` holds: the route's key and the alert.
    held: BTreeSet<(String, usize)>,
    /// What it let go in the record under way.
    let_go: BTreeSet<(String, usize)>,
    /// Where it told that the alert fires, since that began.
    told: BTreeSet<(String, usize)>,
}

#[derive(Debug)]
struct Silence {
    /// Labels and values.
    matches: Vec<(String, String)>,
    starts: Wall,
    ends: Wall,
}

impl Oracle {
    /// The silences that were made.
    pub fn silences(&self) -> impl Iterator<Item = SilenceId> {
        self.muting.silences.keys().copied()
    }

    /// Whether a silence or another alert holds back this one.
    pub(super) fn is_held(&self, alert: usize, at: At) -> bool {
        let wall = at.wall(self.offset_ms);
        let target = &self.alerts[alert].labels;
        let silenced = self.muting.silences.values().any(|silence| {
            silence.starts <= wall
                && wall < silence.ends
                && silence.matches.iter().all(|matcher| target.contains(matcher))
        });
        let rules = self.plan.iter().flat_map(|plan| &plan.rules);
        let mut fires = self.alerts.iter().filter(|alert| alert.firing);
        silenced || {
            let rules: Vec<_> = rules.collect();
            fires.any(|source| rules.iter().any(|rule| rule.holds(&source.labels, target)))
        }
    }

    pub(super) fn silence_changed(&mut self, id: SilenceId, change: SilenceChange, at: At) {
        let now = at.wall(self.offset_ms);
        match (change, &self.muting.order) {
            (SilenceChange::Created, Some(SilenceOrder::Set(set))) => {
                let SetSilence { matchers, starts, ends, .. } = &**set;
                let plain = |matcher: &ams2_core::matcher::Matcher| {
                    assert_eq!(matcher.op, Op::Equal, "the script knows no other");
                    (matcher.name.to_string(), matcher.value.to_string())
                };
                let silence = Silence {
                    matches: matchers.iter().map(plain).collect(),
                    starts: starts.unwrap_or(now).max(now),
                    ends: *ends,
                };
                self.muting.silences.insert(id, silence);
            }
            (SilenceChange::Expired, _) => {
                let silence = self.muting.silences.get_mut(&id).expect("it was made");
                (silence.starts, silence.ends) = (silence.starts.min(now), now);
            }
            (SilenceChange::Ended, _) => {
                // A start has the new time before it says so.
                let now = at.wall(self.next_offset_ms.unwrap_or(self.offset_ms));
                let ends = self.muting.silences.get(&id).expect("it was made").ends;
                assert!(ends <= now, "{id:?} ended before its end");
            }
            (change, order) => panic!("{id:?} {change:?} by {order:?}"),
        }
    }

    /// Why a whole group, or all that `notify: each` has to tell of an alert, is not told.
    pub(super) fn held_for_all(&mut self, key: &str, reason: &HoldReason, alerts: &[Fingerprint], at: At) {
        if !self.is_ours(key) {
            return;
        }
        let numbers: Vec<usize> =
            alerts.iter().filter_map(|alert| self.by_fingerprint.get(alert)).copied().collect();
        let is_muted = matches!(reason, HoldReason::Silenced { .. } | HoldReason::Inhibited { .. });
        if is_muted {
            for &alert in &numbers {
                assert!(self.is_held(alert, at), "{:?} is held for {reason:?}", self.alerts[alert].labels);
            }
        }
        if !key.ends_with(":each") {
            return;
        }
        for alert in numbers {
            let place = (key.to_owned(), alert);
            let due = |(lane, known): &mut (Lane, usize)| lane.0 == key && *known == alert;
            let was_due = self.due_each.extract_if(.., due).count() > 0;
            match reason {
                HoldReason::ResolvedBeforeTold => {
                    assert!(!self.alerts[alert].firing && !self.muting.told.contains(&place), "{place:?}");
                }
                _ if is_muted && was_due => {
                    assert!(self.alerts[alert].firing, "an end is told to those who know of the beginning");
                    self.muting.held.insert(place);
                }
                _ => {}
            }
        }
    }

    /// `notify: each` tells of an alert. Whether it may: it is told because of a change, or was held and is no more.
    pub(super) fn told_each(&mut self, key: &str, alert: usize, is_due: bool, fires: bool, at: At) {
        let place = (key.to_owned(), alert);
        assert!(!fires || !self.is_held(alert, at), "{place:?} is told and held");
        if self.muting.held.remove(&place) {
            self.muting.let_go.insert(place.clone());
        }
        assert!(is_due || self.muting.let_go.contains(&place), "{place:?} is told for no reason");
        if fires {
            self.muting.told.insert(place);
        }
    }

    /// The alert begins to fire, or is over.
    pub(super) fn each_begins_or_ends(&mut self, alert: usize, begins: bool) {
        self.muting.held.retain(|(_, known)| *known != alert);
        if begins {
            self.muting.told.retain(|(_, known)| *known != alert);
        }
    }

    /// A reload: what routes held that are gone is told by nobody.
    pub(super) fn each_moves(&mut self, goes_on: impl Fn(&str, usize) -> bool) {
        self.muting.held.retain(|(key, alert)| goes_on(key, *alert));
        self.muting.told.retain(|(key, alert)| goes_on(key, *alert));
    }

    /// At the end of a record nothing waits that nothing holds; what ended while it was held is owed to nobody.
    pub(super) fn check_held(&mut self) {
        self.muting.let_go.clear();
        self.muting.order = None;
        let at = self.at;
        let forgotten = self.muting.held.iter().find(|(_, alert)| !self.is_held(*alert, at));
        assert_eq!(forgotten, None, "record {}: it is let go and was not told", self.seq);
        let over = |(_, alert, owed): &(Lane, usize, super::Owed)| {
            *owed == super::Owed::Firing && !self.alerts[*alert].firing && self.is_held(*alert, at)
        };
        let over: Vec<_> = self.owed.keys().filter(|owed| over(owed)).cloned().collect();
        for owed in over {
            self.owed.remove(&owed);
        }
    }
}
