//! SNMP: traps and informs of devices over UDP, v1, v2c and v3, each of them an alert.
//!
//! A sender of a trap hears nothing of what becomes of it; one of an inform has its answer once the journal has it, and none when
//! it has not. Nothing is an alert that comes from nobody whom the config knows; of what is somebody's, nothing is lost: what
//! cannot be read is kept as it came.
//!
//! `ber`, `oid`, `value` and `message` read a datagram in place, and believe no length that does not fit into it; `usm` and
//! `engines` are v3's users and clocks; `clients` says who is meant; `fields`, `names` and `alert` make an alert of what it says;
//! `repeats` knows what came before; `making` is the way of one datagram through all of these; `listen` has the socket and the thread.

mod alert;
mod ber;
mod clients;
mod engines;
mod fields;
mod listen;
mod making;
mod message;
mod metrics;
mod names;
mod oid;
mod rates;
mod repeats;
mod usm;
mod value;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, LazyLock, PoisonError, RwLock},
    time::Duration,
};

use smol_str::SmolStr;

pub use clients::{Access, Client, Clients, Hidden};
pub use listen::{Bound, serve};
pub use metrics::SnmpMetrics;
pub use names::Names;
pub use oid::parse as parse_oid;
pub use usm::User;

use super::{Limits, ids::Ids, keep::Places, mapping::Mapping};

/// The field that rules are found by.
pub const TRAP: &str = "trap";

/// Limits of SNMP. Every one is there so that a hostile sender costs little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnmpLimits {
    /// Bytes of datagrams that the system holds for us.
    pub receive_bytes: usize,
    /// Most that one address may send in a second; the rest is dropped and counted.
    pub messages_per_second: usize,
    /// Longest time until an inform is answered; one that is kept later is not, and its sender asks again.
    pub inform_time: Duration,
}

impl SnmpLimits {
    /// Those of a config that says nothing.
    pub const DEFAULT: SnmpLimits = SnmpLimits {
        // Half a second of 20,000 traps a second, with what the system adds to each.
        receive_bytes: 16 << 20,
        // Half as many again as one router is made for.
        messages_per_second: 30_000,
        // Senders ask again after one to five seconds.
        inform_time: Duration::from_secs(5),
    };
}

impl Default for SnmpLimits {
    fn default() -> SnmpLimits {
        SnmpLimits::DEFAULT
    }
}

/// What the config says of SNMP. A reload puts another in force, for what comes then.
#[derive(Clone)]
pub struct SnmpSettings {
    /// Who may send.
    pub clients: Arc<Clients>,
    /// Names of objects and notifications.
    pub names: Arc<Names>,
    /// Limits of SNMP.
    pub limits: SnmpLimits,
    /// Limits of alerts.
    pub alert_limits: Limits,
    /// Rules that make alerts of notifications. What none takes is looked at by those that come with ams2.
    pub mapping: Mapping,
}

/// What every listener shares.
pub struct Snmp<I> {
    intake: I,
    settings: RwLock<Arc<SnmpSettings>>,
    /// Counts.
    pub metrics: Arc<SnmpMetrics>,
    on_denied: Box<dyn Fn(SmolStr, String) + Send + Sync>,
    ids: Ids,
    places: Places,
    /// Where the engine is kept, and those of others.
    data_dir: PathBuf,
    /// Whether others than this machine reach a listener.
    is_from_outside: bool,
}

impl<I> Snmp<I> {
    /// `on_denied` is told of everybody who was refused, and what was tried; `random` makes ids that no other process gives.
    pub fn new(
        intake: I,
        settings: SnmpSettings,
        metrics: Arc<SnmpMetrics>,
        on_denied: Box<dyn Fn(SmolStr, String) + Send + Sync>,
        random: u64,
        data_dir: PathBuf,
        is_from_outside: bool,
    ) -> Snmp<I> {
        Snmp {
            intake,
            settings: RwLock::new(Arc::new(settings)),
            metrics,
            on_denied,
            ids: Ids::new(random),
            places: Places::default(),
            data_dir,
            is_from_outside,
        }
    }

    /// Puts other settings in force.
    pub fn install(&self, settings: SnmpSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<SnmpSettings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The rules that come with ams2: `config/snmp/traps.yaml`.
fn builtin() -> &'static Mapping {
    static RULES: LazyLock<Mapping> = LazyLock::new(|| {
        let rules = crate::config::rules(include_str!("../../../config/snmp/traps.yaml"));
        rules.expect("a test reads the file").indexed_by(&trap_path())
    });
    &RULES
}

/// The way to the field that rules are found by.
pub fn trap_path() -> super::mapping::Path {
    super::mapping::Path::parse(TRAP).expect("it is a name")
}

/// The address of a peer. One of IPv4 is one, whatever the socket is.
fn peer(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

#[cfg(test)]
mod tests;
