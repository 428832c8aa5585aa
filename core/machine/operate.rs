//! What operators and the process itself do: start and stop, install a config, acknowledge, retry and drop.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::String,
    vec::Vec,
};
use smol_str::{SmolStr, format_smolstr};

use super::{
    Machine, Phase,
    alerts::RowLabels,
    digests::{Fate, Work},
    interner::Interner,
    own::{CONFIG_ACCEPTED, CONFIG_REFUSED, SHUTDOWN},
    pending::{Delivery, DeliveryState, LaneRef},
    ready::Ready,
    routing::{Labels, Routing},
    state::{ActionState, Group, Lane, Member, OwnAlert, Tally, never},
};
use crate::{
    At, Severity,
    config::{ActionId, ActionSpec, Install, Removed},
    effect::{AlertChange, DeadReason, Decided, HoldReason, NotifyReason},
    input::{
        Acknowledge, Acknowledged, AlertKey, DeliveryCommand, DeliverySelection, DeliveryVerb, Input,
        Position, Started,
    },
};

/// Places of damage that a start names; the rest is counted.
const DAMAGE_SAID_MAX: usize = 20;
/// How far the wall clock may be set without a word, in milliseconds.
const CLOCK_JUMP_MS: u64 = 2_000;

/// Key and receiver of a route: routes of two configs are the same if these are.
pub(super) type RouteName = (String, SmolStr);

/// A config change under way: the groups of before, by key and receiver, and their group_interval.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// Routes with the same matchers and receiver have the same key: their groups come in the order of the routes.
    pub groups: BTreeMap<(String, SmolStr), VecDeque<Old>>,
    /// New groups that took over what an old one knew, and which that was.
    adopted: BTreeMap<u32, u32>,
    /// Where the alert that is routed anew was told before.
    told_by: Box<[Member]>,
    /// Routes of before: name and receiver.
    routes: Vec<RouteName>,
    /// The route of each group of before.
    pub group_routes: BTreeMap<u32, u32>,
    /// Lanes that no new group took over.
    strays: Vec<Lane>,
    /// The new config's, until the old groups are gone.
    routing: Option<Routing>,
    /// What `notify: each` has not told because it was held, by alert's row.
    untold: BTreeMap<u32, Vec<OldUntold>>,
}

/// What a route of before a config change has not told because it was held.
#[derive(Debug)]
struct OldUntold {
    route: RouteName,
    /// See [`super::muting::Untold`].
    known: bool,
}

/// A group of before a config change.
#[derive(Debug)]
pub(super) struct Old {
    pub row: Group,
    /// The number of its row then.
    pub number: u32,
    /// Its route's group_interval.
    pub interval_ms: u64,
    /// Its route's repeat_interval.
    pub repeat_ms: u64,
}

impl Moving {
    /// Whether the alert that is routed anew was in the group of before that this one took over.
    pub fn was_in(&self, group: u32) -> bool {
        self.adopted.get(&group).is_some_and(|old| self.told_by.contains(&Member::Group(*old)))
    }

    /// Whether the alert that is routed anew was told each time by a route of this name.
    pub fn was_told_by(&self, name: &RouteName) -> bool {
        self.told_by.iter().any(|member| match member {
            Member::Each(route) => self.routes.get(*route as usize) == Some(name),
            Member::Group(_) => false,
        })
    }

    /// Whether this route goes on to tell the end of the alert that is routed anew, of all `routes` that are its now:
    /// those that had it to tell, and any if one of these is no longer its route. Others have told it and let it go.
    pub fn goes_on(&self, name: &RouteName, routes: &[RouteName]) -> bool {
        let route_of = |member: &Member| match member {
            Member::Group(group) => self.routes.get(*self.group_routes.get(group)? as usize),
            Member::Each(_) => None,
        };
        let mut had_it = self.told_by.iter().filter_map(route_of);
        had_it.any(|old| old == name || !routes.contains(old))
    }
}

