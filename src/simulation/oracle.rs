//! The oracle: plain bookkeeping beside the machine. It reads what was accepted and what was decided, sees what the far
//! ends are told, and knows from the plan alone who must be told of what. It holds no state of the machine.

mod alerts;
mod deliveries;
mod muting;

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

use super::plan::{HOUR, Plan, Told};
use alerts::{Alert, Stored};
use deliveries::Delivery;
use muting::Muting;

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
    /// What the record under way makes of it.
    next_offset_ms: Option<i64>,
    muting: Muting,
    /// What a lane was told before what is newest, and is held now.
    remembered: BTreeMap<Lane, BTreeSet<usize>>,
    /// Counts beginnings and ends of alerts, and notifications of lanes: which came first.
    moment: u64,
    notified: BTreeMap<Lane, u64>,
    /// When the last delivery of a lane ended.
    told_at: BTreeMap<Lane, At>,
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
    /// Lanes that are not told of ends, where all had ended at the last look: what still waits there counts for nothing.
    over: BTreeSet<Lane>,
    /// The newest delivery of a lane that an operator dropped, which counts as told: what was made before it says nothing new.
    let_go: BTreeMap<Lane, usize>,
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
        for effect in effects {
            match effect {
                Effect::Record(record) => self.decided(&record.what, record.at),
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
                self.next_offset_ms = Some(started.wall_offset_ms);
                self.installing = started.install.as_ref().and_then(|install| Plan::by_name(&install.text));
            }
            Input::WallClock(offset_ms) => self.next_offset_ms = Some(*offset_ms),
            Input::Silence(order) => self.muting.order = Some(order.clone()),
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
        assert_eq!(self.next_offset_ms, None, "record {}: the wall clock is not on record", self.seq);
        self.check_held();
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
        let silent = |lane: &Lane| plan.action(&lane.1).is_some_and(|action| !action.send_resolved);
        self.over.retain(|lane| lanes.contains_key(lane) && silent(lane));
        // To whom all is over, what is held back and fires on is news, now that no end of it will be told.
        let newest = &self.newest;
        self.remembered
            .retain(|lane, _| !silent(lane) || newest.get(lane).is_some_and(|told| !told.is_empty()));
        self.remembered.retain(|lane, _| lanes.contains_key(lane));
        self.let_go.retain(|lane, _| lanes.contains_key(lane));
        self.told_at.retain(|lane, _| lanes.contains_key(lane));
        self.notified.retain(|lane, _| lanes.contains_key(lane));
        self.muting.on_record.clear();
        let each = |plan: &Plan, key: &str, alert: usize| {
            let told = plan.told(&self.alerts[alert].labels).into_iter();
            told.filter(|told| told.each && told.key == key).map(|told| told.receiver).next()
        };
        let old = self.plan.take();
        let goes_on: BTreeSet<(String, usize)> = (0..self.alerts.len())
            .flat_map(|alert| {
                let told = plan.told(&self.alerts[alert].labels).into_iter().filter(|told| told.each);
                told.map(move |told| (told.key, alert)).collect::<Vec<_>>()
            })
            .filter(|(key, alert)| {
                old.as_ref().is_some_and(|old| each(old, key, *alert) == each(&plan, key, *alert))
            })
            .collect();
        self.plan = old;
        self.each_moves(|key, alert| goes_on.contains(&(key.to_owned(), alert)));
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

    fn decided(&mut self, what: &Decided, at: At) {
        *self.counts.entry(word(what)).or_default() += 1;
        match what {
            Decided::Config { .. } => {
                let plan = self.installing.take().expect("a config comes with its record");
                self.next_plan(plan);
            }
            Decided::Alert { alert, change, position } => {
                if let Some(&number) = self.by_fingerprint.get(alert) {
                    self.alert_changed(number, *change, *position, at);
                }
            }
            Decided::Notify { delivery, group, action, reason, firing, first, .. } => {
                let lane = (group.key.clone(), action.clone());
                let first = self.stored.get(first).map(|stored| stored.alert);
                self.notified(*delivery, lane, *reason, *firing, first, at);
            }
            Decided::WallClock { .. } | Decided::Process { started: true, .. } => {
                self.offset_ms = self.next_offset_ms.take().expect("it comes with its record");
            }
            Decided::Silence { id, change, .. } => self.silence_changed(*id, *change, at),
            Decided::Hold { group, action: None, reason, alerts } => {
                self.held_for_all(&group.key, reason, alerts, at);
            }
            Decided::Hold { group, action: Some(action), reason, alerts } => {
                self.held(&(group.key.clone(), action.clone()), reason, alerts, at);
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

    fn held(&mut self, lane: &Lane, reason: &HoldReason, alerts: &[Fingerprint], at: At) {
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
                // Said beside an end of everything that is not told, or of why a group that fires is not told.
                if self.anything_fires(lane, at) {
                    self.is_to_be_told(lane);
                }
            }
            HoldReason::ResolvesNotSent => {
                if let Some(place) = self.due_each.iter().position(|(known, _)| known == lane) {
                    let (_, alert) = self.due_each.remove(place);
                    assert!(!self.alerts[alert].firing, "an occurrence is held as if it were an end");
                    return;
                }
                self.over.insert(lane.clone());
                // Said of the whole group: nothing in it fires but what is held, which was told all the same.
                let newest = self.newest.remove(lane).unwrap_or_default();
                let remembered = self.remembered.entry(lane.clone()).or_default();
                remembered.extend(newest);
                remembered.retain(|alert| self.alerts[*alert].firing);
            }
            HoldReason::AlreadyPending => self.is_to_be_told(lane),
            _ => {}
        }
    }

    /// What waits in a lane tells what fires there.
    fn is_to_be_told(&mut self, lane: &Lane) {
        self.over.remove(lane);
        let told = self.pending_says(lane);
        self.newest.entry(lane.clone()).or_default().extend(&told);
        for alert in told {
            self.owed.remove(&(lane.clone(), alert, Owed::Firing));
        }
    }

    /// Whether something of a lane's group fires that nothing holds back.
    fn anything_fires(&self, lane: &Lane, at: At) -> bool {
        (0..self.alerts.len()).any(|alert| {
            let is_member =
                || self.lanes_of(alert).iter().any(|(told, known, _)| !told.each && known == lane);
            self.alerts[alert].firing && is_member() && !self.is_held(alert, at)
        })
    }

    /// The lanes in which an alert is told, and whether they tell of ends.
    fn lanes_of(&self, alert: usize) -> Arc<[(Told, Lane, bool)]> {
        self.alerts[alert].lanes.clone()
    }

    fn owe_firing(&mut self, lane: &Lane, alert: usize) {
        self.owed.remove(&(lane.clone(), alert, Owed::Resolved));
        if !self.over.contains(lane) && self.pending_says(lane).contains(&alert) {
            self.newest.entry(lane.clone()).or_default().insert(alert);
        }
        if !self.believes(lane, alert) {
            self.owed.insert((lane.clone(), alert, Owed::Firing), self.at);
        }
    }

    /// Whether a lane was told, or is to be told, that the alert fires.
    fn believes(&self, lane: &Lane, alert: usize) -> bool {
        [&self.newest, &self.remembered].iter().any(|told| told.get(lane).is_some_and(|f| f.contains(&alert)))
    }

    /// What a new notification of a lane says, and so is owed no more.
    fn notified(
        &mut self,
        id: DeliveryId,
        lane: Lane,
        reason: NotifyReason,
        firing: u32,
        first: Option<usize>,
        at: At,
    ) {
        let mut delivery = Delivery::new(Some(lane.clone()), self.deliveries.len());
        if matches!(reason, NotifyReason::Occurrence | NotifyReason::Ended) {
            if self.is_ours(&lane.0) {
                let alert = first.expect("it tells what somebody sent");
                let due = self.due_each.iter().position(|(known, of)| *known == lane && *of == alert);
                if let Some(place) = due {
                    self.due_each.remove(place);
                }
                assert_eq!(self.alerts[alert].firing, reason == NotifyReason::Occurrence);
                self.told_each(&lane.0, alert, due.is_some(), self.alerts[alert].firing, at);
                delivery.expect(alert, self.alerts[alert].firing, self.alerts[alert].texts.clone());
                delivery.each = Some(alert);
            } else {
                assert_eq!(first, None, "{id} tells by {} what somebody sent", lane.0);
            }
        } else if self.is_ours(&lane.0) {
            let members: Vec<usize> = (0..self.alerts.len())
                .filter(|alert| {
                    self.lanes_of(*alert).iter().any(|(told, known, _)| !told.each && *known == lane)
                })
                .collect();
            let fires = members.iter().copied().filter(|alert| self.alerts[*alert].firing);
            let (held, now): (BTreeSet<usize>, BTreeSet<usize>) =
                fires.partition(|alert| self.is_held(*alert, at));
            assert_eq!(
                firing as usize,
                now.len(),
                "{id} of {lane:?} tells what fires: {now:?}, held {held:?}"
            );
            if self.over.contains(&lane) {
                self.is_to_be_told(&lane);
            }
            self.moment += 1;
            let before = self.notified.insert(lane.clone(), self.moment).unwrap_or(0);
            let mut changes = members.iter().filter(|alert| self.alerts[**alert].changed > before).count();
            for &alert in &now {
                delivery.expect(alert, true, self.alerts[alert].texts.clone());
                changes += usize::from(self.owed.remove(&(lane.clone(), alert, Owed::Firing)).is_some());
                self.muting.on_record.remove(&(lane.0.clone(), alert));
                self.dropped.remove(&(lane.clone(), alert));
            }
            for alert in members.into_iter().filter(|alert| !self.alerts[*alert].firing) {
                let was_owed = self.owed.remove(&(lane.clone(), alert, Owed::Firing)).is_some()
                    | self.owed.remove(&(lane.clone(), alert, Owed::Resolved)).is_some();
                if was_owed {
                    changes += 1;
                    delivery.expect(alert, false, self.alerts[alert].texts.clone());
                }
            }
            self.check_reason(id, &lane, reason, changes, at);
            let hears_ends =
                self.plan.as_ref().and_then(|plan| plan.action(&lane.1)).is_some_and(|a| a.send_resolved);
            self.over.remove(&lane);
            let is_over = now.is_empty() && hears_ends;
            let before = self.newest.insert(lane.clone(), now).unwrap_or_default();
            let remembered = self.remembered.entry(lane.clone()).or_default();
            remembered.extend(before);
            remembered.retain(|alert| held.contains(alert));
            if is_over {
                // They were told that all is over: once it is let go, they hear that it is not.
                let untold = remembered.iter().map(|alert| ((lane.clone(), *alert, Owed::Firing), at));
                self.owed.extend(untold);
            }
        }
        let known = self.deliveries.insert(id, delivery);
        assert!(known.is_none(), "{id} names two deliveries");
    }

    /// A group is told because of something that it was still to be told of, or that changed since it was told, or because
    /// a repeat is due.
    fn check_reason(&self, id: DeliveryId, lane: &Lane, reason: NotifyReason, changes: usize, at: At) {
        if reason == NotifyReason::RepeatDue {
            let told_at = self.told_at.get(lane);
            let is_due = told_at.is_some_and(|told_at| told_at.plus(HOUR) < at);
            assert!(is_due, "{id} repeats what {lane:?} was told at {told_at:?}");
        } else {
            assert!(changes > 0, "{id} tells {lane:?} nothing new: {reason:?} at {at:?}");
        }
    }

    /// Whether a lane's alerts are clients', not the router's own.
    fn is_ours(&self, key: &str) -> bool {
        !key.starts_with("{}/{source=")
    }

    /// What is neither told nor given up nor held, once all is quiet.
    pub fn unaccounted(&self) -> Vec<String> {
        // What is held waits for whoever holds it.
        let waits = |alert: usize, owed: Owed| {
            owed == Owed::Firing && self.alerts[alert].firing && self.is_held(alert, self.at)
        };
        let owed = self.owed.iter().filter(|((_, alert, owed), _)| !waits(*alert, *owed));
        let owed = owed.map(|((lane, alert, owed), at)| {
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
        Decided::Superseded { .. } => "superseded",
        Decided::Digested { .. } => "digested",
        Decided::Split { .. } => "split",
        Decided::Attempt { .. } => "attempt",
        Decided::LateOutcome { .. } => "late outcome",
        Decided::DeadLetter { .. } => "dead letter",
        Decided::Operator { .. } => "operator",
        Decided::Silence { .. } => "silence",
        Decided::Hold { reason: HoldReason::Silenced { .. }, .. } => "silenced",
        Decided::Hold { reason: HoldReason::Inhibited { .. }, .. } => "inhibited",
        Decided::Hold { .. } => "hold",
        _ => "other",
    }
}
