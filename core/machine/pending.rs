//! What waits to be told: notifications, and their deliveries by one action each. There may be a million of them
//! while a far end is away, so they are kept small: at most 200 bytes a delivery, which `tests/memory.rs` measures.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::{
    At, Wall,
    effect::{DeadReason, GroupName, Noted, Notification, NotifyReason},
    input::{DeliveryId, Position, Recipient},
};

/// A notification and how many deliveries carry it. What an attempt gets is made from it: [`Self::notification`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NotificationRow {
    pub group: Arc<GroupName>,
    pub number: u64,
    pub decided_at: At,
    pub decided_wall: Wall,
    pub config: Position,
    /// The lane key for actions that tell outside a group.
    pub lane_key: u64,
    pub told: Told,
    pub reason: NotifyReason,
    pub uses: u32,
}

/// The alerts of a notification.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// One: an occurrence, or all of a small group.
    One {
        noted: Noted,
        /// The alert's row while deliveries of a group are pending with it, else [`NO_ROW`].
        row: u32,
        /// How many pending deliveries of a group pin that row: at most one for each lane of the group.
        pins: u16,
    },
    /// Several of a group.
    Several(Box<Several>),
}

/// No alert has this row.
const NO_ROW: u32 = u32::MAX;

/// The alerts of a group's notification.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Several {
    pub alerts: Arc<[Noted]>,
    /// The alerts' rows, in order, while deliveries of a group are pending with it.
    pub rows: Vec<u32>,
    /// How many pending deliveries of a group pin those rows.
    pub pins: u32,
}

/// One notification for one action.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub id: DeliveryId,
    /// Deliveries are told in this order where they wait for the same thing.
    pub number: u64,
    pub lane: LaneRef,
    /// When it was first to be told; its age counts from here.
    pub created: At,
    /// Not to be attempted before.
    pub due: At,
    pub rare: Option<Box<Rare>>,
    pub notification: u32,
    pub action: u32,
    /// The deliveries before and after it in its lane, which is a ring: before the first comes the last.
    pub before: u32,
    pub after: u32,
    pub attempts: u32,
    pub state: DeliveryState,
    /// Attempts that a crash cut off.
    pub crashes: u8,
    pub critical: bool,
    pub maybe_duplicate: bool,
}

/// What few deliveries have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rare {
    /// Recipients still to be told; `None` means all.
    pub unfinished: Option<Box<[Recipient]>>,
    /// The start of what the last failed attempt said.
    pub last_failure: Option<Box<str>>,
    /// Why it was given up.
    pub dead: Option<DeadReason>,
}

/// Which lane a delivery waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LaneRef {
    /// Lane `lane` of group `group`.
    Group { group: u32, lane: u16 },
    /// A lane of its own, by key.
    Detached(u64),
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeliveryState {
    /// Waits for its turn or its due time.
    Waiting,
    /// An attempt is under way.
    InFlight,
    /// Part of this digest.
    InDigest(u32),
    /// Given up, kept for an operator.
    Dead,
    /// An attempt is under way, in one call with those before it in its lane.
    Following,
}

impl Told {
    /// One alert, which nothing here keeps alive.
    pub fn occurrence(noted: Noted) -> Told {
        Told::One { noted, row: NO_ROW, pins: 0 }
    }

    /// The alerts of a group, with their rows in the same order.
    pub fn group(alerts: Arc<[Noted]>, rows: &[u32]) -> Told {
        match (&*alerts, rows) {
            ([noted], [row]) => Told::One { noted: *noted, row: *row, pins: 0 },
            _ => Told::Several(Box::new(Several { alerts, rows: rows.into(), pins: 0 })),
        }
    }

    /// One pending delivery more pins the alerts.
    pub fn pin(&mut self) {
        match self {
            Told::One { pins, .. } => *pins += 1,
            Told::Several(told) => told.pins += 1,
        }
    }

    /// One pending delivery fewer pins the alerts; answers their rows, and forgets them with the last.
    pub fn unpin(&mut self) -> Vec<u32> {
        match self {
            Told::One { row, pins, .. } => {
                *pins -= 1;
                let pinned = if *pins == 0 { core::mem::replace(row, NO_ROW) } else { *row };
                [pinned].into()
            }
            Told::Several(told) => {
                told.pins -= 1;
                if told.pins == 0 { core::mem::take(&mut told.rows) } else { told.rows.clone() }
            }
        }
    }
}

impl NotificationRow {
    /// The alerts in their order.
    pub fn alerts(&self) -> &[Noted] {
        match &self.told {
            Told::One { noted, .. } => core::slice::from_ref(noted),
            Told::Several(told) => &told.alerts,
        }
    }

    /// The alerts' rows, in order, while deliveries of a group are pending with it.
    pub fn rows(&self) -> &[u32] {
        match &self.told {
            Told::One { row: NO_ROW, .. } => &[],
            Told::One { row, .. } => core::slice::from_ref(row),
            Told::Several(told) => &told.rows,
        }
    }

    /// What an attempt says. Copies share the alerts of a group.
    pub fn notification(&self) -> Arc<Notification> {
        let alerts = match &self.told {
            Told::One { noted, .. } => [*noted].into(),
            Told::Several(told) => told.alerts.clone(),
        };
        Arc::new(Notification {
            group: self.group.clone(),
            number: self.number,
            reason: self.reason,
            decided_at: self.decided_at,
            decided_wall: self.decided_wall,
            config: self.config,
            alerts,
        })
    }

    /// The same, told in the words of another config, for one delivery outside any group.
    pub fn reworded(&self, config: Position) -> NotificationRow {
        let told = match &self.told {
            Told::One { noted, .. } => Told::occurrence(*noted),
            Told::Several(told) => {
                let alerts = told.alerts.clone();
                Told::Several(Box::new(Several { alerts, rows: Vec::new(), pins: 0 }))
            }
        };
        NotificationRow { group: self.group.clone(), config, told, uses: 1, ..*self }
    }

    /// Texts moved: who is told where they stand now.
    pub fn move_positions(&mut self, moved: impl Fn(Position) -> Option<Position>) {
        let new = |position: &mut Position| {
            if let Some(to) = moved(*position) {
                *position = to;
            }
        };
        new(&mut self.config);
        match &mut self.told {
            Told::One { noted, .. } => new(&mut noted.position),
            Told::Several(told) => {
                if told.alerts.iter().any(|noted| moved(noted.position).is_some()) {
                    Arc::make_mut(&mut told.alerts).iter_mut().for_each(|noted| new(&mut noted.position));
                }
            }
        }
    }
}

impl Delivery {
    /// What few deliveries have, to be written to.
    pub fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub fn unfinished(&self) -> Option<&[Recipient]> {
        self.rare.as_ref()?.unfinished.as_deref()
    }

    pub fn last_failure(&self) -> Option<&str> {
        self.rare.as_ref()?.last_failure.as_deref()
    }

    pub fn dead(&self) -> Option<&DeadReason> {
        self.rare.as_ref()?.dead.as_ref()
    }

    /// Whether an attempt is under way.
    pub fn is_under_way(&self) -> bool {
        matches!(self.state, DeliveryState::InFlight | DeliveryState::Following)
    }

    /// Whether it waits, and a digest may carry it.
    pub fn waits_afresh(&self) -> bool {
        self.state == DeliveryState::Waiting && self.is_fresh()
    }

    /// Whether no far end has seen it and all of its recipients are to be told, so that a digest may carry it.
    pub fn is_fresh(&self) -> bool {
        self.attempts == 0 && self.unfinished().is_none()
    }
}