impl Machine {
    /// The process started on this journal. Attempts of the process before are forgotten one by one; `true` when it is
    /// done.
    pub(super) fn started(&mut self, started: &Started, item: usize) -> bool {
        if item == 0 {
            self.take_over(started);
        }
        if let Some(delivery) = self.pieces.rows.pop() {
            self.forget_attempt(delivery);
            self.unknown_outcomes += 1;
            return false;
        }
        self.starting = false;
        for number in 0..self.state.actions.len() as u32 {
            self.schedule(number);
        }
        let (crashed, unknown_outcomes) = (self.crashed, self.unknown_outcomes);
        self.record(Decided::Process { started: true, unknown_outcomes });
        let how = if crashed { " after a crash" } else { "" };
        let summary =
            format!("ams2 {} started{how}; {unknown_outcomes} deliveries are tried again", started.version);
        self.end_own(SHUTDOWN, "ams2 runs again");
        self.to_raise.push(OwnAlert::new("Startup", "14", Severity::Info, summary));
        if !started.damage.is_empty() {
            // One alert: several would have the same labels, and the last one's text would be all that a group shows.
            let named: Vec<&str> = started.damage.iter().take(DAMAGE_SAID_MAX).map(String::as_str).collect();
            let mut summary = format!("damage was set aside: {}", named.join("; "));
            let more = started.damage.len() - named.len();
            if more > 0 {
                summary += &format!("; {more} more places; the log has them all");
            }
            self.to_raise.push(OwnAlert::new("Journal Damaged", "", Severity::Critical, summary));
        }
        true
    }

    fn take_over(&mut self, started: &Started) {
        let first = self.state.incarnation == 0;
        // A journal whose beginning is lost keeps the names that its alerts have.
        if first && self.state.alerts.len() == 0 {
            self.state.seed = started.seed;
            self.state.strings = Interner::new(started.seed);
        }
        self.crashed = !first && self.state.stopping.is_none();
        self.state.incarnation = started.incarnation.max(1);
        // The journal's clock stood still meanwhile: the wall clock is as much further ahead of it.
        let downtime_ms = started.wall_offset_ms.saturating_sub(self.state.wall_offset_ms);
        let clock_moved = self.state.wall_offset_ms != started.wall_offset_ms;
        self.state.wall_offset_ms = started.wall_offset_ms;
        if clock_moved {
            self.at_new_time();
        }
        self.nobody_listened(self.now, u64::try_from(downtime_ms).unwrap_or(0), self.now);
        self.state.stopping = None;
        self.unknown_outcomes = 0;
        let deliveries = self.state.deliveries.iter();
        let under_way = deliveries.filter(|(_, row)| row.is_under_way());
        self.pieces.rows = under_way.map(|(number, _)| number).collect();
        self.pieces.rows.reverse();
    }

    /// The process ends in order: attempts still under way are tried again at the next start, and none begins any more but
    /// those that tell the end itself.
    pub(super) fn stopping(&mut self) {
        self.state.stopping = Some((self.now, self.state.delivery_counter));
        self.record(Decided::Process { started: false, unknown_outcomes: 0 });
        self.to_raise.push(OwnAlert::new(SHUTDOWN, "13", Severity::Minor, "ams2 stops".into()));
    }

    /// The wall clock was set.
    pub(super) fn wall_clock(&mut self, offset_ms: i64) {
        let moved_ms = offset_ms.saturating_sub(self.state.wall_offset_ms);
        self.state.wall_offset_ms = offset_ms;
        self.record(Decided::WallClock { moved_ms });
        self.at_new_time();
        if moved_ms.unsigned_abs() >= CLOCK_JUMP_MS {
            let summary = format!("the wall clock moved by {moved_ms} ms; timers are not affected");
            self.to_raise.push(OwnAlert::new("Clock Jumped", "", Severity::Warning, summary));
        }
    }

