//! Muting: alerts that fire and are not told for a while, because a silence, another alert or the time of the week
//! holds them back. Who holds what back is known both ways, so that the end of a silence costs what it frees.
//!
//! What is held is decided anew at each look at a group. Whatever held something back lets it go when it ends: what
//! it held is then looked at once more, at once or at the group's next turn as the configuration says.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};
use serde::{Deserialize, Serialize};

use super::{
    Machine,
    alerts::RowLabels,
    inhibition::Key,
    members::Place,
    pieces::{CHANGE, Effort, MATCHER, VISIT},
    state::{Alert, Group, Member},
};
use crate::{
    At, Fingerprint, Wall,
    effect::{Decided, HoldReason, NotifyReason},
};

/// What can hold an alert back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Holder {
    /// The silence of this row.
    Silence(u32),
    /// Firing alerts, by this rule and with these values of its `equal` labels.
    Inhibition(u32, Key),
    /// The time intervals of this route.
    Times(u32),
}

/// What is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Held {
    /// Some or all of a group.
    Group(u32),
    /// What an alert has to tell by a route with `notify: each`: rows of alert and route.
    Each(u32, u32),
}

/// What a route with `notify: each` has not told of an alert, because it was held.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Untold {
    /// Who holds it.
    pub holders: Vec<Holder>,
    /// Whether an earlier occurrence was told since the alert began to fire: then its end is told, too.
    pub known: bool,
}

/// What was held back at the last look at a group.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Muted {
    /// Rows of alerts that are held, in ascending order, each with the number of its reason.
    rows: Vec<(u32, u32)>,
    reasons: Vec<HoldReason>,
    /// Whether everything is, because of the time.
    all: bool,
    /// Whether an alert that ended is among them.
    pub ended: bool,
    /// Who lets it go.
    holders: BTreeSet<Holder>,
}

/// Reasons that a new one is compared with: neighbours are mostly held for the same.
const REASONS_COMPARED: usize = 8;

impl Muted {
    /// Whether this alert is held.
    pub fn holds(&self, row: u32) -> bool {
        self.all || self.rows.binary_search_by_key(&row, |(row, _)| *row).is_ok()
    }

    fn reason(&self, row: u32) -> Option<&HoldReason> {
        let place = self.rows.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        self.reasons.get(self.rows[place].1 as usize)
    }

    fn add(&mut self, row: u32, reason: HoldReason, holders: Vec<Holder>) {
        let newest = self.reasons.iter().enumerate().rev().take(REASONS_COMPARED);
        let known = newest.into_iter().find(|(_, known)| **known == reason).map(|(number, _)| number);
        let number = known.unwrap_or_else(|| {
            self.reasons.push(reason);
            self.reasons.len() - 1
        });
        self.rows.push((row, number as u32));
        self.holders.extend(holders);
    }
}

impl Machine {
    /// Whether nothing at all is configured or made that could hold an alert back.
    pub(super) fn mutes_nothing(&self) -> bool {
        self.state.silences.is_empty() && self.routing.inhibition.is_empty() && !self.routing.has_times
    }

    /// What holds back everything that the route tells at this moment of the wall clock.
    pub(super) fn out_of_time(&self, route: u32, wall: Wall) -> Option<HoldReason> {
        let node = &self.routing.nodes[route as usize];
        let calendar = &self.routing.calendar;
        let active = &node.active_times;
        if !active.is_empty() && !active.iter().any(|interval| calendar.contains(*interval, wall)) {
            return Some(HoldReason::OutsideActiveTimes);
        }
        let muting = node.mute_times.iter().find(|interval| calendar.contains(**interval, wall))?;
        Some(HoldReason::MuteTime { interval: calendar.name(*muting).clone() })
    }

