//! The router: one state machine folded over the journal.
//!
//! Three families of methods. [`Machine::apply`] takes the next record and [`Machine::step`] works on it within a
//! budget; [`Machine::next_effect`] gives what follows, in order; everything else asks and changes nothing.
//! Before a record's own input every timer due by its time fires, in order, at its due time; after it, timers that
//! it made due fire in the same record.

mod absence;
mod alerts;
mod clients;
mod deliveries;
mod digests;
mod far_ends;
mod groups;
mod heartbeats;
mod ids;
mod index;
mod inhibition;
mod interner;
mod lanes;
mod log;
mod looks;
mod members;
mod muting;
mod needed;
mod operate;
mod own;
mod pending;
mod pieces;
mod query;
mod queue;
mod ready;
mod routing;
mod silences;
mod slab;
mod snapshot;
mod state;
mod table;
mod timers;

#[cfg(test)]
mod edges;
#[cfg(test)]
mod tests;

pub use clients::{CLIENT_LABEL, CLIENT_MISSING, CheckInRefused, ClientState, ClientView};
pub use heartbeats::{HEARTBEAT_LABEL, HEARTBEAT_MISSING, HeartbeatState, HeartbeatView, heartbeat_labels};
pub use needed::Search;
pub use own::{LOG_FORWARDING_ERROR, OWN_CLIENT, OWN_EVENTS, OWN_LABEL};
pub use query::{AlertView, DeliveryStanding, DeliveryView, GroupView, PendingOf, SilenceView, journal_of};
pub use snapshot::SnapshotError;
pub use state::{Tally, Totals};

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::{
    At, Effect, Record,
    effect::Decided,
    input::{Arrival, Input, JournalRecord, Position},
};
use digests::Work;
use looks::Looking;
use muting::Held;
use pieces::{Effort, Pieces};
use queue::Queue;
use routing::Routing;
use state::{OwnAlert, State};
use table::Table;
use timers::{Due, Timers};

/// The router. See the module's head.
#[derive(Debug)]
pub struct Machine {
    state: State,
    /// Compiled from the state's config.
    routing: Routing,
    /// Alerts by identity.
    alert_table: Table,
    /// Alerts that have a key, by client and key.
    key_table: Table,
    /// Groups by route and labels.
    group_table: Table,
    /// Deliveries by id.
    delivery_table: Table,
    timers: Timers,
    job: Option<Job>,
    effects: Queue,
    /// The time that decisions are made at: a timer's due time or the record's.
    now: At,
    /// The record under way.
    seq: u64,
    /// Its time: when attempts are really made, whatever their due time was.
    reached: At,
    /// Own alerts raised by the record so far.
    raised: u16,
    /// Own alerts to raise at the end of the record's input.
    to_raise: Vec<OwnAlert>,
    /// Deliveries given up in this record, by action: how many, and the last one's reason.
    given_up: BTreeMap<u32, (u32, alloc::string::String)>,
    /// A config change that is under way.
    moving: Option<operate::Moving>,
    /// A look at a group that is under way.
    looking: Option<Looking>,
    /// What was let go by who held it back, and whether it may be looked at at once.
    unmuting: VecDeque<(Held, bool)>,
    /// The earliest entry for [`Due::Times`].
    times_armed: At,
    /// What long work knows between its pieces.
    pieces: Pieces,
    /// Work that was done and is not charged yet.
    effort: Effort,
    /// Work on digests that comes before the record goes on, in order.
    works: VecDeque<Work>,
    /// How many notifications were made from others since this machine is in memory; see [`Search`]. No part of the state.
    rewordings: u64,
    /// Whether the process before the one that starts ended without a word, and how many attempts of it are forgotten.
    crashed: bool,
    unknown_outcomes: u32,
    /// A start is under way: until attempts of the process before are forgotten, none is made.
    starting: bool,
    /// The last record before which nobody listened for a while; see [`absence`].
    paused_before: u64,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            state: State::default(),
            routing: Routing::default(),
            alert_table: Table::default(),
            key_table: Table::default(),
            group_table: Table::default(),
            delivery_table: Table::default(),
            timers: Timers::default(),
            job: None,
            effects: Queue::default(),
            now: At::default(),
            seq: 0,
            reached: At::default(),
            raised: 0,
            to_raise: Vec::new(),
            given_up: BTreeMap::new(),
            moving: None,
            looking: None,
            works: VecDeque::new(),
            rewordings: Default::default(),
            unmuting: VecDeque::new(),
            times_armed: At::NEVER,
            pieces: Pieces::default(),
            effort: Effort::default(),
            crashed: false,
            unknown_outcomes: 0,
            starting: false,
            paused_before: 0,
        }
    }
}