    /// What goes by the wall clock is looked at again.
    fn at_new_time(&mut self) {
        self.silences_at_new_time();
        if self.state.times_due.is_some() {
            self.times_changed();
        }
    }

    /// Begins to put a config in force: the groups of the old one are taken away. `false` if it cannot be used.
    pub(super) fn install(&mut self, install: &Install) -> bool {
        let routing = match Routing::compile(&install.config) {
            Ok(routing) => routing,
            Err(error) => {
                let summary =
                    format!("a configuration in the journal cannot be used, the old one stays: {error}");
                self.to_raise.push(OwnAlert::new(CONFIG_REFUSED, "", Severity::Major, summary));
                return false;
            }
        };
        let mut groups: Vec<(u32, u32)> =
            self.state.groups.iter().map(|(group, row)| (row.route, group)).collect();
        groups.sort_unstable_by(|a, b| b.cmp(a));
        self.pieces.rows = groups.into_iter().map(|(_, group)| group).collect();
        self.moving = Some(Moving { routing: Some(routing), ..Moving::default() });
        true
    }

    /// Puts a config in force whose predecessor's groups were taken away.
    pub(super) fn put_in_force(&mut self, input: &Input) {
        let install = match input {
            Input::ConfigInstalled(install) => Some(install),
            Input::Started(started) => started.install.as_ref(),
            _ => None,
        };
        let install = install.expect("only a config takes groups away");
        for ((row, route), untold) in core::mem::take(&mut self.state.untold) {
            let route = self.route_name(route);
            let moving = self.moving.get_or_insert_default();
            moving.untold.entry(row).or_default().push(OldUntold { route, known: untold.known });
        }
        let routes = (0..self.routing.nodes.len() as u32).map(|route| self.route_name(route)).collect();
        self.moving.get_or_insert_default().routes = routes;
        self.state.holders.clear();
        self.state.times_due = None;
        let routing = self.moving.as_mut().and_then(|moving| moving.routing.take());
        let routing = routing.expect("it was compiled when the change began");
        let same_ranks = self.routing.severities() == routing.severities();
        self.routing = routing;
        if !same_ranks {
            self.state.silences.rebuild(self.routing.severities());
        }
        let position = Position::arrived(self.seq);
        self.state.config = Some((install.config.clone(), position));
        self.state.rule_version = install.rule_version;
        self.install_actions(&install.config.receivers, &install.removed);
        self.number_actions();
        self.forget_log();
        self.install_heartbeats();
        self.record(Decided::Config { position, by: install.by.clone() });
        self.end_own(CONFIG_REFUSED, CONFIG_ACCEPTED);
        let is_gone = |number: u32| !self.state.actions[number as usize].present;
        let gone = self.failing_rows(is_gone);
        self.end_failing(gone, "the configuration has this action no more");
        let summary = format!("a configuration was installed by {}", install.by);
        self.to_raise.push(OwnAlert::new("Configuration Changed", "12", Severity::Info, summary));
    }

    pub(super) fn receiver_name(&self, route: u32) -> SmolStr {
        let receiver = self.routing.nodes[route as usize].receiver;
        self.state.config().map(|config| config.receivers[receiver as usize].name.clone()).unwrap_or_default()
    }

    pub(super) fn route_name(&self, route: u32) -> RouteName {
        (self.routing.nodes[route as usize].key.clone(), self.receiver_name(route))
    }