    /// Why an alert is not told by a route now, and who lets it go. In the order in which Alertmanager asks: other
    /// alerts, the time, silences. `tried` counts the matchers that took.
    fn mute_of(&self, row: u32, route: u32, tried: &mut usize) -> Option<(HoldReason, Vec<Holder>)> {
        let wall = self.now.wall(self.state.wall_offset());
        let alert = &self.state.alerts[row];
        self.inhibited_counting(alert, tried)
            .or_else(|| Some((self.out_of_time(route, wall)?, [Holder::Times(route)].into())))
            .or_else(|| self.silenced_counting(alert, wall, tried))
    }

    /// Whether anything holds an alert back now from those whom a route tells.
    pub(super) fn is_muted_for(&self, row: u32, route: u32) -> bool {
        !self.mutes_nothing() && self.mute_of(row, route, &mut 0).is_some()
    }

    /// The silences that hold at this moment and match the alert.
    pub(super) fn silenced(&self, alert: &Alert, wall: Wall) -> Option<(HoldReason, Vec<Holder>)> {
        self.silenced_counting(alert, wall, &mut 0)
    }

    fn silenced_counting(
        &self,
        alert: &Alert,
        wall: Wall,
        tried: &mut usize,
    ) -> Option<(HoldReason, Vec<Holder>)> {
        let labels = RowLabels { strings: &self.state.strings, labels: &alert.labels };
        let rows = self.state.silences.matching(&labels, self.routing.severities(), wall, tried);
        let mut by: Vec<_> = rows.iter().map(|row| self.state.silences.id(*row)).collect();
        by.sort_unstable();
        let holders = rows.into_iter().map(Holder::Silence).collect();
        (!by.is_empty()).then_some((HoldReason::Silenced { by }, holders))
    }

    /// Sees which members of a group are held, from a place on, which moves on with what `left` has room for; `true` once
    /// all are seen.
    pub(super) fn mute_members(
        &mut self,
        group: u32,
        place: &mut Place,
        muted: &mut Muted,
        left: i64,
    ) -> bool {
        let Group { route, members, .. } = &self.state.groups[group];
        let wall = self.now.wall(self.state.wall_offset());
        if *place == Place::default()
            && let Some(reason) = self.out_of_time(*route, wall)
        {
            let any_ended = members.iter().any(|row| !self.state.alerts[*row].firing);
            (muted.all, muted.ended) = (true, any_ended);
            muted.reasons.push(reason);
            muted.holders.insert(Holder::Times(*route));
            self.effort.add(members.len(), VISIT);
            return true;
        }
        let (most, mut seen, mut tried) = (Effort::most(left), 0, 0);
        let done = loop {
            let Some(row) = members.walk(place) else { break true };
            let alert = &self.state.alerts[row];
            let mute = self.inhibited_counting(alert, &mut tried);
            if let Some((reason, holders)) = mute.or_else(|| self.silenced_counting(alert, wall, &mut tried))
            {
                muted.ended |= !alert.firing;
                muted.add(row, reason, holders);
            }
            seen += 1;
            if seen as u64 * CHANGE + tried as u64 * MATCHER >= most {
                break false;
            }
        };
        self.effort.add(seen, CHANGE);
        self.effort.add(tried, MATCHER);
        done
    }

    /// Keeps what a look found held, and records what is held for another reason than before.
    pub(super) fn note_muted(&mut self, group: u32, mut muted: Muted) {
        muted.rows.sort_unstable();
        self.effort.add(muted.rows.len(), 2 * VISIT);
        let now_held = !muted.reasons.is_empty();
        let before = self.state.groups[group].muted.take();
        if let Some(before) = &before {
            self.release(&before.holders, Held::Group(group));
        }
        if muted.all {
            self.hold_group(group, muted.reasons[0].clone());
        } else if before.as_ref().is_some_and(|before| before.all) {
            self.state.groups[group].hold = None;
        }
        self.record_muted(group, before.as_deref(), &muted);
        if now_held {
            self.hold_by(&muted.holders, Held::Group(group));
            self.state.groups[group].muted = Some(Box::new(muted));
        }
    }

