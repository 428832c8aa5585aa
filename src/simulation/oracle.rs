//! The oracle: plain bookkeeping beside the machine. It reads what was accepted and what was decided, sees what the far
//! ends are told, and knows from the plan alone who must be told of what. It holds no state of the machine.

mod alerts;
mod deliveries;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use ams2_core::{
    At, Effect, Fingerprint, Input, Position,
    config::ActionId,
    effect::{Decided, HoldReason, NotifyReason},
    input::{CarriedText, DeliveryId, JournalRecord},
};

use super::plan::{Plan, Told};
use alerts::{Alert, Stored};
use deliveries::Delivery;

/// One action's view of one group, or of one `notify: each` route.
pub type Lane = (String, ActionId);

/// What an action must still hear of one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owed {
    /// That it happened.
    Firing,
    /// That it is over.
    Resolved,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Oracle {
    plan: Option<Plan>,
    /// The plan that the record under way puts in force.
    installing: Option<Plan>,
    offset_ms: i64,
    /// The record under way.
    seq: u64,
    at: At,
    /// Every alert text by where it stands.
    stored: HashMap<Position, Stored>,
    alerts: Vec<Alert>,
    by_fingerprint: HashMap<Fingerprint, usize>,
    ids: HashMap<(String, String), At>,
    deliveries: BTreeMap<DeliveryId, Delivery>,
    /// Actions that a reload made hear of ends, or not any more.
    changed_its_mind: BTreeSet<ActionId>,
    /// Alerts whose firing an operator dropped before it was told: their end need not be told either.
    dropped: BTreeSet<(Lane, usize)>,
    /// What the newest notification of a lane says is firing.
    newest: BTreeMap<Lane, BTreeSet<usize>>,
    owed: BTreeMap<(Lane, usize, Owed), At>,
    /// Notifications of `notify: each` that this record must still lead to.
    due_each: Vec<(Lane, usize)>,
    in_flight: BTreeMap<ActionId, BTreeSet<DeliveryId>>,
    recent: BTreeMap<ActionId, VecDeque<At>>,
    /// Counts calls: what the router sends into one has the same number, and whether more is to follow into the last.
    trains: u64,
    goes_on: Option<DeliveryId>,
    /// Dead letters of single recipients that this record must lead to.
    refused: VecDeque<(DeliveryId, u16)>,
    /// What happened, for people who look into a failure.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Oracle {
    /// The next record of the journal, and what the fold of the journal made of it.
    pub fn record(&mut self, record: &JournalRecord, effects: &[Effect]) {
        (self.seq, self.at) = (record.seq, record.at);
        self.before(&record.input);
        let firing_before: Vec<bool> = self.alerts.iter().map(|alert| alert.firing).collect();
        let mut changed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Record(record) => self.decided(&record.what, record.at, &mut changed),
                Effect::Deliver(deliver) => self.deliver(deliver),
                Effect::Wake(_) => {}
            }
        }
        self.after(record, effects, &firing_before);
    }

    fn before(&mut self, input: &Input) {
        match input {
            Input::Alerts(arrival) => self.arrives(arrival),
            Input::Carried(carried) => {
                for (item, i) in carried.items.iter().zip(0..) {
                    if let CarriedText::Alert { batch, .. } = &item.text {
                        let stored = self.stored[&item.from].clone();
                        let text = batch.alert(0).expect("a batch of one");
                        assert_eq!(stored.text, alerts::text_of(&text), "{} is carried as it was", item.from);
                        self.stored.insert(Position::arrived(self.seq + i), stored);
                    }
                }
            }
            Input::ConfigInstalled(install) => self.installing = Plan::by_name(&install.text),
            Input::Started(started) => {
                self.offset_ms = started.wall_offset_ms;
                self.installing = started.install.as_ref().and_then(|install| Plan::by_name(&install.text));
            }
            Input::WallClock(offset_ms) => self.offset_ms = *offset_ms,
            Input::Outcome(outcome) => self.outcome_comes(outcome),
            _ => {}
        }
    }

    fn after(&mut self, record: &JournalRecord, effects: &[Effect], firing_before: &[bool]) {
        if let Input::Alerts(arrival) = &record.input {
            self.check_arrival(arrival, effects, firing_before);
        }
        assert_eq!(self.goes_on, None, "record {}: the rest of a call is missing", self.seq);
        assert_eq!(self.due_each, [], "record {}: an occurrence was neither told nor held", self.seq);
        assert!(self.refused.is_empty(), "refused recipients without a dead letter: {:?}", self.refused);
        for alert in &mut self.alerts {
            alert.only_newest();
        }
    }

    /// A reload: what old groups were told is forgotten unless the new config has the same group for the same receiver;
    /// what fires is owed to those who are to be told now.
    fn next_plan(&mut self, plan: Plan) {
        let mut lanes: BTreeMap<Lane, Vec<usize>> = BTreeMap::new();
        for alert in &mut self.alerts {
            alert.lanes = alerts::lanes(&plan, &alert.labels);
        }
        for (number, alert) in self.alerts.iter().enumerate() {
            for told in plan.told(&alert.labels).into_iter().filter(|told| !told.each) {
                for action in plan.actions_of(told.receiver) {
                    lanes.entry((told.key.clone(), action.id.clone())).or_default().push(number);
                }
            }
        }
        let changed = |id: &ActionId| {
            let limit = |plan: &Plan| plan.action(id).and_then(|action| action.max_per_minute);
            self.plan.as_ref().is_none_or(|old| limit(old) != limit(&plan))
        };
        self.recent.retain(|id, _| !changed(id));
        for action in plan.actions() {
            let before = self.plan.as_ref().and_then(|old| old.action(&action.id));
            if before.is_some_and(|before| before.send_resolved != action.send_resolved) {
                self.changed_its_mind.insert(action.id.clone());
            }
        }
        self.newest.retain(|lane, _| lanes.contains_key(lane));
        self.detach(|lane| lanes.contains_key(lane));
        self.owed.retain(|(lane, alert, owed), _| {
            let hears =
                *owed == Owed::Firing || plan.action(&lane.1).is_some_and(|action| action.send_resolved);
            hears && lanes.get(lane).is_some_and(|alerts| alerts.contains(alert))
        });
        for (lane, alerts) in lanes {
            for alert in alerts {
                if self.alerts[alert].firing {
                    self.owe_firing(&lane, alert);
                }
            }
        }
        self.plan = Some(plan);
    }

    fn decided(&mut self, what: &Decided, at: At, changed: &mut Vec<usize>) {
        *self.counts.entry(word(what)).or_default() += 1;
        match what {
            Decided::Config { .. } => {
                let plan = self.installing.take().expect("a config comes with its record");
                self.next_plan(plan);
            }
            Decided::Alert { alert, change, position } => {
                if let Some(&number) = self.by_fingerprint.get(alert) {
                    self.alert_changed(number, *change, *position, at);
                    changed.push(number);
                }
            }
            Decided::Notify { delivery, group, action, reason, firing, .. } => {
                let lane = (group.key.clone(), action.clone());
                self.notified(*delivery, lane, *reason, *firing, changed.last().copied());
            }
            Decided::Hold { group, action: Some(action), reason, alerts } => {
                self.held(&(group.key.clone(), action.clone()), reason, alerts);
            }
            Decided::Superseded { delivery, by } => self.superseded(*delivery, *by),
            Decided::Digested { digest, deliveries, action } => self.digested(*digest, deliveries, action),
            Decided::Split { digest, half, deliveries, action } => {
                self.split(*digest, *half, deliveries, action);
            }
            Decided::Attempt { delivery, action, next, result, .. } => {
                self.attempted(*delivery, action, result, *next);
            }
            Decided::DeadLetter { delivery, .. } => self.dead(*delivery),
            Decided::Operator { delivery, verb, .. } => self.operator(*delivery, verb),
            _ => {}
        }
    }

    fn held(&mut self, lane: &Lane, reason: &HoldReason, alerts: &[Fingerprint]) {
        match reason {
            HoldReason::ResolvedBeforeTold => {
                for number in alerts.iter().filter_map(|alert| self.by_fingerprint.get(alert)) {
                    self.owed.remove(&(lane.clone(), *number, Owed::Firing));
                    // What it was told before it heard of ends is not taken back once it does.
                    let dropped = self.dropped.remove(&(lane.clone(), *number));
                    if dropped || self.changed_its_mind.contains(&lane.1) {
                        self.owed.remove(&(lane.clone(), *number, Owed::Resolved));
                    }
                }
            }
            HoldReason::ResolvesNotSent => {
                if let Some(place) = self.due_each.iter().position(|(known, _)| known == lane) {
                    let (_, alert) = self.due_each.remove(place);
                    assert!(!self.alerts[alert].firing, "an occurrence is held as if it were an end");
                    return;
                }
                // Said of the whole group: nothing in it fires.
                self.newest.remove(lane);
            }
            HoldReason::AlreadyPending => {
                let told = self.pending_says(lane);
                self.newest.entry(lane.clone()).or_default().extend(&told);
                for alert in told {
                    self.owed.remove(&(lane.clone(), alert, Owed::Firing));
                }
            }
            _ => {}
        }
    }

    /// The lanes in which an alert is told, and whether they tell of ends.
    fn lanes_of(&self, alert: usize) -> Arc<[(Told, Lane, bool)]> {
        self.alerts[alert].lanes.clone()
    }

    fn owe_firing(&mut self, lane: &Lane, alert: usize) {
        self.owed.remove(&(lane.clone(), alert, Owed::Resolved));
        if self.pending_says(lane).contains(&alert) {
            self.newest.entry(lane.clone()).or_default().insert(alert);
        }
        if !self.newest.get(lane).is_some_and(|firing| firing.contains(&alert)) {
            self.owed.insert((lane.clone(), alert, Owed::Firing), self.at);
        }
    }

    /// What a new notification of a lane says, and so is owed no more.
    fn notified(
        &mut self,
        id: DeliveryId,
        lane: Lane,
        reason: NotifyReason,
        firing: u32,
        changed: Option<usize>,
    ) {
        let mut delivery = Delivery::new(Some(lane.clone()), self.deliveries.len());
        if matches!(reason, NotifyReason::Occurrence | NotifyReason::Ended) {
            if let Some(place) = self.due_each.iter().position(|(known, _)| *known == lane) {
                let (_, alert) = self.due_each.remove(place);
                assert_eq!(Some(alert), changed, "{id} tells another alert than the one that changed");
                assert_eq!(self.alerts[alert].firing, reason == NotifyReason::Occurrence);
                delivery.expect(alert, self.alerts[alert].firing, self.alerts[alert].texts.clone());
                delivery.each = Some(alert);
            } else {
                assert!(!self.is_ours(&lane.0), "{id} tells by {} what nobody sent", lane.0);
            }
        } else if self.is_ours(&lane.0) {
            let members: Vec<usize> = (0..self.alerts.len())
                .filter(|alert| {
                    self.lanes_of(*alert).iter().any(|(told, known, _)| !told.each && *known == lane)
                })
                .collect();
            let now: BTreeSet<usize> =
                members.iter().copied().filter(|alert| self.alerts[*alert].firing).collect();
            assert_eq!(firing as usize, now.len(), "{id} of {lane:?} tells what fires: {now:?}");
            for &alert in &now {
                delivery.expect(alert, true, self.alerts[alert].texts.clone());
                self.owed.remove(&(lane.clone(), alert, Owed::Firing));
                self.dropped.remove(&(lane.clone(), alert));
            }
            for alert in members.into_iter().filter(|alert| !now.contains(alert)) {
                let was_owed = self.owed.remove(&(lane.clone(), alert, Owed::Firing)).is_some()
                    | self.owed.remove(&(lane.clone(), alert, Owed::Resolved)).is_some();
                if was_owed {
                    delivery.expect(alert, false, self.alerts[alert].texts.clone());
                }
            }
            self.newest.insert(lane, now);
        }
        let known = self.deliveries.insert(id, delivery);
        assert!(known.is_none(), "{id} names two deliveries");
    }

    /// Whether a lane's alerts are clients', not the router's own.
    fn is_ours(&self, key: &str) -> bool {
        !key.starts_with("{}/{source=")
    }

    /// What is neither told nor given up nor held, once all is quiet.
    pub fn unaccounted(&self) -> Vec<String> {
        let owed = self.owed.iter().map(|((lane, alert, owed), at)| {
            format!("{owed:?} of {:?} since {at:?} to {lane:?}", self.alerts[*alert].labels)
        });
        let open = self.deliveries.iter().filter(|(_, delivery)| delivery.is_open());
        owed.chain(open.map(|(id, delivery)| format!("delivery {id}: {delivery:?}"))).collect()
    }
}

fn word(what: &Decided) -> &'static str {
    match what {
        Decided::Alert { .. } => "alert",
        Decided::DuplicateId { .. } => "duplicate",
        Decided::Routed { .. } => "routed",
        Decided::Notify { .. } => "notify",
        Decided::Hold { .. } => "hold",
        Decided::Superseded { .. } => "superseded",
        Decided::Digested { .. } => "digested",
        Decided::Split { .. } => "split",
        Decided::Attempt { .. } => "attempt",
        Decided::LateOutcome { .. } => "late outcome",
        Decided::DeadLetter { .. } => "dead letter",
        Decided::Operator { .. } => "operator",
        _ => "other",
    }
}