    fn install_actions(&mut self, receivers: &[crate::config::Receiver], removed: &[(ActionId, Removed)]) {
        // What was gone before this config, and nothing is left of, makes room for what is new. No group knows it any more:
        // those that are taken over now have actions of the config before this one.
        let about: BTreeSet<u32> = self.state.about.values().copied().collect();
        let is_free = |(action, number): &(&ActionState, u32)| {
            !action.present && action.deliveries == 0 && !about.contains(number)
        };
        let mut free: VecDeque<u32> =
            self.state.actions.iter().zip(0..).filter(is_free).map(|(_, number)| number).collect();
        for action in &mut self.state.actions {
            action.present = false;
            let fate = removed.iter().find(|(id, _)| *id == action.spec.id);
            action.removed = fate.map(|(_, fate)| fate.clone());
        }
        for spec in receivers.iter().flat_map(|receiver| &receiver.actions) {
            match self.state.action(&spec.id) {
                Some(number) => {
                    let action = &mut self.state.actions[number as usize];
                    (action.spec, action.present) = (spec.clone(), true);
                    if spec.max_per_minute.is_none() {
                        action.recent.clear();
                    }
                }
                None => {
                    let number = self.state.free_action(&mut free);
                    let number = number.unwrap_or(self.state.actions.len() as u32);
                    match self.state.actions.get_mut(number as usize) {
                        Some(row) => *row = new_action(spec),
                        None => self.state.actions.push(new_action(spec)),
                    }
                    self.state.action_rows.insert(spec.id.clone(), number);
                }
            }
        }
    }

    /// Routes alerts anew, from `row` on.
    pub(super) fn reroute(&mut self, row: u32, left: &mut i64) -> Phase {
        if row >= self.state.alerts.bound() {
            return Phase::FinishMove;
        }
        *left -= 2;
        if let Some(alert) = self.state.alerts.find_mut(row) {
            let was_in_group = alert.members.iter().any(|member| matches!(member, Member::Group(_)));
            let told_by = core::mem::take(&mut alert.members);
            let was_routed = !told_by.is_empty();
            if let Some(moving) = &mut self.moving {
                moving.told_by = told_by;
            }
            let labels = RowLabels { strings: &self.state.strings, labels: &self.state.alerts[row].labels };
            let severity = self
                .state
                .config
                .as_ref()
                .and_then(|(config, _)| config.severities.rank(labels.value("severity")));
            let alert = &mut self.state.alerts[row];
            alert.severity = severity;
            if alert.firing || was_in_group {
                self.join(row);
                if !was_routed {
                    // It came before there was any config: nobody was told yet.
                    self.tell_each(row, AlertChange::Fired);
                }
                self.tell_what_was_held(row);
            }
            self.forget_if_over(row);
        }
        Phase::Reroute(row + 1)
    }

    /// A config change: what a route of the same name has not told because it was held is held on, or told.
    fn tell_what_was_held(&mut self, row: u32) {
        let Some(untold) = self.moving.as_mut().and_then(|moving| moving.untold.remove(&row)) else { return };
        for index in 0..self.state.alerts[row].members.len() {
            let Member::Each(route) = self.state.alerts[row].members[index] else { continue };
            let name = self.route_name(route);
            if let Some(old) = untold.iter().find(|old| old.route == name) {
                self.notify_each(row, route, NotifyReason::Occurrence, old.known);
            }
        }
    }

    /// A new group takes over what the group of the same key and receiver knew.
    pub(super) fn adopt(&mut self, group: u32) {
        let Some(mut moving) = self.moving.take() else { return };
        let route = self.state.groups[group].route;
        let key = (self.state.groups[group].name.key.clone(), self.receiver_name(route));
        if let Some(Old { row: old, number, interval_ms, repeat_ms }) =
            moving.groups.get_mut(&key).and_then(VecDeque::pop_front)
        {
            moving.adopted.insert(group, number);
            let same_grid = self.routing.nodes[route as usize].group_interval_ms == interval_ms;
            let row = &mut self.state.groups[group];
            (row.number, row.looked) = (old.number, old.looked);
            if same_grid {
                (row.anchor, row.next) = (old.anchor, old.next);
            }
            let was_muted = old.muted.is_some();
            let mut is_unsaid = false;
            let log_key = self.lane_key(&key.0);
            for mut lane in old.lanes {
                let lanes = &self.state.groups[group].lanes;
                let Some(place) = lanes.iter().position(|known| known.action == lane.action) else {
                    self.log_lane(log_key, &mut lane, repeat_ms);
                    moving.strays.push(lane);
                    continue;
                };
                let pending: Vec<u32> = self.state.waiting(lane.head).collect();
                for delivery in pending {
                    self.state.deliveries[delivery].lane = LaneRef::Group { group, lane: place as u16 };
                }
                // Who hears of ends from now on hears of the end of what is still to be told, too.
                let hears_ends = self.state.actions[lane.action as usize].spec.send_resolved;
                if hears_ends && lane.hold == Some(HoldReason::ResolvesNotSent) {
                    lane.hold = None;
                    is_unsaid |= lane.head.is_some();
                }
                self.state.groups[group].lanes[place] = lane;
                if !hears_ends {
                    self.forget_what_is_over(group, place);
                }
            }
            if was_muted || is_unsaid {
                // Whoever holds it now is to know of it.
                self.look_at_once(group);
            }
        }
        self.moving = Some(moving);
    }

