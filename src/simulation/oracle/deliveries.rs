//! What is known of deliveries: what each must say, where it stands, and in which order and how often far ends may see
//! them.

use std::collections::{BTreeMap, BTreeSet};

use ams2_core::{
    config::ActionId,
    effect::{AttemptResult, Deliver, Next},
    input::{DeliveryId, Outcome, Receipt},
};

use super::{Lane, Oracle, Owed};
use crate::simulation::far_ends::FarEnds;

const MINUTE_MS: u64 = 60_000;

/// One notification for one action.
#[derive(Clone, Debug)]
pub struct Delivery {
    lane: Option<Lane>,
    /// How many were made before.
    made: usize,
    /// Of `notify: each`: the alert.
    pub each: Option<usize>,
    /// What it must say of which alert: whether it fires, and texts that may be shown.
    says: BTreeMap<usize, (bool, BTreeSet<String>)>,
    standing: Standing,
    /// An operator or a reload took it out of its lane's order.
    out_of_order: bool,
    /// A reload ended its group: a later group of the same name knows nothing of it, but waits for it.
    detached: bool,
    parts: Vec<DeliveryId>,
    /// The attempt under way or made last.
    attempt: u32,
    /// Which call that went into, and at which place among those of its lane.
    train: u64,
    place: usize,
    /// Its success came before that of an earlier one, and does not count.
    too_early: bool,
    /// A far end acted on it and the outcome was lost.
    may_be_known: bool,
    /// Recipients that have dead letters of their own.
    refused: BTreeSet<u16>,
    /// The one recipient that it is for.
    only: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    InDigest(DeliveryId),
    Done,
    Dead,
    Gone,
}

impl Delivery {
    pub fn new(lane: Option<Lane>, made: usize) -> Delivery {
        Delivery {
            lane,
            made,
            each: None,
            says: BTreeMap::new(),
            standing: Standing::Open,
            out_of_order: false,
            detached: false,
            parts: Vec::new(),
            attempt: 0,
            train: 0,
            place: 0,
            too_early: false,
            may_be_known: false,
            refused: BTreeSet::new(),
            only: None,
        }
    }

    pub fn expect(&mut self, alert: usize, firing: bool, texts: BTreeSet<String>) {
        self.says.insert(alert, (firing, texts));
    }

    pub fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Open | Standing::InDigest(_))
    }
}

impl Oracle {
    /// An attempt is to be made.
    pub(super) fn deliver(&mut self, deliver: &Deliver) {
        let id = deliver.delivery;
        let parts = match (&deliver.digest_of[..], &self.deliveries[&id].parts[..]) {
            ([], []) => vec![id],
            // What is left alone in a digest is told as if it never was in company.
            ([], [alone]) => vec![*alone],
            (told, parts) => {
                assert_eq!(told, parts);
                parts.to_vec()
            }
        };
        assert_eq!(parts.len(), deliver.notifications.len(), "{id}: one notification a part");
        for (part, told) in parts.iter().zip(&deliver.notifications) {
            let known = &self.deliveries[part];
            let mut missing: BTreeMap<usize, bool> =
                known.says.iter().map(|(alert, (firing, _))| (*alert, *firing)).collect();
            for noted in told.alerts.iter().filter(|noted| !noted.position.is_raised()) {
                let stored = &self.stored[&noted.position];
                match known.says.get(&stored.alert) {
                    Some((firing, texts)) => {
                        assert_eq!(*firing, noted.is_firing(), "{part} tells the wrong state of {stored:?}");
                        assert!(texts.contains(&stored.text), "{part} shows {stored:?} instead of {texts:?}");
                        missing.remove(&stored.alert);
                    }
                    None => assert!(
                        !noted.is_firing() || (known.says.is_empty() && known.lane.is_none()),
                        "{part} tells that {stored:?} fires"
                    ),
                }
            }
            let of = |alert: &usize| &self.alerts[*alert].labels;
            assert!(
                missing.is_empty(),
                "does not tell all: {part} {missing:?} of {:?}",
                missing.keys().map(of).collect::<Vec<_>>()
            );
        }
        let delivery = self.deliveries.get_mut(&id).expect("it was made before it is attempted");
        assert_eq!(delivery.standing, Standing::Open, "{id} is attempted again");
        assert!(
            !delivery.may_be_known || deliver.maybe_duplicate,
            "{id} may be a duplicate and does not say so"
        );
        delivery.attempt = deliver.attempt;
        self.check_limits(&deliver.action, id);
        self.joins_train(deliver);
    }

