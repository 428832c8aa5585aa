//! Due times, earliest first. Entries are lazy: a row that moves its due time later leaves the old entry behind,
//! and when that comes up the row is asked what it really wants. So a refresh of an alert costs nothing here,
//! and a group at rest has one entry.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use crate::At;

/// What is due. The order decides between things due at the same time: alerts end before groups look at them,
/// and deliveries go out after both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// An alert's end, or the end of its acknowledgement.
    Alert(u32),
    /// A heartbeat was not heard in time.
    Heartbeat(u32),
    /// A client did not check in in time, or not for so long that it leaves the list.
    Client(u32),
    /// The end of a silence, or the end of the time that it is kept.
    Silence(u32),
    /// A time interval of a route that holds something back may begin or end.
    Times,
    /// A look at a group.
    Group(u32),
    /// An action may make attempts.
    Action(u32),
}

/// The heap of entries. Which entries it holds is not part of the state: it is made again from the rows.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(At, Due)>>,
}

impl Timers {
    /// Sees to it that `due` comes up at `at` or before. `armed` is the row's own note of its earliest entry.
    pub fn arm(&mut self, armed: &mut At, at: At, due: Due) {
        if at < *armed {
            *armed = at;
            self.heap.push(Reverse((at, due)));
        }
    }

    pub fn peek(&self) -> Option<(At, Due)> {
        self.heap.peek().map(|Reverse(entry)| *entry)
    }

    pub fn pop(&mut self) {
        self.heap.pop();
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn clear(&mut self) {
        self.heap = BinaryHeap::new();
    }
}
