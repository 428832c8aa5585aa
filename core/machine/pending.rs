//! What waits to be told: notifications, and their deliveries by one action each. There may be a million of them
//! while a far end is away, so they are kept small: at most 200 bytes a delivery, which `tests/memory.rs` measures.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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

/// The alerts of a group's notification: 16 bytes each, and 4 more for one that ended.
#[derive(Debug)]
pub(crate) struct Several {
    kept: Box<[Kept]>,
    /// When those that ended did, coded, in order.
    ends: Box<[u32]>,
    /// How many pending deliveries of a group pin the alerts' rows.
    pins: u32,
}

/// One alert of a group's notification.
#[derive(Clone, Copy, Debug)]
struct Kept {
    position: Position,
    /// See [`Noted`].
    start: u32,
    /// The alert's row while deliveries of a group are pending with it, else [`ROW`]; and [`ENDED`] if it is over.
    row: u32,
}

/// The bit that says that an alert ended.
const ENDED: u32 = 1 << 31;
/// The bits of its row; all of them for none.
const ROW: u32 = NEWS - 1;
/// The bit that says that its state is news.
const NEWS: u32 = 1 << 30;

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
    /// Whether it carries a part of what a digest carried that was refused as a whole.
    pub half: bool,
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
    pub fn group(alerts: &[Noted], rows: &[u32]) -> Told {
        match (alerts, rows) {
            ([noted], [row]) => Told::One { noted: *noted, row: *row, pins: 0 },
            _ => Told::Several(Box::new(Several::new(alerts, rows, 0))),
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
                let pinned = told.rows().collect();
                if told.pins == 0 {
                    told.kept.iter_mut().for_each(|kept| kept.row |= ROW);
                }
                pinned
            }
        }
    }
}

impl Several {
    fn new(alerts: &[Noted], rows: &[u32], pins: u32) -> Several {
        let kept = |(noted, row): (&Noted, u32)| {
            assert!(row <= ROW, "a billion alerts do not fit into memory");
            let ended = if noted.is_firing() { 0 } else { ENDED };
            let news = if noted.is_new() { NEWS } else { 0 };
            Kept { position: noted.position, start: noted.start, row: row | ended | news }
        };
        // Rows are there for all of them or for none.
        let rows = rows.iter().copied().chain(core::iter::repeat(ROW));
        let ended = alerts.iter().filter(|noted| !noted.is_firing());
        Several {
            kept: alerts.iter().zip(rows).map(kept).collect(),
            ends: ended.map(|noted| noted.end).collect(),
            pins,
        }
    }

    fn alerts(&self) -> impl Iterator<Item = Noted> {
        let mut ends = self.ends.iter().copied();
        self.kept.iter().map(move |kept| {
            let ended = kept.row & ENDED != 0;
            let end = if ended { ends.next().expect("whatever ended has its end") } else { 0 };
            let noted = Noted { position: kept.position, start: kept.start, end };
            noted.marked(kept.row & NEWS != 0)
        })
    }

    fn rows(&self) -> impl Iterator<Item = u32> {
        self.kept.iter().map(|kept| kept.row & ROW).filter(|row| *row != ROW)
    }
}

/// How it stands in snapshots.
#[derive(Serialize, Deserialize)]
struct Plain {
    alerts: Vec<Noted>,
    rows: Vec<u32>,
    pins: u32,
}

impl Serialize for Several {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (alerts, rows) = (self.alerts().collect(), self.rows().collect());
        Plain { alerts, rows, pins: self.pins }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Several, D::Error> {
        let Plain { alerts, rows, pins } = Plain::deserialize(deserializer)?;
        if !(rows.is_empty() || rows.len() == alerts.len()) || rows.iter().any(|row| *row >= ROW) {
            return Err(de::Error::custom("rows that are no alerts'"));
        }
        Ok(Several::new(&alerts, &rows, pins))
    }
}

impl NotificationRow {
    /// The alerts in their order.
    pub fn alerts(&self) -> impl Iterator<Item = Noted> {
        let (one, several) = match &self.told {
            Told::One { noted, .. } => (Some(*noted), None),
            Told::Several(told) => (None, Some(told.alerts())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        match &self.told {
            Told::One { .. } => 1,
            Told::Several(told) => told.kept.len(),
        }
    }

    /// The alerts' rows, in order, while deliveries of a group are pending with it.
    pub fn rows(&self) -> impl Iterator<Item = u32> {
        let (one, several) = match &self.told {
            Told::One { row, .. } => (Some(*row).filter(|row| *row != NO_ROW), None),
            Told::Several(told) => (None, Some(told.rows())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// What an attempt says.
    pub fn notification(&self) -> Arc<Notification> {
        Arc::new(Notification {
            group: self.group.clone(),
            number: self.number,
            reason: self.reason,
            decided_at: self.decided_at,
            decided_wall: self.decided_wall,
            config: self.config,
            alerts: self.alerts().collect(),
        })
    }

    /// The same, told in the words of another config, for one delivery outside any group.
    pub fn reworded(&self, config: Position) -> NotificationRow {
        let told = match &self.told {
            Told::One { noted, .. } => Told::occurrence(*noted),
            Told::Several(told) => {
                let alerts: Vec<Noted> = told.alerts().collect();
                Told::Several(Box::new(Several::new(&alerts, &[], 0)))
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
            Told::Several(told) => told.kept.iter_mut().for_each(|kept| new(&mut kept.position)),
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

    /// Whether no far end has seen it, by itself or as part of a digest, and all of its recipients are to be told, so that a digest may carry it.
    pub fn is_fresh(&self) -> bool {
        self.attempts == 0 && self.unfinished().is_none() && !self.half
    }
}
