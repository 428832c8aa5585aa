//! Deliveries: whose turn it is, what an outcome means, when to try again and when to give up.

use alloc::{
    boxed::Box,
    collections::BTreeSet,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use super::{
    Machine,
    digests::{Failed, Fate, Work},
    pending::{Delivery, DeliveryState, LaneRef},
    pieces::{CHANGE, VISIT},
    state::{ActionState, Entry, State, Tally},
    timers::Due,
};
use crate::{
    At, Effect,
    effect::{
        AttemptResult, DeadReason, Decided, Deliver, HoldReason, Next, Noted, Notification, NotifyReason,
    },
    input::{DeliveryId, Failure, FailureKind, Outcome, Receipt, Recipient},
};

/// Transient failures in a row after which an action is probed with one delivery at a time.
const FAILURES_OPEN: u32 = 5;
/// How long an action must have failed until ams2 says so itself, in milliseconds: a far end that is started anew is no news.
const FAILING_SAID_MS: u64 = 300_000;
/// First wait before another try, and the longest, in milliseconds.
const BACKOFF_FIRST_MS: u64 = 1_000;
const BACKOFF_MAX_MS: u64 = 300_000;
/// The shortest among the longest waits between two probes, in milliseconds: where very much waits.
const PROBE_MS_MIN: u64 = 4_000;
/// The longest wait that a far end may ask for, in milliseconds: it may be wrong.
const RETRY_AFTER_MAX_MS: u64 = 3_600_000;
/// A delivery that was being attempted in this many crashes is given up.
const CRASHES_MAX: u8 = 3;
/// Other ready deliveries that are looked at for whether a digest is worth its name: rather one that comes a minute later
/// than a look at a hundred thousand.
const OTHERS_LOOKED_AT: usize = 256;
/// The rate limit's window, in milliseconds.
const MINUTE_MS: u64 = 60_000;

/// Longest wait before attempt `failures + 1`, before jitter: 1 s, doubling, at most 5 min.
pub(super) fn backoff_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(9);
    (BACKOFF_FIRST_MS << doublings).min(BACKOFF_MAX_MS)
}

/// The longest wait between two probes: 5 min, less the more waits, at least 4 s. So an outage of an hour costs an attempt
/// for every tenth delivery that waits, and ten thousand mails do not stand still for minutes when their server is back.
fn probe_ms_max(pending: u32) -> u64 {
    (BACKOFF_MAX_MS / (1 + u64::from(pending) / 128)).max(PROBE_MS_MIN)
}

impl Machine {
    /// A new delivery of a notification. The caller puts it into its lane.
    pub(super) fn add_delivery(&mut self, notification: u32, action: u32, lane: LaneRef) -> u32 {
        self.state.delivery_counter += 1;
        let counter = self.state.delivery_counter.to_le_bytes();
        let incarnation = self.state.incarnation.to_le_bytes();
        let row = &mut self.state.notifications[notification];
        row.uses += 1;
        let row = &self.state.notifications[notification];
        let action_id = self.state.actions[action as usize].spec.id.to_string();
        let parts = [&incarnation[..], row.group.key.as_bytes(), action_id.as_bytes(), &counter];
        let id = DeliveryId(self.keyed_hash(parts.into_iter()));
        self.effort.add(row.count(), 2 * VISIT);
        let critical =
            row.rows().any(|row| self.state.alerts[row].severity == Some(crate::Severity::Critical));
        let critical = critical || self.is_critical_lane(lane);
        self.own_texts_of(notification, 1);
        let delivery = self.state.deliveries.insert(Delivery {
            id,
            number: self.state.delivery_counter,
            notification,
            action,
            lane,
            created: self.now,
            due: self.now,
            rare: None,
            before: 0,
            after: 0,
            attempts: 0,
            state: DeliveryState::Waiting,
            crashes: 0,
            critical,
            maybe_duplicate: false,
            half: false,
        });
        self.state.stand_alone(delivery);
        self.delivery_table.insert(id.0 as u64, delivery);
        let number = action;
        let action = &mut self.state.actions[action as usize];
        (action.pending, action.deliveries) = (action.pending + 1, action.deliveries + 1);
        if self.has_too_many(number) {
            self.works.push_back(Work::Shed { action: number });
        }
        delivery
    }

    /// `notify: each` deliveries name no row; the alert that is being told is known by its identity.
    fn is_critical_lane(&self, lane: LaneRef) -> bool {
        let LaneRef::Detached(identity) = lane else { return false };
        let found = self.alert_table.find(identity, |row| self.state.alerts[row].identity == identity);
        found.is_some_and(|row| self.state.alerts[row].severity == Some(crate::Severity::Critical))
    }

    pub(super) fn record_notify(&mut self, delivery: u32, reason: NotifyReason) {
        let row = &self.state.deliveries[delivery];
        let told = &self.state.notifications[row.notification];
        let firing = told.alerts().filter(Noted::is_firing).count() as u32;
        let first = told.alerts().next().map(|noted| noted.position).unwrap_or_default();
        self.record(Decided::Notify {
            delivery: row.id,
            group: told.group.clone(),
            action: self.state.actions[row.action as usize].spec.id.clone(),
            reason,
            firing,
            resolved: told.count() as u32 - firing,
            first,
        });
    }