    /// What goes into one call goes there in the order of its lane, and is never more than the call carries.
    fn joins_train(&mut self, deliver: &Deliver) {
        let before = self.goes_on.take();
        self.trains += u64::from(before.is_none());
        if deliver.goes_on {
            self.goes_on = Some(deliver.delivery);
        }
        let train = self.trains;
        let place = before.map_or(0, |before| self.deliveries[&before].place + 1);
        let delivery = self.deliveries.get_mut(&deliver.delivery).expect("known");
        (delivery.train, delivery.place, delivery.too_early) = (train, place, false);
        let Some(before) = before else { return };
        *self.counts.entry("follows").or_default() += 1;
        let (earlier, later) = (&self.deliveries[&before], &self.deliveries[&deliver.delivery]);
        if !earlier.out_of_order && !later.out_of_order {
            let same = earlier.lane == later.lane && earlier.each == later.each;
            assert!(same && earlier.made < later.made, "{before} goes on with {earlier:?}, {later:?}");
        }
        let limits = self.plan.as_ref().and_then(|plan| plan.action(&deliver.action));
        let most = limits.map_or(usize::MAX, |limits| limits.batch_max as usize);
        assert!(place < most, "{} deliveries in one call of {}", place + 1, deliver.action);
    }

    /// Deliveries that are to be told before this one, and are neither told nor given up.
    fn waits_behind(&self, id: DeliveryId) -> impl Iterator<Item = (&DeliveryId, &Delivery)> {
        let known = &self.deliveries[&id];
        self.deliveries.iter().filter(move |(other, earlier)| {
            **other != id
                && known.lane.is_some()
                && !known.out_of_order
                && earlier.lane == known.lane
                && earlier.each == known.each
                && earlier.made < known.made
                && earlier.is_open()
                && !earlier.out_of_order
        })
    }

    fn check_limits(&mut self, action: &ActionId, id: DeliveryId) {
        let limits = self.plan.as_ref().and_then(|plan| plan.action(action)).cloned();
        let under_way = self.in_flight.entry(action.clone()).or_default();
        assert!(under_way.insert(id), "{id} is attempted twice at once");
        let recent = self.recent.entry(action.clone()).or_default();
        while recent.front().is_some_and(|at| self.at.since(*at) >= MINUTE_MS) {
            recent.pop_front();
        }
        recent.push_back(self.at);
        if let Some(limits) = limits {
            let most = (limits.max_in_flight * limits.batch_max) as usize;
            assert!(under_way.len() <= most, "{} attempts under way for {action}", under_way.len());
            let most = limits.max_per_minute.map_or(usize::MAX, |most| most as usize);
            assert!(recent.len() <= most, "{} attempts in a minute for {action}", recent.len());
        }
    }