    /// Every alert is routed: what is left of the old groups, and of actions that are gone, is seen to.
    pub(super) fn finish_move(&mut self, left: &mut i64) -> Phase {
        *left -= 2;
        let Some(moving) = &mut self.moving else { return Phase::Clear(0) };
        // In the order in which they became strays.
        if !moving.strays.is_empty() {
            self.pieces.lanes.extend(core::mem::take(&mut moving.strays));
        } else if let Some(lane) = self.pieces.lanes.pop_front() {
            let pending: Vec<u32> = self.state.waiting(lane.head).collect();
            *left -= pending.len() as i64;
            for delivery in pending {
                self.detach(delivery);
            }
        } else if let Some(((key, _), groups)) = moving.groups.pop_first() {
            let key = self.lane_key(&key);
            for Old { row, repeat_ms, .. } in groups {
                for mut lane in row.lanes {
                    self.log_lane(key, &mut lane, repeat_ms);
                    self.pieces.lanes.push_back(lane);
                }
            }
        } else {
            self.moving = None;
        }
        Phase::FinishMove
    }

    /// Moves or gives up what waits for actions that the config no longer has, in order.
    pub(super) fn clear_actions(&mut self, number: u32, left: &mut i64) -> Phase {
        *left -= 4;
        if let Some(delivery) = self.pieces.rows.pop() {
            self.clear_delivery(delivery);
            return Phase::Clear(number);
        }
        let Some(action) = self.state.actions.get(number as usize) else { return Phase::LineUp(0) };
        if !action.present && action.pending > 0 {
            let of = |row: &Delivery| row.action == number && row.state == DeliveryState::Waiting;
            let rows = self.state.deliveries.iter().filter(|(_, row)| of(row));
            let mut waiting: Vec<(u64, u32)> = rows.map(|(delivery, row)| (row.number, delivery)).collect();
            waiting.sort_unstable_by(|a, b| b.cmp(a));
            self.pieces.rows = waiting.into_iter().map(|(_, delivery)| delivery).collect();
        }
        Phase::Clear(number + 1)
    }

    /// What moved is told before what a group of the same name has for the same action: nothing was attempted since.
    pub(super) fn line_up_groups(&mut self, group: u32, left: &mut i64) -> Phase {
        *left -= 1;
        if group < self.state.groups.bound() && !self.state.detached.is_empty() {
            if self.state.groups.find(group).is_some() {
                self.line_up(group);
            }
            return Phase::LineUp(group + 1);
        }
        for number in 0..self.state.actions.len() as u32 {
            self.schedule(number);
        }
        Phase::Heartbeats(0)
    }

