//! Deliveries: whose turn it is, what an outcome means, when to try again and when to give up.

use alloc::{boxed::Box, format, string::ToString, vec::Vec};

use super::{
    Machine,
    state::{Delivery, DeliveryState, Entry, LaneRef},
    timers::Due,
};
use crate::{
    At, Effect,
    effect::{AttemptResult, DeadReason, Decided, Deliver, Next, NotifyReason},
    input::{DeliveryId, Failure, FailureKind, Outcome, Receipt},
};

/// Transient failures in a row after which an action is probed with one delivery at a time.
const FAILURES_OPEN: u32 = 5;
/// First wait before another try, and the longest, in milliseconds.
const BACKOFF_FIRST_MS: u64 = 1_000;
const BACKOFF_MAX_MS: u64 = 300_000;
/// The longest wait that a far end may ask for, in milliseconds: it may be wrong.
const RETRY_AFTER_MAX_MS: u64 = 3_600_000;
/// A delivery that was being attempted in this many crashes is given up.
const CRASHES_MAX: u8 = 3;
/// The rate limit's window, in milliseconds.
const MINUTE_MS: u64 = 60_000;

/// Longest wait before attempt `failures + 1`, before jitter: 1 s, doubling, at most 5 min.
pub(super) fn backoff_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(9);
    (BACKOFF_FIRST_MS << doublings).min(BACKOFF_MAX_MS)
}

impl Machine {
    /// A new delivery of a notification. The caller puts it into its lane.
    pub(super) fn add_delivery(&mut self, notification: u32, action: u32, lane: LaneRef) -> u32 {
        self.state.delivery_counter += 1;
        let counter = self.state.delivery_counter.to_le_bytes();
        let incarnation = self.state.incarnation.to_le_bytes();
        let row = &mut self.state.notifications[notification];
        row.uses += 1;
        let told = row.notification.clone();
        let action_id = self.state.actions[action as usize].spec.id.to_string();
        let parts = [&incarnation[..], told.group.key.as_bytes(), action_id.as_bytes(), &counter];
        let id = DeliveryId(self.keyed_hash(parts.into_iter()));
        let rows = &self.state.notifications[notification].rows;
        let critical =
            rows.iter().any(|row| self.state.alerts[*row].severity == Some(crate::Severity::Critical));
        let critical = critical || self.is_critical_lane(lane);
        for noted in told.alerts.iter().filter(|noted| noted.position.is_raised()) {
            self.own_text_uses(noted.position, 1);
        }
        let delivery = self.state.deliveries.insert(Delivery {
            id,
            notification,
            action,
            lane,
            state: DeliveryState::Waiting,
            attempts: 0,
            crashes: 0,
            critical,
            maybe_duplicate: false,
            created: self.now,
            due: self.now,
            unfinished: None,
            last_failure: None,
        });
        let Machine { state, delivery_table, .. } = self;
        delivery_table.insert_unique(id.0 as u64, delivery, |&row| state.deliveries[row].id.0 as u64);
        self.state.actions[action as usize].pending += 1;
        delivery
    }

    /// `notify: each` deliveries name no row; the alert that is being told is known by its identity.
    fn is_critical_lane(&self, lane: LaneRef) -> bool {
        let LaneRef::Detached(identity) = lane else { return false };
        let found = self.alert_table.find(identity, |&row| self.state.alerts[row].identity == identity);
        found.is_some_and(|row| self.state.alerts[*row].severity == Some(crate::Severity::Critical))
    }

    pub(super) fn record_notify(&mut self, delivery: u32, reason: NotifyReason) {
        let row = &self.state.deliveries[delivery];
        let told = &self.state.notifications[row.notification].notification;
        let firing = told.alerts.iter().filter(|noted| noted.is_firing()).count() as u32;
        self.record(Decided::Notify {
            delivery: row.id,
            group: told.group.clone(),
            action: self.state.actions[row.action as usize].spec.id.clone(),
            reason,
            firing,
            resolved: told.alerts.len() as u32 - firing,
        });
    }

    pub(super) fn find_delivery(&self, id: DeliveryId) -> Option<u32> {
        self.delivery_table.find(id.0 as u64, |&row| self.state.deliveries[row].id == id).copied()
    }

    /// The first delivery of a lane becomes ready for its action.
    pub(super) fn ready_head(&mut self, lane: LaneRef, action: u32) {
        let head = match lane {
            LaneRef::Group { group, lane } => {
                self.state.groups.find(group).and_then(|g| g.lanes[lane as usize].pending.front())
            }
            LaneRef::Detached(key) => self.state.detached.get(&(key, action)).and_then(|lane| lane.front()),
        };
        if let Some(&head) = head {
            let row = &self.state.deliveries[head];
            if row.state == DeliveryState::Waiting {
                self.state.actions[action as usize].ready.insert((row.due, row.created, head));
            }
        }
        self.schedule(action);
    }

