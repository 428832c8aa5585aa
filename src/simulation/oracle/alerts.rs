//! What is known of alerts: which were accepted, with which text, and which of them fire, by plain rules.

use std::{collections::BTreeSet, sync::Arc};

use ams2_core::{
    AlertRef, At, Effect, Position,
    effect::{AlertChange, Decided},
    input::Arrival,
};

use super::{Lane, Oracle, Owed};
use crate::simulation::plan::{HOUR, Plan, Told};

/// One label set.
#[derive(Debug)]
pub struct Alert {
    pub labels: Vec<(String, String)>,
    pub firing: bool,
    /// When it began or ended last; see [`Oracle`]'s `moment`.
    pub changed: u64,
    one_shot: bool,
    /// It does not end before this.
    ends: At,
    /// Texts that a notification decided now may show: the newest, and those that the record under way brings.
    pub texts: BTreeSet<String>,
    newest: String,
    /// Where the plan in force tells it, and whether ends are told there.
    pub lanes: Arc<[(Told, Lane, bool)]>,
}

/// The lanes in which an alert is told, and whether they tell of ends.
pub fn lanes(plan: &Plan, labels: &[(String, String)]) -> Arc<[(Told, Lane, bool)]> {
    let mut lanes = Vec::new();
    for told in plan.told(labels) {
        for action in plan.actions_of(told.receiver) {
            lanes.push((told.clone(), (told.key.clone(), action.id.clone()), action.send_resolved));
        }
    }
    lanes.into()
}

impl Alert {
    pub fn only_newest(&mut self) {
        if self.texts.len() > 1 {
            self.texts = [self.newest.clone()].into();
        }
    }
}

/// An alert as it was accepted.
#[derive(Clone, Debug)]
pub struct Stored {
    pub alert: usize,
    pub text: String,
    one_shot: bool,
}

/// All that a person reads of an alert.
pub fn text_of(alert: &AlertRef<'_>) -> String {
    let pairs = alert.labels().chain(alert.annotations());
    pairs.map(|(name, value)| format!("{name}={value:?} ")).collect()
}

const IDS_AGE: u64 = 24 * HOUR;

impl Oracle {
    pub(super) fn arrives(&mut self, arrival: &Arrival) {
        for (alert, i) in arrival.batch.iter().zip(0..) {
            let number = *self.by_fingerprint.entry(alert.fingerprint()).or_insert_with(|| {
                let labels: Vec<(String, String)> =
                    alert.labels().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let lanes = self.plan.as_ref().map_or_else(|| Arc::from([]), |plan| lanes(plan, &labels));
                self.alerts.push(Alert {
                    labels,
                    firing: false,
                    changed: 0,
                    one_shot: false,
                    ends: At(0),
                    texts: BTreeSet::new(),
                    newest: String::new(),
                    lanes,
                });
                self.alerts.len() - 1
            });
            let text = text_of(&alert);
            self.alerts[number].texts.insert(text.clone());
            let one_shot = alert.id().is_some() && alert.times().ends_at.is_none();
            let stored = Stored { alert: number, text, one_shot };
            self.stored.insert(Position::arrived(self.seq + i), stored);
        }
    }

    pub(super) fn alert_changed(&mut self, number: usize, change: AlertChange, position: Position, at: At) {
        let stored = &self.stored[&position];
        assert_eq!(stored.alert, number, "{position} is another alert's text");
        let one_shot = stored.one_shot;
        let alert = &mut self.alerts[number];
        let was_firing = alert.firing;
        alert.firing = matches!(change, AlertChange::Fired | AlertChange::Occurred | AlertChange::Updated);
        if change == AlertChange::TimedOut {
            assert!(was_firing && at >= alert.ends, "{position} timed out before its end");
        }
        if matches!(change, AlertChange::Fired | AlertChange::Occurred | AlertChange::ArrivedResolved) {
            alert.one_shot = one_shot;
        }
        let is_occurrence = matches!(change, AlertChange::Fired | AlertChange::Occurred);
        let is_end = matches!(change, AlertChange::Resolved | AlertChange::EndedByKey)
            || (change == AlertChange::TimedOut && !self.alerts[number].one_shot);
        if matches!(
            change,
            AlertChange::Fired
                | AlertChange::Resolved
                | AlertChange::EndedByKey
                | AlertChange::TimedOut
                | AlertChange::ArrivedResolved
        ) {
            self.moment += 1;
            self.alerts[number].changed = self.moment;
            self.each_begins_or_ends(number, change == AlertChange::Fired);
            self.ends_held(number, at);
        }
        for (told, lane, send_resolved) in self.lanes_of(number).iter() {
            if told.each {
                if is_occurrence || is_end {
                    self.due_each.push((lane.clone(), number));
                }
                continue;
            }
            match change {
                AlertChange::Fired => {
                    // Whatever it was told of before is another matter.
                    if let Some(remembered) = self.remembered.get_mut(lane) {
                        remembered.remove(&number);
                    }
                    self.owe_firing(lane, number);
                }
                AlertChange::Resolved | AlertChange::TimedOut
                    if *send_resolved && self.believes(lane, number) =>
                {
                    self.owed.insert((lane.clone(), number, Owed::Resolved), at);
                }
                _ => {}
            }
        }
    }