    /// A delivery goes on in a lane of its own group's making, outside any group.
    fn detach(&mut self, delivery: u32) {
        let row = &self.state.deliveries[delivery];
        let (lane, action, notification) = (row.lane, row.action, row.notification);
        self.unpin(delivery, lane);
        // Older ones may stand in the lane that it comes to.
        self.unready(delivery);
        let key = self.state.notifications[notification].lane_key;
        let lane = LaneRef::Detached(key);
        self.state.deliveries[delivery].lane = lane;
        self.state.stand_alone(delivery);
        self.state.line_up(delivery);
        self.ready_head(lane, action);
    }

    /// Moves or gives up one delivery that has come to wait for an action that is gone.
    pub(super) fn clear_delivery(&mut self, delivery: u32) {
        let action = &self.state.actions[self.state.deliveries[delivery].action as usize];
        let fate = action.removed.clone();
        let target = match &fate {
            Some(Removed::MoveTo(receiver)) => self
                .state
                .config()
                .and_then(|config| config.receivers.iter().position(|known| known.name == *receiver)),
            _ => None,
        };
        let heirs = target.map(|receiver| self.actions_of(receiver as u32)).unwrap_or_default();
        if heirs.is_empty() {
            let dropped = fate == Some(Removed::Drop);
            self.give_up(delivery, if dropped { DeadReason::Dropped } else { DeadReason::ActionRemoved });
            return;
        }
        let is_digest = self.state.digests.contains_key(&delivery);
        for &heir in &heirs {
            if !self.each_part(delivery, Fate::MovedTo(heir)) {
                self.move_to(delivery, heir);
            }
        }
        if is_digest {
            self.works.push_back(Work::Conclude(delivery));
        } else {
            self.conclude(delivery, None);
        }
    }

    pub(super) fn move_to(&mut self, delivery: u32, action: u32) {
        let row = &self.state.deliveries[delivery];
        let (notification, created, old) = (row.notification, row.created, row.id);
        let critical = row.critical;
        let key = self.state.notifications[notification].lane_key;
        let moved = self.add_delivery(notification, action, LaneRef::Detached(key));
        let row = &mut self.state.deliveries[moved];
        (row.created, row.critical) = (created, critical);
        let by = row.id;
        let from = self.pieces.moved.insert((key, action), moved);
        if let Some(first) = self.state.line_up_by_time(moved, from) {
            self.unready(first);
        }
        self.record(Decided::Superseded { delivery: old, by });
        self.ready_head(LaneRef::Detached(key), action);
    }

    /// Somebody takes charge of every firing alert that matches, or gives it back.
    pub(super) fn acknowledge(&mut self, acknowledge: &Acknowledge, item: usize, left: &mut i64) -> Phase {
        if item == 0 {
            let severities = self.state.config().map(|config| config.severities.clone()).unwrap_or_default();
            let matchers =
                acknowledge.matchers.iter().map(|m| m.compile(&severities)).collect::<Result<Vec<_>, _>>();
            let why = match &matchers {
                Err(error) => Some(format_smolstr!("a matcher does not hold: {error}")),
                Ok(matchers) if matchers.is_empty() && acknowledge.key.is_none() => {
                    Some("no matcher says which alerts".into())
                }
                Ok(_) if acknowledge.until.is_some_and(|until| until <= self.now) => {
                    Some("its time was over when it came".into())
                }
                Ok(_) => None,
            };
            if let Some(why) = why {
                let by = acknowledge.by.clone();
                self.record(Decided::Ignored { verb: "acknowledge".into(), delivery: None, by, why });
                return Phase::Own;
            }
            (self.pieces.matchers, self.pieces.severities) = (matchers.unwrap_or_default(), severities);
        }
        let (piece, after) = match &acknowledge.key {
            Some(AlertKey { client, key }) => match self.row_of_key(client, key) {
                Some(row) => (row..row + 1, Phase::Own),
                None => return Phase::Own,
            },
            None => match self.alert_rows(item, left) {
                Some(piece) => (piece.clone(), Phase::Items(piece.end as usize)),
                None => return Phase::Own,
            },
        };
        let (strings, matchers) = (&self.state.strings, &self.pieces.matchers);
        let is_meant = |row: &u32| {
            self.state.alerts.find(*row).is_some_and(|alert| {
                let labels = RowLabels { strings, labels: &alert.labels };
                alert.firing
                    && (!acknowledge.withdraw || alert.acknowledged.is_some())
                    && matchers
                        .iter()
                        .all(|m| m.matches(labels.value(&m.matcher.name), &self.pieces.severities))
            })
        };
        let rows: Vec<u32> = piece.filter(is_meant).collect();
        *left -= rows.len() as i64 / 2;
        let since = self.now.wall(self.state.wall_offset());
        for row in rows {
            let alert = &mut self.state.alerts[row];
            alert.acknowledged = (!acknowledge.withdraw).then(|| {
                let (by, until, comment) =
                    (acknowledge.by.clone(), acknowledge.until, acknowledge.comment.clone());
                Box::new(Acknowledged { by, since, until, comment })
            });
            let fingerprint = alert.fingerprint;
            let by = (!acknowledge.withdraw).then(|| acknowledge.by.clone());
            self.arm_alert(row);
            self.record(Decided::Acknowledge { alert: fingerprint, by, until: acknowledge.until });
            for index in 0..self.state.alerts[row].members.len() {
                if let Member::Group(group) = self.state.alerts[row].members[index] {
                    self.touch(group);
                }
            }
        }
        after
    }

