//! Refused visitors: an own alert about them, however many there are, within a budget.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use ams2_core::{Input, input::OwnEvent};
use smol_str::SmolStr;

use crate::journal::{Health, Journal};

/// Something is said of one visitor at most this often.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// And of all together at most so many times in so long.
const SAID_MAX: u32 = 20;
const SAID_WINDOW: Duration = Duration::from_secs(60);

/// Own alerts about refused visitors, not more than one an address in a while.
pub(crate) struct Denied {
    journal: Journal,
    budget: Mutex<Budget>,
}

/// How much is said of refused visitors: whoever has many addresses must not fill journal and log with their refusals.
#[derive(Default)]
pub(crate) struct Budget {
    /// When the window began; `None` before the first refusal.
    since: Option<Instant>,
    said: u32,
    left_out: u64,
    last: HashMap<SmolStr, Instant>,
}

impl Budget {
    /// Somebody was refused. Whether that is said, and then how many times it was not before.
    pub(crate) fn take(&mut self, from: &SmolStr, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= SAID_WINDOW) {
            (self.since, self.said) = (Some(now), 0);
            self.last.retain(|_, at| now.duration_since(*at) < SAID_EVERY);
        }
        let again = self.last.get(from).is_some_and(|at| now.duration_since(*at) < SAID_EVERY);
        if again || self.said >= SAID_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        self.last.insert(from.clone(), now);
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Denied {
    /// Nobody was refused yet.
    pub(crate) fn new(journal: Journal) -> Denied {
        Denied { journal, budget: Mutex::default() }
    }

    /// Somebody was refused: where from, and what was tried.
    pub(crate) fn note(&self, from: SmolStr, what: String) {
        let left_out = {
            let mut budget = self.budget.lock().unwrap_or_else(|e| e.into_inner());
            // On a full disk the last room is not for visitors.
            if self.journal.health() != Health::Well {
                budget.left_out += 1;
                return;
            }
            let Some(left_out) = budget.take(&from, Instant::now()) else { return };
            left_out
        };
        tracing::warn!(%from, what, left_out, "refused");
        let what = if left_out > 0 { format!("{what} ({left_out} more were refused before)") } else { what };
        if let Err(error) = self.journal.keep(Input::Own(OwnEvent::AccessDenied { from, what })) {
            tracing::error!(%error, "an own alert was not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_is_told_of_now_and_then_and_many_are_within_a_budget() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        let mut take = |from: &str, seconds| budget.take(&from.into(), start + Duration::from_secs(seconds));
        assert_eq!(
            [take("one", 0), take("one", 1), take("two", 1), take("one", 9)],
            [Some(0), None, Some(1), None]
        );
        assert_eq!(take("one", 10), Some(1));
        let many: Vec<_> = (0..100).map(|n| take(&n.to_string(), 11)).collect();
        assert_eq!(many.iter().flatten().count() as u32, SAID_MAX - 3);
        // Another window: what was left out is said with the next.
        let left_out = 100 - u64::from(SAID_MAX - 3);
        assert_eq!([take("0", 60), take("1", 60)], [Some(left_out), Some(0)]);
    }
}
