//! Digests: what is over an action's rate limit, told in one delivery. A hundred thousand deliveries may be in one, so
//! whatever concerns all of them is done in pieces, before the record goes on.

use alloc::{boxed::Box, collections::BTreeSet, string::String, sync::Arc, vec::Vec};

use super::{
    Machine,
    deliveries::start_of,
    pending::{DeliveryState, LaneRef},
};
use crate::{
    effect::{AttemptResult, DeadReason, Decided, Next, Notification},
    input::{DeliveryId, Failure, FailureKind, Receipt, Recipient},
};

/// Deliveries that one piece works on, and the units that one of them costs.
const PIECE: usize = 32;
const LOOK_COST: i64 = 1;
const CHANGE_COST: i64 = 2;

/// Deliveries that one digest carries: their texts, some 40 MB, may be in memory at once when it is told. What is over that goes into a further
/// digest.
const PARTS_MAX: usize = 20_000;
/// Alerts in all of them, for the same reason: a group may have a thousand. One that has more is told by itself.
const ALERTS_MAX: usize = 20_000;

/// Work on the deliveries of a digest that is under way.
#[derive(Debug)]
pub(super) enum Work {
    /// What waits for an action is looked for.
    Gather(Gather),
    /// What was found is put into a digest, the oldest first.
    Fill { action: u32, digest: Option<u32>, waiting: BTreeSet<(u64, u32)>, ids: Vec<DeliveryId> },
    /// An attempt at it is put together.
    Tell { digest: u32, told: Vec<Arc<Notification>>, ids: Vec<DeliveryId> },
    /// All of these have the same fate.
    Each { parts: alloc::vec::IntoIter<u32>, fate: Fate },
    /// The far end's answer to all of it counts.
    Answer { digest: u32, receipt: Receipt, took_ms: u32 },
    /// Those that have waited too long are looked for: all of it failed.
    Age { failed: Failed, kept: Vec<u32>, old: Vec<u32> },
    /// What is left of it is tried again.
    Retry(Failed),
    /// Those who took it over have it.
    Conclude(u32),
    /// What it carries is put into two halves.
    Split(Split),
    /// Alerts that a group let go leave it.
    Sweep { group: u32, gone: alloc::vec::IntoIter<u32> },
    /// What fires is told to an action once more, from this row of alerts on.
    TellAnew { action: u32, row: u32 },
    /// What waits for an action is let go, until no more waits than may.
    Shed { action: u32 },
}

/// A digest that was refused as a whole, and how far what it carries is in its halves.
#[derive(Debug)]
pub(super) struct Split {
    digest: u32,
    /// Those that are in no half yet, in order.
    parts: alloc::vec::IntoIter<u32>,
    /// How many go into the first half.
    first: usize,
    /// The half that is being filled, and who is in it.
    half: Option<u32>,
    ids: Vec<DeliveryId>,
    /// Those that are filled.
    halves: Vec<u32>,
}

/// What waits for an action and goes into a digest: deliveries that are due, and those behind them.
#[derive(Debug, Default)]
pub(super) struct Gather {
    action: u32,
    /// How far the ready ones are looked through.
    place: (usize, usize),
    /// The one that was found last, and the head of its lane.
    last: Option<(u32, u32)>,
    found: BTreeSet<(u64, u32)>,
    /// How many alerts they tell.
    alerts: usize,
}

/// What becomes of a delivery.
#[derive(Debug)]
pub(super) enum Fate {
    Told(Option<Box<[u8]>>),
    /// Given up, and still to be told to these recipients if its digest told the others.
    GivenUp(DeadReason, Option<Box<[Recipient]>>),
    LetGo,
    /// This recipient refused it, with these words.
    Refused(Recipient, String),
    MovedTo(u32),
}

/// An attempt at a digest that failed, and what is recorded of it.
#[derive(Debug)]
pub(super) struct Failed {
    pub digest: u32,
    pub failure: Failure,
    pub result: AttemptResult,
    pub took_ms: u32,
}

impl Machine {
    /// Puts all that an action may tell now into one delivery, and attempts it. What a far end may have seen already, in
    /// whole or in part, is told again under its own name alone.
    pub(super) fn digest(&mut self, action: u32) {
        self.works.push_back(Work::Gather(Gather { action, ..Gather::default() }));
    }

