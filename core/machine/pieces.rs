//! Long work in pieces: whatever one input may do to a hundred thousand rows is done a few rows at a time, so that
//! the shell can answer questions in between. Each piece charges what it did; see [`Machine::step`].

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use super::{
    Machine, Phase,
    alerts::{IDS, ORIGINS},
    operate::{Moving, Old},
    state::Lane,
};
use crate::{
    Severities,
    input::{Carried, Position},
    matcher::Compiled,
};

/// Rows that one piece looks at where most of them are only passed over.
const ROWS: u32 = 256;
/// Units that such a piece charges.
const ROWS_COST: i64 = 16;

/// Work that is counted finer than in units: members that were visited, matchers that were tried. Whoever does it adds it,
/// and it is charged when the piece ends, or before where one piece would become several.
#[derive(Debug, Default)]
pub(super) struct Effort {
    /// In grains.
    grains: u64,
    /// Of this piece, and of the one with the most.
    #[cfg(test)]
    pub of_piece: (u64, u64),
}

/// Grains of a unit.
const GRAINS: u64 = 32;
/// What it takes to look at one row of many, in grains.
pub(super) const VISIT: u64 = 1;
/// To change one, or to find one by its name.
pub(super) const CHANGE: u64 = 8;
/// To try one matcher on a label.
pub(super) const MATCHER: u64 = 4;
/// Grains after which a piece ends that could go on: some hundred units.
pub(super) const PIECE_GRAINS: u64 = 8_000;

impl Effort {
    /// So many times work of this weight was done.
    pub fn add(&mut self, count: usize, grains: u64) {
        self.grains += count as u64 * grains;
        #[cfg(test)]
        {
            self.of_piece.0 += count as u64 * grains;
        }
    }

    /// Charges it.
    pub fn pay(&mut self, left: &mut i64) {
        *left -= (self.grains / GRAINS) as i64;
        self.grains %= GRAINS;
    }

    /// How much a piece may do that has so many units left, in grains.
    pub fn most(left: i64) -> u64 {
        u64::try_from(left).unwrap_or(0).saturating_mul(GRAINS).min(PIECE_GRAINS)
    }

    #[cfg(test)]
    pub fn piece_ends(&mut self) {
        let (of_this, most) = self.of_piece;
        self.of_piece = (0, most.max(of_this));
    }
}

/// What long work knows between its pieces. One record has one such work under way at most.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Rows still to be worked on, in order: deliveries, or groups.
    pub rows: Vec<u32>,
    /// Lanes that no new group took over, in order.
    pub lanes: VecDeque<Lane>,
    /// What moved last, by its lane's key and action: what moves next comes behind it.
    pub moved: BTreeMap<(u64, u32), u32>,
    /// An acknowledgement, ready to compare.
    pub matchers: Vec<Compiled>,
    pub severities: Severities,
    /// Texts that moved, and from where to where.
    moves: BTreeMap<Position, Position>,
}

impl Machine {
    /// Forgets some `id`s whose time is over; `false` if there may be more.
    pub(super) fn expire_ids(&mut self, left: &mut i64) -> bool {
        let state = &mut self.state;
        for _ in 0..ROWS / 8 {
            if !state.ids.expire_one(self.now, IDS) && !state.origins.expire_one(self.now, ORIGINS) {
                return true;
            }
        }
        *left -= ROWS_COST;
        false
    }

    /// The next rows of alerts to look at; `None` when there are no more.
    pub(super) fn alert_rows(&self, item: usize, left: &mut i64) -> Option<core::ops::Range<u32>> {
        rows_of(item, self.state.alerts.bound(), left)
    }

    /// Texts were written again: who pointed to the old places points to the new ones. First alerts, then
    /// notifications.
    pub(super) fn carried(&mut self, carried: &Carried, item: usize, left: &mut i64) -> Phase {
        if item == 0 {
            let items = carried.items.iter().zip(0u64..);
            self.pieces.moves = items.map(|(item, i)| (item.from, Position::arrived(self.seq + i))).collect();
            let moves = &self.pieces.moves;
            if let Some((_, position)) = &mut self.state.config {
                *position = moves.get(position).copied().unwrap_or(*position);
            }
        }
        let moves = &self.pieces.moves;
        // Most of what lives is newer than what moves.
        let newest = moves.last_key_value().map_or_else(Position::default, |(from, _)| *from);
        let moved = |position: Position| {
            if position > newest { None } else { moves.get(&position).copied() }
        };
        let alerts = self.state.alerts.bound();
        if let Some(rows) = rows_of(item, alerts, left) {
            for row in rows.clone() {
                if let Some(alert) = self.state.alerts.find_mut(row) {
                    alert.position = moved(alert.position).unwrap_or(alert.position);
                }
            }
            return Phase::Items(rows.end as usize);
        }
        let notifications = self.state.notifications.bound();
        let Some(rows) = rows_of(item - alerts as usize, notifications, left) else {
            self.pieces.moves.clear();
            return Phase::Own;
        };
        for row in rows.clone() {
            if let Some(row) = self.state.notifications.find_mut(row) {
                *left -= row.count() as i64 / 256;
                row.move_positions(moved);
            }
        }
        Phase::Items(alerts as usize + rows.end as usize)
    }

    /// Takes the groups of before away, those of the first route first.
    pub(super) fn take_groups(&mut self, left: &mut i64) -> bool {
        *left -= 4;
        let Some(group) = self.pieces.rows.pop() else { return true };
        let node = &self.routing.nodes[self.state.groups[group].route as usize];
        let (interval_ms, repeat_ms) = (node.group_interval_ms, node.repeat_interval_ms);
        let receiver = self.receiver_name(self.state.groups[group].route);
        if let Some(row) = self.remove_group(group) {
            let key = (row.name.key.clone(), receiver);
            let moving = self.moving.get_or_insert_with(Moving::default);
            moving.group_routes.insert(group, row.route);
            moving.groups.entry(key).or_default().push_back(Old {
                row,
                number: group,
                interval_ms,
                repeat_ms,
            });
        }
        false
    }
}

/// The next rows of those below `bound` to look at; `None` when there are no more.
pub(super) fn rows_of(item: usize, bound: u32, left: &mut i64) -> Option<core::ops::Range<u32>> {
    let first = u32::try_from(item).ok().filter(|first| *first < bound)?;
    *left -= ROWS_COST;
    Some(first..first.saturating_add(ROWS).min(bound))
}
