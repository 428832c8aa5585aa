//! Refused alerts, in the log: now and then, since whoever sends what is refused does so again and again. Who may not send at
//! all is told of elsewhere (`denied`).

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use hyper::StatusCode;
use smol_str::SmolStr;

use super::{json::Mistakes, problem::Problem};
use crate::denied::Budget;

/// Senders whose alerts were refused lately.
#[derive(Default)]
pub struct Refusals(Mutex<Budget>);

impl Refusals {
    /// None of a request's alerts were taken.
    pub(super) fn all(&self, from: &SmolStr, problem: &Problem) {
        if matches!(problem.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return;
        }
        let mut why = problem.detail.clone();
        if let Some(first) = problem.errors.first() {
            why.push_str(&format!(": alert {}{}: {}", first.index, first.pointer, first.detail));
        }
        self.note(from, problem.status, &why);
    }

    /// Some alerts of a request were not taken.
    pub(super) fn some(&self, from: &SmolStr, mistakes: &Mistakes) {
        if let Some(first) = mistakes.listed.first() {
            let why = format!(
                "{} of the alerts are wrong: alert {}{}: {}",
                mistakes.alerts, first.index, first.pointer, first.detail
            );
            self.note(from, StatusCode::BAD_REQUEST, &why);
        }
    }

    fn note(&self, from: &SmolStr, status: StatusCode, why: &str) {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(from, Instant::now());
        if let Some(left_out) = said {
            tracing::warn!(%from, status = status.as_u16(), why, left_out, "alerts were refused");
        }
    }
}