    /// Does a piece of work; what is left of it.
    pub(super) fn work_on(&mut self, work: Work, left: &mut i64) -> Option<Work> {
        match work {
            Work::Gather(gather) => Some(self.gather(gather, left)),
            Work::Fill { action, digest: None, mut waiting, .. } if waiting.len() == 1 => {
                // The next one has too many alerts to go with it.
                let (_, alone) = waiting.pop_first()?;
                *left -= CHANGE_COST;
                self.unready(alone);
                self.attempt(alone, DeliveryState::InFlight, false);
                self.dispatch(action);
                None
            }
            Work::Fill { action, digest, waiting, ids } => {
                Some(self.fill(action, digest, waiting, ids, left))
            }
            Work::Tell { digest, told, ids } => self.tell(digest, told, ids, left),
            Work::Each { mut parts, fate } => {
                for part in parts.by_ref().take(PIECE) {
                    *left -= CHANGE_COST;
                    self.meets(part, &fate);
                }
                (!parts.as_slice().is_empty()).then_some(Work::Each { parts, fate })
            }
            Work::Answer { digest, receipt, took_ms } => {
                self.answer_counts(digest, &receipt, took_ms);
                None
            }
            Work::Age { failed, kept, old } => self.age(failed, kept, old, left),
            Work::Retry(Failed { digest, failure, result, took_ms }) => {
                self.retry(digest, &failure, result, took_ms);
                None
            }
            Work::Conclude(digest) => {
                self.conclude(digest, None);
                None
            }
            Work::Split(split) => self.split(split, left),
            Work::TellAnew { action, row } => self.tell_anew(action, row, left),
            Work::Shed { action } => self.shed(action, left),
            Work::Sweep { group, mut gone } => {
                for row in gone.by_ref().take(PIECE) {
                    *left -= CHANGE_COST;
                    self.leave_group(row, group);
                }
                if !gone.as_slice().is_empty() {
                    return Some(Work::Sweep { group, gone });
                }
                self.remove_if_empty(group);
                None
            }
        }
    }

    /// The same becomes of a delivery, or of each that a digest carries, which is told no more.
    pub(super) fn end_with(&mut self, delivery: u32, fate: Fate) {
        match self.state.digests.remove(&delivery) {
            None => self.meets(delivery, &fate),
            Some(parts) => {
                let fate = match fate {
                    Fate::GivenUp(reason, _) => Fate::GivenUp(reason, self.unfinished_of(delivery)),
                    fate => fate,
                };
                let (lane, action) =
                    (self.state.deliveries[delivery].lane, self.state.deliveries[delivery].action);
                self.leave_lane(delivery);
                self.drop_row(delivery);
                self.works.push_back(Work::Each { parts: parts.into_iter(), fate });
                // The other half of a larger one.
                self.ready_head(lane, action);
            }
        }
    }

    /// The same becomes of each delivery that a digest carries, and it goes on; `false` if it is no digest.
    pub(super) fn each_part(&mut self, digest: u32, fate: Fate) -> bool {
        let Some(parts) = self.state.digests.get(&digest).cloned() else { return false };
        self.works.push_back(Work::Each { parts: parts.into_iter(), fate });
        true
    }

    /// Recipients that are still to be told; `None` means all.
    fn unfinished_of(&self, delivery: u32) -> Option<Box<[Recipient]>> {
        self.state.deliveries[delivery].unfinished().map(Into::into)
    }

    fn meets(&mut self, delivery: u32, fate: &Fate) {
        match fate {
            Fate::Told(memo) => self.conclude_one(delivery, memo.as_deref()),
            Fate::GivenUp(reason, left) => {
                if left.is_some() {
                    self.state.deliveries[delivery].rare().unfinished.clone_from(left);
                }
                self.give_up_one(delivery, reason);
            }
            Fate::LetGo => self.let_delivery_go(delivery),
            Fate::Refused(recipient, words) => self.refused(delivery, *recipient, words),
            Fate::MovedTo(action) => self.move_to(delivery, *action),
        }
    }