    /// Every alert of an arrival led to what it must: nothing for a known id or a refresh, else a change on record.
    pub(super) fn check_arrival(&mut self, arrival: &Arrival, effects: &[Effect], firing_before: &[bool]) {
        let decided = || {
            effects.iter().filter_map(|effect| match effect {
                Effect::Record(record) => Some(&record.what),
                _ => None,
            })
        };
        let mut firing = firing_before.to_vec();
        for what in decided() {
            if let Decided::Alert { alert, change: AlertChange::TimedOut, .. } = what
                && let Some(&number) = self.by_fingerprint.get(alert)
            {
                firing[number] = false;
            }
        }
        for (alert, i) in arrival.batch.iter().zip(0..) {
            let position = Position::arrived(self.seq + i);
            let number = self.stored[&position].alert;
            if let Some(id) = alert.id() {
                // An id names an occurrence of one alert; with an end it says that it is over.
                let of = format!("{id} {number} {}", alert.times().ends_at.is_some());
                let key = (arrival.client.to_string(), of);
                let known = self.ids.get(&key).is_some_and(|at| self.at.since(*at) <= IDS_AGE);
                let said = decided()
                    .any(|what| matches!(what, Decided::DuplicateId { position: p, .. } if *p == position));
                assert_eq!(said, known, "the id of {position} came before: {known}");
                if known {
                    continue;
                }
                self.ids.insert(key, self.at);
            }
            let ends = match alert.times().ends_at {
                Some(ends) => ends.at(self.offset_ms),
                None => self.at.plus(5 * 60_000),
            };
            let fires = ends > self.at;
            let change = decided().find_map(|what| match what {
                Decided::Alert { position: p, change, .. }
                    if *p == position && *change != AlertChange::TimedOut =>
                {
                    Some(*change)
                }
                _ => None,
            });
            let begins = [AlertChange::Fired, AlertChange::Occurred, AlertChange::ArrivedResolved];
            if change.is_some_and(|change| begins.contains(&change)) {
                self.alerts[number].one_shot = self.stored[&position].one_shot;
            } else if alert.id().is_none() && alert.times().ends_at.is_some() {
                // Somebody said when it ends.
                self.alerts[number].one_shot = false;
            }
            let occurs = fires && (!firing[number] || alert.id().is_some());
            let says_so = match change {
                Some(AlertChange::Fired | AlertChange::Occurred) => occurs,
                Some(AlertChange::Resolved) => firing[number] && !fires,
                Some(AlertChange::ArrivedResolved) => !firing[number] && !fires,
                Some(AlertChange::Updated) => firing[number] && fires && !occurs,
                // Nobody gives keys here.
                Some(AlertChange::TimedOut | AlertChange::EndedByKey) => false,
                None => !occurs && firing[number] == fires,
            };
            assert!(says_so, "{position} fires {fires}, fired before {}: {change:?}", firing[number]);
            firing[number] = fires;
            self.alerts[number].ends = ends;
            self.alerts[number].newest = self.stored[&position].text.clone();
        }
        for alert in arrival.batch.iter() {
            let number = self.by_fingerprint[&alert.fingerprint()];
            assert_eq!(self.alerts[number].firing, firing[number], "{:?}", self.alerts[number]);
        }
    }
}