    /// One record for each reason that alerts are held for and were not at the look before.
    fn record_muted(&mut self, group: u32, before: Option<&Muted>, muted: &Muted) {
        let mut fresh: Vec<Vec<Fingerprint>> = muted.reasons.iter().map(|_| Vec::new()).collect();
        for (row, number) in &muted.rows {
            let reason = &muted.reasons[*number as usize];
            if before.and_then(|before| before.reason(*row)) != Some(reason) {
                fresh[*number as usize].push(self.state.alerts[*row].fingerprint);
            }
        }
        let (name, members) = (&self.state.groups[group].name, self.state.groups[group].members.len());
        let name = name.clone();
        for (reason, alerts) in muted.reasons.iter().zip(fresh) {
            if alerts.is_empty() {
                continue;
            }
            // No list means the whole group.
            let alerts = if alerts.len() == members { Vec::new() } else { alerts };
            self.record(Decided::Hold { group: name.clone(), action: None, reason: reason.clone(), alerts });
        }
    }

    fn hold_by<'a>(&mut self, holders: impl IntoIterator<Item = &'a Holder>, held: Held) {
        for holder in holders {
            self.state.holders.entry(holder.clone()).or_default().insert(held);
            if let Holder::Times(route) = holder {
                self.watch_times(*route);
            }
        }
    }

    fn release<'a>(&mut self, holders: impl IntoIterator<Item = &'a Holder>, held: Held) {
        for holder in holders {
            if let Some(all) = self.state.holders.get_mut(holder) {
                all.remove(&held);
                if all.is_empty() {
                    self.state.holders.remove(holder);
                }
            }
        }
    }

    /// A holder ends: what it held is looked at once more.
    pub(super) fn let_go(&mut self, holder: &Holder) {
        if let Some(held) = self.state.holders.remove(holder) {
            let at_once = !matches!(holder, Holder::Inhibition(..));
            self.unmuting.extend(held.into_iter().map(|held| (held, at_once)));
        }
    }

    /// Looks after one thing that was let go; `false` if there is none.
    pub(super) fn unmute_one(&mut self, left: &mut i64) -> bool {
        let Some((held, at_once)) = self.unmuting.pop_front() else { return false };
        *left -= 1;
        let tells = self.state.config().is_none_or(|config| config.muting.notify_when_unmuted);
        let at_once = at_once && tells;
        match held {
            Held::Group(group) if self.state.groups.find(group).is_none() => {}
            Held::Group(group) if at_once => self.look_at_once(group),
            Held::Group(group) => self.touch(group),
            // There is no turn to wait for.
            Held::Each(row, route) => self.tell_held(row, route),
        }
        true
    }

    /// An occurrence that nobody was told of, because it was held, is told if it still fires and nothing else holds
    /// it.
    fn tell_held(&mut self, row: u32, route: u32) {
        let Some(untold) = self.state.untold.get(&(row, route)) else { return };
        let known = untold.known;
        let still_there = self
            .state
            .alerts
            .find(row)
            .is_some_and(|alert| alert.firing && alert.members.contains(&Member::Each(route)));
        if still_there {
            self.notify_each(row, route, NotifyReason::Occurrence, known);
        }
    }

    /// Whether `notify: each` holds this back. Says so, and remembers what was not told. `known`: whether the firing that
    /// it belongs to was told, unless something of that firing is held already.
    pub(super) fn hold_each(&mut self, row: u32, route: u32, reason: NotifyReason, known: bool) -> bool {
        let before = self.stop_holding(row, route);
        if before.is_none() && self.mutes_nothing() {
            return false;
        }
        let known = before.unwrap_or(known);
        let mut tried = 0;
        let mute = self.mute_of(row, route, &mut tried);
        self.effort.add(tried, MATCHER);
        let ended = reason == NotifyReason::Ended;
        let fingerprint = self.state.alerts[row].fingerprint;
        let name = self.routing.nodes[route as usize].each.clone();
        let hold = |reason: HoldReason| Decided::Hold {
            group: name,
            action: None,
            reason,
            alerts: [fingerprint].into(),
        };
        if ended {
            let tells_ends = self.state.config().is_none_or(|config| config.muting.resolve_when_muted);
            let reason = match mute {
                // Nobody was told that it fired.
                _ if !known => HoldReason::ResolvedBeforeTold,
                Some((reason, _)) if !tells_ends => reason,
                _ => return false,
            };
            self.record(hold(reason));
            return true;
        }
        let Some((reason, holders)) = mute else { return false };
        self.record(hold(reason));
        self.hold_by(&holders, Held::Each(row, route));
        self.state.untold.insert((row, route), Untold { holders, known });
        true
    }

    /// Nobody holds any more what a route with `notify: each` has to tell of an alert. Answers, if something was held,
    /// whether the firing that it belongs to was told.
    fn stop_holding(&mut self, row: u32, route: u32) -> Option<bool> {
        let untold = self.state.untold.remove(&(row, route))?;
        self.release(&untold.holders, Held::Each(row, route));
        Some(untold.known)
    }

    /// Something that happened is over, which is told to nobody: what was held up to now never is told.
    pub(super) fn over_untold(&mut self, row: u32, route: u32) {
        if self.stop_holding(row, route) == Some(false) {
            let group = self.routing.nodes[route as usize].each.clone();
            let alerts = [self.state.alerts[row].fingerprint].into();
            let reason = HoldReason::ResolvedBeforeTold;
            self.record(Decided::Hold { group, action: None, reason, alerts });
        }
    }

    /// A group goes: nobody holds it any more.
    pub(super) fn forget_group_mutes(&mut self, group: u32, row: &Group) {
        if let Some(muted) = &row.muted {
            self.release(&muted.holders, Held::Group(group));
        }
    }

    /// An alert goes: nobody holds it any more.
    pub(super) fn forget_alert_mutes(&mut self, row: u32) {
        if self.state.untold.is_empty() {
            return;
        }
        let routes: Vec<u32> =
            self.state.untold.range((row, 0)..=(row, u32::MAX)).map(|((_, r), _)| *r).collect();
        for route in routes {
            self.stop_holding(row, route);
        }
    }

    /// Sees to it that the end of what the times of this route hold is noticed.
    fn watch_times(&mut self, route: u32) {
        let offset = self.state.wall_offset();
        let wall = self.now.wall(offset);
        let node = &self.routing.nodes[route as usize];
        let intervals = node.active_times.iter().chain(&node.mute_times);
        let next = intervals.filter_map(|interval| self.routing.calendar.next_change(*interval, wall)).min();
        // Never in this moment again: the wall clock may be behind what it was.
        let at = next.map_or(At::NEVER, |next| next.at(offset).max(self.now.plus(1)));
        self.state.times_due = Some(self.state.times_due.map_or(at, |due| due.min(at)));
        self.arm_times();
    }

    pub(super) fn arm_times(&mut self) {
        let due = self.state.times_due.unwrap_or(At::NEVER);
        self.timers.arm(&mut self.times_armed, due, super::timers::Due::Times);
    }

    /// Times may have begun or ended: routes that may tell again let go what they held.
    pub(super) fn times_changed(&mut self) {
        self.state.times_due = None;
        let wall = self.now.wall(self.state.wall_offset());
        let all = Holder::Times(0)..=Holder::Times(u32::MAX);
        let routes: Vec<u32> = self
            .state
            .holders
            .range(all)
            .filter_map(|(holder, _)| if let Holder::Times(route) = holder { Some(*route) } else { None })
            .collect();
        for route in routes {
            if self.out_of_time(route, wall).is_none() {
                self.let_go(&Holder::Times(route));
            } else {
                self.watch_times(route);
            }
        }
    }
}