    pub(super) fn find_delivery(&self, id: DeliveryId) -> Option<u32> {
        self.delivery_table.find(id.0 as u64, |row| self.state.deliveries[row].id == id)
    }

    /// The first delivery of a lane becomes ready for its action, unless the lane waits behind another.
    pub(super) fn ready_head(&mut self, lane: LaneRef, action: u32) {
        let waits = |group: u32, lane: u16| {
            let behind = &self.state.behind;
            let name = self.state.groups.find(group).filter(|_| !behind.is_empty()).map(|group| &group.name);
            name.is_some_and(|name| behind.contains(&(self.lane_key(&name.key), action, group, lane)))
        };
        let head = match lane {
            LaneRef::Group { group, lane } if waits(group, lane) => None,
            lane => self.state.head(lane, action),
        };
        if let Some(head) = head
            && self.state.deliveries[head].state == DeliveryState::Waiting
            && !self.is_under_way_behind(head)
        {
            let State { actions, deliveries, .. } = &mut self.state;
            let urgent = actions[action as usize].is_urgent(&deliveries[head]);
            actions[action as usize].ready.insert(deliveries, head, urgent);
        }
        self.schedule(action);
    }

    /// Whether one that went into a call behind `head` is still under way there: `head` failed, and is not to be told
    /// between it and its outcome. Those that never were attempted stand behind all that were.
    fn is_under_way_behind(&self, head: u32) -> bool {
        let behind = self.state.onward(head, head).skip(1).map(|known| &self.state.deliveries[known]);
        behind.take_while(|row| row.attempts > 0).any(Delivery::is_under_way)
    }

    /// A delivery is no longer the first of its lane.
    pub(super) fn unready(&mut self, delivery: u32) {
        let State { actions, deliveries, .. } = &mut self.state;
        let action = &mut actions[deliveries[delivery].action as usize];
        let urgent = action.is_urgent(&deliveries[delivery]);
        action.ready.remove(deliveries, delivery, urgent);
    }

    /// Names the lanes of a group that stand outside it.
    pub(super) fn lane_key(&self, group_key: &str) -> u64 {
        self.keyed_hash([group_key.as_bytes()].into_iter()) as u64
    }

    /// When an action may make its next attempt.
    pub(super) fn schedule(&mut self, number: u32) {
        let (now, starting) = (self.now, self.starting);
        let first = self.next_ready(number);
        let State { actions, deliveries, .. } = &mut self.state;
        let action = &mut actions[number as usize];
        let cap = cap(action);
        let next = match first {
            // A start schedules every action once its own attempts may begin.
            Some(first) if action.in_flight < cap && action.present && !starting => {
                let mut next = deliveries[first].due;
                if action.open {
                    next = next.max(action.probe_at);
                }
                if let Some(limit) = action.spec.max_per_minute {
                    let busy = action.recent.len() >= limit.max(1) as usize;
                    if let (true, Some(oldest)) = (busy, action.recent.front()) {
                        next = next.max(oldest.plus(MINUTE_MS));
                    }
                }
                next.max(now)
            }
            _ => At::NEVER,
        };
        action.next = next;
        self.timers.arm(&mut action.armed, next, Due::Action(number));
    }

    /// The delivery that an action attempts next. Once the process has announced its end that is one that tells it: what
    /// else began would be cut off, and told twice.
    fn next_ready(&self, number: u32) -> Option<u32> {
        let State { actions, deliveries, .. } = &self.state;
        let ActionState { spec, ready, recent, told_half, .. } = &actions[number as usize];
        let Some((at, counter)) = self.state.stopping else {
            // However many of those that were told together are refused, whoever else waits has the last attempt that the
            // limit leaves, which carries all of them; where it leaves one alone, every other.
            let limit = spec.max_per_minute.map_or(usize::MAX, |limit| limit.max(1) as usize);
            let is_others = recent.len() + 1 == limit && (limit > 1 || *told_half);
            let others = ready.iter().take(if is_others { OTHERS_LOOKED_AT } else { 0 });
            let mut others = others.take_while(|row| deliveries[*row].due <= self.now);
            return others.find(|row| !deliveries[*row].half).or_else(|| ready.first(deliveries, self.now));
        };
        // Made with that record, and so due at its time and numbered behind all before.
        let made = ready.since(deliveries, (at, counter + 1)).take_while(|row| deliveries[*row].due == at);
        made.take(OTHERS_LOOKED_AT).find(|row| self.tells_own(*row, super::own::SHUTDOWN))
    }

