//! Groups: who belongs to them, when they are looked at, and what notifications of theirs are made.
//!
//! The grid is Alertmanager's: the first look after group_wait, later ones at multiples of group_interval after
//! the first. Looks that could change nothing do not happen: a group at rest is due when its repeat is.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::{cmp::Ordering, hash::Hasher};
use siphasher::sip::SipHasher13;
use smol_str::SmolStr;

use super::{
    Machine,
    digests::Work,
    interner::{Interner, Sym},
    looks::Sets,
    members::Members,
    pending::{DeliveryState, LaneRef, NotificationRow, Told},
    pieces::{CHANGE, VISIT},
    state::{Alert, Group, Lane, Member},
    timers::Due,
};
use crate::{
    At,
    config::GroupBy,
    effect::{Decided, GroupName, HoldReason, Noted, NotifyReason},
    matcher::go_quote,
};

/// Most alerts that leave a group at once: more do so in pieces.
const SWEPT_AT_ONCE: usize = 32;

impl Machine {
    /// Makes the alert a member of its group of this route, and answers which that is.
    pub(super) fn join_group(&mut self, row: u32, route: u32) -> u32 {
        let labels = self.group_labels(row, route);
        let hash = self.group_hash(route, &labels);
        let groups = &self.state.groups;
        let same = |group| groups[group].route == route && *groups[group].labels == *labels;
        let group = match self.group_table.find(hash, same) {
            Some(group) => group,
            None => self.new_group(row, route, labels, hash),
        };
        let is_new = self.insert_member(group, row);
        self.touch(group);
        // A config change is worth a word where it moved the alert.
        let stayed = self.moving.as_ref().is_some_and(|moving| moving.was_in(group));
        if is_new && !stayed {
            let (alert, name) = (self.state.alerts[row].fingerprint, self.state.groups[group].name.clone());
            let receiver = self.receiver_name(route);
            self.record(Decided::Routed { alert, group: name, receiver });
        }
        group
    }

    fn new_group(&mut self, row: u32, route: u32, labels: Box<[(Sym, Sym)]>, hash: u64) -> u32 {
        let strings = &mut self.state.strings;
        let texts: Vec<(SmolStr, SmolStr)> = labels
            .iter()
            .map(|(name, value)| (strings.text(*name).into(), strings.text(*value).into()))
            .collect();
        for (name, value) in &texts {
            strings.intern(name);
            strings.intern(value);
        }
        let node = &self.routing.nodes[route as usize];
        let printed: Vec<String> = texts.iter().map(|(n, v)| alloc::format!("{n}={}", go_quote(v))).collect();
        let key = alloc::format!("{}:{{{}}}", node.key, printed.join(", "));
        // Alertmanager's rule: an alert that began long enough ago does not wait once more.
        let waits_until = self.state.alerts[row].starts.0.saturating_add_unsigned(node.group_wait_ms);
        let waited = waits_until <= self.now.wall(self.state.wall_offset()).0;
        let first = if waited { self.now } else { self.now.plus(node.group_wait_ms) };
        let lanes = node.actions.iter().map(|action| Lane { action: *action, ..Lane::default() }).collect();
        let group = self.state.groups.insert(Group {
            route,
            name: Arc::new(GroupName { key, labels: texts }),
            labels,
            members: Members::default(),
            anchor: None,
            looked: 0,
            next: first,
            number: 0,
            lanes,
            hold: None,
            muted: None,
            armed: At::NEVER,
        });
        self.group_table.insert(hash, group);
        self.adopt(group);
        self.know_log(group);
        self.line_up(group);
        self.arm_group(group);
        group
    }

    /// What a config change left of an earlier group of this name is told before what the new one has to tell.
    pub(super) fn line_up(&mut self, group: u32) {
        if self.state.detached.is_empty() {
            return;
        }
        let key = self.lane_key(&self.state.groups[group].name.key);
        for number in 0..self.state.groups[group].lanes.len() {
            let lane = &self.state.groups[group].lanes[number];
            let (action, head) = (lane.action, lane.head);
            if self.state.head(LaneRef::Detached(key), action).is_some() {
                self.state.behind.insert((key, action, group, number as u16));
                head.into_iter().for_each(|head| self.unready(head));
            }
        }
    }

