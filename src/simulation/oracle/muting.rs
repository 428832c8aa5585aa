//! What is held back, by plain rules: by the silences that were made and the wall clock, and by what fires.

use std::collections::{BTreeMap, BTreeSet};

use ams2_core::{
    At, Fingerprint, Wall,
    effect::{HoldReason, SilenceChange},
    matcher::Op,
    silence::{SetSilence, SilenceId, SilenceOrder},
};

use super::{Lane, Oracle, Owed};

/// See the module's head.
#[derive(Debug, Default)]
pub struct Muting {
    silences: BTreeMap<SilenceId, Silence>,
    /// The order of the record under way.
    pub order: Option<SilenceOrder>,
    /// What is on record as held since it was told last: the group's key and the alert.
    pub on_record: BTreeSet<(String, usize)>,
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
                // A start has the new time before it says so; what fell due before has the old one.
                let mut times = [Some(self.offset_ms), self.next_offset_ms].into_iter().flatten();
                let ends = self.muting.silences.get(&id).expect("it was made").ends;
                assert!(times.any(|offset| ends <= at.wall(offset)), "{id:?} ended before its end");
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
            if is_muted {
                self.group_is_held(key, &numbers);
            }
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

    /// Alerts of a group, or all of them if none is named, are held; what ended before it was told is owed to nobody then.
    fn group_is_held(&mut self, key: &str, named: &[usize]) {
        let is_member = |alert: &usize| self.lanes_of(*alert).iter().any(|(told, ..)| told.key == key);
        let all = || (0..self.alerts.len()).filter(is_member).collect();
        let held: Vec<usize> = if named.is_empty() { all() } else { named.to_vec() };
        for alert in held {
            self.muting.on_record.insert((key.to_owned(), alert));
            self.forgive(alert, Some(key));
        }
    }

    /// An alert may have ended: what held it at that moment, or is on record as holding it, is why nobody is told that it fired.
    pub(super) fn ends_held(&mut self, alert: usize, at: At) {
        if self.is_held(alert, at) {
            self.forgive(alert, None);
        }
        for (told, ..) in self.lanes_of(alert).iter() {
            if self.muting.on_record.contains(&(told.key.clone(), alert)) {
                self.forgive(alert, Some(&told.key));
            }
        }
    }

    /// That it fired is owed to nobody (of this group), if it ended.
    fn forgive(&mut self, alert: usize, key: Option<&str>) {
        if !self.alerts[alert].firing {
            self.owed.retain(|(lane, known, owed), _| {
                *known != alert || *owed != Owed::Firing || key.is_some_and(|key| lane.0 != key)
            });
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

    /// At the end of a record nothing waits that nothing holds.
    pub(super) fn check_held(&mut self) {
        self.muting.let_go.clear();
        self.muting.order = None;
        let at = self.at;
        let forgotten = self.muting.held.iter().find(|(_, alert)| !self.is_held(*alert, at));
        assert_eq!(forgotten, None, "record {}: it is let go and was not told", self.seq);
    }
}