    /// Makes the attempts that an action may make now.
    pub(super) fn dispatch(&mut self, number: u32) {
        let now = self.now;
        while !self.starting {
            let action = &mut self.state.actions[number as usize];
            if !action.present || action.in_flight >= cap(action) || (action.open && now < action.probe_at) {
                break;
            }
            let allowed = match action.spec.max_per_minute {
                None => u32::MAX,
                Some(limit) => {
                    while action.recent.front().is_some_and(|at| now.since(*at) >= MINUTE_MS) {
                        action.recent.pop_front();
                    }
                    limit.max(1).saturating_sub(action.recent.len() as u32)
                }
            };
            let Some(delivery) = self.next_ready(number) else { break };
            if self.state.deliveries[delivery].due > now {
                break;
            }
            match allowed {
                0 => break,
                // The last attempt that the limit leaves carries all that waits. The rest is seen to after it.
                1 if self.state.stopping.is_none() && self.several_wait(number, delivery) => {
                    return self.digest(number);
                }
                _ if self.state.digests.contains_key(&delivery) => {
                    self.unready(delivery);
                    self.begin_attempt(delivery, DeliveryState::InFlight);
                    let (told, ids) = (Vec::new(), Vec::new());
                    return self.works.push_back(Work::Tell { digest: delivery, told, ids });
                }
                _ => {
                    self.unready(delivery);
                    let train = self.train(delivery, allowed);
                    for (place, part) in train.iter().enumerate() {
                        let state =
                            if place == 0 { DeliveryState::InFlight } else { DeliveryState::Following };
                        self.attempt(*part, state, place + 1 < train.len());
                    }
                }
            }
        }
        self.schedule(number);
    }

    /// The first of a lane, and those behind it that go with it into one call, in order: as many as the call, the action's
    /// slots and its rate limit have room for. What failed before goes alone, so that what waits behind it is not told
    /// in vain again and again; so do lanes of groups, which hand a memo on.
    fn train(&self, head: u32, allowed: u32) -> Vec<u32> {
        let rows = &self.state.deliveries;
        let action = &self.state.actions[rows[head].action as usize];
        let room = cap(action).saturating_sub(action.in_flight);
        // The last attempt that a rate limit leaves is for the digest.
        let most = action.spec.batch_max.min(room).min(allowed.saturating_sub(1));
        let words = |row: &Delivery| self.state.notifications[row.notification].config;
        let goes_with = |row: &Delivery| {
            matches!(row.lane, LaneRef::Detached(_))
                && row.state == DeliveryState::Waiting
                && row.due <= self.now
                && row.last_failure().is_none()
                && self.state.notifications[row.notification].count() == 1
                && words(row) == words(&rows[head])
        };
        if most < 2 || !goes_with(&rows[head]) {
            return [head].into();
        }
        self.state
            .onward(head, head)
            .take_while(|known| goes_with(&rows[*known]))
            .take(most as usize)
            .collect()
    }

    /// Whether `first` is not the only delivery that a digest could carry now.
    fn several_wait(&self, number: u32, first: u32) -> bool {
        let rows = &self.state.deliveries;
        let due = self.state.actions[number as usize].ready.iter().filter(|head| *head != first);
        let due = due.take(OTHERS_LOOKED_AT).take_while(|head| rows[*head].due <= self.now);
        let behind = Some(rows[first].after).filter(|row| *row != first);
        rows[first].is_fresh() && due.chain(behind).any(|row| rows[row].waits_afresh())
    }

    /// Starts an attempt at a delivery that was taken from the ready ones, or that goes with one. `goes_on`: another goes
    /// with it.
    pub(super) fn attempt(&mut self, delivery: u32, state: DeliveryState, goes_on: bool) {
        self.begin_attempt(delivery, state);
        let told = self.state.notifications[self.state.deliveries[delivery].notification].notification();
        self.push_deliver(delivery, [told].into(), Vec::new(), goes_on);
    }

    pub(super) fn begin_attempt(&mut self, delivery: u32, state: DeliveryState) {
        let reached = self.reached;
        let row = &mut self.state.deliveries[delivery];
        row.state = state;
        row.attempts += 1;
        let (number, id, half) = (row.action, row.id, row.half);
        let action = &mut self.state.actions[number as usize];
        action.in_flight += 1;
        action.told_half = half;
        if action.open {
            action.probe = Some(id);
        }
        if action.spec.max_per_minute.is_some() {
            action.recent.push_back(reached);
        }
    }

    /// Hands an attempt that has begun to the shell.
    pub(super) fn push_deliver(
        &mut self,
        delivery: u32,
        notifications: Vec<Arc<Notification>>,
        digest_of: Vec<DeliveryId>,
        goes_on: bool,
    ) {
        let row = &self.state.deliveries[delivery];
        let spec = &self.state.actions[row.action as usize].spec;
        let memo = match row.lane {
            LaneRef::Group { group, lane } => self.state.groups[group].lanes[lane as usize]
                .entry
                .as_ref()
                .and_then(|entry| entry.memo.clone()),
            LaneRef::Detached(_) => None,
        };
        let deliver = Deliver {
            delivery: row.id,
            action: spec.id.clone(),
            attempt: row.attempts,
            maybe_duplicate: row.maybe_duplicate,
            send_resolved: spec.send_resolved
                || notifications.iter().any(|n| n.reason == NotifyReason::Short),
            notifications,
            digest_of,
            unfinished: row.unfinished().map(<[Recipient]>::to_vec),
            memo: memo.map(Into::into),
            goes_on,
        };
        self.effects.push(Effect::Deliver(Box::new(deliver)));
    }

