//! Looks at a group: what is held back, what each action knows, and whether it is told or held, and why.

use alloc::{borrow::Cow, boxed::Box, vec::Vec};
use smol_str::SmolStr;

use super::{
    Machine,
    members::Place,
    muting::Muted,
    pieces::{CHANGE, Effort, VISIT},
    state::{Alert, Member},
};
use crate::{
    At, Fingerprint, Reason,
    effect::{Decided, HoldReason, Noted, NotifyReason},
};

/// What a group looks like to one action at one moment: rows, and identities sorted.
#[derive(Debug, Default)]
pub(super) struct Sets {
    pub noted: Vec<Noted>,
    pub rows: Vec<u32>,
    pub firing: Vec<u64>,
    pub resolved: Vec<u64>,
}

/// A look at a group that is under way.
#[derive(Debug)]
pub(super) struct Looking {
    group: u32,
    stage: Stage,
}

/// How far a look has come.
#[derive(Debug)]
enum Stage {
    /// Which members are held back is being found out, from this one on.
    Muting(Place, Muted),
    /// What is not held back is put together, from this member on.
    Gathering(Place, Sets),
    /// Each action is decided for.
    Lanes {
        sets: Sets,
        /// The lane that is next.
        next: usize,
        /// Notifications made: reason and row.
        made: Vec<(NotifyReason, u32)>,
    },
}

/// What an action believes: identities of alerts that it was told, or is to be told, as firing and as resolved.
struct Base<'a> {
    firing: Cow<'a, [u64]>,
    resolved: Cow<'a, [u64]>,
    /// Whether it was or is to be told anything at all.
    known: bool,
    /// Whether what it was or is to be told last was that nothing fires.
    over: bool,
}

/// From this many alerts on a look pauses after each action.
const LARGE: usize = 1_000;

impl Sets {
    fn sort(&mut self) {
        self.firing.sort_unstable();
        self.resolved.sort_unstable();
    }
}

impl Machine {
    /// Looks at a group: sees what is held back, decides for each of its actions, and makes what notifications that
    /// takes. A large group takes several pieces of work.
    pub(super) fn look(&mut self, group: u32, left: &mut i64) {
        let now = self.now;
        let row = &mut self.state.groups[group];
        row.anchor.get_or_insert(now);
        row.next = At::NEVER;
        if self.mutes_nothing() && self.state.groups[group].muted.is_none() {
            self.looking = Some(Looking { group, stage: self.gather_from_the_first() });
        } else {
            self.looking = Some(Looking { group, stage: Stage::Muting(Place::default(), Muted::default()) });
        }
        let small = self.state.groups[group].members.len() < LARGE;
        while small
            && *left > 0
            && let Some(looking) = self.looking.take()
        {
            self.look_on(looking, *left);
            self.effort.pay(left);
        }
    }

    /// What is held back is known.
    fn gather_from_the_first(&self) -> Stage {
        Stage::Gathering(Place::default(), Sets::default())
    }

    /// Goes on with a look, by one piece of work that `left` has room for.
    pub(super) fn look_on(&mut self, looking: Looking, left: i64) {
        let Looking { group, stage } = looking;
        match stage {
            Stage::Muting(mut place, mut muted) => {
                let stage = if self.mute_members(group, &mut place, &mut muted, left) {
                    self.note_muted(group, muted);
                    self.gather_from_the_first()
                } else {
                    Stage::Muting(place, muted)
                };
                self.looking = Some(Looking { group, stage });
            }
            Stage::Gathering(mut place, mut sets) => {
                let stage = if self.gather_sets(group, None, &mut place, &mut sets, Effort::most(left)) {
                    sets.sort();
                    if self.state.groups[group].lanes.is_empty() {
                        self.hold_group(group, HoldReason::NobodyToTell);
                    }
                    Stage::Lanes { sets, next: 0, made: Vec::new() }
                } else {
                    Stage::Gathering(place, sets)
                };
                self.looking = Some(Looking { group, stage });
            }
            Stage::Lanes { sets, next, mut made } => {
                // It is compared with what was told, and with what ended.
                self.effort.add(sets.rows.len(), 4 * VISIT);
                if next < self.state.groups[group].lanes.len() {
                    self.look_at_lane(group, next, &sets, &mut made);
                    self.looking =
                        Some(Looking { group, stage: Stage::Lanes { sets, next: next + 1, made } });
                } else {
                    self.state.groups[group].looked = self.state.next_moment();
                    self.sweep(group);
                    self.schedule_look(group);
                }
            }
        }
    }

