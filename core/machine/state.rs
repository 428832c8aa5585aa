//! The state: everything that decisions depend on, and nothing else. A snapshot is exactly this.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    sync::Arc,
    vec::Vec,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    clients::Clients,
    heartbeats::Heartbeats,
    ids::Ids,
    interner::{Interner, Sym},
    lanes::Detached,
    log::Log,
    members::Members,
    muting::{Held, Holder, Muted, Untold},
    pending::{Delivery, NotificationRow},
    ready::Ready,
    silences::Silences,
    slab::Slab,
};
use crate::{
    AlertBatch, At, Fingerprint, Severity, Wall,
    config::{ActionId, ActionSpec, Config, Removed},
    effect::{GroupName, HoldReason},
    input::{Acknowledged, DeliveryId, Position},
};

/// The fold over the journal.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// The sequence number after the last record's.
    pub next_seq: u64,
    /// The last record's time.
    pub at: At,
    /// The wall clock is this far ahead of the journal's clock, in milliseconds.
    pub wall_offset_ms: i64,
    /// See [`crate::input::Started`].
    pub incarnation: u64,
    /// Seed of identities; set by the first start and kept.
    pub seed: [u64; 2],
    /// If the last process announced its end: when, and how many deliveries there had been.
    pub stopping: Option<(At, u64)>,
    /// The config in force, and where it stands.
    #[serde(with = "crate::config::as_json")]
    pub config: Option<(Config, Position)>,
    /// The version of the rules that came into force with it; 0 without one.
    pub rule_version: u32,
    pub strings: Interner,
    pub alerts: Slab<Alert>,
    pub groups: Slab<Group>,
    pub notifications: Slab<NotificationRow>,
    pub deliveries: Slab<Delivery>,
    pub actions: Vec<ActionState>,
    /// Rows of actions by id; made again from them.
    #[serde(skip)]
    pub action_rows: BTreeMap<ActionId, u32>,
    pub detached: Detached,
    /// Which deliveries a digest carries.
    pub digests: BTreeMap<u32, Vec<u32>>,
    /// The `id`s that clients gave.
    pub ids: Ids,
    /// Where alerts that other servers hand on were accepted first.
    pub origins: Ids,
    /// Texts of own alerts, with how many rows need them.
    pub own_texts: BTreeMap<Position, OwnText>,
    /// Own alerts about an action's deliveries: that action does not tell them.
    pub about: BTreeMap<u32, u32>,
    /// Counts deliveries, for their ids and their order.
    pub delivery_counter: u64,
    /// Counts changes of alerts and looks at groups, to tell which came first: many share one time.
    pub moment: u64,
    pub totals: Totals,
    /// Lanes of groups that wait behind a detached lane of the same group and action: that lane's key and action, then
    /// group and lane. Routes with the same matchers and receiver have groups of the same name.
    pub behind: BTreeSet<(u64, u32, u32, u16)>,
    pub silences: Silences,
    /// What each holder holds back.
    pub holders: BTreeMap<Holder, BTreeSet<Held>>,
    /// What `notify: each` has not told by a route because it was held: rows of alert and route. The alerts fire.
    pub untold: BTreeMap<(u32, u32), Untold>,
    /// When the times of a route that holds something back may change.
    pub times_due: Option<At>,
    /// What groups that ended were told, where that is kept.
    pub log: Log,
    pub heartbeats: Heartbeats,
    pub clients: Clients,
}

/// Counts since the journal began, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Alerts that arrived, refreshes and duplicates included.
    pub arrived: u64,
    /// Arrivals that only said that an alert still fires.
    pub refreshed: u64,
    /// Arrivals whose `id` had come before.
    pub duplicates: u64,
    /// Arrivals with a severity word that has no rank.
    pub unknown_severity: u64,
    /// Deliveries that ended well.
    pub delivered: u64,
    /// Deliveries given up.
    pub dead_lettered: u64,
}

/// One alert: a label set that fires, or that fired and is not yet told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Alert {
    /// Sorted by name.
    pub labels: Box<[(Sym, Sym)]>,
    /// Generator URL and annotations, each with its length before it; see `alerts::Text`.
    pub text: Box<[u8]>,
    /// Keyed hash of the labels: what dedup sets remember of an alert.
    pub identity: u64,
    pub fingerprint: Fingerprint,
    pub position: Position,
    pub starts: Wall,
    pub ends: At,
    /// When it last arrived.
    pub updated: At,
    /// The moment of its last beginning, occurrence or end.
    pub changed: u64,
    pub client: Sym,
    pub severity: Option<Severity>,
    pub firing: bool,
    /// Whether its end is only the resolve timeout.
    pub by_timeout: bool,
    /// Whether it is something that happened: that it is over, which only the timeout says, is told to nobody.
    pub one_shot: bool,
    pub members: Box<[Member]>,
    /// Pending deliveries of groups that name it.
    pub pins: u32,
    pub acknowledged: Option<Box<Acknowledged>>,
    /// Its sender's name for it.
    pub key: Option<Sym>,
    #[serde(skip, default = "never")]
    pub armed: At,
}

pub(crate) fn never() -> At {
    At::NEVER
}

/// Where an alert is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Member {
    /// As part of this group.
    Group(u32),
    /// Each time, by this route.
    Each(u32),
}