    /// An attempt ended.
    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        let found = self.find_delivery(outcome.delivery);
        let pending = found.filter(|row| {
            let row = &self.state.deliveries[*row];
            row.is_under_way() && row.attempts == outcome.attempt
        });
        let Some(delivery) = pending else {
            self.record(Decided::LateOutcome { delivery: outcome.delivery, attempt: outcome.attempt });
            return;
        };
        let number = self.state.deliveries[delivery].action;
        self.state.actions[number as usize].in_flight -= 1;
        match &outcome.result {
            Ok(Receipt::Partial { failure, unfinished, refused }) => {
                self.noted_failure(delivery, failure, outcome);
                self.give_up_refused(delivery, refused);
                self.state.deliveries[delivery].rare().unfinished = Some(without(unfinished, refused));
                self.failed(delivery, failure, outcome.took_ms);
            }
            Ok(receipt) => {
                self.far_end_answered(number, true);
                if self.came_too_early(delivery) {
                    self.tell_again(delivery, receipt, outcome.took_ms);
                } else {
                    self.answered(delivery, receipt, outcome.took_ms);
                }
            }
            Err(failure) => {
                self.noted_failure(delivery, failure, outcome);
                self.failed(delivery, failure, outcome.took_ms);
            }
        }
        self.schedule(number);
    }

    /// What a failure says of the far end.
    fn noted_failure(&mut self, delivery: u32, failure: &Failure, outcome: &Outcome) {
        let action = self.state.deliveries[delivery].action;
        match failure.kind {
            FailureKind::Permanent | FailureKind::Deferred => self.far_end_answered(action, false),
            FailureKind::Transient | FailureKind::Uncertain => {
                let long = self.far_end_failed(action, failure, outcome);
                if long && self.state.actions[action as usize].present {
                    self.say_failing(action, delivery, &failure.reason);
                }
            }
        }
    }

    /// Whether one before it in its lane, which went into the same call, is still to be told.
    fn came_too_early(&self, delivery: u32) -> bool {
        let row = &self.state.deliveries[delivery];
        row.state == DeliveryState::Following && self.state.head(row.lane, row.action) != Some(delivery)
    }

    /// The far end has it, but is still to be told what was before it: so that its last word there is the latest, this
    /// is told once more after that, under the same name.
    fn tell_again(&mut self, delivery: u32, receipt: &Receipt, took_ms: u32) {
        let now = self.now;
        let row = &mut self.state.deliveries[delivery];
        (row.state, row.due, row.maybe_duplicate) = (DeliveryState::Waiting, now, true);
        self.record_attempt(delivery, result_of(receipt), took_ms, Next::Retry(now));
        self.wait_again(delivery);
    }

    fn answered(&mut self, delivery: u32, receipt: &Receipt, took_ms: u32) {
        let is_digest = self.state.digests.contains_key(&delivery);
        if let Receipt::Delivered { refused, .. } = receipt {
            self.give_up_refused(delivery, refused);
        }
        if is_digest {
            let receipt = receipt.clone();
            self.works.push_back(Work::Answer { digest: delivery, receipt, took_ms });
        } else {
            self.answer_counts(delivery, receipt, took_ms);
        }
    }

    fn give_up_refused(&mut self, delivery: u32, refused: &[(Recipient, String)]) {
        let mut seen = BTreeSet::new();
        for (recipient, words) in refused {
            // A far end may name one twice, or one that was given up before.
            let unfinished = self.state.deliveries[delivery].unfinished();
            let waits = unfinished.is_none_or(|left| left.contains(recipient));
            if !waits || !seen.insert(*recipient) {
                continue;
            }
            if !self.each_part(delivery, Fate::Refused(*recipient, words.clone())) {
                self.refused(delivery, *recipient, words);
            }
        }
    }

    /// Who was refused for good is seen to: what the answer says of the others.
    pub(super) fn answer_counts(&mut self, delivery: u32, receipt: &Receipt, took_ms: u32) {
        let (unfinished, memo) = match receipt {
            Receipt::Sent => (Box::default(), None),
            Receipt::Delivered { memo, unfinished, refused, .. } => {
                (without(unfinished, refused), memo.as_deref())
            }
            Receipt::Partial { .. } => unreachable!("that is a failure"),
        };
        let result = result_of(receipt);
        if unfinished.is_empty() {
            let action = self.state.deliveries[delivery].action;
            self.record_attempt(delivery, result, took_ms, Next::Done);
            self.state.totals.delivered += 1;
            self.conclude(delivery, memo);
            if let Some(memo) = memo {
                self.note_far_end(action, memo);
            }
        } else {
            self.state.deliveries[delivery].rare().unfinished = Some(unfinished);
            let failure = Failure::transient("some recipients were refused for now");
            self.retry_or_give_up(delivery, &failure, result, took_ms);
        }
    }

    fn failed(&mut self, delivery: u32, failure: &Failure, took_ms: u32) {
        let result = AttemptResult::Failed(failure.kind, failure.reason.clone());
        match failure.kind {
            FailureKind::Permanent if self.state.digests.get(&delivery).is_some_and(|all| all.len() > 1) => {
                let failed = Failed { digest: delivery, failure: failure.clone(), result, took_ms };
                self.works.push_back(Work::Age { failed, kept: Vec::new(), old: Vec::new() });
            }
            FailureKind::Permanent => {
                self.record_attempt(delivery, result, took_ms, Next::DeadLetter);
                self.give_up(delivery, DeadReason::Permanent(failure.reason.clone()));
            }
            FailureKind::Transient | FailureKind::Deferred | FailureKind::Uncertain => {
                self.state.deliveries[delivery].maybe_duplicate |= failure.kind == FailureKind::Uncertain;
                self.retry_or_give_up(delivery, failure, result, took_ms);
            }
        }
    }

    fn retry_or_give_up(&mut self, delivery: u32, failure: &Failure, result: AttemptResult, took_ms: u32) {
        if self.state.digests.contains_key(&delivery) {
            let failed = Failed { digest: delivery, failure: failure.clone(), result, took_ms };
            self.works.push_back(Work::Age { failed, kept: Vec::new(), old: Vec::new() });
        } else if self.is_too_old(delivery) {
            self.record_attempt(delivery, result, took_ms, Next::DeadLetter);
            self.give_up(delivery, DeadReason::TooOld(failure.reason.clone()));
        } else {
            self.retry(delivery, failure, result, took_ms);
        }
    }

    /// A delivery waits for another try.
    pub(super) fn retry(&mut self, delivery: u32, failure: &Failure, result: AttemptResult, took_ms: u32) {
        let row = &self.state.deliveries[delivery];
        let due = self.now.plus(self.wait_ms(row.id, row.attempts, failure.retry_after_ms));
        let row = &mut self.state.deliveries[delivery];
        row.state = DeliveryState::Waiting;
        row.due = due;
        row.rare().last_failure = Some(start_of(&failure.reason).into());
        self.record_attempt(delivery, result, took_ms, Next::Retry(due));
        self.wait_again(delivery);
    }

    pub(super) fn is_too_old(&self, delivery: u32) -> bool {
        let row = &self.state.deliveries[delivery];
        let severity = row.critical.then_some(crate::Severity::Critical);
        let age_max = self.state.config().map_or(u64::MAX, |config| config.give_up_ms(severity));
        let patient = self.state.actions[row.action as usize].spec.patient;
        !patient && self.now.since(row.created) > age_max
    }

    /// A delivery waits for its turn again; if its action is gone meanwhile, its fate is seen to.
    pub(super) fn wait_again(&mut self, delivery: u32) {
        let row = &self.state.deliveries[delivery];
        let (lane, action) = (row.lane, row.action);
        if self.state.actions[action as usize].present || self.moving.is_some() {
            self.ready_head(lane, action);
        } else {
            self.clear_delivery(delivery);
        }
    }

    /// The wait before the next try: backoff with a jitter that the delivery and attempt decide, at least what the
    /// far end asked for.
    fn wait_ms(&self, id: DeliveryId, attempts: u32, retry_after_ms: Option<u64>) -> u64 {
        let longest = backoff_ms(attempts);
        let hash = self.keyed_hash([&id.0.to_le_bytes()[..], &attempts.to_le_bytes()].into_iter()) as u64;
        let wait = longest / 2 + hash % (longest / 2 + 1);
        wait.max(retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS))
    }

    pub(super) fn record_attempt(&mut self, delivery: u32, result: AttemptResult, took_ms: u32, next: Next) {
        let row = &self.state.deliveries[delivery];
        let action = self.state.actions[row.action as usize].spec.id.clone();
        self.record(Decided::Attempt {
            delivery: row.id,
            action,
            attempt: row.attempts,
            result,
            took_ms,
            next,
        });
    }

    /// The far end is there: failures are forgotten, and what waited comes back gradually.
    fn far_end_answered(&mut self, number: u32, well: bool) {
        let action = &mut self.state.actions[number as usize];
        action.failures = 0;
        if core::mem::take(&mut action.open) {
            action.ramp = 1;
            let id = action.spec.id.clone();
            self.record(Decided::Breaker { action: id, open: false });
            let said = self.failing_rows(|about| about == number);
            self.end_failing(said, "the far end answers again");
        } else if well {
            action.ramp = action.ramp.saturating_mul(2);
        }
    }

    /// One call failed, however many deliveries it carried. While an action is probed, only the probe counts: attempts
    /// that were under way before say nothing new. Whether it has failed for long.
    fn far_end_failed(&mut self, number: u32, failure: &Failure, outcome: &Outcome) -> bool {
        let now = self.now;
        let action = &mut self.state.actions[number as usize];
        if !outcome.led || (action.open && action.probe != Some(outcome.delivery)) {
            return false;
        }
        // What failed before a pause longer than any wait between attempts says nothing of today.
        if action.failures == 0 || now.since(action.failed_last) > RETRY_AFTER_MAX_MS + BACKOFF_MAX_MS {
            action.failing_since = now;
        }
        action.failed_last = now;
        let long = now.since(action.failing_since) >= FAILING_SAID_MS;
        action.failures += 1;
        let failures = action.failures;
        if failures >= FAILURES_OPEN {
            let id = action.spec.id.clone();
            let opened = !core::mem::replace(&mut action.open, true);
            // Probes wait as attempts do: the far end may have been away for a moment only.
            let wait = backoff_ms(failures - FAILURES_OPEN + 1)
                .min(probe_ms_max(action.pending))
                .max(failure.retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS));
            action.probe_at = now.plus(wait);
            action.probe = None;
            if opened {
                self.record(Decided::Breaker { action: id, open: true });
            }
        }
        long && failures >= FAILURES_OPEN
    }

    /// Counts the alerts of a delivery that was to go to another server.
    fn tally(&mut self, delivery: u32, count: impl Fn(&mut Tally) -> &mut u64) {
        let row = &self.state.deliveries[delivery];
        let action = &mut self.state.actions[row.action as usize];
        if action.spec.patient {
            *count(&mut action.tally) += self.state.notifications[row.notification].count() as u64;
        }
    }

    /// A delivery ended well: what it told is written into its group's log, and its turn passes on.
    pub(super) fn conclude(&mut self, delivery: u32, memo: Option<&[u8]>) {
        self.end_with(delivery, Fate::Told(memo.map(Into::into)));
    }

    pub(super) fn conclude_one(&mut self, delivery: u32, memo: Option<&[u8]>) {
        if self.state.deliveries[delivery].attempts > 1 {
            self.tally(delivery, |tally| &mut tally.delayed);
        }
        self.write_entry(delivery, memo);
        self.leave(delivery);
        self.drop_row(delivery);
    }

    /// A delivery is given up and kept.
    pub(super) fn give_up(&mut self, delivery: u32, reason: DeadReason) {
        self.end_with(delivery, Fate::GivenUp(reason, None));
    }

    pub(super) fn give_up_one(&mut self, delivery: u32, reason: &DeadReason) {
        self.state.totals.dead_lettered += 1;
        self.tally(delivery, |tally| &mut tally.dropped);
        // What was given up counts as told: it is kept, and saying it again would be given up again.
        self.write_entry(delivery, None);
        self.leave(delivery);
        let row = &mut self.state.deliveries[delivery];
        row.state = DeliveryState::Dead;
        row.rare().dead = Some(reason.cut());
        row.lane = LaneRef::Detached(row.id.0 as u64);
        let (id, number) = (row.id, row.action);
        let action = self.state.actions[number as usize].spec.id.clone();
        self.record(Decided::DeadLetter { delivery: id, action, reason: reason.clone() });
        if !self.is_about_delivery(delivery) {
            let counted = self.given_up.entry(number).or_default();
            *counted = (counted.0 + 1, reason.to_string());
        }
    }

    /// A recipient was refused for good: a dead letter of its own.
    pub(super) fn refused(&mut self, delivery: u32, recipient: Recipient, words: &str) {
        let row = &self.state.deliveries[delivery];
        let (notification, action, created) = (row.notification, row.action, row.created);
        let critical = row.critical;
        let dead = self.add_delivery(notification, action, LaneRef::Detached(0));
        let row = &mut self.state.deliveries[dead];
        row.rare().unfinished = Some([recipient].into());
        (row.created, row.critical) = (created, critical);
        row.lane = LaneRef::Detached(row.id.0 as u64);
        let reason = DeadReason::Permanent(words.to_string());
        row.state = DeliveryState::Dead;
        row.rare().dead = Some(reason.cut());
        let id = row.id;
        self.state.actions[action as usize].pending -= 1;
        self.state.totals.dead_lettered += 1;
        let action_id = self.state.actions[action as usize].spec.id.clone();
        self.record(Decided::DeadLetter { delivery: id, action: action_id, reason });
        if !self.is_about_delivery(dead) {
            let counted = self.given_up.entry(action).or_default();
            *counted = (counted.0 + 1, format!("a recipient was refused: {words}"));
        }
    }

    fn write_entry(&mut self, delivery: u32, memo: Option<&[u8]>) {
        let LaneRef::Group { group, lane: lane_number } = self.state.deliveries[delivery].lane else {
            return;
        };
        let (firing, resolved) = self.told_by(delivery);
        self.effort.add(firing.len() + resolved.len(), 4 * VISIT);
        let number = self.number_of(delivery);
        let now = self.now;
        if let Some(entry) = &mut self.state.groups[group].lanes[lane_number as usize].entry
            && entry.number > number
        {
            // An operator dropped what was decided later, which counts as told.
            entry.at = now;
            if let Some(memo) = memo {
                entry.memo = Some(memo.into());
            }
            return;
        }
        let lane = &self.state.groups[group].lanes[lane_number as usize];
        let remembers = self.state.config().is_none_or(|config| config.muting.remember_told);
        // What waits behind it says what is believed, but leaves out what was held back and known all the same.
        let waits = remembers && self.state.last(lane.head).is_some_and(|newest| newest != delivery);
        let (mut firing, mut resolved) = (firing, resolved);
        if lane.hold == Some(HoldReason::ResolvesNotSent) {
            // All of it ended while this waited, and the action is not told of that: it believes nothing any more, but of
            // what is held back and fires on.
            let fires_on = |id: &mut u64| !(remembers && self.is_held(group, *id));
            resolved.extend(firing.extract_if(.., fires_on));
            resolved.sort_unstable();
        }
        let lane = &mut self.state.groups[group].lanes[lane_number as usize];
        let kept = lane.entry.take();
        if !waits {
            lane.remembered
                .retain(|id| firing.binary_search(id).is_err() && resolved.binary_search(id).is_err());
        }
        // Alertmanager forgets receiver data when a group is told for the first time again.
        let memo = memo.map(Into::into).or_else(|| {
            kept.filter(|entry| !entry.firing.is_empty()).and_then(|mut entry| entry.memo.take())
        });
        lane.entry = Some(Entry { firing: firing.into(), resolved: resolved.into(), at: now, number, memo });
        // What still waits in the lane is told after the end of all of it, too.
        if lane.hold != Some(HoldReason::ResolvesNotSent) {
            lane.hold = None;
        }
    }

    /// Which of its group's notifications a delivery tells.
    pub(super) fn number_of(&self, delivery: u32) -> u64 {
        self.state.notifications[self.state.deliveries[delivery].notification].number
    }

    /// A delivery leaves its lane and no longer pins its alerts; the next in the lane gets its turn.
    fn leave(&mut self, delivery: u32) {
        let (lane, action) = (self.state.deliveries[delivery].lane, self.state.deliveries[delivery].action);
        self.leave_lane(delivery);
        self.state.actions[action as usize].pending -= 1;
        self.unpin(delivery, lane);
        self.ready_head(lane, action);
        if let LaneRef::Group { group, .. } = lane {
            self.sweep(group);
            self.schedule_look(group);
        }
    }

    pub(super) fn leave_lane(&mut self, delivery: u32) {
        let row = &self.state.deliveries[delivery];
        let (lane, action) = (row.lane, row.action);
        self.unready(delivery);
        let is_empty = self.state.step_out(delivery);
        if let LaneRef::Detached(key) = lane
            && is_empty
        {
            let all = (key, action, 0, 0)..=(key, action, u32::MAX, u16::MAX);
            let waiting: Vec<_> = self.state.behind.extract_if(all, |_| true).collect();
            for (_, action, group, lane) in waiting {
                self.ready_head(LaneRef::Group { group, lane }, action);
            }
        }
    }

    /// Pending deliveries of groups pin the alerts they name.
    pub(super) fn unpin(&mut self, delivery: u32, lane: LaneRef) {
        if !matches!(lane, LaneRef::Group { .. }) {
            return;
        }
        let notification = &mut self.state.notifications[self.state.deliveries[delivery].notification];
        let rows = notification.told.unpin();
        self.effort.add(rows.len(), CHANGE);
        for row in rows {
            self.state.alerts[row].pins -= 1;
            self.forget_if_over(row);
        }
    }

    /// Removes a delivery's row, and its notification with the last use.
    pub(super) fn drop_row(&mut self, delivery: u32) {
        let Some(row) = self.state.deliveries.find(delivery) else { return };
        let (id, notification) = (row.id, row.notification);
        self.state.actions[row.action as usize].deliveries -= 1;
        self.delivery_table.remove(id.0 as u64, delivery);
        self.state.deliveries.remove(delivery);
        self.own_texts_of(notification, -1);
        let row = &mut self.state.notifications[notification];
        row.uses -= 1;
        if row.uses == 0 {
            self.state.notifications.remove(notification);
        }
    }

    /// `old` says nothing that `heir` does not: `heir` takes its place, attempts, backoff and age.
    pub(super) fn supersede(&mut self, old: u32, heir: u32) {
        let row = &self.state.deliveries[old];
        let (old_id, lane, action) = (row.id, row.lane, row.action);
        let (attempts, crashes, created, due) = (row.attempts, row.crashes, row.created, row.due);
        let (critical, last_failure) = (row.critical, row.last_failure().map(Into::into));
        self.leave_lane(old);
        self.state.actions[action as usize].pending -= 1;
        self.unpin(old, lane);
        self.drop_row(old);
        let row = &mut self.state.deliveries[heir];
        (row.attempts, row.crashes, row.created, row.due) = (attempts, crashes, created, due);
        row.critical |= critical;
        if last_failure.is_some() {
            row.rare().last_failure = last_failure;
        }
        let heir_id = row.id;
        self.record(Decided::Superseded { delivery: old_id, by: heir_id });
    }

    /// The process that made this attempt is gone; whether the far end got it is unknown.
    pub(super) fn forget_attempt(&mut self, delivery: u32) {
        let now = self.now;
        let row = &mut self.state.deliveries[delivery];
        row.state = DeliveryState::Waiting;
        row.maybe_duplicate = true;
        row.crashes += u8::from(self.crashed);
        row.due = now;
        let (action, crashes) = (row.action, row.crashes);
        self.state.actions[action as usize].in_flight -= 1;
        if crashes >= CRASHES_MAX {
            self.record_attempt(delivery, AttemptResult::Unknown, 0, Next::DeadLetter);
            self.give_up(delivery, DeadReason::Crashes);
        } else {
            self.record_attempt(delivery, AttemptResult::Unknown, 0, Next::Retry(now));
            self.wait_again(delivery);
        }
    }

    /// Whether it is being attempted, by itself or in a digest: then no word of an operator reaches it.
    pub(super) fn is_under_way(&self, delivery: u32) -> bool {
        match self.state.deliveries[delivery].state {
            DeliveryState::InFlight | DeliveryState::Following => true,
            DeliveryState::InDigest(digest) => self.is_under_way(digest),
            DeliveryState::Waiting | DeliveryState::Dead => false,
        }
    }

    /// Tries a dead letter again, from the first attempt, or a waiting delivery (or the digest that it is part of) at
    /// once. `false` if it is being attempted.
    pub(super) fn retry_now(&mut self, delivery: u32) -> bool {
        let now = self.now;
        let row = &mut self.state.deliveries[delivery];
        let action = row.action;
        match row.state {
            DeliveryState::Dead => {
                row.state = DeliveryState::Waiting;
                row.rare().dead = None;
                (row.attempts, row.crashes, row.created, row.due) = (0, 0, now, now);
                self.state.line_up(delivery);
                self.state.actions[action as usize].pending += 1;
                self.write_with_config_in_force(delivery);
            }
            DeliveryState::Waiting => {
                self.unready(delivery);
                self.state.deliveries[delivery].due = now;
            }
            DeliveryState::InDigest(digest) => return self.retry_now(digest),
            DeliveryState::InFlight | DeliveryState::Following => return false,
        }
        // An operator who says "now" has seen to the far end.
        let state = &mut self.state.actions[action as usize];
        state.probe_at = state.probe_at.min(now);
        self.wait_again(delivery);
        true
    }

    /// What an operator brings back is told as the config in force says: it may be the text that was mended.
    fn write_with_config_in_force(&mut self, delivery: u32) {
        let Some((_, position)) = self.state.config else { return };
        let old = self.state.deliveries[delivery].notification;
        let row = &mut self.state.notifications[old];
        if row.config == position {
            return;
        }
        let reworded = row.reworded(position);
        self.rewordings += 1;
        row.uses -= 1;
        if row.uses == 0 {
            self.state.notifications.remove(old);
        }
        self.state.deliveries[delivery].notification = self.state.notifications.insert(reworded);
    }

    /// Drops a delivery for good, at an operator's word. One that is being attempted stays until its outcome.
    pub(super) fn drop_now(&mut self, delivery: u32) -> bool {
        let row = &self.state.deliveries[delivery];
        match row.state {
            DeliveryState::Dead => {
                self.drop_row(delivery);
                true
            }
            DeliveryState::Waiting => {
                self.end_with(delivery, Fate::LetGo);
                true
            }
            DeliveryState::InDigest(digest)
                if self.state.deliveries[digest].state == DeliveryState::Waiting =>
            {
                if let Some(parts) = self.state.digests.get_mut(&digest) {
                    parts.retain(|part| *part != delivery);
                    if parts.is_empty() {
                        self.end_with(digest, Fate::LetGo);
                    }
                }
                self.let_delivery_go(delivery);
                true
            }
            DeliveryState::InFlight | DeliveryState::Following | DeliveryState::InDigest(_) => false,
        }
    }

    pub(super) fn let_delivery_go(&mut self, delivery: u32) {
        self.tally(delivery, |tally| &mut tally.dropped);
        self.write_entry(delivery, None);
        self.leave(delivery);
        self.drop_row(delivery);
    }
}

