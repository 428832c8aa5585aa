//! Questions: read-only looks at the state, for APIs, people and the shell.

use alloc::{sync::Arc, vec::Vec};
use siphasher::sip::SipHasher13;
use smol_str::SmolStr;

use super::{
    Machine, Totals,
    alerts::{RowLabels, Text},
    pending::DeliveryState,
    routing::Labels,
    state::{Alert, Group, Member, Tally},
};
use crate::{
    AlertBatch, At, Config, Fingerprint, Severity, Wall,
    config::ActionId,
    effect::{DeadReason, GroupName, HoldReason, NotifyReason},
    input::{Acknowledged, DeliveryId, Position},
    matcher::Compiled,
    silence::{Silence, SilenceId, SilenceState},
};

/// One alert of the state.
#[derive(Clone, Copy)]
pub struct AlertView<'a> {
    machine: &'a Machine,
    alert: &'a Alert,
}

/// One group of the state.
#[derive(Clone, Copy)]
pub struct GroupView<'a> {
    machine: &'a Machine,
    group: &'a Group,
}

/// One delivery that is pending or dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    /// Its name.
    pub id: DeliveryId,
    /// Who carries it out.
    pub action: ActionId,
    /// Which group it tells of.
    pub group: Arc<GroupName>,
    /// Why it was made.
    pub reason: NotifyReason,
    /// How many alerts it tells of.
    pub alerts: u32,
    /// Where their texts stand, in order.
    pub positions: Vec<Position>,
    /// Where it stands.
    pub standing: DeliveryStanding,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was decided, on the wall clock.
    pub decided: Wall,
    /// What the last failed attempt said.
    pub last_failure: Option<alloc::string::String>,
}

/// Where a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryStanding {
    /// It waits, not to be attempted before this time on the wall clock.
    Waiting(Wall),
    /// An attempt is under way.
    InFlight,
    /// It is part of a digest.
    InDigest,
    /// It was given up.
    Dead(DeadReason),
}

/// How many deliveries wait for an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingOf {
    /// The action.
    pub action: ActionId,
    /// Whether the config in force has it.
    pub present: bool,
    /// Deliveries that wait or are under way.
    pub pending: u32,
    /// Attempts under way.
    pub in_flight: u32,
    /// Whether its far end fails, so that one delivery at a time probes it.
    pub open: bool,
    /// What became of the alerts here, where the action leads to another server.
    pub tally: Tally,
}

/// One silence, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct SilenceView<'a> {
    /// The silence.
    pub silence: &'a Silence,
    /// Where it stands at the moment that was asked about.
    pub state: SilenceState,
}

/// Names the journal whose first start drew this seed, and does not tell the seed.
pub fn journal_of(seed: [u64; 2]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    core::hash::Hasher::write(&mut hasher, b"journal");
    core::hash::Hasher::finish(&hasher)
}

impl Machine {
    /// The version of the rules that decide since the config in force was installed; 0 before the first.
    pub fn rule_version(&self) -> u32 {
        self.state.rule_version
    }

    /// Whether a delivery is being attempted, by itself or in a digest: then no order reaches it.
    pub fn is_being_attempted(&self, id: DeliveryId) -> bool {
        self.find_delivery(id).is_some_and(|row| self.is_under_way(row))
    }

