//! Refused visitors: an own alert about them, however many there are, within a budget.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use ams2_core::{Input, input::OwnEvent};
use smol_str::SmolStr;

use crate::journal::{Health, Journal};

/// Refused visitors from one address raise an own alert at most this often.
const DENIED_EVERY: Duration = Duration::from_secs(10);
/// And all together at most so many in so long.
const DENIED_MAX: u32 = 20;
const DENIED_WINDOW: Duration = Duration::from_secs(60);

/// Own alerts about refused visitors, not more than one an address in a while.
pub(crate) struct Denied {
    journal: Journal,
    budget: Mutex<Budget>,
}

/// How much is said of refused visitors: whoever has many addresses must not fill journal and log with their refusals.
struct Budget {
    since: Instant,
    said: u32,
    left_out: u64,
    last: HashMap<SmolStr, Instant>,
}

impl Denied {
    /// Nobody was refused yet.
    pub(crate) fn new(journal: Journal) -> Denied {
        let budget = Budget { since: Instant::now(), said: 0, left_out: 0, last: HashMap::new() };
        Denied { journal, budget: Mutex::new(budget) }
    }

    /// Somebody was refused: where from, and what was tried.
    pub(crate) fn note(&self, from: SmolStr, what: String) {
        let left_out = {
            let mut budget = self.budget.lock().unwrap_or_else(|e| e.into_inner());
            if budget.since.elapsed() >= DENIED_WINDOW {
                (budget.since, budget.said) = (Instant::now(), 0);
                budget.last.retain(|_, at| at.elapsed() < DENIED_EVERY);
            }
            let again = budget.last.get(&from).is_some_and(|at| at.elapsed() < DENIED_EVERY);
            // On a full disk the last room is not for visitors.
            if again || budget.said >= DENIED_MAX || self.journal.health() != Health::Well {
                budget.left_out += 1;
                return;
            }
            budget.said += 1;
            budget.last.insert(from.clone(), Instant::now());
            std::mem::take(&mut budget.left_out)
        };
        tracing::warn!(%from, what, left_out, "refused");
        let what = if left_out > 0 { format!("{what} ({left_out} more were refused before)") } else { what };
        if let Err(error) = self.journal.keep(Input::Own(OwnEvent::AccessDenied { from, what })) {
            tracing::error!(%error, "an own alert was not kept");
        }
    }
}