/// A record that is being worked on.
#[derive(Debug)]
struct Job {
    record: JournalRecord,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Timers due by the record's time.
    Before,
    /// Alerts that may hold others back, of those that a client sent together, from this item on.
    Sources(usize),
    /// The input itself, from this item on.
    Items(usize),
    /// The groups of before a config change are taken away.
    TakeGroups,
    /// Who holds back whom is found anew after a config change, from this row on.
    FindSources(u32),
    /// Alerts are routed anew after a config change, from this row on.
    Reroute(u32),
    /// What no new group took over is seen to.
    FinishMove,
    /// Deliveries of actions that are gone are seen to, from this action on.
    Clear(u32),
    /// Groups line up behind what came to be told before, from this row on.
    LineUp(u32),
    /// Heartbeats go on as the config says, from this row on.
    Heartbeats(u32),
    /// Clients are waited for as the config says, from this row on.
    Clients(u32),
    /// Own alerts.
    Own,
    /// Timers that the input made due.
    After,
    /// The earliest timer is looked for, past entries that their rows have outlived.
    Settle,
    /// Timers are made anew, from this row on: too many entries were outlived.
    Thin(usize),
}

/// Whether a record is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call [`Machine::step`] again.
    More,
    /// The next record may come.
    Done,
}

impl Machine {
    /// A router that knows nothing yet.
    pub fn new() -> Machine {
        Machine::default()
    }

    /// Takes the next record of the journal. The one before must be done.
    ///
    /// # Panics
    /// If a record is still under way, or if this one is not later: both would be mistakes of the shell that lose
    /// alerts if they passed. Numbers may be missing where a disk lost them.
    pub fn apply(&mut self, record: JournalRecord) {
        assert!(self.job.is_none(), "record {} came before the last one was done", record.seq);
        assert!(
            record.seq >= self.state.next_seq,
            "record {} came where {} was due",
            record.seq,
            self.state.next_seq
        );
        assert!(record.at >= self.state.at, "the journal's clock fell");
        self.starting = matches!(record.input, Input::Started(_));
        self.seq = record.seq;
        self.reached = record.at;
        self.raised = 0;
        self.pieces.moved.clear();
        self.job = Some(Job { record, phase: Phase::Before });
    }

    /// Works on the record for about `budget` units of some microseconds each.
    pub fn step(&mut self, budget: u32) -> Step {
        let Some(mut job) = self.job.take() else { return Step::Done };
        let mut left = i64::from(budget.max(1));
        while left > 0 {
            let Some(next) = self.step_once(&mut job, &mut left) else {
                self.state.at = job.record.at;
                self.state.next_seq = job.record.seq + job.record.input.sequences();
                let due = self.next_due();
                self.effects.push(Effect::Wake(due));
                return Step::Done;
            };
            job.phase = next;
            self.effort.pay(&mut left);
            #[cfg(test)]
            self.effort.piece_ends();
        }
        self.job = Some(job);
        Step::More
    }

    /// Takes a record and works on it to its end.
    pub fn apply_whole(&mut self, record: JournalRecord) {
        self.apply(record);
        while self.step(u32::MAX) == Step::More {}
    }