/// A group of one route.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub route: u32,
    pub name: Arc<GroupName>,
    pub labels: Box<[(Sym, Sym)]>,
    /// Alerts in Alertmanager's order.
    pub members: Members,
    /// The first look; later ones are at multiples of group_interval after it. `None` before it.
    pub anchor: Option<At>,
    /// The moment of the last look.
    pub looked: u64,
    /// The next look; [`At::NEVER`] when nothing can come of it.
    pub next: At,
    /// How many notifications were made.
    pub number: u64,
    pub lanes: Vec<Lane>,
    /// Why the whole group was last held, where it is not a lane's matter.
    pub hold: Option<HoldReason>,
    /// What was held back at the last look.
    pub muted: Option<Box<Muted>>,
    #[serde(skip, default = "never")]
    pub armed: At,
}

/// What one action knows of one group: told, and still to tell, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lane {
    pub action: u32,
    pub entry: Option<Entry>,
    /// The first of the deliveries that wait here or are under way.
    pub head: Option<u32>,
    /// Why nothing was told at the last look.
    pub hold: Option<HoldReason>,
    /// Identities of alerts that were told as firing, and that newer notifications leave out because they are held
    /// back.
    pub remembered: BTreeSet<u64>,
}

/// What was last told, as Alertmanager's notification log keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Identities of what was told as firing, sorted.
    pub firing: Box<[u64]>,
    /// Identities of what was told as resolved, sorted.
    pub resolved: Box<[u64]>,
    pub at: At,
    pub number: u64,
    pub memo: Option<Box<[u8]>>,
}

/// An action of the config, or one that is gone and has dead letters.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActionState {
    pub spec: ActionSpec,
    /// Whether the config in force has it.
    pub present: bool,
    /// If it is gone: what becomes of its deliveries.
    pub removed: Option<Removed>,
    pub in_flight: u32,
    /// Transient failures in a row.
    pub failures: u32,
    /// When the first of these was, and the last.
    pub failing_since: At,
    pub failed_last: At,
    /// Whether it is probed with one delivery at a time.
    pub open: bool,
    /// Most attempts at once while it comes back after failures.
    pub ramp: u32,
    /// No probe before.
    pub probe_at: At,
    /// The delivery that probes.
    pub probe: Option<DeliveryId>,
    /// Deliveries that may be attempted.
    pub ready: Ready,
    /// Times of the attempts within the last minute, where there is a limit.
    pub recent: VecDeque<At>,
    /// Pending deliveries.
    pub pending: u32,
    /// All of its deliveries, dead letters and digests too.
    pub deliveries: u32,
    /// What became of the alerts here, where it is patient.
    pub tally: Tally,
    /// Whether the last attempt told a part of a digest that was refused as a whole: where the limit is one attempt, the next is
    /// another's.
    pub told_half: bool,
    /// Which server of ours took what it sent last.
    pub far_end: Option<SmolStr>,
    /// Deliveries that were let go because too many waited.
    pub shed: u64,
    #[serde(skip, default = "never")]
    pub armed: At,
    #[serde(skip, default = "never")]
    pub next: At,
}

impl ActionState {
    /// Whether a delivery of this action goes before others: what is critical, on its way to a server of ours.
    pub fn is_urgent(&self, delivery: &Delivery) -> bool {
        self.spec.patient && delivery.critical
    }
}

/// Alerts by what became of them on their way to another server, since the action came into the config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// They were accepted here, and no route leads them there.
    pub held_back: u64,
    /// They got there after an attempt that failed.
    pub delayed: u64,
    /// They were given up or dropped.
    pub dropped: u64,
}

/// The text of an own alert.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OwnText {
    pub batch: Arc<AlertBatch>,
    pub uses: u32,
}

/// An own alert that a record gave cause for.
#[derive(Clone, Debug)]
pub(crate) struct OwnAlert {
    pub event: &'static str,
    pub event_id: &'static str,
    pub severity: Severity,
    /// Beside what all own alerts have, or instead of it.
    pub labels: Vec<(SmolStr, SmolStr)>,
    pub summary: String,
    /// The words of whoever it is about; may be empty.
    pub output: String,
    pub resolved: bool,
    /// Until when it lasts unless it is said again; `None` for what happened.
    pub until: Option<Wall>,
    /// The action that must not tell it.
    pub about: Option<u32>,
    /// The row of the own alert that it ends: that one's labels are its labels.
    pub ends: Option<u32>,
    /// Whether what lasts has happened once more.
    pub happened: bool,
    /// What is to know in which row it fires.
    pub subject: Option<Subject>,
}

/// What an own alert is about that lasts as long as that is so.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// The heartbeat in this row.
    Heartbeat(u32),
    /// The client in this row.
    Client(u32),
}

impl State {
    /// The first of these rows whose action did not come back, which loses its name.
    pub fn free_action(&mut self, free: &mut VecDeque<u32>) -> Option<u32> {
        while let Some(number) = free.pop_front() {
            let action = &self.actions[number as usize];
            if !action.present {
                self.action_rows.remove(&action.spec.id);
                self.log.forget_action(number);
                return Some(number);
            }
        }
        None
    }

    /// Makes again what finds rows, after a snapshot was read.
    pub fn find_actions(&mut self) {
        let ids = self.actions.iter().map(|action| action.spec.id.clone());
        self.action_rows = ids.zip(0..).collect();
    }

    /// A moment later than all before.
    pub fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    pub fn wall_offset(&self) -> i64 {
        self.wall_offset_ms
    }

    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref().map(|(config, _)| config)
    }

    pub fn action(&self, id: &ActionId) -> Option<u32> {
        self.action_rows.get(id).copied()
    }
}