    /// A far end is about to act on a delivery.
    pub fn told(&mut self, delivery: &ams2_handlers::Delivery, action: &ActionId) {
        let id = delivery.id;
        let known = &self.deliveries[&id];
        assert_eq!(known.standing, Standing::Open, "{id} is told after its end");
        assert_eq!(known.attempt, delivery.attempt, "{id} is told by an old attempt");
        for alert in delivery.groups.iter().flat_map(|group| &group.alerts).filter(|a| a.client != "ams2") {
            let pairs = alert.labels.iter().chain(&alert.annotations);
            let text: String = pairs.map(|(name, value)| format!("{name}={value:?} ")).collect();
            let parts = std::iter::once(&id).chain(&known.parts);
            let expected = parts
                .flat_map(|part| self.deliveries[part].says.values())
                .any(|(_, texts)| texts.contains(&text));
            let accepted = || self.stored.values().any(|stored| stored.text == text);
            assert!(expected || accepted(), "{id} tells what nobody sent: {text}");
        }
        let under_way = |id: &DeliveryId| self.in_flight.get(action).is_some_and(|ids| ids.contains(id));
        for (other, earlier) in self.waits_behind(id) {
            let same_call = earlier.train == known.train && earlier.place < known.place && under_way(other);
            assert!(same_call, "{action} is told {id} before {other}, of {:?}", known.lane);
        }
        for part in &known.parts {
            for (other, earlier) in self.waits_behind(*part) {
                let together = earlier.standing == Standing::InDigest(id);
                assert!(together, "{action} is told {part}, in {id}, before {other}, {earlier:?}");
            }
        }
    }

    pub(super) fn outcome_comes(&mut self, outcome: &Outcome) {
        let Ok(receipt) = &outcome.result else { return };
        let Some(delivery) = self.deliveries.get(&outcome.delivery) else { return };
        let pending = delivery.standing == Standing::Open
            && delivery.attempt == outcome.attempt
            && self.in_flight.values().any(|ids| ids.contains(&outcome.delivery));
        if !pending {
            return;
        }
        let (train, place) = (delivery.train, delivery.place);
        let before = self.deliveries.values().filter(|d| d.train == train && d.place < place);
        if before.into_iter().any(Delivery::is_open) {
            *self.counts.entry("too early").or_default() += 1;
            self.deliveries.get_mut(&outcome.delivery).expect("known").too_early = true;
        } else if let Receipt::Delivered { refused, .. } | Receipt::Partial { refused, .. } = receipt {
            let delivery = &self.deliveries[&outcome.delivery];
            let parts =
                if delivery.parts.is_empty() { vec![outcome.delivery] } else { delivery.parts.clone() };
            for (recipient, _) in refused {
                self.refused.extend(parts.iter().map(|part| (*part, recipient.0 as u16)));
            }
        }
    }

    pub(super) fn attempted(
        &mut self,
        id: DeliveryId,
        action: &ActionId,
        result: &AttemptResult,
        next: Next,
    ) {
        let was = self.in_flight.get_mut(action).is_some_and(|ids| ids.remove(&id));
        assert!(was, "{id} ends an attempt that was not under way");
        let delivery = self.deliveries.get_mut(&id).expect("known");
        if *result != AttemptResult::Unknown {
            delivery.may_be_known = std::mem::take(&mut delivery.too_early);
            assert!(!delivery.may_be_known || next != Next::Done, "{id} counts before an earlier one does");
        }
        if next == Next::Done {
            if self.deliveries[&id].each.is_some() {
                let earlier = self.waits_behind(id).next();
                assert!(earlier.is_none(), "{id} counts before {earlier:?}");
            }
            self.end(id, Standing::Done);
        }
    }

    /// What the newest pending delivery of a lane will say is firing.
    pub(super) fn pending_says(&self, lane: &Lane) -> Vec<usize> {
        let waits = |d: &&Delivery| d.is_open() && !d.out_of_order && !d.detached;
        let after = self.let_go.get(lane).copied();
        let waits = |d: &&Delivery| waits(d) && after.is_none_or(|after| d.made > after);
        let open = self.deliveries.values().filter(waits).filter(|d| d.lane.as_ref() == Some(lane));
        let newest = open.max_by_key(|delivery| delivery.made);
        let says = newest.into_iter().flat_map(|delivery| &delivery.says);
        says.filter(|(_, (firing, _))| *firing).map(|(alert, _)| *alert).collect()
    }