    /// The next effect, in order.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop()
    }

    /// The due time of the earliest timer; [`At::NEVER`] without one.
    pub fn next_due(&mut self) -> At {
        loop {
            let mut without_end = i64::MAX;
            if let Some(at) = self.settle(&mut without_end) {
                return at;
            }
        }
    }

    /// Whether no config change is half done. While one is, alerts may point to groups that are gone.
    pub fn is_settled(&self) -> bool {
        self.moving.is_none()
    }

    /// Whether no record is under way.
    pub fn is_between_records(&self) -> bool {
        self.job.is_none()
    }

    /// Makes the earliest entry a true one and answers its time; `None` when the budget ended before.
    fn settle(&mut self, left: &mut i64) -> Option<At> {
        loop {
            let Some((at, due)) = self.timers.peek() else { return Some(At::NEVER) };
            if self.due_time(due) == at {
                return Some(at);
            }
            if *left <= 0 {
                return None;
            }
            *left -= 1;
            self.timers.pop();
            self.rearm(at, due);
        }
    }

    /// Rows that went, or whose due time moved to and fro, leave entries behind: past twice of what there is to wait
    /// for they are made again.
    fn has_too_many_timers(&self) -> bool {
        let rows = self.state.alerts.len()
            + self.state.groups.len()
            + self.state.actions.len()
            + self.state.silences.len()
            + self.state.heartbeats.len()
            + self.state.clients.len();
        self.timers.len() > 2 * rows + 1024
    }

    /// Makes the entries of some rows anew, alerts first; the phase that comes next, or `None` when all of them are made.
    fn thin_timers(&mut self, item: usize, left: &mut i64) -> Option<Phase> {
        if item == 0 {
            self.timers.clear();
        }
        let alerts = self.state.alerts.bound();
        if let Some(rows) = pieces::rows_of(item, alerts, left) {
            for row in rows.clone() {
                if let Some(alert) = self.state.alerts.find_mut(row) {
                    alert.armed = At::NEVER;
                    self.arm_alert(row);
                }
            }
            return Some(Phase::Thin(rows.end as usize));
        }
        if let Some(rows) = pieces::rows_of(item - alerts as usize, self.state.groups.bound(), left) {
            for row in rows.clone() {
                if let Some(group) = self.state.groups.find_mut(row) {
                    group.armed = At::NEVER;
                    let next = group.next;
                    self.timers.arm(&mut group.armed, next, Due::Group(row));
                }
            }
            return Some(Phase::Thin(alerts as usize + rows.end as usize));
        }
        let before = alerts as usize + self.state.groups.bound() as usize;
        if let Some(rows) = pieces::rows_of(item - before, self.state.heartbeats.bound(), left) {
            for number in rows.clone() {
                if let Some(armed) = self.state.heartbeats.armed(number) {
                    *armed = At::NEVER;
                }
                self.arm_heartbeat(number);
            }
            return Some(Phase::Thin(before + rows.end as usize));
        }
        let before = before + self.state.heartbeats.bound() as usize;
        if let Some(rows) = pieces::rows_of(item - before, self.state.clients.bound(), left) {
            for number in rows.clone() {
                if let Some(armed) = self.state.clients.armed(number) {
                    *armed = At::NEVER;
                }
                self.arm_client(number);
            }
            return Some(Phase::Thin(before + rows.end as usize));
        }
        self.arm_silences();
        self.times_armed = At::NEVER;
        self.arm_times();
        for (action, number) in self.state.actions.iter_mut().zip(0..) {
            action.armed = At::NEVER;
            let next = action.next;
            self.timers.arm(&mut action.armed, next, Due::Action(number));
        }
        None
    }

    /// The sequence number that the next record must have.
    pub fn next_seq(&self) -> u64 {
        self.state.next_seq.max(1)
    }

    /// The time of the last record.
    pub fn at(&self) -> At {
        self.state.at
    }

    /// One piece of work; the phase that comes next, or `None` when the record is done.
    fn step_once(&mut self, job: &mut Job, left: &mut i64) -> Option<Phase> {
        if let Some(work) = self.works.pop_front() {
            if let Some(rest) = self.work_on(work, left) {
                self.works.push_front(rest);
            }
            return Some(job.phase);
        }
        match job.phase {
            Phase::Before => Some(if self.fire_one(job.record.at, left) {
                Phase::Before
            } else {
                self.first_items(&job.record.input)
            }),
            Phase::Settle => match self.settle(left) {
                None => Some(Phase::Settle),
                Some(_) => self.has_too_many_timers().then_some(Phase::Thin(0)),
            },
            Phase::Thin(item) => self.thin_timers(item, left),
            Phase::Sources(item) => {
                self.now = job.record.at;
                Some(self.apply_source(&job.record.input, item, left))
            }
            Phase::Items(item) => {
                self.now = job.record.at;
                Some(self.apply_item(&job.record.input, item, left))
            }
            Phase::TakeGroups => Some(if self.take_groups(left) {
                self.put_in_force(&job.record.input);
                Phase::FindSources(0)
            } else {
                Phase::TakeGroups
            }),
            Phase::FindSources(row) => Some(self.find_sources(row, left)),
            Phase::Reroute(row) => Some(self.reroute(row, left)),
            Phase::FinishMove => Some(self.finish_move(left)),
            Phase::Clear(action) => Some(self.clear_actions(action, left)),
            Phase::LineUp(group) => Some(self.line_up_groups(group, left)),
            Phase::Heartbeats(row) => Some(self.see_to_heartbeat(row, left)),
            Phase::Clients(row) => Some(self.see_to_client(row, left)),
            Phase::Own => {
                // Own alerts have an `id` mostly; a day's rest may have left a million that are over.
                let raises = !(self.to_raise.is_empty() && self.given_up.is_empty());
                if raises && !self.expire_ids(left) {
                    return Some(Phase::Own);
                }
                self.raise_own();
                Some(Phase::After)
            }
            Phase::After => {
                Some(if self.fire_one(job.record.at, left) { Phase::After } else { Phase::Settle })
            }
        }
    }

    /// Applies one item of the input.
    fn apply_item(&mut self, input: &Input, item: usize, left: &mut i64) -> Phase {
        *left -= 1;
        match input {
            Input::Alerts(arrival) => {
                let Some(alert) = arrival.batch.alert(item) else { return Phase::Own };
                if alert.id().is_some() && !self.expire_ids(left) {
                    return Phase::Items(item);
                }
                *left -= 1;
                // Whoever may hold others back was taken in before.
                if !self.sources_go_first(arrival) || !self.goes_first(&alert) {
                    self.accept(&arrival.client, alert, Position::arrived(self.seq + item as u64), None);
                }
                return if item + 1 < arrival.batch.len() { Phase::Items(item + 1) } else { Phase::Own };
            }
            Input::Own(event) => return self.own_event(event, item, left),
            Input::Outcome(outcome) => self.outcome(outcome),
            Input::Acknowledge(acknowledge) => return self.acknowledge(acknowledge, item, left),
            Input::Deliveries(command) => return self.command(command, item, left),
            Input::ConfigInstalled(install) => {
                if self.install(install) {
                    return Phase::TakeGroups;
                }
            }
            Input::Started(started) => {
                if !self.started(started, item) {
                    return Phase::Items(item + 1);
                }
                if started.install.as_ref().is_some_and(|install| self.install(install)) {
                    return Phase::TakeGroups;
                }
            }
            Input::Stopping => self.stopping(),
            Input::WallClock(offset) => self.wall_clock(*offset),
            Input::Advanced => {}
            Input::Carried(carried) => return self.carried(carried, item, left),
            Input::Silence(order) => self.order_silence(order),
            Input::Ping(ping) => self.ping(ping),
            Input::CheckIn(check_in) => self.check_in(check_in),
            Input::ForgetClient(forget) => self.forget_client(forget),
        }
        Phase::Own
    }

    /// Whether what arrives together is gone through twice: first those alerts that may hold others back. Only where
    /// something is told before the whole record is worked on; and not where the last that has a key must come last.
    fn sources_go_first(&self, arrival: &Arrival) -> bool {
        let is_told_meanwhile = self.routing.has_each && !self.routing.inhibition.is_empty();
        arrival.batch.len() > 1 && is_told_meanwhile && !arrival.batch.has_keys()
    }

    fn first_items(&self, input: &Input) -> Phase {
        match input {
            Input::Alerts(arrival) if self.sources_go_first(arrival) => Phase::Sources(0),
            _ => Phase::Items(0),
        }
    }

    /// Takes in one alert of several if it may hold others back.
    fn apply_source(&mut self, input: &Input, item: usize, left: &mut i64) -> Phase {
        *left -= 1;
        let Input::Alerts(arrival) = input else { return Phase::Items(0) };
        let Some(alert) = arrival.batch.alert(item) else { return Phase::Items(0) };
        if self.goes_first(&alert) {
            if alert.id().is_some() && !self.expire_ids(left) {
                return Phase::Sources(item);
            }
            *left -= 1;
            self.accept(&arrival.client, alert, Position::arrived(self.seq + item as u64), None);
        }
        Phase::Sources(item + 1)
    }

    /// Fires the earliest timer due by `limit`; `false` if there is none.
    fn fire_one(&mut self, limit: At, left: &mut i64) -> bool {
        if let Some(looking) = self.looking.take() {
            self.look_on(looking, *left);
            return true;
        }
        if self.unmute_one(left) {
            return true;
        }
        let Some(due_at) = self.settle(left) else { return true };
        if due_at > limit || due_at == At::NEVER {
            return false;
        }
        let Some((at, due)) = self.timers.peek() else { return false };
        self.timers.pop();
        // A timer that was due before the last record came too late to fire then: it fires at that record's time.
        self.now = at.max(self.state.at);
        *left -= 1;
        match due {
            Due::Alert(row) => {
                self.state.alerts[row].armed = At::NEVER;
                *left -= 1;
                self.alert_due(row);
            }
            Due::Heartbeat(number) => {
                if let Some(armed) = self.state.heartbeats.armed(number) {
                    *armed = At::NEVER;
                }
                *left -= own::RAISE_COST;
                self.heartbeat_due(number);
            }
            Due::Client(number) => {
                if let Some(armed) = self.state.clients.armed(number) {
                    *armed = At::NEVER;
                }
                *left -= own::RAISE_COST;
                self.client_due(number);
            }
            Due::Silence(row) => {
                if let Some(armed) = self.state.silences.armed(row) {
                    *armed = At::NEVER;
                }
                self.silence_due(row);
            }
            Due::Times => {
                self.times_armed = At::NEVER;
                self.times_changed();
            }
            Due::Group(row) => {
                self.state.groups[row].armed = At::NEVER;
                self.look(row, left);
            }
            Due::Action(number) => {
                self.state.actions[number as usize].armed = At::NEVER;
                self.dispatch(number);
            }
        }
        true
    }

    /// When a thing is really due.
    fn due_time(&self, due: Due) -> At {
        match due {
            Due::Alert(row) => self.state.alerts.find(row).map_or(At::NEVER, alerts::due),
            Due::Heartbeat(number) => self.state.heartbeats.due(number),
            Due::Client(number) => self.state.clients.due(number, &self.check_ins()),
            Due::Silence(row) => self.silence_due_at(row),
            Due::Times => self.state.times_due.unwrap_or(At::NEVER),
            Due::Group(row) => self.state.groups.find(row).map_or(At::NEVER, |group| group.next),
            Due::Action(number) => {
                self.state.actions.get(number as usize).map_or(At::NEVER, |action| action.next)
            }
        }
    }

    /// An entry came up early: puts in the true one, if this was the row's newest.
    fn rearm(&mut self, came_up: At, due: Due) {
        let true_due = self.due_time(due);
        let armed = match due {
            Due::Alert(row) => self.state.alerts.find_mut(row).map(|alert| &mut alert.armed),
            Due::Heartbeat(number) => self.state.heartbeats.armed(number),
            Due::Client(number) => self.state.clients.armed(number),
            Due::Silence(row) => self.state.silences.armed(row),
            Due::Times => Some(&mut self.times_armed),
            Due::Group(row) => self.state.groups.find_mut(row).map(|group| &mut group.armed),
            Due::Action(number) => {
                self.state.actions.get_mut(number as usize).map(|action| &mut action.armed)
            }
        };
        if let Some(armed) = armed
            && *armed == came_up
        {
            *armed = At::NEVER;
            self.timers.arm(armed, true_due, due);
        }
    }

    /// Sets every timer, after a snapshot was read.
    fn arm_all(&mut self) {
        self.arm_rows();
        for number in 0..self.state.actions.len() as u32 {
            self.schedule(number);
        }
    }

    fn arm_rows(&mut self) {
        for (row, alert) in self.state.alerts.iter_mut() {
            let due = alerts::due(alert);
            self.timers.arm(&mut alert.armed, due, Due::Alert(row));
        }
        for (row, group) in self.state.groups.iter_mut() {
            let next = group.next;
            self.timers.arm(&mut group.armed, next, Due::Group(row));
        }
        self.arm_silences();
        self.arm_times();
        self.arm_heartbeats();
        self.arm_clients();
    }

    fn record(&mut self, what: Decided) {
        self.effects.push(Effect::Record(Record { seq: self.seq, at: self.now, what }));
    }

    /// A keyed hash that is the same on every machine and in every release.
    fn keyed_hash<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> u128 {
        use siphasher::sip128::{Hasher128, SipHasher13};
        let mut hasher = SipHasher13::new_with_keys(self.state.seed[0], self.state.seed[1]);
        for part in parts {
            core::hash::Hasher::write(&mut hasher, &(part.len() as u64).to_le_bytes());
            core::hash::Hasher::write(&mut hasher, part);
        }
        hasher.finish128().as_u128()
    }
}