    /// When an action may make its next attempt.
    pub(super) fn schedule(&mut self, number: u32) {
        let now = self.now;
        let action = &mut self.state.actions[number as usize];
        let cap = cap(action);
        let next = match action.ready.first() {
            Some((due, _, _)) if action.in_flight < cap => {
                let mut next = *due;
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

    /// Makes the attempts that an action may make now.
    pub(super) fn dispatch(&mut self, number: u32) {
        let now = self.now;
        loop {
            let action = &mut self.state.actions[number as usize];
            if action.in_flight >= cap(action) || (action.open && now < action.probe_at) {
                break;
            }
            let Some(&(due, _, delivery)) = action.ready.first() else { break };
            if due > now {
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
            let waiting =
                action.ready.range(..(now.plus(1), At(0), 0)).take(allowed as usize + 1).count() as u32;
            match allowed {
                0 => break,
                // The last attempt that the limit leaves carries all that waits.
                1 if waiting > 1 => self.digest(number),
                _ => {
                    action.ready.pop_first();
                    self.attempt(delivery);
                }
            }
        }
        self.schedule(number);
    }

    /// Starts an attempt at a delivery that was taken from the ready ones.
    fn attempt(&mut self, delivery: u32) {
        let now = self.now;
        let row = &mut self.state.deliveries[delivery];
        row.state = DeliveryState::InFlight;
        row.attempts += 1;
        let (number, lane) = (row.action, row.lane);
        let action = &mut self.state.actions[number as usize];
        action.in_flight += 1;
        if action.spec.max_per_minute.is_some() {
            action.recent.push_back(now);
        }
        let spec = &self.state.actions[number as usize].spec;
        let row = &self.state.deliveries[delivery];
        let parts = self.state.digests.get(&delivery);
        let rows = parts.map_or_else(|| core::slice::from_ref(&delivery), Vec::as_slice);
        let notifications: Vec<_> = rows
            .iter()
            .map(|part| self.state.deliveries[*part].notification)
            .map(|row| self.state.notifications[row].notification.clone())
            .collect();
        let digest_of = parts.map_or_else(Vec::new, |parts| {
            parts.iter().map(|part| self.state.deliveries[*part].id).collect()
        });
        let memo = match lane {
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
            unfinished: row.unfinished.as_ref().map(|list| list.to_vec()),
            memo: memo.map(Into::into),
        };
        self.effects.push_back(Effect::Deliver(Box::new(deliver)));
    }

    /// Puts all that is due for an action into one delivery, oldest first, and attempts it.
    fn digest(&mut self, number: u32) {
        let now = self.now;
        let action = &mut self.state.actions[number as usize];
        let mut rest = action.ready.split_off(&(now.plus(1), At(0), 0));
        core::mem::swap(&mut action.ready, &mut rest);
        let mut parts: Vec<(At, DeliveryId, u32)> = Vec::new();
        for (_, created, delivery) in rest {
            // A digest that failed before goes into the new one with all its parts.
            let inner = self.state.digests.remove(&delivery);
            if let Some(inner) = inner {
                self.leave_lane(delivery);
                self.drop_row(delivery);
                parts.extend(inner.into_iter().map(|p| (self.state.deliveries[p].created, DeliveryId(0), p)));
            } else {
                parts.push((created, self.state.deliveries[delivery].id, delivery));
            }
        }
        parts.sort_unstable();
        let parts: Vec<u32> = parts.into_iter().map(|(_, _, part)| part).collect();
        let first = parts[0];
        let (notification, created) = {
            let row = &self.state.deliveries[first];
            (row.notification, row.created)
        };
        let key = self.state.delivery_counter + 1;
        let digest = self.add_delivery(notification, number, LaneRef::Detached(key));
        let critical = parts.iter().any(|part| self.state.deliveries[*part].critical);
        let row = &mut self.state.deliveries[digest];
        (row.created, row.critical) = (created, critical);
        let id = row.id;
        self.state.actions[number as usize].pending -= 1;
        for part in &parts {
            self.state.deliveries[*part].state = DeliveryState::InDigest(digest);
        }
        self.state.detached.entry((key, number)).or_default().push_back(digest);
        let deliveries = parts.iter().map(|part| self.state.deliveries[*part].id).collect();
        let action = self.state.actions[number as usize].spec.id.clone();
        self.state.digests.insert(digest, parts);
        self.record(Decided::Digested { digest: id, deliveries, action });
        self.attempt(digest);
    }

    /// An attempt ended.
    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        let found = self.find_delivery(outcome.delivery);
        let pending = found.filter(|row| {
            let row = &self.state.deliveries[*row];
            row.state == DeliveryState::InFlight && row.attempts == outcome.attempt
        });
        let Some(delivery) = pending else {
            self.record(Decided::LateOutcome { delivery: outcome.delivery, attempt: outcome.attempt });
            return;
        };
        let number = self.state.deliveries[delivery].action;
        self.state.actions[number as usize].in_flight -= 1;
        match &outcome.result {
            Ok(receipt) => {
                self.far_end_answered(number, true);
                self.answered(delivery, receipt, outcome.took_ms);
            }
            Err(failure) => {
                match failure.kind {
                    FailureKind::Permanent => self.far_end_answered(number, false),
                    FailureKind::Transient => self.far_end_failed(number, failure),
                }
                self.failed(delivery, failure, outcome.took_ms);
            }
        }
        self.schedule(number);
    }

    fn answered(&mut self, delivery: u32, receipt: &Receipt, took_ms: u32) {
        let (reply, unfinished, refused, memo) = match receipt {
            Receipt::Sent => (None, &[][..], &[][..], None),
            Receipt::Delivered { reply, memo, unfinished, refused } => {
                (Some(reply), &unfinished[..], &refused[..], memo.as_deref())
            }
        };
        for (recipient, words) in refused {
            self.refused(delivery, *recipient, words);
        }
        let result = reply.map_or(AttemptResult::Sent, |reply| AttemptResult::Delivered(reply.clone()));
        if unfinished.is_empty() {
            self.record_attempt(delivery, result, took_ms, Next::Done);
            self.state.totals.delivered += 1;
            self.conclude(delivery, memo);
        } else {
            self.state.deliveries[delivery].unfinished = Some(unfinished.into());
            let failure = Failure::transient("some recipients were refused for now");
            self.retry_or_give_up(delivery, &failure, result, took_ms);
        }
    }

    fn failed(&mut self, delivery: u32, failure: &Failure, took_ms: u32) {
        let result = AttemptResult::Failed(failure.kind, failure.reason.clone());
        match failure.kind {
            FailureKind::Permanent => {
                self.record_attempt(delivery, result, took_ms, Next::DeadLetter);
                self.give_up(delivery, DeadReason::Permanent(failure.reason.clone()));
            }
            FailureKind::Transient => self.retry_or_give_up(delivery, failure, result, took_ms),
        }
    }

    fn retry_or_give_up(&mut self, delivery: u32, failure: &Failure, result: AttemptResult, took_ms: u32) {
        let row = &self.state.deliveries[delivery];
        let action = &self.state.actions[row.action as usize];
        let severity = row.critical.then_some(crate::Severity::Critical);
        let age_max = self.state.config().map_or(u64::MAX, |config| config.give_up_ms(severity));
        if !action.spec.patient && self.now.since(row.created) > age_max {
            self.record_attempt(delivery, result, took_ms, Next::DeadLetter);
            self.give_up(delivery, DeadReason::TooOld(failure.reason.clone()));
            return;
        }
        let due = self.now.plus(self.wait_ms(row.id, row.attempts, failure.retry_after_ms));
        let row = &mut self.state.deliveries[delivery];
        row.state = DeliveryState::Waiting;
        row.due = due;
        row.last_failure = Some(failure.reason.as_str().into());
        let (lane, action) = (row.lane, row.action);
        self.record_attempt(delivery, result, took_ms, Next::Retry(due));
        self.ready_head(lane, action);
    }

    /// The wait before the next try: backoff with a jitter that the delivery and attempt decide, at least what the
    /// far end asked for.
    fn wait_ms(&self, id: DeliveryId, attempts: u32, retry_after_ms: Option<u64>) -> u64 {
        let longest = backoff_ms(attempts);
        let hash = self.keyed_hash([&id.0.to_le_bytes()[..], &attempts.to_le_bytes()].into_iter()) as u64;
        let wait = longest / 2 + hash % (longest / 2 + 1);
        wait.max(retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS))
    }

    fn record_attempt(&mut self, delivery: u32, result: AttemptResult, took_ms: u32, next: Next) {
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
        } else if well {
            action.ramp = action.ramp.saturating_mul(2);
        }
    }

    fn far_end_failed(&mut self, number: u32, failure: &Failure) {
        let now = self.now;
        let action = &mut self.state.actions[number as usize];
        action.failures += 1;
        let failures = action.failures;
        if failures >= FAILURES_OPEN {
            let id = action.spec.id.clone();
            let opened = !core::mem::replace(&mut action.open, true);
            let wait = backoff_ms(failures).max(failure.retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS));
            action.probe_at = now.plus(wait);
            if opened {
                self.record(Decided::Breaker { action: id, open: true });
            }
        }
    }