    /// Every silence that is kept, in the order of their ids, as it stands at this moment.
    pub fn silences(&self, now: Wall) -> impl Iterator<Item = SilenceView<'_>> {
        self.state
            .silences
            .iter()
            .map(move |row| SilenceView { silence: &row.silence, state: row.silence.state(now) })
    }

    /// The silence of this id.
    pub fn silence(&self, id: SilenceId) -> Option<&Silence> {
        self.state.silences.find(id).map(|row| &row.silence)
    }

    /// The silence that the record with this sequence number made or changed.
    pub fn silence_set_by(&self, seq: u64) -> Option<&Silence> {
        self.state.silences.iter().find(|row| row.set_by == seq).map(|row| &row.silence)
    }

    /// Every alert that fires, or that ended and is not told everywhere.
    pub fn alerts(&self) -> impl Iterator<Item = AlertView<'_>> {
        self.state.alerts.iter().map(|(_, alert)| AlertView { machine: self, alert })
    }

    /// One past the highest row that an alert has. Rows are places: what stands in one may be another alert the next time.
    pub fn alert_bound(&self) -> u32 {
        self.state.alerts.bound()
    }

    /// The alert in this row.
    pub fn alert_in(&self, row: u32) -> Option<AlertView<'_>> {
        self.state.alerts.find(row).map(|alert| AlertView { machine: self, alert })
    }

    /// One past the highest row that a group has.
    pub fn group_bound(&self) -> u32 {
        self.state.groups.bound()
    }

    /// The group in this row.
    pub fn group_in(&self, row: u32) -> Option<GroupView<'_>> {
        self.state.groups.find(row).map(|group| GroupView { machine: self, group })
    }

    /// Every group.
    pub fn groups(&self) -> impl Iterator<Item = GroupView<'_>> {
        self.state.groups.iter().map(|(_, group)| GroupView { machine: self, group })
    }

    /// Every delivery that is pending or dead.
    pub fn deliveries(&self) -> impl Iterator<Item = DeliveryView> {
        (0..self.delivery_bound()).filter_map(|row| self.delivery_in(row))
    }

    /// One past the highest row that a delivery has.
    pub fn delivery_bound(&self) -> u32 {
        self.state.deliveries.bound()
    }

    /// The delivery in this row, if it is pending or dead.
    pub fn delivery_in(&self, row: u32) -> Option<DeliveryView> {
        let found = self.state.deliveries.find(row).filter(|_| !self.state.digests.contains_key(&row))?;
        let told = &self.state.notifications[found.notification];
        Some(DeliveryView {
            id: found.id,
            action: self.state.actions[found.action as usize].spec.id.clone(),
            group: told.group.clone(),
            reason: told.reason,
            alerts: told.count() as u32,
            positions: told.alerts().map(|noted| noted.position).collect(),
            standing: match found.state {
                DeliveryState::Waiting => DeliveryStanding::Waiting(found.due.wall(self.state.wall_offset())),
                DeliveryState::InFlight | DeliveryState::Following => DeliveryStanding::InFlight,
                DeliveryState::InDigest(_) => DeliveryStanding::InDigest,
                DeliveryState::Dead => {
                    let reason = found.dead().cloned();
                    DeliveryStanding::Dead(reason.expect("what is given up has its reason"))
                }
            },
            attempts: found.attempts,
            decided: told.decided_wall,
            last_failure: found.last_failure().map(Into::into),
        })
    }

    /// The delivery of this id, if it is pending or dead.
    pub fn delivery(&self, id: DeliveryId) -> Option<DeliveryView> {
        self.find_delivery(id).and_then(|row| self.delivery_in(row))
    }

    /// Whether the delivery in this row is a dead letter, and of this action if one is given.
    pub fn is_dead_letter(&self, row: u32, of: Option<&ActionId>) -> bool {
        self.state.deliveries.find(row).is_some_and(|found| {
            matches!(found.state, DeliveryState::Dead)
                && !self.state.digests.contains_key(&row)
                && of.is_none_or(|id| self.state.actions[found.action as usize].spec.id == *id)
        })
    }

    /// One past the highest row that a silence has.
    pub fn silence_bound(&self) -> u32 {
        self.state.silences.bound()
    }

    /// The silence in this row, as it stands at this moment.
    pub fn silence_in(&self, row: u32, now: Wall) -> Option<SilenceView<'_>> {
        let silence = &self.state.silences.row(row)?.silence;
        Some(SilenceView { silence, state: silence.state(now) })
    }

    /// The text of an own alert.
    pub fn own_text(&self, position: Position) -> Option<Arc<AlertBatch>> {
        self.state.own_texts.get(&position).map(|text| text.batch.clone())
    }

    /// The config in force and where it stands.
    pub fn config(&self) -> Option<(&Config, Position)> {
        self.state.config.as_ref().map(|(config, position)| (config, *position))
    }

    /// What waits for each action.
    pub fn pending(&self) -> Vec<PendingOf> {
        let of = |action: &super::state::ActionState| PendingOf {
            action: action.spec.id.clone(),
            present: action.present,
            pending: action.pending,
            in_flight: action.in_flight,
            open: action.open,
            tally: action.tally,
        };
        self.state.actions.iter().map(of).collect()
    }

    /// Counts since the journal began.
    pub fn totals(&self) -> Totals {
        self.state.totals
    }

    /// How many alerts, groups, and deliveries (pending and dead) there are.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.state.alerts.len(), self.state.groups.len(), self.state.deliveries.len())
    }

    /// The wall clock is this far ahead of the journal's clock, in milliseconds.
    pub fn wall_offset_ms(&self) -> i64 {
        self.state.wall_offset_ms
    }

    /// Names the journal, the same for as long as it is kept: made from its seed, which it does not tell.
    pub fn journal(&self) -> u64 {
        journal_of(self.state.seed)
    }

    /// The incarnation of the last start; 0 before the first.
    pub fn incarnation(&self) -> u64 {
        self.state.incarnation
    }
}

impl<'a> AlertView<'a> {
    /// Its name.
    pub fn fingerprint(&self) -> Fingerprint {
        self.alert.fingerprint
    }

