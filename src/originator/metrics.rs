//! Counts of what came in, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// The statuses that refuse a request, each with its reason: the request is wrong, its sender is not known or may not do it, or
/// we could not take it now.
const REFUSALS: [(u16, &str); 14] = [
    (400, "invalid"),
    (401, "denied"),
    (403, "denied"),
    (404, "invalid"),
    (405, "invalid"),
    (408, "invalid"),
    (409, "invalid"),
    (413, "invalid"),
    (415, "invalid"),
    (421, "denied"),
    (422, "invalid"),
    (429, "busy"),
    (431, "invalid"),
    (503, "busy"),
];

/// Counts since the process started.
#[derive(Debug, Default)]
pub struct OriginatorMetrics {
    /// Requests with alerts that were answered 200.
    pub requests: AtomicU64,
    /// Alerts that were accepted.
    pub alerts: AtomicU64,
    /// Bytes of accepted bodies, decompressed.
    pub bytes: AtomicU64,
    /// Pings of heartbeats that were answered 200.
    pub pings: AtomicU64,
    /// Check-ins that were answered 200.
    pub check_ins: AtomicU64,
    /// Refused requests, as [`REFUSALS`] stand.
    refused: [AtomicU64; REFUSALS.len()],
    /// Those with another status.
    refused_otherwise: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections closed at once because too many were open.
    pub connections_refused: AtomicU64,
}

impl OriginatorMetrics {
    /// Counts a refused request by its status.
    pub(super) fn refused(&self, status: u16) {
        let place = REFUSALS.iter().position(|(code, _)| *code == status);
        let counter = place.map_or(&self.refused_otherwise, |place| &self.refused[place]);
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were refused: reason, status and count.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, String, u64)> + '_ {
        let known = REFUSALS.iter().zip(&self.refused);
        let known = known.map(|((code, reason), count)| (*reason, code.to_string(), count));
        known
            .chain([("invalid", "other".to_owned(), &self.refused_otherwise)])
            .map(|(reason, code, count)| (reason, code, count.load(Ordering::Relaxed)))
    }
}