    /// A delivery ended well: what it told is written into its group's log, and its turn passes on.
    pub(super) fn conclude(&mut self, delivery: u32, memo: Option<&[u8]>) {
        for part in self.parts(delivery) {
            self.write_entry(part, memo);
            self.leave(part);
            self.drop_row(part);
        }
    }

    /// A delivery is given up and kept.
    pub(super) fn give_up(&mut self, delivery: u32, reason: DeadReason) {
        for part in self.parts(delivery) {
            self.state.totals.dead_lettered += 1;
            // What was given up counts as told: it is kept, and saying it again would be given up again.
            self.write_entry(part, None);
            self.leave(part);
            let row = &mut self.state.deliveries[part];
            row.state = DeliveryState::Dead(Box::new(reason.clone()));
            row.lane = LaneRef::Detached(row.id.0 as u64);
            let (id, number) = (row.id, row.action);
            let action = self.state.actions[number as usize].spec.id.clone();
            self.record(Decided::DeadLetter { delivery: id, action, reason: reason.clone() });
            if !self.is_about_delivery(part) {
                let counted = self.given_up.entry(number).or_default();
                *counted = (counted.0 + 1, reason.to_string());
            }
        }
    }

    /// A recipient was refused for good: a dead letter of its own.
    fn refused(&mut self, delivery: u32, recipient: u16, words: &str) {
        let row = &self.state.deliveries[delivery];
        let (notification, action, created) = (row.notification, row.action, row.created);
        let dead = self.add_delivery(notification, action, LaneRef::Detached(0));
        let row = &mut self.state.deliveries[dead];
        row.unfinished = Some([recipient].into());
        row.created = created;
        row.lane = LaneRef::Detached(row.id.0 as u64);
        let reason = DeadReason::Permanent(words.to_string());
        row.state = DeliveryState::Dead(Box::new(reason.clone()));
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

    /// A delivery itself, or the parts of a digest, whose own row then goes.
    fn parts(&mut self, delivery: u32) -> Vec<u32> {
        match self.state.digests.remove(&delivery) {
            None => [delivery].into(),
            Some(parts) => {
                self.leave_lane(delivery);
                self.drop_row(delivery);
                parts
            }
        }
    }

    fn write_entry(&mut self, delivery: u32, memo: Option<&[u8]>) {
        let LaneRef::Group { group, lane } = self.state.deliveries[delivery].lane else { return };
        let (firing, resolved) = self.told_by(delivery);
        let number =
            self.state.notifications[self.state.deliveries[delivery].notification].notification.number;
        let now = self.now;
        let lane = &mut self.state.groups[group].lanes[lane as usize];
        let kept = lane.entry.take();
        // Alertmanager forgets receiver data when a group is told for the first time again.
        let memo = memo.map(Into::into).or_else(|| {
            kept.filter(|entry| !entry.firing.is_empty()).and_then(|mut entry| entry.memo.take())
        });
        lane.entry = Some(Entry { firing: firing.into(), resolved: resolved.into(), at: now, number, memo });
        lane.hold = None;
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

    fn leave_lane(&mut self, delivery: u32) {
        let row = &self.state.deliveries[delivery];
        let (lane, action) = (row.lane, row.action);
        self.state.actions[action as usize].ready.remove(&(row.due, row.created, delivery));
        match lane {
            LaneRef::Group { group, lane } => {
                self.state.groups[group].lanes[lane as usize].pending.retain(|known| *known != delivery);
            }
            LaneRef::Detached(key) => {
                if let Some(waiting) = self.state.detached.get_mut(&(key, action)) {
                    waiting.retain(|known| *known != delivery);
                    if waiting.is_empty() {
                        self.state.detached.remove(&(key, action));
                    }
                }
            }
        }
    }

    /// Pending deliveries of groups pin the alerts they name.
    pub(super) fn unpin(&mut self, delivery: u32, lane: LaneRef) {
        if !matches!(lane, LaneRef::Group { .. }) {
            return;
        }
        let notification = &mut self.state.notifications[self.state.deliveries[delivery].notification];
        notification.pins -= 1;
        let last = notification.pins == 0;
        let rows = if last { core::mem::take(&mut notification.rows) } else { notification.rows.clone() };
        for row in rows {
            self.state.alerts[row].pins -= 1;
            self.forget_if_over(row);
        }
    }

    /// Removes a delivery's row, and its notification with the last use.
    pub(super) fn drop_row(&mut self, delivery: u32) {
        let Some(row) = self.state.deliveries.find(delivery) else { return };
        let (id, notification) = (row.id, row.notification);
        if let Ok(entry) = self.delivery_table.find_entry(id.0 as u64, |&known| known == delivery) {
            entry.remove();
        }
        self.state.deliveries.remove(delivery);
        let told = self.state.notifications[notification].notification.clone();
        for noted in told.alerts.iter().filter(|noted| noted.position.is_raised()) {
            self.own_text_uses(noted.position, -1);
        }
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
        let (critical, last_failure) = (row.critical, row.last_failure.clone());
        self.leave_lane(old);
        self.state.actions[action as usize].pending -= 1;
        self.unpin(old, lane);
        self.drop_row(old);
        let row = &mut self.state.deliveries[heir];
        (row.attempts, row.crashes, row.created, row.due) = (attempts, crashes, created, due);
        row.critical |= critical;
        row.last_failure = last_failure;
        let heir_id = row.id;
        self.record(Decided::Superseded { delivery: old_id, by: heir_id });
    }

    /// The process that made these attempts is gone; whether the far ends got them is unknown.
    pub(super) fn forget_attempts(&mut self, crashed: bool) -> u32 {
        let under_way: Vec<u32> = self
            .state
            .deliveries
            .iter()
            .filter(|(_, row)| row.state == DeliveryState::InFlight)
            .map(|(number, _)| number)
            .collect();
        for &delivery in &under_way {
            let now = self.now;
            let row = &mut self.state.deliveries[delivery];
            row.state = DeliveryState::Waiting;
            row.maybe_duplicate = true;
            row.crashes += u8::from(crashed);
            row.due = now;
            let (action, lane, crashes) = (row.action, row.lane, row.crashes);
            self.state.actions[action as usize].in_flight -= 1;
            if crashes >= CRASHES_MAX {
                self.record_attempt(delivery, AttemptResult::Unknown, 0, Next::DeadLetter);
                self.give_up(delivery, DeadReason::Crashes);
            } else {
                self.record_attempt(delivery, AttemptResult::Unknown, 0, Next::Retry(now));
                self.ready_head(lane, action);
            }
        }
        under_way.len() as u32
    }

    /// Tries a dead letter again, from the first attempt, or a waiting delivery at once.
    pub(super) fn retry_now(&mut self, delivery: u32) {
        let now = self.now;
        let row = &mut self.state.deliveries[delivery];
        let (lane, action) = (row.lane, row.action);
        match row.state {
            DeliveryState::Dead(_) => {
                row.state = DeliveryState::Waiting;
                (row.attempts, row.crashes, row.created, row.due) = (0, 0, now, now);
                let LaneRef::Detached(key) = lane else { return };
                self.state.detached.entry((key, action)).or_default().push_back(delivery);
                self.state.actions[action as usize].pending += 1;
            }
            DeliveryState::Waiting => {
                let key = (row.due, row.created, delivery);
                row.due = now;
                self.state.actions[action as usize].ready.remove(&key);
            }
            DeliveryState::InFlight | DeliveryState::InDigest(_) => return,
        }
        // An operator who says "now" has seen to the far end.
        let state = &mut self.state.actions[action as usize];
        state.probe_at = state.probe_at.min(now);
        self.ready_head(lane, action);
    }

    /// Drops a delivery for good, at an operator's word. One that is being attempted stays until its outcome.
    pub(super) fn drop_now(&mut self, delivery: u32) -> bool {
        let row = &self.state.deliveries[delivery];
        match row.state {
            DeliveryState::Dead(_) => {
                self.drop_row(delivery);
                true
            }
            DeliveryState::Waiting => {
                for part in self.parts(delivery) {
                    self.write_entry(part, None);
                    self.leave(part);
                    self.drop_row(part);
                }
                true
            }
            DeliveryState::InFlight | DeliveryState::InDigest(_) => false,
        }
    }
}

/// Most attempts at once that an action may make now.
fn cap(action: &super::state::ActionState) -> u32 {
    let full = action.spec.max_in_flight.max(1).saturating_mul(action.spec.batch_max.max(1));
    if action.open { 1 } else { full.min(action.ramp.max(1)) }
}