    /// Notes for each route which actions it tells, once they have their numbers.
    pub(super) fn number_actions(&mut self) {
        let mut routing = core::mem::take(&mut self.routing);
        routing.number_actions(|receiver| self.actions_of(receiver));
        let actions = self.state.actions.iter().zip(0..);
        let forwarders = actions.filter(|(action, _)| action.present && action.spec.patient);
        routing.forwarders = forwarders.map(|(_, number)| number).collect();
        self.routing = routing;
    }

    /// The actions of a receiver, by number: looks through all there are.
    pub(super) fn actions_of(&self, receiver: u32) -> Vec<u32> {
        let Some(config) = self.state.config() else { return Vec::new() };
        let actions = config.receivers.get(receiver as usize).map_or(&[][..], |receiver| &receiver.actions);
        actions.iter().filter_map(|action| self.state.action(&action.id)).collect()
    }

    fn group_labels(&self, row: u32, route: u32) -> Box<[(Sym, Sym)]> {
        let labels = &self.state.alerts[row].labels;
        match &self.routing.nodes[route as usize].group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => {
                let strings = &self.state.strings;
                labels
                    .iter()
                    .filter(|(name, _)| names.iter().any(|n| n == strings.text(*name)))
                    .copied()
                    .collect()
            }
        }
    }

    fn group_hash(&self, route: u32, labels: &[(Sym, Sym)]) -> u64 {
        hash_group(self.state.seed, &self.state.strings, route, labels)
    }

    /// Puts the alert at its place in Alertmanager's order; `false` if it is there already.
    fn insert_member(&mut self, group: u32, row: u32) -> bool {
        let state = &mut self.state;
        let first = FIRST_BY.map(|name| state.strings.find(name));
        let order = |other: u32| order(&state.strings, first, &state.alerts[other], &state.alerts[row]);
        state.groups[group].members.insert(row, order)
    }

    /// Something about the group changed: it is looked at on the next point of its grid.
    pub(super) fn touch(&mut self, group: u32) {
        let now = self.now;
        let interval = self.routing.nodes[self.state.groups[group].route as usize].group_interval_ms;
        let row = &mut self.state.groups[group];
        if let Some(anchor) = row.anchor {
            row.next = row.next.min(grid_after(anchor, interval, now));
            self.arm_group(group);
        }
    }

    /// The group is looked at in this very moment, unless it still waits for its first look.
    pub(super) fn look_at_once(&mut self, group: u32) {
        let now = self.now;
        let row = &mut self.state.groups[group];
        if row.anchor.is_some() {
            row.next = row.next.min(now);
            self.arm_group(group);
        }
    }

    /// An alert began to fire: where the route says so, its groups wait for it no longer than group_wait.
    pub(super) fn wait_no_longer(&mut self, row: u32) {
        for index in 0..self.state.alerts[row].members.len() {
            let Member::Group(group) = self.state.alerts[row].members[index] else { continue };
            let node = &self.routing.nodes[self.state.groups[group].route as usize];
            if node.group_wait_each {
                let latest = self.now.plus(node.group_wait_ms);
                let row = &mut self.state.groups[group];
                row.next = row.next.min(latest);
                self.arm_group(group);
            }
        }
    }

    fn arm_group(&mut self, group: u32) {
        let row = &mut self.state.groups[group];
        let next = row.next;
        self.timers.arm(&mut row.armed, next, Due::Group(group));
    }

    /// What a pending delivery of a group tells: identities of firing and resolved alerts, sorted.
    pub(super) fn told_by(&self, delivery: u32) -> (Vec<u64>, Vec<u64>) {
        let row = &self.state.notifications[self.state.deliveries[delivery].notification];
        let (mut firing, mut resolved) = (Vec::new(), Vec::new());
        for (noted, alert) in row.alerts().zip(row.rows()) {
            let identity = self.state.alerts[alert].identity;
            if noted.is_firing() { firing.push(identity) } else { resolved.push(identity) }
        }
        firing.sort_unstable();
        resolved.sort_unstable();
        (firing, resolved)
    }

    pub(super) fn hold_group(&mut self, group: u32, reason: HoldReason) {
        let row = &mut self.state.groups[group];
        if row.hold.as_ref() != Some(&reason) {
            row.hold = Some(reason.clone());
            let name = row.name.clone();
            self.record(Decided::Hold { group: name, action: None, reason, alerts: Vec::new() });
        }
    }

    /// Makes a notification of a group, used by nobody yet.
    pub(super) fn notification(
        &mut self,
        group: u32,
        reason: NotifyReason,
        noted: &[Noted],
        rows: &[u32],
    ) -> u32 {
        let row = &mut self.state.groups[group];
        row.number += 1;
        let (name, number) = (row.name.clone(), row.number);
        let lane_key = self.lane_key(&name.key);
        let told = Told::group(noted, rows);
        self.add_notification(name, number, reason, told, lane_key)
    }

    pub(super) fn add_notification(
        &mut self,
        group: Arc<GroupName>,
        number: u64,
        reason: NotifyReason,
        told: Told,
        lane_key: u64,
    ) -> u32 {
        let config = self.state.config.as_ref().map_or_else(Default::default, |(_, position)| *position);
        self.state.notifications.insert(NotificationRow {
            group,
            number,
            decided_at: self.now,
            decided_wall: self.now.wall(self.state.wall_offset()),
            config,
            lane_key,
            told,
            reason,
            uses: 0,
        })
    }

    /// A new delivery for one lane of a group; it replaces waiting ones that say nothing more.
    pub(super) fn notify(
        &mut self,
        group: u32,
        lane: usize,
        notification: u32,
        sets: &Sets,
        reason: NotifyReason,
    ) {
        let action = self.state.groups[group].lanes[lane].action;
        self.state.groups[group].lanes[lane].hold = None;
        let lane_ref = LaneRef::Group { group, lane: lane as u16 };
        let heir = self.add_delivery(notification, action, lane_ref);
        self.state.notifications[notification].told.pin();
        self.effort.add(sets.rows.len(), CHANGE);
        for row in &sets.rows {
            self.state.alerts[*row].pins += 1;
        }
        // An end that is to be told is the end of what it was told.
        self.state.groups[group].lanes[lane].remembered.retain(|id| sets.resolved.binary_search(id).is_err());
        self.record_notify(heir, reason);
        while let Some(newest) = self.state.last(self.state.groups[group].lanes[lane].head)
            && self.says_nothing_more(group, lane, newest, sets)
        {
            self.supersede(newest, heir);
        }
        self.state.line_up(heir);
        self.ready_head(lane_ref, action);
    }

    /// Whether the lane's newest pending delivery may go because `sets` tells all that only it would tell.
    fn says_nothing_more(&self, group: u32, lane: usize, newest: u32, sets: &Sets) -> bool {
        if self.state.deliveries[newest].state != DeliveryState::Waiting {
            return false;
        }
        let lane = &self.state.groups[group].lanes[lane];
        let before = (lane.head != Some(newest)).then(|| self.told_by(self.state.deliveries[newest].before));
        let (told_firing, told_resolved): (&[u64], &[u64]) = match (&before, &lane.entry) {
            (Some((firing, resolved)), _) => (firing, resolved),
            (None, Some(entry)) => (&entry.firing, &entry.resolved),
            (None, None) => (&[], &[]),
        };
        let (firing, resolved) = self.told_by(newest);
        let send_resolved = self.state.actions[lane.action as usize].spec.send_resolved;
        let carried = |ids: &[u64], told: &[u64], now: &[u64]| {
            ids.iter().all(|id| told.binary_search(id).is_ok() || now.binary_search(id).is_ok())
        };
        carried(&firing, told_firing, &sets.firing)
            && (!send_resolved || carried(&resolved, told_resolved, &sets.resolved))
    }

    /// Lets resolved alerts go once every action was told of them or need not be.
    pub(super) fn sweep(&mut self, group: u32) {
        let Some(row) = self.state.groups.find(group) else { return };
        if row.anchor.is_none() || row.lanes.iter().any(|lane| lane.head.is_some()) {
            return;
        }
        let looked = row.looked;
        let alerts = &self.state.alerts;
        let over = |row: u32| !alerts[row].firing && alerts[row].changed <= looked;
        let gone: Vec<u32> = row.members.iter().copied().filter(|row| over(*row)).collect();
        self.effort.add(row.members.len(), VISIT);
        if gone.is_empty() {
            return self.remove_if_empty(group);
        }
        self.state.groups[group].members.retain(|row| !over(row));
        if gone.len() > SWEPT_AT_ONCE {
            self.works.push_back(Work::Sweep { group, gone: gone.into_iter() });
            return;
        }
        gone.into_iter().for_each(|row| self.leave_group(row, group));
        self.remove_if_empty(group);
    }

    /// A group let an alert go that ended.
    pub(super) fn leave_group(&mut self, row: u32, group: u32) {
        let alert = &mut self.state.alerts[row];
        alert.members = alert.members.iter().copied().filter(|m| *m != Member::Group(group)).collect();
        let others = alert.members.iter().any(|member| matches!(member, Member::Group(_)));
        if !others {
            // The next time that it fires it finds its routes anew.
            alert.members = Box::default();
        }
        self.forget_if_over(row);
    }

    /// Takes a group away that has no members any more: whatever an action believes of it, nothing is left to be told.
    pub(super) fn remove_if_empty(&mut self, group: u32) {
        let leaves = |work: &Work| matches!(work, Work::Sweep { group: known, .. } if *known == group);
        let is_empty = self.state.groups.find(group).is_some_and(|group| group.members.is_empty());
        // Alerts that are still to leave it point to it.
        if is_empty
            && !self.works.iter().any(leaves)
            && let Some(mut row) = self.remove_group(group)
        {
            self.log_group(&mut row);
        }
    }

    /// Takes a group away, with its labels' uses.
    pub(super) fn remove_group(&mut self, group: u32) -> Option<Group> {
        let row = self.state.groups.find(group)?;
        let hash = self.group_hash(row.route, &row.labels);
        self.group_table.remove(hash, group);
        let row = self.state.groups.remove(group)?;
        self.forget_group_mutes(group, &row);
        if !self.state.behind.is_empty() {
            let key = self.lane_key(&row.name.key);
            for (lane, number) in row.lanes.iter().zip(0..) {
                self.state.behind.remove(&(key, lane.action, group, number));
            }
        }
        for (name, value) in &row.labels {
            self.state.strings.release(*name);
            self.state.strings.release(*value);
        }
        Some(row)
    }

    /// Sets the next look at a group at rest: when its repeat is due, on the grid.
    pub(super) fn schedule_look(&mut self, group: u32) {
        let Some(row) = self.state.groups.find(group) else { return };
        let Some(anchor) = row.anchor else { return };
        let node = &self.routing.nodes[row.route as usize];
        let held = |alert: &u32| row.muted.as_ref().is_some_and(|muted| muted.holds(*alert));
        if !row.members.iter().any(|alert| self.state.alerts[*alert].firing && !held(alert)) {
            // Whoever holds it back lets it go.
            return;
        }
        let mut next = row.next;
        for lane in row.lanes.iter().filter(|lane| lane.head.is_none()) {
            let Some(entry) = &lane.entry else { continue };
            let due = entry.at.plus(node.repeat_interval_ms);
            // A repeat that an acknowledgement holds comes up again when that ends or something changes.
            if !matches!(lane.hold, Some(HoldReason::Acknowledged { .. })) || due >= self.now {
                next = next.min(grid_after(anchor, node.group_interval_ms, due.max(self.now)));
            }
        }
        self.state.groups[group].next = next;
        self.arm_group(group);
    }

    /// Tells one occurrence, or an end, to the actions of a route with `notify: each`. `known`: whether the route told
    /// before that the alert fires.
    pub(super) fn notify_each(&mut self, row: u32, route: u32, reason: NotifyReason, known: bool) {
        let node = &self.routing.nodes[route as usize];
        let (name, actions) = (node.each.clone(), node.actions.clone());
        let alert = &self.state.alerts[row];
        let (identity, noted) = (alert.identity, self.noted(alert).marked(true));
        let fingerprint = alert.fingerprint;
        if actions.is_empty() {
            let reason = HoldReason::NobodyToTell;
            self.record(Decided::Hold { group: name, action: None, reason, alerts: [fingerprint].into() });
            return;
        }
        if self.hold_each(row, route, reason, known) {
            return;
        }
        let mut notification = None;
        for &action in &*actions {
            let spec = &self.state.actions[action as usize].spec;
            let hold = if self.state.about.get(&row) == Some(&action) {
                Some(HoldReason::AboutItself)
            } else if reason == NotifyReason::Ended && !spec.send_resolved {
                Some(HoldReason::ResolvesNotSent)
            } else {
                None
            };
            if let Some(reason) = hold {
                let action = Some(spec.id.clone());
                self.record(Decided::Hold {
                    group: name.clone(),
                    action,
                    reason,
                    alerts: [fingerprint].into(),
                });
                continue;
            }
            let number = self.state.delivery_counter + 1;
            let notification = *notification.get_or_insert_with(|| {
                self.add_notification(name.clone(), number, reason, Told::occurrence(noted), identity)
            });
            let lane = LaneRef::Detached(identity);
            let delivery = self.add_delivery(notification, action, lane);
            self.record_notify(delivery, reason);
            self.state.line_up(delivery);
            self.ready_head(lane, action);
        }
    }
}