    /// Decides for one action.
    fn look_at_lane(&mut self, group: u32, lane: usize, all: &Sets, made: &mut Vec<(NotifyReason, u32)>) {
        self.remember_told(group, lane);
        let own = self.sees_its_own(group, lane).then(|| {
            let (mut place, mut sets) = Default::default();
            self.gather_sets(group, Some(lane), &mut place, &mut sets, u64::MAX);
            sets.sort();
            sets
        });
        let sets = own.as_ref().unwrap_or(all);
        if !sets.rows.is_empty() {
            self.hold_about_itself(group, lane);
        }
        if sets.rows.is_empty() && self.state.groups[group].muted.is_some() {
            // The reason is on record with the group.
            return;
        }
        let decided = self.decide(group, lane, sets);
        let short = self.short(group, lane, sets);
        match decided.clone() {
            Ok(reason) => {
                let noted = self.marked(group, lane, sets);
                let same = |(known, row): &&(NotifyReason, u32)| {
                    let row = &self.state.notifications[*row];
                    *known == reason
                        && row.rows().eq(sets.rows.iter().copied())
                        && row.alerts().eq(noted.iter().copied())
                };
                let notification = match made.iter().find(same) {
                    Some((_, notification)) => *notification,
                    None => {
                        let notification = self.notification(group, reason, &noted, &sets.rows);
                        made.push((reason, notification));
                        notification
                    }
                };
                self.notify(group, lane, notification, sets, reason);
            }
            Err(hold) => self.hold(group, lane, hold, sets),
        }
        self.hold_short(group, lane, &decided, short);
    }

    /// Whether the action sees the group in another way than others do: without own alerts about itself, or with ends
    /// that are muted for those who were not told of the beginning.
    fn sees_its_own(&self, group: u32, lane: usize) -> bool {
        self.excluded(group, lane)
            || self.tells_muted_ends()
                && self.state.groups[group].muted.as_ref().is_some_and(|muted| muted.ended)
    }

    fn tells_muted_ends(&self) -> bool {
        self.state.config().is_none_or(|config| config.muting.resolve_when_muted)
    }

    /// Whether the group holds own alerts about the lane's action, which it must not tell.
    fn excluded(&self, group: u32, lane: usize) -> bool {
        let group = &self.state.groups[group];
        let action = group.lanes[lane].action;
        !self.state.about.is_empty()
            && group.members.iter().any(|row| self.state.about.get(row) == Some(&action))
    }

    /// Own alerts about the lane's action that fire since the last look and that it does not tell beside others.
    fn hold_about_itself(&mut self, group: u32, lane: usize) {
        if self.state.about.is_empty() {
            return;
        }
        let row = &self.state.groups[group];
        let action = row.lanes[lane].action;
        let about = row.members.iter().filter(|member| self.state.about.get(member) == Some(&action));
        let alerts = about.map(|member| &self.state.alerts[*member]);
        let fresh = alerts.filter(|alert| alert.firing && alert.changed > row.looked);
        let alerts: Vec<_> = fresh.map(|alert| alert.fingerprint).collect();
        if !alerts.is_empty() {
            let action = Some(self.state.actions[action as usize].spec.id.clone());
            let (group, reason) = (row.name.clone(), HoldReason::AboutItself);
            self.record(Decided::Hold { group, action, reason, alerts });
        }
    }