    fn gather(&mut self, mut gather: Gather, left: &mut i64) -> Work {
        let ready = &self.state.actions[gather.action as usize].ready;
        for _ in 0..PIECE {
            *left -= LOOK_COST;
            let waits = |row: &u32| self.state.deliveries[*row].waits_afresh();
            let behind = gather.last.and_then(|(last, head)| {
                let behind = Some(self.state.deliveries[last].after).filter(|row| *row != head);
                behind.filter(waits).map(|row| (row, head))
            });
            let next = behind.or_else(|| ready.walk(&mut gather.place).map(|head| (head, head)));
            let due = next.filter(|(_, head)| self.state.deliveries[*head].due <= self.now);
            // Those of one lane are found in their order: what is left over is told behind what is taken.
            let count = |row: u32| self.state.notifications[self.state.deliveries[row].notification].count();
            let fits = |row: u32| gather.found.is_empty() || gather.alerts + count(row) <= ALERTS_MAX;
            let due = due.filter(|(row, _)| gather.found.len() < PARTS_MAX && fits(*row));
            let Some((row, _)) = due else {
                let (action, waiting) = (gather.action, gather.found);
                return Work::Fill { action, digest: None, waiting, ids: Vec::new() };
            };
            // Nothing goes past one that a far end may have seen.
            gather.last = due.filter(|_| waits(&row));
            if gather.last.is_some() {
                gather.alerts += count(row);
                gather.found.insert((self.state.deliveries[row].number, row));
            }
        }
        Work::Gather(gather)
    }

    fn fill(
        &mut self,
        action: u32,
        digest: Option<u32>,
        mut waiting: BTreeSet<(u64, u32)>,
        mut ids: Vec<DeliveryId>,
        left: &mut i64,
    ) -> Work {
        let digest = digest.unwrap_or_else(|| self.empty_digest(action, &waiting));
        for _ in 0..PIECE {
            let Some((_, part)) = waiting.pop_first() else { break };
            *left -= CHANGE_COST;
            self.unready(part);
            ids.push(self.put_into(digest, part));
        }
        if !waiting.is_empty() {
            return Work::Fill { action, digest: Some(digest), waiting, ids };
        }
        let id = self.state.deliveries[digest].id;
        let spec = self.state.actions[action as usize].spec.id.clone();
        self.record(Decided::Digested { digest: id, deliveries: ids, action: spec });
        self.begin_attempt(digest, DeliveryState::InFlight);
        Work::Tell { digest, told: Vec::new(), ids: Vec::new() }
    }

    fn empty_digest(&mut self, action: u32, waiting: &BTreeSet<(u64, u32)>) -> u32 {
        let (_, first) = waiting.first().expect("the first of those that are due is fresh");
        let key = self.state.delivery_counter + 1;
        let digest = self.carrier_of(*first, action, LaneRef::Detached(key));
        self.state.line_up(digest);
        self.state.digests.insert(digest, Vec::with_capacity(waiting.len()));
        digest
    }

    /// A delivery that carries others, `first` among them. The caller puts it into its lane.
    fn carrier_of(&mut self, first: u32, action: u32, lane: LaneRef) -> u32 {
        let notification = self.state.deliveries[first].notification;
        let digest = self.add_delivery(notification, action, lane);
        self.state.deliveries[digest].critical = false;
        self.state.actions[action as usize].pending -= 1;
        digest
    }

    /// Puts a delivery into a digest.
    fn put_into(&mut self, digest: u32, part: u32) -> DeliveryId {
        let row = &mut self.state.deliveries[part];
        row.state = DeliveryState::InDigest(digest);
        let (id, created, critical) = (row.id, row.created, row.critical);
        self.state.digests.entry(digest).or_default().push(part);
        let row = &mut self.state.deliveries[digest];
        row.created = row.created.min(created);
        row.critical |= critical;
        id
    }