    /// A reload leaves only these lanes.
    pub(super) fn detach(&mut self, is_left: impl Fn(&Lane) -> bool) {
        for delivery in self.deliveries.values_mut().filter(|delivery| delivery.is_open()) {
            delivery.detached |= !delivery.lane.as_ref().is_some_and(&is_left);
        }
    }

    /// Whether nothing more can become of a delivery.
    pub fn is_over(&self, id: DeliveryId) -> bool {
        self.deliveries.get(&id).is_some_and(|d| matches!(d.standing, Standing::Done | Standing::Gone))
    }

    fn end(&mut self, id: DeliveryId, standing: Standing) {
        let delivery = self.deliveries.get_mut(&id).expect("known");
        if delivery.is_open()
            && !delivery.out_of_order
            && !delivery.detached
            && let Some(lane) = &delivery.lane
        {
            self.told_at.insert(lane.clone(), self.at);
            // It said of what fired once more meanwhile that it fires, or was given up for it.
            for (alert, (firing, _)) in &delivery.says {
                let fires_on = self.alerts[*alert].firing;
                let is_held = self.muting.on_record.contains(&(lane.0.clone(), *alert));
                let was_held = || is_held && self.over.contains(lane);
                if *firing && (!fires_on || was_held()) {
                    self.owed.remove(&(lane.clone(), *alert, Owed::Firing));
                    if fires_on {
                        self.newest.entry(lane.clone()).or_default().insert(*alert);
                    }
                }
            }
        }
        delivery.standing = standing;
        for part in std::mem::take(&mut delivery.parts) {
            self.end(part, standing);
        }
    }

    pub(super) fn digested(&mut self, digest: DeliveryId, parts: &[DeliveryId], _: &ActionId) {
        let mut delivery = Delivery::new(None, self.deliveries.len());
        delivery.parts = parts.to_vec();
        for part in parts {
            let known = self.deliveries.get_mut(part).expect("known");
            known.standing = Standing::InDigest(digest);
        }
        self.deliveries.insert(digest, delivery);
    }

    /// A digest was refused as a whole, and a part of it is told by itself.
    pub(super) fn split(
        &mut self,
        old: DeliveryId,
        half: DeliveryId,
        parts: &[DeliveryId],
        action: &ActionId,
    ) {
        let known = &self.deliveries[&old];
        assert_eq!(known.parts[..parts.len()], *parts, "{old} is split in its order");
        for part in parts {
            self.leaves_digest(*part);
        }
        self.digested(half, parts, action);
    }

    /// What a far end is told with a delivery: those that a digest carries.
    pub fn told_with(&self, id: DeliveryId) -> Vec<DeliveryId> {
        self.deliveries[&id].parts.clone()
    }

    pub(super) fn superseded(&mut self, old: DeliveryId, by: DeliveryId) {
        self.leaves_digest(old);
        let gone = self.deliveries.get_mut(&old).expect("known");
        gone.standing = Standing::Gone;
        let gone = gone.clone();
        // A delivery that a reload moved to another action says the same.
        self.deliveries.entry(by).or_insert_with(|| Delivery {
            lane: None,
            standing: Standing::Open,
            out_of_order: true,
            attempt: 0,
            train: 0,
            may_be_known: false,
            refused: BTreeSet::new(),
            only: None,
            ..gone
        });
    }

    /// A part leaves its digest, which ends with the last one.
    fn leaves_digest(&mut self, part: DeliveryId) {
        if let Some(Standing::InDigest(digest)) = self.deliveries.get(&part).map(|part| part.standing) {
            let digest = self.deliveries.get_mut(&digest).expect("known");
            digest.parts.retain(|known| *known != part);
            if digest.parts.is_empty() {
                digest.standing = Standing::Gone;
            }
        }
    }