    /// The group as it is now, without what is held back, from a place on, which moves on by about so many grains of work;
    /// `true` once all members are seen. As one action sees it: without own alerts about itself, and with the ends of what
    /// it was told of before that was held back.
    fn gather_sets(
        &mut self,
        group: u32,
        lane: Option<usize>,
        place: &mut Place,
        sets: &mut Sets,
        most: u64,
    ) -> bool {
        let row = &self.state.groups[group];
        let muted = row.muted.as_deref();
        let action = lane.map(|lane| row.lanes[lane].action);
        let told =
            lane.filter(|_| muted.is_some() && self.tells_muted_ends()).map(|lane| self.base(group, lane));
        let mut seen = 0;
        while let Some(member) = row.members.walk(place) {
            seen += 1;
            let alert = &self.state.alerts[member];
            let is_about_it = action.is_some() && self.state.about.get(&member) == action.as_ref();
            let is_held = !is_about_it && muted.is_some_and(|muted| muted.holds(member)) && {
                let told =
                    told.as_ref().is_some_and(|told| told.firing.binary_search(&alert.identity).is_ok());
                alert.firing || !told
            };
            if !is_about_it && !is_held {
                sets.noted.push(self.noted(alert));
                sets.rows.push(member);
                if alert.firing {
                    sets.firing.push(alert.identity);
                } else {
                    sets.resolved.push(alert.identity);
                }
            }
            if seen as u64 * 2 * VISIT >= most {
                break;
            }
        }
        let mut next = *place;
        let done = row.members.walk(&mut next).is_none();
        drop(told);
        self.effort.add(seen, 2 * VISIT);
        done
    }

