//! Snapshots of version 1: how they were laid out, and what that is today. Differences: deliveries and
//! notifications have few fields that are not small, and lanes and ready deliveries are lists of numbers.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};
use serde::Deserialize;

use super::{
    interner::{Interner, Sym},
    lanes::Detached,
    pending::{self, LaneRef, Rare, Told},
    slab::Slab,
    state::{self, Alert, Entry, IdWindow, OwnText, never},
};
use crate::{
    At,
    config::{ActionSpec, Config, Removed},
    effect::{DeadReason, GroupName, HoldReason, Notification},
    input::{DeliveryId, Position, Recipient},
};

#[derive(Deserialize)]
pub(super) struct State {
    next_seq: u64,
    at: At,
    wall_offset_ms: i64,
    incarnation: u64,
    seed: [u64; 2],
    stopping: bool,
    config: Option<(Config, Position)>,
    strings: Interner,
    alerts: Slab<Alert>,
    groups: Slab<Group>,
    notifications: Slab<NotificationRow>,
    deliveries: Slab<Delivery>,
    actions: Vec<ActionState>,
    detached: BTreeMap<(u64, u32), VecDeque<u32>>,
    digests: BTreeMap<u32, Vec<u32>>,
    ids: IdWindow,
    own_texts: BTreeMap<Position, OwnText>,
    about: BTreeMap<u32, u32>,
    delivery_counter: u64,
    moment: u64,
    totals: state::Totals,
    behind: BTreeMap<(u64, u32), (u32, u16)>,
}

#[derive(Deserialize)]
struct Group {
    route: u32,
    name: Arc<GroupName>,
    labels: Box<[(Sym, Sym)]>,
    members: Vec<u32>,
    anchor: Option<At>,
    looked: u64,
    next: At,
    number: u64,
    lanes: Vec<Lane>,
    hold: Option<HoldReason>,
}

#[derive(Deserialize)]
struct Lane {
    action: u32,
    entry: Option<Entry>,
    pending: VecDeque<u32>,
    hold: Option<HoldReason>,
}

#[derive(Deserialize)]
struct NotificationRow {
    notification: Arc<Notification>,
    uses: u32,
    lane_key: u64,
    rows: Vec<u32>,
    pins: u32,
}

#[derive(Deserialize)]
struct Delivery {
    id: DeliveryId,
    number: u64,
    notification: u32,
    action: u32,
    lane: LaneRef,
    state: DeliveryState,
    attempts: u32,
    crashes: u8,
    critical: bool,
    maybe_duplicate: bool,
    created: At,
    due: At,
    unfinished: Option<Box<[u16]>>,
    last_failure: Option<Box<str>>,
}

#[derive(Deserialize)]
enum DeliveryState {
    Waiting,
    InFlight,
    InDigest(u32),
    Dead(Box<DeadReason>),
}

#[derive(Deserialize)]
struct ActionState {
    spec: ActionSpec,
    present: bool,
    removed: Option<Removed>,
    in_flight: u32,
    failures: u32,
    open: bool,
    ramp: u32,
    probe_at: At,
    probe: Option<DeliveryId>,
    ready: BTreeSet<(At, u64, u32)>,
    recent: VecDeque<At>,
    pending: u32,
}

/// The same state as it is laid out today.
impl From<State> for state::State {
    fn from(old: State) -> state::State {
        let mut deliveries = old.deliveries.map(delivery);
        let mut heads = Vec::new();
        for lane in old.detached.into_values() {
            heads.extend(ring(&mut deliveries, &lane));
        }
        let mut group = |_, group: Group| {
            let lanes = group.lanes.into_iter().map(|lane| {
                let head = ring(&mut deliveries, &lane.pending);
                state::Lane { action: lane.action, entry: lane.entry, head, hold: lane.hold }
            });
            state::Group {
                lanes: lanes.collect(),
                route: group.route,
                name: group.name,
                labels: group.labels,
                members: group.members,
                anchor: group.anchor,
                looked: group.looked,
                next: group.next,
                number: group.number,
                hold: group.hold,
                armed: never(),
            }
        };
        let groups = old.groups.map(&mut group);
        state::State {
            next_seq: old.next_seq,
            at: old.at,
            wall_offset_ms: old.wall_offset_ms,
            incarnation: old.incarnation,
            seed: old.seed,
            stopping: old.stopping,
            config: old.config,
            strings: old.strings,
            alerts: old.alerts,
            groups,
            notifications: old.notifications.map(|_, row| notification(row)),
            deliveries,
            actions: old.actions.into_iter().map(action).collect(),
            detached: Detached::restored(heads),
            digests: old.digests,
            ids: old.ids,
            own_texts: old.own_texts,
            about: old.about,
            delivery_counter: old.delivery_counter,
            moment: old.moment,
            totals: old.totals,
            behind: old.behind,
        }
    }
}

fn delivery(number: u32, old: Delivery) -> pending::Delivery {
    let (state, dead) = match old.state {
        DeliveryState::Waiting => (pending::DeliveryState::Waiting, None),
        DeliveryState::InFlight => (pending::DeliveryState::InFlight, None),
        DeliveryState::InDigest(digest) => (pending::DeliveryState::InDigest(digest), None),
        DeliveryState::Dead(reason) => (pending::DeliveryState::Dead, Some(*reason)),
    };
    let unfinished =
        old.unfinished.map(|some| some.iter().map(|position| Recipient::at(*position)).collect());
    let rare = Rare { unfinished, last_failure: old.last_failure, dead };
    pending::Delivery {
        id: old.id,
        number: old.number,
        lane: old.lane,
        created: old.created,
        due: old.due,
        rare: (rare != Rare::default()).then(|| Box::new(rare)),
        notification: old.notification,
        action: old.action,
        before: number,
        after: number,
        attempts: old.attempts,
        state,
        crashes: old.crashes,
        critical: old.critical,
        maybe_duplicate: old.maybe_duplicate,
    }
}

fn notification(old: NotificationRow) -> pending::NotificationRow {
    let told = &old.notification;
    let mut pinned = Told::group(told.alerts.clone(), &old.rows);
    (0..old.pins).for_each(|_| pinned.pin());
    pending::NotificationRow {
        group: told.group.clone(),
        number: told.number,
        decided_at: told.decided_at,
        decided_wall: told.decided_wall,
        config: told.config,
        lane_key: old.lane_key,
        told: match &*told.alerts {
            [noted] if old.rows.is_empty() => Told::occurrence(*noted),
            _ => pinned,
        },
        reason: told.reason,
        uses: old.uses,
    }
}

fn action(old: ActionState) -> state::ActionState {
    state::ActionState {
        spec: old.spec,
        present: old.present,
        removed: old.removed,
        in_flight: old.in_flight,
        failures: old.failures,
        open: old.open,
        ramp: old.ramp,
        probe_at: old.probe_at,
        probe: old.probe,
        ready: old.ready.into_iter().map(|(_, _, delivery)| delivery).collect(),
        recent: old.recent,
        pending: old.pending,
        armed: never(),
        next: never(),
    }
}

/// Makes a lane of the rows, in order, and answers the first.
fn ring(deliveries: &mut Slab<pending::Delivery>, lane: &VecDeque<u32>) -> Option<u32> {
    for (before, after) in lane.iter().zip(lane.iter().cycle().skip(1)) {
        deliveries[*before].after = *after;
        deliveries[*after].before = *before;
    }
    lane.front().copied()
}