    /// Labels, sorted by name.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let strings = &self.machine.state.strings;
        self.alert.labels.iter().map(move |(name, value)| (strings.text(*name), strings.text(*value)))
    }

    /// The value of label `name`; absent labels are `""`.
    pub fn label(&self, name: &str) -> &'a str {
        self.labels().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// Annotations, sorted by name.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut strings = Text::strings(&self.alert.text).skip(1);
        core::iter::from_fn(move || Some((strings.next()?, strings.next()?)))
    }

    /// Where it came from; may be empty.
    pub fn generator_url(&self) -> &'a str {
        Text::strings(&self.alert.text).next().unwrap_or("")
    }

    /// Whether it fires.
    pub fn is_firing(&self) -> bool {
        self.alert.firing
    }

    /// When it began.
    pub fn starts_at(&self) -> Wall {
        self.alert.starts
    }

    /// When it ended, or will end if it is not seen again.
    pub fn ends_at(&self) -> Wall {
        self.alert.ends.wall(self.machine.state.wall_offset())
    }

    /// When it last arrived.
    pub fn updated_at(&self) -> Wall {
        self.alert.updated.wall(self.machine.state.wall_offset())
    }

    /// The sequence number of its newest version.
    pub fn position(&self) -> Position {
        self.alert.position
    }

    /// Who sent it first.
    pub fn client(&self) -> &'a str {
        self.machine.state.strings.text(self.alert.client)
    }

    /// The rank of its severity word.
    pub fn severity(&self) -> Option<Severity> {
        self.alert.severity
    }

    /// Who took charge of it, if somebody did.
    pub fn acknowledged(&self) -> Option<&'a Acknowledged> {
        self.alert.acknowledged.as_deref()
    }

    /// The names of the receivers that are told of each of its occurrences.
    pub fn receivers_of_each(&self) -> Vec<SmolStr> {
        let machine = self.machine;
        let each = self.alert.members.iter().filter_map(|member| match member {
            Member::Each(route) => Some(machine.receiver_name(*route)),
            Member::Group(_) => None,
        });
        each.collect()
    }

    /// The names of the receivers that it is told to.
    pub fn receivers(&self) -> Vec<SmolStr> {
        let machine = self.machine;
        let mut names = Vec::new();
        for member in &self.alert.members {
            let route = match member {
                Member::Group(group) => machine.state.groups[*group].route,
                Member::Each(route) => *route,
            };
            let name = machine.receiver_name(route);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether all of the matchers match.
    pub fn matches(&self, matchers: &[Compiled]) -> bool {
        let labels = RowLabels { strings: &self.machine.state.strings, labels: &self.alert.labels };
        let severities = self.machine.state.config().map(|config| &config.severities);
        let none = crate::Severities::default();
        matchers.iter().all(|m| m.matches(labels.value(&m.matcher.name), severities.unwrap_or(&none)))
    }
}

impl AlertView<'_> {
    /// The silences that hold it back at this moment, in the order of their ids.
    pub fn silenced_by(&self, now: Wall) -> Vec<SilenceId> {
        match self.machine.silenced(self.alert, now) {
            Some((HoldReason::Silenced { by }, _)) => by,
            _ => Vec::new(),
        }
    }

    /// The firing alerts that hold it back, in order, at most [`crate::effect::INHIBITORS_MAX`].
    pub fn inhibited_by(&self) -> Vec<Fingerprint> {
        match self.machine.inhibited(self.alert) {
            Some((HoldReason::Inhibited { by, .. }, _)) => by,
            _ => Vec::new(),
        }
    }
}

impl<'a> GroupView<'a> {
    /// The time intervals that mute its route at this moment; with none that is active, the active ones.
    pub fn muted_by(&self, now: Wall) -> Vec<SmolStr> {
        let (routing, route) = (&self.machine.routing, self.group.route);
        let node = &routing.nodes[route as usize];
        let intervals = match self.machine.out_of_time(route, now) {
            None => return Vec::new(),
            Some(HoldReason::OutsideActiveTimes) => &node.active_times,
            Some(_) => &node.mute_times,
        };
        let names = intervals.iter().filter(|interval| {
            node.active_times.contains(interval) || routing.calendar.contains(**interval, now)
        });
        names.map(|interval| routing.calendar.name(*interval).clone()).collect()
    }

    /// Its name.
    pub fn name(&self) -> &'a GroupName {
        &self.group.name
    }

    /// Who is told of it.
    pub fn receiver(&self) -> SmolStr {
        self.machine.receiver_name(self.group.route)
    }

    /// Its alerts in Alertmanager's order.
    pub fn alerts(&self) -> impl Iterator<Item = AlertView<'a>> + use<'a> {
        let machine = self.machine;
        self.group.members.iter().map(move |row| AlertView { machine, alert: &machine.state.alerts[*row] })
    }

    /// When it is looked at next, on the wall clock; `None` when nothing can come of a look.
    pub fn next_look(&self) -> Option<Wall> {
        (self.group.next != At::NEVER).then(|| self.group.next.wall(self.machine.state.wall_offset()))
    }

    /// For each action: whether deliveries wait, when it was last told, and why it was not told at the last look.
    pub fn lanes(
        &self,
    ) -> impl Iterator<Item = (&'a ActionId, usize, Option<Wall>, Option<&'a HoldReason>)> + use<'a> {
        let machine = self.machine;
        self.group.lanes.iter().map(move |lane| {
            let told = lane.entry.as_ref().map(|entry| entry.at.wall(machine.state.wall_offset()));
            (
                &machine.state.actions[lane.action as usize].spec.id,
                machine.state.waiting(lane.head).count(),
                told,
                lane.hold.as_ref(),
            )
        })
    }
}