    /// What an action believes of a group: the newest pending notification stands in for what was told.
    fn base(&self, group: u32, lane: usize) -> Base<'_> {
        let lane = &self.state.groups[group].lanes[lane];
        // What an operator dropped counts as told, though something decided before it waits.
        let newest = self.state.last(lane.head);
        let newest = newest
            .filter(|newest| lane.entry.as_ref().is_none_or(|entry| entry.number < self.number_of(*newest)));
        let (mut firing, resolved, known): (Cow<'_, [u64]>, Cow<'_, [u64]>, bool) =
            match (newest, &lane.entry) {
                (Some(newest), _) => {
                    let (firing, resolved) = self.told_by(newest);
                    (firing.into(), resolved.into(), true)
                }
                (None, Some(entry)) => ((&*entry.firing).into(), (&*entry.resolved).into(), true),
                (None, None) => ((&[]).into(), (&[]).into(), false),
            };
        let over = known && firing.is_empty();
        if !lane.remembered.is_empty() {
            let all = firing.to_mut();
            all.extend(&lane.remembered);
            all.sort_unstable();
            all.dedup();
        }
        Base { firing, resolved, known, over }
    }

    /// Keeps in mind which of the alerts that are held back now the action was told of.
    fn remember_told(&mut self, group: u32, lane: usize) {
        let remembers = self.state.config().is_none_or(|config| config.muting.remember_told);
        let row = &self.state.groups[group];
        if !remembers || row.muted.is_none() && row.lanes[lane].remembered.is_empty() {
            return;
        }
        // What is to be told counts: an end that waits is the end of what was told before.
        let base = self.base(group, lane);
        let told: Vec<u64> = base.firing.iter().filter(|id| self.is_held(group, **id)).copied().collect();
        let looked_at = base.firing.len();
        self.effort.add(looked_at, CHANGE);
        self.state.groups[group].lanes[lane].remembered.extend(told);
    }

    /// An alert began to fire: whatever its groups' actions were told of it before is another matter.
    pub(super) fn forget_told(&mut self, row: u32) {
        let alert = &self.state.alerts[row];
        for member in &alert.members {
            let Member::Group(group) = member else { continue };
            for lane in &mut self.state.groups[*group].lanes {
                lane.remembered.remove(&alert.identity);
            }
        }
    }

    /// Somebody who is told of ends no more, and was told that all is over: what is held back and fires on is news once it
    /// is let go.
    pub(super) fn forget_what_is_over(&mut self, group: u32, lane: usize) {
        if self.base(group, lane).over {
            self.state.groups[group].lanes[lane].remembered.clear();
        }
    }

    /// Whether an action was told, or is to be told, that the alert of this identity fires.
    #[cfg(test)]
    pub(super) fn knows(&self, group: u32, lane: usize, identity: u64) -> bool {
        self.base(group, lane).firing.binary_search(&identity).is_ok()
    }

    /// The alert as a notification decided now shows it.
    pub(super) fn noted(&self, alert: &Alert) -> Noted {
        let offset = self.state.wall_offset();
        let ended = (!alert.firing).then(|| alert.ends.min(self.now).wall(offset));
        Noted::new(alert.position, self.now.wall(offset), alert.starts, ended)
    }

    /// The alerts of a notification for one action: what it does not know yet is marked as news.
    fn marked(&self, group: u32, lane: usize, sets: &Sets) -> Vec<Noted> {
        let base = self.base(group, lane);
        let is_new = |noted: &Noted, row: u32| {
            let known = if noted.is_firing() { &base.firing } else { &base.resolved };
            known.binary_search(&self.state.alerts[row].identity).is_err()
        };
        sets.noted.iter().zip(&sets.rows).map(|(noted, row)| noted.marked(is_new(noted, *row))).collect()
    }

    /// Alertmanager's `needsUpdate`, with the newest pending notification standing in for the log.
    fn decide(&mut self, group: u32, lane: usize, sets: &Sets) -> Reason {
        let row = &self.state.groups[group];
        if sets.noted.is_empty() && !row.members.is_empty() {
            return Err(HoldReason::AboutItself);
        }
        let (number, lane) = (lane, &row.lanes[lane]);
        let spec = &self.state.actions[lane.action as usize].spec;
        let send_resolved = spec.send_resolved;
        let node = &self.routing.nodes[row.route as usize];
        let base = self.base(group, number);
        if !is_subset(&sets.firing, &base.firing) {
            return Ok(if base.firing.is_empty() {
                NotifyReason::FirstTime
            } else {
                NotifyReason::NewAlerts
            });
        }
        // Those who close what they opened for a group closed it, though this was held back and went on firing.
        if base.over && send_resolved && !sets.firing.is_empty() {
            return Ok(NotifyReason::FirstTime);
        }
        let of_others = |id: &u64| self.is_as_alertmanager() || !self.is_held(group, *id);
        if sets.firing.is_empty() && base.known && base.firing.iter().any(of_others) {
            return if send_resolved {
                Ok(NotifyReason::AllResolved)
            } else {
                Err(HoldReason::ResolvesNotSent)
            };
        }
        if !sets.firing.is_empty() && send_resolved && self.tells_ends(group, sets, &base) {
            return Ok(NotifyReason::SomeResolved);
        }
        let short = !self.short(group, number, sets).is_empty();
        if short && node.tell_short {
            return Ok(NotifyReason::Short);
        }
        let pending = lane.head.is_some();
        let repeat_due =
            lane.entry.as_ref().is_some_and(|entry| entry.at.plus(node.repeat_interval_ms) < self.now);
        let hold = if pending {
            HoldReason::AlreadyPending
        } else if sets.firing.is_empty() || !repeat_due {
            HoldReason::NothingNew
        } else {
            match self.everybody_acknowledged(sets) {
                Some(by) => HoldReason::Acknowledged { by },
                None => return Ok(NotifyReason::RepeatDue),
            }
        };
        Err(if short { HoldReason::ResolvedBeforeTold } else { hold })
    }

    /// Whether an action that believes `base` has ends to hear of beside what fires.
    fn tells_ends(&self, group: u32, sets: &Sets, base: &Base<'_>) -> bool {
        if self.is_as_alertmanager() {
            return !is_subset(&sets.resolved, &base.resolved);
        }
        // What was over at the look before, and is told to nobody yet, was held back then: who was not told of the
        // beginning is not told of the end.
        let looked = self.state.groups[group].looked;
        let ended = sets.rows.iter().map(|row| &self.state.alerts[*row]).filter(|alert| !alert.firing);
        ended
            .filter(|alert| base.resolved.binary_search(&alert.identity).is_err())
            .any(|alert| alert.changed > looked || base.firing.binary_search(&alert.identity).is_ok())
    }

    /// Whether the alert of this identity fires and is held back in this group.
    pub(super) fn is_held(&self, group: u32, identity: u64) -> bool {
        let Some(muted) = &self.state.groups[group].muted else { return false };
        let row = self.alert_table.find(identity, |row| self.state.alerts[row].identity == identity);
        row.is_some_and(|row| self.state.alerts[row].firing && muted.holds(row))
    }

    /// Who took charge, if somebody did of every alert that fires.
    fn everybody_acknowledged(&self, sets: &Sets) -> Option<SmolStr> {
        let mut by = None;
        for alert in sets.rows.iter().map(|row| &self.state.alerts[*row]).filter(|alert| alert.firing) {
            by = Some(&alert.acknowledged.as_ref()?.by);
        }
        by.cloned()
    }

    /// Keeps the reason of a hold, once for as long as it stays the same.
    fn hold(&mut self, group: u32, lane: usize, reason: HoldReason, sets: &Sets) {
        let now = self.now;
        let row = &mut self.state.groups[group];
        let lane_row = &mut row.lanes[lane];
        if reason == HoldReason::ResolvesNotSent {
            lane_row.remembered.retain(|id| sets.resolved.binary_search(id).is_err());
        }
        if reason == HoldReason::ResolvesNotSent
            && let Some(entry) = &mut lane_row.entry
        {
            // Alertmanager logs success here, so that what fires again is told again.
            *entry = super::state::Entry {
                firing: Box::default(),
                resolved: sets.resolved.clone().into(),
                at: now,
                number: entry.number,
                memo: entry.memo.take(),
            };
        }
        let alerts = match reason {
            HoldReason::ResolvedBeforeTold => self.short(group, lane, sets),
            _ => Vec::new(),
        };
        let row = &mut self.state.groups[group];
        let lane_row = &mut row.lanes[lane];
        if lane_row.hold.as_ref() != Some(&reason) || !alerts.is_empty() {
            lane_row.hold = Some(reason.clone());
            let (name, action) = (row.name.clone(), lane_row.action);
            let action = Some(self.state.actions[action as usize].spec.id.clone());
            self.record(Decided::Hold { group: name, action, reason, alerts });
        }
    }

    /// What ended before it was told, and what is decided beside it does not say: it is on record all the same.
    fn hold_short(&mut self, group: u32, lane: usize, decided: &Reason, alerts: Vec<Fingerprint>) {
        let row = &self.state.groups[group];
        let spec = &self.state.actions[row.lanes[lane].action as usize].spec;
        let says_so = match decided {
            // A repeat is told because of what fires; its reason says nothing of what ended.
            Ok(NotifyReason::RepeatDue) => false,
            Ok(reason) => spec.send_resolved || *reason == NotifyReason::Short,
            Err(hold) => *hold != HoldReason::ResolvesNotSent,
        };
        if says_so || alerts.is_empty() {
            return;
        }
        let (group, reason) = (row.name.clone(), HoldReason::ResolvedBeforeTold);
        let action = Some(spec.id.clone());
        self.record(Decided::Hold { group, action, reason, alerts });
    }

    /// Alerts that fired and ended since the last look without the lane telling that they fire.
    fn short(&self, group: u32, lane: usize, sets: &Sets) -> Vec<Fingerprint> {
        let looked = self.state.groups[group].looked;
        let base = self.base(group, lane);
        // There an end that was told may come once more.
        let again = self.is_as_alertmanager();
        let told = |alert: &Alert| {
            let ended = base.resolved.binary_search(&alert.identity).is_ok();
            let was_over = if again { ended } else { alert.changed <= looked };
            was_over || base.firing.binary_search(&alert.identity).is_ok()
        };
        let ended = sets.rows.iter().map(|row| &self.state.alerts[*row]).filter(|alert| !alert.firing);
        ended.filter(|alert| !told(alert)).map(|alert| alert.fingerprint).collect()
    }
}

/// Whether every element of `part` is in `whole`; both sorted.
fn is_subset(part: &[u64], whole: &[u64]) -> bool {
    part.len() <= whole.len() && part.iter().all(|id| whole.binary_search(id).is_ok())
}