/// The first point of the grid after `now`.
fn grid_after(anchor: At, interval_ms: u64, now: At) -> At {
    match now.0.checked_sub(anchor.0) {
        None => anchor,
        Some(past) => anchor.plus((past / interval_ms + 1).saturating_mul(interval_ms)),
    }
}

pub(super) fn hash_group(seed: [u64; 2], strings: &Interner, route: u32, labels: &[(Sym, Sym)]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    hasher.write_u32(route);
    for (name, value) in labels {
        hasher.write(strings.text(*name).as_bytes());
        hasher.write_u8(0xFF);
        hasher.write(strings.text(*value).as_bytes());
        hasher.write_u8(0xFF);
    }
    hasher.finish()
}

/// The labels that Alertmanager sorts the alerts of a notification by before all others.
const FIRST_BY: [&str; 2] = ["job", "instance"];

/// Alertmanager's order of alerts in a notification: by `job`, by `instance`, then label sets by size and content.
/// Strings are kept once, so that equal numbers are equal strings: most comparisons read no text at all.
fn order(strings: &Interner, first: [Option<Sym>; 2], a: &Alert, b: &Alert) -> Ordering {
    let compare =
        |x: Sym, y: Sym| if x == y { Ordering::Equal } else { strings.text(x).cmp(strings.text(y)) };
    let value = |alert: &Alert, name: Sym| {
        alert.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    };
    for name in first.into_iter().flatten() {
        let ordering = match (value(a, name), value(b, name)) {
            (Some(x), Some(y)) => compare(x, y),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    a.labels.len().cmp(&b.labels.len()).then_with(|| {
        for ((a_name, a_value), (b_name, b_value)) in a.labels.iter().zip(&b.labels) {
            match compare(*a_name, *b_name) {
                // The smaller name is missing in the other set, and who lacks it comes first.
                Ordering::Less => return Ordering::Greater,
                Ordering::Greater => return Ordering::Less,
                Ordering::Equal => {}
            }
            let ordering = compare(*a_value, *b_value);
            if ordering.is_ne() {
                return ordering;
            }
        }
        Ordering::Equal
    })
}