/// Those of the `unfinished` that were not refused for good.
fn without(unfinished: &[Recipient], refused: &[(Recipient, String)]) -> Box<[Recipient]> {
    let refused: BTreeSet<Recipient> = refused.iter().map(|(recipient, _)| *recipient).collect();
    unfinished.iter().copied().filter(|recipient| !refused.contains(recipient)).collect()
}

fn result_of(receipt: &Receipt) -> AttemptResult {
    match receipt {
        Receipt::Sent => AttemptResult::Sent,
        Receipt::Delivered { reply, .. } => AttemptResult::Delivered(reply.clone()),
        Receipt::Partial { failure, .. } => AttemptResult::Failed(failure.kind, failure.reason.clone()),
    }
}

/// Longest start of a failure's words that a waiting delivery keeps, in bytes; the decision has them whole.
const LAST_FAILURE_BYTES_MAX: usize = 120;

pub(super) fn start_of(words: &str) -> &str {
    let end = (0..=LAST_FAILURE_BYTES_MAX.min(words.len())).rev().find(|end| words.is_char_boundary(*end));
    &words[..end.unwrap_or(0)]
}

/// Most attempts at once that an action may make now.
fn cap(action: &ActionState) -> u32 {
    let full = action.spec.max_in_flight.max(1).saturating_mul(action.spec.batch_max.max(1));
    if action.open { 1 } else { full.min(action.ramp.max(1)) }
}
