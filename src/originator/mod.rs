//! The originator: takes alerts from clients, says who they are, checks what they send, and answers once it is kept.
//! A source never touches the router: it knows the journal alone.

mod alerts;
mod auth;
mod body;
mod drip;
mod drops;
mod enrol;
mod forward;
mod http;
mod ids;
pub mod inbound;
mod json;
mod keep;
mod linger;
pub mod mapping;
mod metrics;
mod pings;
mod problem;
mod refusals;
mod requests;
pub mod snmp;
mod socket;
pub mod syslog;

pub use auth::{Clients, KnownClient, Right, TokenHash};
pub use enrol::{Caller, NoName};
pub use http::{BodyReaders, Listener, Serving, Settings, Tls, serve};
pub use json::{AlertProblem, BadBody, Limits, Mistakes, parse, parse_v2};
pub use metrics::OriginatorMetrics;
pub use pings::Heartbeats;
pub use refusals::Refusals;
pub use socket::{PATH_BYTES_MAX as SOCKET_BYTES_MAX, SocketError, SocketSettings, listen};

use std::{
    future::Future,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use ams2_core::{Input, input::Arrival};

use crate::journal::{Accepted, Journal, Refused};

/// Clients may not call themselves what ams2 calls itself and this machine.
pub const RESERVED_CLIENTS: [&str; 2] = [ams2_core::machine::OWN_CLIENT, "local"];

/// Whom limits of an address count as one: an address of IPv4, and of IPv6 all of a network of 64 bits, since whoever has one of its
/// addresses has as many as they like.
fn neighbours(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// What takes alerts and keeps them.
pub trait Intake: Clone + Send + Sync + 'static {
    /// Answers once the alerts are flushed.
    fn accept(&self, arrival: Arrival) -> impl Future<Output = Result<Accepted, Refused>> + Send;

    /// Answers once what else a client says is flushed: a ping, an acknowledgement.
    fn accept_other(&self, input: Input) -> impl Future<Output = Result<Accepted, Refused>> + Send;
}

impl Intake for Journal {
    fn accept(&self, arrival: Arrival) -> impl Future<Output = Result<Accepted, Refused>> + Send {
        Journal::accept(self, arrival)
    }

    fn accept_other(&self, input: Input) -> impl Future<Output = Result<Accepted, Refused>> + Send {
        Journal::accept_other(self, input)
    }
}

/// Limits of a listener. Every one is there so that a hostile client costs little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Largest body after decompression, in bytes.
    pub body_bytes: usize,
    /// Longest time for a request's headers; also how long a connection may stay idle.
    pub header_time: Duration,
    /// Longest time for a request's body.
    pub body_time: Duration,
    /// Longest time that a client may take to read a piece of its answer; the whole may take ten times as long.
    pub answer_time: Duration,
    /// Longest time for a TLS handshake.
    pub handshake_time: Duration,
    /// Most connections.
    pub connections: usize,
    /// Most connections from one address.
    pub connections_per_address: usize,
    /// Most bytes of bodies and answers in memory at once, over all connections; a quarter of it for one client or address.
    pub bytes_in_flight: usize,
    /// Largest request head, in bytes.
    pub head_bytes: usize,
    /// Most headers.
    pub headers: usize,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            body_bytes: 8 << 20,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(30),
            handshake_time: Duration::from_secs(10),
            connections: 4096,
            connections_per_address: 1024,
            bytes_in_flight: 256 << 20,
            head_bytes: 16 << 10,
            headers: 64,
        }
    }
}
