//! Counts of what came in, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the process started.
#[derive(Debug, Default)]
pub struct OriginatorMetrics {
    /// Requests with alerts that were answered 200.
    pub requests: AtomicU64,
    /// Alerts that were accepted.
    pub alerts: AtomicU64,
    /// Bytes of accepted bodies, decompressed.
    pub bytes: AtomicU64,
    /// Requests refused because they were wrong (4xx but 401, 403).
    pub refused_invalid: AtomicU64,
    /// Requests refused because the client is not known or may not (401, 403, 421).
    pub refused_denied: AtomicU64,
    /// Requests refused because we could not take them now (429, 503).
    pub refused_busy: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections closed at once because too many were open.
    pub connections_refused: AtomicU64,
}

impl OriginatorMetrics {
    /// Counts a refused request by its status.
    pub(super) fn refused(&self, status: u16) {
        let counter = match status {
            401 | 403 | 421 => &self.refused_denied,
            429 | 503 => &self.refused_busy,
            _ => &self.refused_invalid,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
