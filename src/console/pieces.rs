//! Long lists, gathered from the router in pieces: each is a question of its own, so that whoever asks for a hundred
//! thousand rows holds up nobody who sends an alert. A caller that hangs up ends it between two pieces.

use std::sync::Arc;

use ams2_core::Machine;
use serde::Serialize;

use crate::router::{Router, Unanswered};

/// Rows that one question looks at.
const LOOKED_MAX: u32 = 2_048;
/// Rows that one question writes; so many and as many bytes take it a few milliseconds.
const WRITTEN_MAX: usize = 256;
const PIECE_BYTES: usize = 1 << 20;
/// Largest list that is answered, in bytes, give or take a piece: what does not fit counts as more.
const LIST_BYTES_MAX: usize = 64 << 20;

/// Some rows of a list, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// A JSON array of those that are shown.
    pub json: Vec<u8>,
    /// How many it holds.
    pub shown: usize,
    /// How many there are; a row that came or went meanwhile may count or not.
    pub found: usize,
}

impl Listed {
    /// Writes a row.
    pub fn push(&mut self, row: &impl Serialize) {
        self.json.push(if self.shown == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut self.json, row).expect("plain data encodes");
        self.shown += 1;
    }
}

/// Asks about all rows below `bound`. `look` says whether there is one in its place that is asked for, and writes it if
/// it gets where; at most `limit` are written.
pub(super) async fn gather(
    router: &Router,
    limit: usize,
    bound: fn(&Machine) -> u32,
    look: impl Fn(&Machine, u32, Option<&mut Listed>) -> bool + Send + Sync + 'static,
) -> Result<Listed, Unanswered> {
    let look = Arc::new(look);
    let (mut list, mut next) = (Listed::default(), 0u32);
    loop {
        let look = look.clone();
        let is_last;
        (list, next, is_last) = router
            .ask(move |folded| {
                let (machine, mut list, mut row) = (&folded.machine, list, next);
                let (bound, shown, bytes) = (bound(machine), list.shown, list.json.len());
                let end = bound.min(row.saturating_add(LOOKED_MAX));
                while row < end && list.shown < shown + WRITTEN_MAX && list.json.len() < bytes + PIECE_BYTES {
                    let has_room = list.shown < limit && list.json.len() < LIST_BYTES_MAX;
                    list.found += usize::from(look(machine, row, has_room.then_some(&mut list)));
                    row += 1;
                }
                (list, row, row >= bound)
            })
            .await?;
        if is_last {
            list.json.extend_from_slice(if list.shown == 0 { b"[]" } else { b"]" });
            return Ok(list);
        }
    }
}