    /// Puts what a refused digest carries into two halves, which stand in its lane in its place: the second is told once
    /// all of the first is, whatever becomes of that, so that the order of what they carry stays.
    fn split(&mut self, mut split: Split, left: &mut i64) -> Option<Work> {
        let old = split.digest;
        for _ in 0..PIECE {
            let Some(part) = split.parts.next() else { break };
            *left -= CHANGE_COST;
            let half = *split.half.get_or_insert_with(|| self.half_of(old, part));
            split.ids.push(self.put_into(half, part));
            if split.ids.len() == split.first || split.parts.as_slice().is_empty() {
                split.halves.push(half);
                let row = &self.state.deliveries[half];
                let action = self.state.actions[row.action as usize].spec.id.clone();
                let (digest, half) = (self.state.deliveries[old].id, row.id);
                let deliveries = core::mem::take(&mut split.ids);
                self.record(Decided::Split { digest, half, deliveries, action });
                (split.half, split.first) = (None, usize::MAX);
            }
        }
        if !split.parts.as_slice().is_empty() {
            return Some(Work::Split(split));
        }
        self.leave_lane(old);
        self.drop_row(old);
        self.state.digests.remove(&old);
        split.halves.into_iter().for_each(|half| self.wait_again(half));
        None
    }

    /// A new delivery in the place of a digest that carries a part of what that carried.
    fn half_of(&mut self, digest: u32, first: u32) -> u32 {
        let row = &self.state.deliveries[digest];
        let (action, lane, rare, maybe_duplicate) =
            (row.action, row.lane, row.rare.clone(), row.maybe_duplicate);
        let half = self.carrier_of(first, action, lane);
        let row = &mut self.state.deliveries[half];
        (row.half, row.rare, row.maybe_duplicate) = (true, rare, maybe_duplicate);
        self.state.line_up_before(half, digest);
        half
    }

    fn tell(
        &mut self,
        digest: u32,
        mut told: Vec<Arc<Notification>>,
        mut ids: Vec<DeliveryId>,
        left: &mut i64,
    ) -> Option<Work> {
        let parts = &self.state.digests[&digest];
        for part in parts.iter().skip(told.len()).take(PIECE) {
            *left -= LOOK_COST;
            let row = &self.state.deliveries[*part];
            ids.push(row.id);
            told.push(self.state.notifications[row.notification].notification());
        }
        if told.len() < parts.len() {
            return Some(Work::Tell { digest, told, ids });
        }
        // One that is left alone is told as if it never was in company.
        let ids = if ids.len() > 1 { ids } else { Vec::new() };
        self.push_deliver(digest, told, ids, false);
        self.dispatch(self.state.deliveries[digest].action);
        None
    }

    fn age(&mut self, failed: Failed, mut kept: Vec<u32>, mut old: Vec<u32>, left: &mut i64) -> Option<Work> {
        let digest = failed.digest;
        let parts = &self.state.digests[&digest];
        for part in parts.iter().skip(kept.len() + old.len()).take(PIECE) {
            *left -= LOOK_COST;
            if self.is_too_old(*part) { old.push(*part) } else { kept.push(*part) }
        }
        if kept.len() + old.len() < parts.len() {
            return Some(Work::Age { failed, kept, old });
        }
        let refused = failed.failure.kind == FailureKind::Permanent;
        let words = failed.failure.reason.clone();
        let reason = if refused { DeadReason::Permanent(words) } else { DeadReason::TooOld(words) };
        if kept.is_empty() {
            self.record_attempt(digest, failed.result, failed.took_ms, Next::DeadLetter);
            self.give_up(digest, reason);
            return None;
        }
        if refused && self.unfinished_of(digest).is_some() {
            // Some have it: halves would tell them again.
            self.record_attempt(digest, failed.result, failed.took_ms, Next::DeadLetter);
            self.give_up(digest, reason);
            return None;
        }
        if refused {
            self.record_attempt(digest, failed.result, failed.took_ms, Next::Split);
            self.state.deliveries[digest].rare().last_failure = Some(start_of(&failed.failure.reason).into());
            self.state.digests.insert(digest, Vec::new());
            self.works.push_back(Work::Each {
                parts: old.into_iter(),
                fate: Fate::GivenUp(reason, self.unfinished_of(digest)),
            });
            let (first, parts) = (kept.len().div_ceil(2), kept.into_iter());
            let (ids, halves) = (Vec::new(), Vec::new());
            self.works.push_back(Work::Split(Split { digest, parts, first, half: None, ids, halves }));
            return None;
        }
        // It lets go of those that have waited too long; the others go on.
        self.state.digests.insert(digest, kept);
        let fate = Fate::GivenUp(reason, self.unfinished_of(digest));
        self.works.push_back(Work::Each { parts: old.into_iter(), fate });
        self.works.push_back(Work::Retry(failed));
        None
    }
}
