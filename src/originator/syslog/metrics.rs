//! Counts of what came as syslog, for `/metrics`.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::message::ParseError;
use crate::originator::drops::udp_drops;

/// A way that messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// RFC 5426.
    Udp,
    /// RFC 6587.
    Tcp,
    /// RFC 5425.
    Tls,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// Its name in metrics and messages.
    pub fn word(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// Why a message did not become an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// There was nothing in it but blanks.
    Empty,
    /// The connection ended before as much came as was said.
    Half,
    /// It is from us, and has been around too often.
    Loop,
    /// Its client may not send it, or nobody knows its client.
    Denied,
    /// A rule says that it is of no interest.
    Rule,
}

/// Why a connection was refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// There were too many, or too many of its address.
    Crowded,
    /// Nobody knows its client.
    Denied,
    /// Its certificate is not believed, or it has none.
    Certificate,
    /// Its TLS is wrong otherwise.
    Handshake,
    /// It speaks another protocol than that of its port.
    Protocol,
    /// Where messages begin was not known any more.
    Framing,
    /// It said nothing for too long, or took too long for a message.
    Idle,
    /// The network or the peer reset it.
    Reset,
}

const DROPPED: [(Dropped, &str); 5] = [
    (Dropped::Empty, "empty"),
    (Dropped::Half, "half"),
    (Dropped::Loop, "loop"),
    (Dropped::Denied, "denied"),
    (Dropped::Rule, "rule"),
];
const ENDED: [(Ended, &str); 8] = [
    (Ended::Crowded, "connections"),
    (Ended::Denied, "denied"),
    (Ended::Certificate, "certificate"),
    (Ended::Handshake, "handshake"),
    (Ended::Protocol, "protocol"),
    (Ended::Framing, "framing"),
    (Ended::Idle, "idle"),
    (Ended::Reset, "reset"),
];

/// Counts since the process started.
#[derive(Debug, Default)]
pub struct SyslogMetrics {
    messages: [AtomicU64; 3],
    bytes: [AtomicU64; 3],
    parse_errors: [AtomicU64; ParseError::ALL.len()],
    dropped: [AtomicU64; DROPPED.len()],
    ended: [AtomicU64; ENDED.len()],
    /// Messages that were longer than they may be.
    pub truncated: AtomicU64,
    /// Messages of senders that have too many different alerts.
    pub crowded: AtomicU64,
    /// Listeners that have ended before the process was told to.
    pub listeners_ended: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Inodes of the UDP sockets: the system counts by them what it dropped.
    udp_sockets: Mutex<Vec<u64>>,
}

impl SyslogMetrics {
    /// A message became an alert, or is about to.
    pub fn message(&self, transport: Transport, bytes: usize) {
        self.messages[transport as usize].fetch_add(1, Ordering::Relaxed);
        self.bytes[transport as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It could not be read.
    pub fn parse_error(&self, error: ParseError) {
        count(&self.parse_errors, ParseError::ALL.iter().position(|known| *known == error));
    }

    /// A message did not become an alert.
    pub fn left_out(&self, why: Dropped) {
        count(&self.dropped, DROPPED.iter().position(|(known, _)| *known == why));
    }

    /// A connection was refused or ended.
    pub fn end(&self, why: Ended) {
        count(&self.ended, ENDED.iter().position(|(known, _)| *known == why));
    }

    /// A UDP socket is listened on.
    pub fn udp_socket(&self, inode: u64) {
        self.udp_sockets.lock().unwrap_or_else(PoisonError::into_inner).push(inode);
    }

    /// Messages and their bytes, by transport.
    pub fn came(&self) -> impl Iterator<Item = (&'static str, u64, u64)> + '_ {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Transport::ALL.into_iter().map(move |transport| {
            let at = transport as usize;
            (transport.word(), load(&self.messages[at]), load(&self.bytes[at]))
        })
    }

    /// Messages that could not be read, by what was wrong.
    pub fn parse_errors(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let words = ParseError::ALL.iter().map(|error| error.word());
        words.zip(self.parse_errors.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }

    /// Messages that became no alert, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.dropped.iter().map(|counter| counter.load(Ordering::Relaxed));
        DROPPED.iter().map(|(_, word)| *word).zip(counts)
    }

    /// Connections that were refused or did not end well, by reason.
    pub fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.ended.iter().map(|counter| counter.load(Ordering::Relaxed));
        ENDED.iter().map(|(_, word)| *word).zip(counts)
    }

    /// Datagrams that the system dropped because we did not read them in time. Reads files of `/proc`.
    pub fn udp_drops(&self) -> u64 {
        udp_drops(&self.udp_sockets.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn count(counters: &[AtomicU64], at: Option<usize>) {
    if let Some(counter) = at.and_then(|at| counters.get(at)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_by_its_name() {
        let metrics = SyslogMetrics::default();
        metrics.message(Transport::Tcp, 7);
        metrics.parse_error(ParseError::Version);
        metrics.left_out(Dropped::Loop);
        metrics.end(Ended::Reset);
        assert_eq!(metrics.came().collect::<Vec<_>>(), [("udp", 0, 0), ("tcp", 1, 7), ("tls", 0, 0)]);
        let some = |counts: &mut dyn Iterator<Item = (&'static str, u64)>| {
            counts.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        };
        assert_eq!(some(&mut metrics.parse_errors()), [("version", 1)]);
        assert_eq!(some(&mut metrics.dropped()), [("loop", 1)]);
        assert_eq!(some(&mut metrics.ended()), [("reset", 1)]);
        assert_eq!(metrics.udp_drops(), 0);
    }
}
