//! Refused alerts, in the log: now and then, since whoever sends what is refused does so again and again. Who may not send at
//! all is told of elsewhere (`denied`).

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use ams2_handlers::text::cut;
use hyper::StatusCode;
use smol_str::SmolStr;

use super::{json::Mistakes, problem::Problem};
use crate::denied::Budget;

/// Bytes of a reason that the log gets, give or take a mark.
const WHY_MAX: usize = 300;

/// Senders whose alerts were refused lately.
#[derive(Default)]
pub struct Refusals(Mutex<Budget>);

impl Refusals {
    /// None of a request's alerts were taken.
    pub(super) fn all(&self, from: &SmolStr, problem: &Problem) {
        if matches!(problem.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return;
        }
        self.note(from, problem.status, || {
            let first = problem.errors.first();
            let first =
                first.map(|first| format!(": alert {}{}: {}", first.index, first.pointer, first.detail));
            format!("{}{}", problem.detail, first.unwrap_or_default())
        });
    }

    /// Some alerts of a request were not taken.
    pub(super) fn some(&self, from: &SmolStr, mistakes: &Mistakes) {
        if let Some(first) = mistakes.listed.first() {
            self.note(from, StatusCode::BAD_REQUEST, || {
                let (wrong, index) = (mistakes.alerts, first.index);
                format!("{wrong} of the alerts are wrong: alert {index}{}: {}", first.pointer, first.detail)
            });
        }
    }

    /// `why` may hold anything that was sent, of any length.
    fn note(&self, from: &SmolStr, status: StatusCode, why: impl FnOnce() -> String) {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(from, Instant::now());
        if let Some(left_out) = said {
            let (why, status) = (why(), status.as_u16());
            tracing::warn!(%from, status, why = &*cut(&why, WHY_MAX), left_out, "alerts were refused");
        }
    }
}
