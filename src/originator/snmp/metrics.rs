//! Counts of what came as SNMP, for `/metrics`.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::message::{ParseError, Version};
use crate::originator::drops::udp_drops;

/// Why a datagram became no alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// There was nothing in it.
    Empty,
    /// It is no SNMP.
    Malformed,
    /// It is of no version that there is.
    Version,
    /// It is v3, and of another security model or of no level that there is.
    Security,
    /// It is no trap and no inform, or one of another version than its message.
    Pdu,
    /// Nobody has its community, or its sender comes from elsewhere.
    Community,
    /// Nobody has its user's name, or its sender comes from elsewhere.
    User,
    /// It has another level than its user's.
    Level,
    /// Its digest is wrong.
    Digest,
    /// It cannot be decrypted.
    Decryption,
    /// It is of another time.
    Time,
    /// It asks for the engine, as every sender of a v3 inform does first.
    Discovery,
    /// It came before.
    Repeated,
    /// Its address sent too much.
    Rate,
    /// Its client may not send this.
    Denied,
    /// A rule says that it is of no interest.
    Rule,
    /// Too many informs wait for the journal.
    Crowded,
}

const DROPPED: [(Dropped, &str); 17] = [
    (Dropped::Empty, "empty"),
    (Dropped::Malformed, "malformed"),
    (Dropped::Version, "version"),
    (Dropped::Security, "security"),
    (Dropped::Pdu, "pdu"),
    (Dropped::Community, "community"),
    (Dropped::User, "user"),
    (Dropped::Level, "level"),
    (Dropped::Digest, "digest"),
    (Dropped::Decryption, "decryption"),
    (Dropped::Time, "time"),
    (Dropped::Discovery, "discovery"),
    (Dropped::Repeated, "repeated"),
    (Dropped::Rate, "rate"),
    (Dropped::Denied, "denied"),
    (Dropped::Rule, "rule"),
    (Dropped::Crowded, "crowded"),
];

/// What became of an inform that is an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was answered.
    Answered,
    /// It was kept too late to be answered: its sender asks again.
    Late,
    /// The journal did not take it.
    NotKept,
    /// The answer did not leave.
    NotSent,
}

const TOLD: [(Told, &str); 4] = [
    (Told::Answered, "answered"),
    (Told::Late, "late"),
    (Told::NotKept, "not_kept"),
    (Told::NotSent, "not_sent"),
];

/// Counts since the process started.
#[derive(Debug, Default)]
pub struct SnmpMetrics {
    messages: [AtomicU64; Version::ALL.len()],
    parse_errors: [AtomicU64; ParseError::ALL.len()],
    dropped: [AtomicU64; DROPPED.len()],
    told: [AtomicU64; TOLD.len()],
    /// Bytes of what became alerts.
    pub bytes: AtomicU64,
    /// Messages that left at once: Reports about our engine, and answers to informs that came before.
    pub replies: AtomicU64,
    /// Inodes of the sockets: the system counts by them what it dropped.
    sockets: Mutex<Vec<u64>>,
}

impl SnmpMetrics {
    /// A notification became alerts, or is about to.
    pub fn message(&self, version: Version, bytes: usize) {
        count(&self.messages, Version::ALL.iter().position(|known| *known == version));
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Something of it could not be read.
    pub fn parse_error(&self, error: ParseError) {
        count(&self.parse_errors, ParseError::ALL.iter().position(|known| *known == error));
    }

    /// A datagram became no alert.
    pub fn left_out(&self, why: Dropped) {
        count(&self.dropped, DROPPED.iter().position(|(known, _)| *known == why));
    }

    /// An inform has its answer, or has none.
    pub fn told(&self, how: Told) {
        count(&self.told, TOLD.iter().position(|(known, _)| *known == how));
    }

    /// A socket is listened on.
    pub fn socket(&self, inode: u64) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).push(inode);
    }

    /// Notifications by version.
    pub fn messages(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        named(Version::ALL.into_iter().map(Version::word), &self.messages)
    }

    /// Notifications of which something could not be read, by what was wrong.
    pub fn parse_errors(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        named(ParseError::ALL.into_iter().map(ParseError::word), &self.parse_errors)
    }

    /// Datagrams that became no alert, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        named(DROPPED.iter().map(|(_, word)| *word), &self.dropped)
    }

    /// Informs by what became of their answers.
    pub fn informs(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        named(TOLD.iter().map(|(_, word)| *word), &self.told)
    }

    /// Datagrams that the system dropped because we did not read them in time. Reads files of `/proc`.
    pub fn udp_drops(&self) -> u64 {
        udp_drops(&self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn count(counters: &[AtomicU64], at: Option<usize>) {
    if let Some(counter) = at.and_then(|at| counters.get(at)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn named<'c>(
    words: impl Iterator<Item = &'static str> + 'c,
    counters: &'c [AtomicU64],
) -> impl Iterator<Item = (&'static str, u64)> + 'c {
    words.zip(counters.iter().map(|counter| counter.load(Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_by_its_name() {
        let metrics = SnmpMetrics::default();
        metrics.message(Version::V2c, 7);
        metrics.parse_error(ParseError::Prefix);
        metrics.left_out(Dropped::Crowded);
        metrics.told(Told::Late);
        let some = |counts: &mut dyn Iterator<Item = (&'static str, u64)>| {
            counts.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        };
        assert_eq!(some(&mut metrics.messages()), [("2c", 1)]);
        assert_eq!(some(&mut metrics.parse_errors()), [("prefix", 1)]);
        assert_eq!(some(&mut metrics.dropped()), [("crowded", 1)]);
        assert_eq!(some(&mut metrics.informs()), [("late", 1)]);
        assert_eq!(metrics.udp_drops(), 0);
    }
}
