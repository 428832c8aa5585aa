//! Lanes: what waits to be told in order, one delivery behind the other, for one group or alert and one action.
//!
//! A lane is a ring of delivery rows; whoever owns the lane knows the first. So a lane of one costs nothing beside
//! the row, and whoever leaves the middle of a long one does not look for its place.

use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    pending::{Delivery, DeliveryState, LaneRef},
    slab::Slab,
    state::State,
    table::Table,
};

/// Lanes that belong to no group: one alert told each time, retried dead letters, moved deliveries.
#[derive(Debug, Default)]
pub(crate) struct Detached {
    /// The first of each lane, by the lane's key and action.
    heads: Table,
    /// The first of each lane as a snapshot had them, until [`Detached::rebuild`].
    restored: Vec<u32>,
}

impl Detached {
    /// A snapshot's lanes, to be [rebuilt](Detached::rebuild).
    pub fn restored(heads: Vec<u32>) -> Detached {
        Detached { heads: Table::default(), restored: heads }
    }

    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Makes the table again, after a snapshot was read.
    pub fn rebuild(&mut self, rows: &Slab<Delivery>) {
        for head in core::mem::take(&mut self.restored) {
            self.heads.insert(hash_row(rows, head), head);
        }
    }
}

fn hash(key: u64, action: u32) -> u64 {
    // Most keys are hashes with a secret seed already.
    (key ^ u64::from(action)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn hash_row(rows: &Slab<Delivery>, head: u32) -> u64 {
    match rows[head].lane {
        LaneRef::Detached(key) => hash(key, rows[head].action),
        LaneRef::Group { .. } => 0,
    }
}

impl State {
    /// The first delivery of a lane.
    pub fn head(&self, lane: LaneRef, action: u32) -> Option<u32> {
        match lane {
            LaneRef::Group { group, lane } => self.groups.find(group)?.lanes[lane as usize].head,
            LaneRef::Detached(key) => {
                let rows = &self.deliveries;
                let same = |head| rows[head].lane == lane && rows[head].action == action;
                self.detached.heads.find(hash(key, action), same)
            }
        }
    }

    /// The last delivery of a lane whose first is `head`.
    pub fn last(&self, head: Option<u32>) -> Option<u32> {
        head.map(|head| self.deliveries[head].before)
    }

    /// A delivery and those behind it in its lane, whose first is `head`.
    pub fn onward(&self, head: u32, first: u32) -> impl Iterator<Item = u32> {
        core::iter::successors(Some(first), move |row| {
            Some(self.deliveries[*row].after).filter(|after| *after != head)
        })
    }

    /// All deliveries of a lane whose first is `head`, in order.
    pub fn waiting(&self, head: Option<u32>) -> impl Iterator<Item = u32> {
        head.into_iter().flat_map(|head| self.onward(head, head))
    }

    /// Puts a delivery that stands in no lane behind all others of its lane.
    pub fn line_up(&mut self, delivery: u32) {
        let row = &self.deliveries[delivery];
        let (lane, action) = (row.lane, row.action);
        let Some(head) = self.head(lane, action) else {
            self.set_ring(delivery, delivery);
            match lane {
                LaneRef::Group { group, lane } => {
                    self.groups[group].lanes[lane as usize].head = Some(delivery);
                }
                LaneRef::Detached(key) => self.detached.heads.insert(hash(key, action), delivery),
            }
            return;
        };
        let last = self.deliveries[head].before;
        self.set_ring(last, delivery);
        self.set_ring(delivery, head);
    }

    /// Puts a delivery that stands in no lane and was never attempted where its notification's time puts it: before those
    /// that were decided later and not attempted yet, behind `from` if that is given. Answers who was the first if it is that now.
    pub fn line_up_by_time(&mut self, delivery: u32, from: Option<u32>) -> Option<u32> {
        let row = &self.deliveries[delivery];
        let (lane, action) = (row.lane, row.action);
        let decided = |delivery: u32| {
            let row = &self.notifications[self.deliveries[delivery].notification];
            (row.decided_at, row.number)
        };
        let own = decided(delivery);
        let is_later = |known: &u32| {
            let row = &self.deliveries[*known];
            row.state == DeliveryState::Waiting && row.attempts == 0 && decided(*known) > own
        };
        let head = self.head(lane, action);
        let last = self.last(head);
        let stands = |row: &Delivery| row.lane == lane && row.action == action;
        let from =
            from.filter(|from| self.deliveries.find(*from).is_some_and(stands) && decided(*from) <= own);
        let next = match head {
            Some(head) if last.is_some_and(|last| is_later(&last)) => {
                self.onward(head, from.unwrap_or(head)).find(is_later)
            }
            _ => None,
        };
        let Some(next) = next else {
            self.line_up(delivery);
            return None;
        };
        self.line_up_before(delivery, next);
        head.filter(|head| *head == next && matches!(lane, LaneRef::Detached(_)))
    }

    /// Puts a delivery that stands in no lane directly before another one of its lane.
    pub fn line_up_before(&mut self, delivery: u32, next: u32) {
        let row = &self.deliveries[next];
        let (lane, action, before) = (row.lane, row.action, row.before);
        let is_head = self.head(lane, action) == Some(next);
        self.set_ring(before, delivery);
        self.set_ring(delivery, next);
        if let LaneRef::Detached(key) = lane
            && is_head
        {
            self.detached.heads.replace(hash(key, action), next, delivery);
        }
    }

    /// Takes a delivery out of its lane, if it stands in it; whether that leaves the lane empty.
    pub fn step_out(&mut self, delivery: u32) -> bool {
        let row = &self.deliveries[delivery];
        let (lane, action, before, after) = (row.lane, row.action, row.before, row.after);
        if self.head(lane, action) != Some(delivery) {
            self.set_ring(before, after);
            self.set_ring(delivery, delivery);
            return false;
        }
        let next = Some(after).filter(|after| *after != delivery);
        match lane {
            LaneRef::Group { group, lane } => self.groups[group].lanes[lane as usize].head = next,
            LaneRef::Detached(key) => match next {
                Some(next) => self.detached.heads.replace(hash(key, action), delivery, next),
                None => self.detached.heads.remove(hash(key, action), delivery),
            },
        }
        self.set_ring(before, after);
        self.set_ring(delivery, delivery);
        next.is_none()
    }

    /// A delivery stands in no lane.
    pub fn stand_alone(&mut self, delivery: u32) {
        self.set_ring(delivery, delivery);
    }

    fn set_ring(&mut self, before: u32, after: u32) {
        self.deliveries[before].after = after;
        self.deliveries[after].before = before;
    }
}

/// The first of each lane, sorted: the order of the table is nobody's business.
impl Serialize for Detached {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut heads: Vec<u32> = self.heads.rows().collect();
        heads.sort_unstable();
        heads.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Detached {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Detached, D::Error> {
        Ok(Detached::restored(Vec::deserialize(deserializer)?))
    }
}