    pub(super) fn dead(&mut self, id: DeliveryId) {
        self.leaves_digest(id);
        match self.deliveries.get_mut(&id) {
            Some(_) => {
                // A digest's parts are given up one by one.
                self.deliveries.get_mut(&id).expect("known").parts.clear();
                self.end(id, Standing::Dead);
            }
            None => {
                // A recipient of its own: it says what the delivery said that was refused.
                let (of, recipient) =
                    self.refused.pop_front().unwrap_or_else(|| panic!("{id} comes from nowhere"));
                self.deliveries.get_mut(&of).expect("known").refused.insert(recipient);
                let single = Delivery {
                    standing: Standing::Dead,
                    out_of_order: true,
                    parts: Vec::new(),
                    only: Some(recipient),
                    may_be_known: false,
                    refused: BTreeSet::new(),
                    ..self.deliveries[&of].clone()
                };
                self.deliveries.insert(id, single);
            }
        }
    }

    pub(super) fn operator(&mut self, id: DeliveryId, verb: &str) {
        match verb {
            "drop" => {
                self.leaves_digest(id);
                let delivery = &self.deliveries[&id];
                if let Some(lane) = &delivery.lane {
                    let firing = delivery.says.iter().filter(|(_, (firing, _))| *firing);
                    self.dropped.extend(firing.map(|(alert, _)| (lane.clone(), *alert)));
                }
                // What waited counts as told: whoever dropped it wants to hear no more of it.
                if delivery.is_open()
                    && let Some(lane) = &delivery.lane
                {
                    let newest = self.let_go.entry(lane.clone()).or_default();
                    *newest = delivery.made.max(*newest);
                }
                self.end(id, Standing::Gone);
            }
            _ => {
                let delivery = self.deliveries.get_mut(&id).expect("known");
                if delivery.standing == Standing::Dead {
                    delivery.standing = Standing::Open;
                    (delivery.out_of_order, delivery.train) = (true, 0);
                }
            }
        }
    }

    /// A process died while a far end acted, and nobody knows.
    pub fn outcome_lost(&mut self, id: DeliveryId) {
        self.deliveries.get_mut(&id).expect("known").may_be_known = true;
    }

    /// However often an occurrence was told: what a far end heard of it last is in the order in which things happened.
    fn check_last_words(&self, far_ends: &FarEnds) {
        let last: BTreeMap<DeliveryId, usize> =
            far_ends.seen.iter().enumerate().map(|(place, seen)| (seen.delivery, place)).collect();
        let mut lanes: BTreeMap<(&Lane, usize), Vec<(usize, usize)>> = BTreeMap::new();
        for (id, delivery) in &self.deliveries {
            if let (Some(lane), Some(alert), Some(place)) = (&delivery.lane, delivery.each, last.get(id))
                && delivery.standing == Standing::Done
                && !delivery.out_of_order
                // Whom a far end refused in the end it may have told before.
                && delivery.refused.is_empty()
            {
                lanes.entry((lane, alert)).or_default().push((delivery.made, *place));
            }
        }
        for (lane, mut told) in lanes {
            told.sort_unstable();
            assert!(told.is_sorted_by_key(|(_, place)| *place), "{lane:?} heard {told:?}");
        }
    }

    /// What ended well was told to every recipient that was not refused, and what was told ended or will.
    pub fn check_far_ends(&self, far_ends: &FarEnds, recipients: impl Fn(&ActionId) -> u16) {
        let nobody = BTreeSet::new();
        for (id, delivery) in self.deliveries.iter().filter(|(_, d)| d.standing == Standing::Done) {
            let Some((_, action)) = &delivery.lane else { continue };
            let told = far_ends.told.get(id).unwrap_or(&nobody);
            let all = (0..recipients(action)).filter(|r| delivery.only.is_none_or(|only| only == *r));
            for recipient in all {
                assert!(
                    told.contains(&recipient) || delivery.refused.contains(&recipient),
                    "{id} is done, but recipient {recipient} of {action} was not told: {delivery:?}"
                );
            }
        }
        self.check_last_words(far_ends);
        for id in far_ends.told.keys() {
            assert!(self.deliveries.contains_key(id), "{id} was told and never made");
        }
    }
}