    /// An operator retries or drops deliveries.
    pub(super) fn command(&mut self, command: &DeliveryCommand, item: usize, left: &mut i64) -> Phase {
        if item == 0 {
            self.pieces.rows = self.meant(command);
            self.pieces.rows.reverse();
        }
        *left -= 2;
        let Some(row) = self.pieces.rows.pop() else { return Phase::Own };
        let delivery = self.state.deliveries[row].id;
        let verb = SmolStr::new_static(match command.verb {
            DeliveryVerb::Retry => "retry",
            DeliveryVerb::Drop => "drop",
        });
        if self.is_under_way(row) {
            let (delivery, by) = (Some(delivery), command.by.clone());
            let why = "an attempt is under way: its outcome decides".into();
            self.record(Decided::Ignored { verb, delivery, by, why });
        } else {
            // First the word, then what follows from it: a delivery whose action is gone is given up again.
            self.record(Decided::Operator { delivery, verb, by: command.by.clone() });
            match command.verb {
                DeliveryVerb::Retry => drop(self.retry_now(row)),
                DeliveryVerb::Drop => drop(self.drop_now(row)),
            }
        }
        Phase::Items(item + 1)
    }

    /// The deliveries that a command means.
    fn meant(&self, command: &DeliveryCommand) -> Vec<u32> {
        let dead = |row: &Delivery| row.state == DeliveryState::Dead;
        match &command.which {
            DeliverySelection::One(id) => self.find_delivery(*id).into_iter().collect(),
            DeliverySelection::DeadLetters => {
                self.state.deliveries.iter().filter(|(_, row)| dead(row)).map(|(number, _)| number).collect()
            }
            DeliverySelection::DeadLettersOf(id) => {
                let action = self.state.action(id);
                let of = |row: &Delivery| Some(row.action) == action && dead(row);
                self.state.deliveries.iter().filter(|(_, row)| of(row)).map(|(number, _)| number).collect()
            }
        }
    }
}

fn new_action(spec: &ActionSpec) -> ActionState {
    ActionState {
        spec: spec.clone(),
        present: true,
        removed: None,
        in_flight: 0,
        failures: 0,
        failing_since: At(0),
        failed_last: At(0),
        open: false,
        ramp: u32::MAX,
        probe_at: At(0),
        probe: None,
        ready: Ready::default(),
        recent: VecDeque::new(),
        pending: 0,
        deliveries: 0,
        tally: Tally::default(),
        told_half: false,
        far_end: None,
        shed: 0,
        armed: never(),
        next: never(),
    }
}
