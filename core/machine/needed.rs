//! Which texts of the journal are still needed: before a segment goes, they are carried forward. With a million alerts a
//! look at all of them takes long, so it is made in pieces, and the router goes on in between.

use alloc::{collections::BTreeSet, vec::Vec};

use super::Machine;
use crate::input::Position;

/// Alerts of a notification that count as one row.
const ALERTS_OF_ROW: usize = 64;

/// How far a search for needed texts is.
///
/// Alerts are looked through before notifications. So nothing is missed, whatever the router does between two pieces: a
/// position that was there when the search began stays with its alert, or comes from there into notifications, which are
/// looked at later, or which another notification is made from. The last is counted, and then the search begins anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    place: Place,
    /// See [`Machine::rewordings`].
    rewordings: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Begin,
    Alerts(u32),
    Notifications(u32),
}

impl Machine {
    /// Looks through about `rows` more rows for positions below `seq` that pending deliveries, dead letters, live alerts
    /// or the config in use need, and answers what it found, sorted: those texts must be carried, and that be folded, before
    /// the search goes on. `None`: nothing else is needed, and what stands before `seq` may go. All records before `seq`
    /// must be folded when the search begins.
    pub fn needed_before(&self, seq: u64, search: &mut Search, rows: u32) -> Option<Vec<Position>> {
        let mut needed = BTreeSet::new();
        let add = |needed: &mut BTreeSet<Position>, position: Position| {
            if position.seq() < seq && !position.is_raised() {
                needed.insert(position);
            }
        };
        let mut left = i64::from(rows.max(1));
        while left > 0 {
            left -= 1;
            search.place = match search.place {
                Place::Begin => {
                    search.rewordings = self.rewordings;
                    self.state.config.iter().for_each(|(_, position)| add(&mut needed, *position));
                    Place::Alerts(0)
                }
                Place::Alerts(row) if row < self.state.alerts.bound() => {
                    self.state.alerts.find(row).iter().for_each(|alert| add(&mut needed, alert.position));
                    Place::Alerts(row + 1)
                }
                Place::Alerts(_) => Place::Notifications(0),
                Place::Notifications(row) if row < self.state.notifications.bound() => {
                    if let Some(told) = self.state.notifications.find(row) {
                        left -= (told.count() / ALERTS_OF_ROW) as i64;
                        add(&mut needed, told.config);
                        told.alerts().for_each(|noted| add(&mut needed, noted.position));
                    }
                    Place::Notifications(row + 1)
                }
                Place::Notifications(_) if search.rewordings != self.rewordings => Place::Begin,
                // What was found in this piece is carried first.
                Place::Notifications(_) if !needed.is_empty() => break,
                Place::Notifications(_) => return None,
            };
        }
        Some(needed.into_iter().collect())
    }
}
