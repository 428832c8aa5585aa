//! Syslog: messages of devices and daemons over UDP, TCP and TLS, each of them an alert.
//!
//! A sender of syslog hears nothing of what becomes of its message, so we say only this: what was read is kept. Over TCP the reading
//! stops while the journal takes nothing, and then the sender waits; over UDP the system drops what comes then, and counts it.
//! `message` reads one, `making` and `alert` make an alert of it, `frames` cuts them out of a stream, `listen` has the sockets.

mod alert;
mod certificate;
mod cisco;
mod clients;
mod data;
mod fields;
mod frames;
mod guests;
mod identities;
mod listen;
mod making;
mod message;
mod metrics;
mod tcp;
mod time;
mod udp;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use smol_str::{SmolStr, format_smolstr};

pub use alert::{AUTHENTICATED, DEFAULT_LABELS};
pub use certificate::{Fingerprint, Verifier};
pub use clients::{KnownSender, Network, Senders};
pub use fields::NAMES as FIELDS;
pub use listen::{Bound, serve};
pub use metrics::{SyslogMetrics, Transport};

use super::{Limits, Tls, ids::Ids, keep::Places, mapping::Mapping};
use crate::denied::Budget;
use guests::Guests;
use identities::Identities;

/// Limits of syslog. Every one is there so that a hostile client costs little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogLimits {
    /// Longest message, in bytes; the rest of a longer one is lost.
    pub message_bytes: usize,
    /// Longest time from the start of a message to its end.
    pub message_time: Duration,
    /// Longest time without a message on a connection.
    pub idle_time: Duration,
    /// Longest time for a TLS handshake.
    pub handshake_time: Duration,
    /// Most connections, over TCP and TLS together.
    pub connections: usize,
    /// Most connections from one address.
    pub connections_per_address: usize,
    /// Most connections that one address may make in a second.
    pub connects_per_second: usize,
    /// Most different alerts of one address in ten minutes, where no certificate vouches for it.
    pub alerts_per_address: usize,
    /// Bytes of datagrams that the system holds for us.
    pub receive_bytes: usize,
}

impl SyslogLimits {
    /// Those of a config that says nothing.
    pub const DEFAULT: SyslogLimits = SyslogLimits {
        message_bytes: 64 << 10,
        message_time: Duration::from_secs(30),
        idle_time: Duration::from_secs(30 * 60),
        handshake_time: Duration::from_secs(10),
        connections: 2048,
        connections_per_address: 256,
        connects_per_second: 100,
        alerts_per_address: 20_000,
        receive_bytes: 4 << 20,
    };
}

impl Default for SyslogLimits {
    fn default() -> SyslogLimits {
        SyslogLimits::DEFAULT
    }
}

/// What the config says of syslog. A reload puts another in force, for what comes then.
#[derive(Clone)]
pub struct SyslogSettings {
    /// Who may come.
    pub senders: Arc<Senders>,
    /// Certificate and key of the TLS listener.
    pub tls: Option<Tls>,
    /// Limits of syslog.
    pub limits: SyslogLimits,
    /// Limits of alerts.
    pub alert_limits: Limits,
    /// Rules that make alerts of messages. What none takes is an alert as every message is without any.
    pub mapping: Mapping,
}

/// What every listener shares.
pub struct Syslog<I> {
    intake: I,
    settings: RwLock<Arc<SyslogSettings>>,
    /// Counts.
    pub metrics: Arc<SyslogMetrics>,
    on_denied: Box<dyn Fn(SmolStr, String) + Send + Sync>,
    ids: Ids,
    places: Places,
    guests: Guests,
    identities: Identities,
    trouble: Mutex<Budget>,
}

impl<I> Syslog<I> {
    /// `on_denied` is told of everybody who was refused, and what was tried; `random` makes ids that no other process gives.
    pub fn new(
        intake: I,
        settings: SyslogSettings,
        metrics: Arc<SyslogMetrics>,
        on_denied: Box<dyn Fn(SmolStr, String) + Send + Sync>,
        random: u64,
    ) -> Syslog<I> {
        Syslog {
            intake,
            settings: RwLock::new(Arc::new(settings)),
            metrics,
            on_denied,
            ids: Ids::new(random),
            places: Places::default(),
            guests: Guests::default(),
            identities: Identities::default(),
            trouble: Mutex::default(),
        }
    }

    /// Puts other settings in force.
    pub fn install(&self, settings: SyslogSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<SyslogSettings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something is wrong with what a peer sends: into the log, now and then.
    fn note(&self, transport: Transport, peer: &str, reason: &str, why: impl FnOnce() -> String) {
        let key = format_smolstr!("{peer} {reason}");
        let said = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take(&key, Instant::now());
        if let Some(left_out) = said {
            let (why, transport) = (why(), transport.word());
            let why = ams2_handlers::text::one_line(&why);
            tracing::warn!(%peer, transport, reason, why = &*why, left_out, "syslog");
        }
    }
}
