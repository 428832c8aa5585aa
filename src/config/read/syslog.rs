//! Syslog as a way in: listeners, certificates, limits, clients.

use std::{net::SocketAddr, sync::Arc};

use smol_str::SmolStr;

use super::Reader;
use crate::{
    config::{
        Syslog,
        diagnostic::Place,
        tree::{Node, Value},
    },
    originator::{
        Limits, RESERVED_CLIENTS, Tls,
        mapping::{Does, Mapping},
        syslog::{
            Fingerprint, KnownSender, Network, Senders, SyslogLimits, SyslogSettings, Transport, Verifier,
        },
    },
};

/// How to mend a listener that lets in too many.
const MEND: &str = "listen on 127.0.0.1, use `tls:` with `client_ca_file`, or say `insecure: true`";

/// The TLS listener.
struct TlsListener {
    listen: Option<SocketAddr>,
    place: Place,
    tls: Option<Tls>,
    /// Whether everybody must show a certificate.
    asks: bool,
    /// Whether authorities vouch for the names in them.
    has_authorities: bool,
}

impl Reader<'_> {
    pub(super) fn syslog(&mut self, node: &Node, alert_limits: &Limits) -> Option<Syslog> {
        let mut fields = self.found.fields(node);
        let known = fields.take("clients").map(|node| self.senders(node)).unwrap_or_default();
        let senders = Arc::new(Senders { known, severities: self.severities.clone() });
        let udp = fields.take("udp").and_then(|node| Some((self.listen(node)?, node.place)));
        let tcp = fields.take("tcp").and_then(|node| Some((self.listen(node)?, node.place)));
        let tls_node = fields.take("tls");
        let tls = tls_node.map(|node| self.syslog_tls(node, &senders));
        let insecure = fields.take("insecure").and_then(|node| self.found.flag(node)).unwrap_or(false);
        let limits = fields.take("limits").map(|node| self.syslog_limits(node)).unwrap_or_default();
        let mapping =
            fields.take("mapping").map(|node| self.syslog_mapping(node, &senders)).unwrap_or_default();
        let named = ["udp", "tcp", "tls"].map(|name| fields.take(name).is_some());
        fields.end(&mut self.found);
        if !named.contains(&true) {
            self.found.error(node.place, "there is nothing to listen on", "add `udp:`, `tcp:` or `tls:`");
        }
        self.certificates_nobody_asks_for(&senders, node, tls.as_ref());
        let of_tls = tls.as_ref().and_then(|tls| Some((Transport::Tls, tls.listen?, tls.place)));
        let of_udp = udp.map(|(address, place)| (Transport::Udp, address, place));
        let of_tcp = tcp.map(|(address, place)| (Transport::Tcp, address, place));
        let listeners: Vec<_> = [of_udp, of_tcp, of_tls].into_iter().flatten().collect();
        let asks = tls.as_ref().is_some_and(|tls| tls.asks);
        for (transport, address, place) in &listeners {
            if address.ip().is_loopback() || *transport == Transport::Tls && asks {
                continue;
            }
            if !insecure {
                let lacks = match transport {
                    Transport::Udp => "and a datagram does not say who sent it",
                    Transport::Tcp => "without TLS",
                    Transport::Tls => "by anybody, since none is asked for a certificate",
                };
                self.found.error(*place, format!("{address} can be reached from outside, {lacks}"), MEND);
            } else if senders.known.is_empty() {
                let message = format!("everybody who reaches {address} may send alerts");
                self.found.warning(*place, message, "add `clients:` with the addresses that may");
            }
        }
        let listen: Vec<_> = listeners.iter().map(|(transport, address, _)| (*transport, *address)).collect();
        let tls = tls.and_then(|tls| tls.tls);
        let settings = SyslogSettings { senders, tls, limits, alert_limits: alert_limits.clone(), mapping };
        (!listen.is_empty()).then_some(Syslog { listen, settings })
    }

    fn syslog_mapping(&mut self, node: &Node, senders: &Senders) -> Mapping {
        let mapping = self.mapping_of_messages(
            node,
            "syslog",
            [
                "no message of syslog says who takes charge of an alert",
                "no message of syslog is a ping",
                "a sender of syslog hears no answer",
            ],
        );
        self.rules_of_syslog(node, &mapping, senders);
        mapping
    }

    /// Rules for messages of a protocol whose senders neither acknowledge, ping nor hear an answer, and why not; what none
    /// takes is an alert all the same.
    pub(super) fn mapping_of_messages(
        &mut self,
        node: &Node,
        source: &str,
        [acknowledge, ping, refuse]: [&str; 3],
    ) -> Mapping {
        let mapping = self.mapping(node).of(source);
        for (node, rule) in self.found.list(node).iter().zip(&mapping.rules) {
            let why = match rule.does {
                Does::Acknowledge => acknowledge,
                Does::Ping => ping,
                Does::Refuse => refuse,
                Does::Alert | Does::Resolve | Does::Drop => continue,
            };
            self.found.error(node.place, why, "use `does: alert`, `resolve` or `drop`");
        }
        mapping
    }

    fn syslog_tls(&mut self, node: &Node, senders: &Arc<Senders>) -> TlsListener {
        let mut fields = self.found.fields(node);
        let listen_node = fields.demand("listen", &mut self.found);
        let listen = listen_node.and_then(|node| self.listen(node));
        let place = listen_node.unwrap_or(node).place;
        let cert = fields.demand("cert_file", &mut self.found);
        let key = fields.demand("key_file", &mut self.found);
        let ca = fields.take("client_ca_file");
        let crl = fields.take("client_crl_file");
        fields.end(&mut self.found);
        let authorities = ca.map(|ca| self.authorities(ca, crl));
        if let (None, Some(crl)) = (ca, crl) {
            let message = "no authority is named that could have made it";
            self.found.error(crl.place, message, "add `client_ca_file:`");
        }
        let has_fingerprints = senders.known.iter().any(|known| !known.fingerprints.is_empty());
        let asks = ca.is_some() || has_fingerprints;
        let made = || {
            let identity = self.identity(cert?, key?)?;
            let verifier = match authorities {
                // What is wrong with it is said above.
                Some(None) => return None,
                Some(Some(authorities)) => Some(Verifier::new(Some(authorities), senders.clone())),
                None => asks.then(|| Verifier::new(None, senders.clone())),
            };
            let verifier = verifier.map(|verifier| Arc::new(verifier) as Arc<_>);
            let mut config = self.served(identity, verifier)?;
            // Whoever comes again is looked at again: a certificate may have been taken back since.
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Some(Arc::new(config))
        };
        TlsListener { listen, place, tls: made(), asks, has_authorities: ca.is_some() }
    }

    /// A client that is known by a certificate where none is asked for, or by a name that no authority vouches for.
    fn certificates_nobody_asks_for(&mut self, senders: &Senders, node: &Node, tls: Option<&TlsListener>) {
        for known in &senders.known {
            let name = &known.name;
            let by_fingerprint = !known.fingerprints.is_empty();
            match tls {
                None if by_fingerprint || !known.certificates.is_empty() => {
                    let message = format!("nothing listens for the certificate of the client `{name}`");
                    self.found.error(node.place, message, "add `tls:`, or know it by its `addresses`");
                }
                Some(tls) if !known.certificates.is_empty() && !tls.has_authorities => {
                    let message =
                        format!("nobody vouches for the name in the certificate of the client `{name}`");
                    self.found.error(
                        tls.place,
                        message,
                        "add `client_ca_file:`, or know it by a fingerprint",
                    );
                }
                _ => {}
            }
        }
    }

    fn senders(&mut self, node: &Node) -> Vec<KnownSender> {
        let mut senders: Vec<KnownSender> = Vec::new();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let name_node = fields.demand("name", &mut self.found);
            let name: Option<SmolStr> = name_node.and_then(|node| self.found.plain(node)).map(Into::into);
            let mut addresses = Vec::new();
            let addresses_node = fields.take("addresses");
            for item in addresses_node.map(|node| self.found.list(node)).unwrap_or_default() {
                addresses.extend(self.network(item));
            }
            let (mut certificates, mut fingerprints) = (Vec::new(), Vec::new());
            let certificates_node = fields.take("certificates");
            for item in certificates_node.map(|node| self.found.list(node)).unwrap_or_default() {
                let Some(text) = self.found.expanded(item) else { continue };
                match Fingerprint::parse(&text) {
                    Some(fingerprint) => fingerprints.push(fingerprint),
                    None if is_dns_name(&text) => certificates.push(text.to_ascii_lowercase().into()),
                    None => {
                        let mend = "write a DNS name, or sha256: and 64 hex digits: `openssl x509 -in FILE -noout -fingerprint -sha256`";
                        self.found.error(
                            item.place,
                            format!("`{text}` is no certificate's name or fingerprint"),
                            mend,
                        );
                    }
                }
            }
            let allow = match fields.take("allow") {
                Some(node) if matches!(node.value, Value::Null) => {
                    let mend = "write the matchers, or leave `allow` out for everything";
                    self.found.error(node.place, "`allow` is empty", mend);
                    Vec::new()
                }
                allow => allow.map(|node| self.matchers(node)).unwrap_or_default(),
            };
            fields.end(&mut self.found);
            let (Some(name), Some(name_node)) = (name, name_node) else { continue };
            if RESERVED_CLIENTS.contains(&name.as_str()) || name.is_empty() {
                let message = format!("a client may not be called `{name}`");
                self.found.error(name_node.place, message, "choose another name");
                continue;
            }
            if senders.iter().any(|known| known.name == name) {
                let message = format!("the client `{name}` is defined twice");
                self.found.error(name_node.place, message, "rename one");
                continue;
            }
            // A mistake in one of them is said, and leaves none.
            let nodes = [addresses_node, certificates_node];
            let says_nothing = |node: &Node| {
                matches!(&node.value, Value::Null)
                    || matches!(&node.value, Value::List(items) if items.is_empty())
            };
            if nodes.iter().flatten().all(|node| says_nothing(node)) {
                let message = format!("nothing says how to know the client `{name}`");
                self.found.error(item.place, message, "add `addresses:` or `certificates:`");
            }
            senders.push(KnownSender { name, addresses, certificates, fingerprints, allow });
        }
        senders
    }

    pub(super) fn network(&mut self, node: &Node) -> Option<Network> {
        let text = self.found.expanded(node)?;
        let network = Network::parse(&text);
        if network.is_none() {
            let mend = "write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32, without bits behind the prefix";
            self.found.error(node.place, format!("`{text}` is no address or network"), mend);
        }
        network
    }

    fn syslog_limits(&mut self, node: &Node) -> SyslogLimits {
        let mut limits = SyslogLimits::default();
        let mut fields = self.found.fields(node);
        let found = &mut self.found;
        for (name, size, allowed) in [
            // RFC 5424 section 6.1: everybody takes 480 bytes.
            ("message_bytes", &mut limits.message_bytes, 480..=64 << 10),
            ("receive_bytes", &mut limits.receive_bytes, 64 << 10..=256 << 20),
        ] {
            if let Some(bytes) = fields.take(name).and_then(|node| found.bytes_within(node, name, &allowed)) {
                *size = bytes;
            }
        }
        fields.limit_times(
            found,
            [
                ("message_time", &mut limits.message_time),
                ("idle_time", &mut limits.idle_time),
                ("handshake_time", &mut limits.handshake_time),
            ],
        );
        fields.limit_counts(
            found,
            [
                ("connections", &mut limits.connections),
                ("connections_per_address", &mut limits.connections_per_address),
                ("connects_per_second", &mut limits.connects_per_second),
                ("alerts_per_address", &mut limits.alerts_per_address),
            ],
        );
        fields.end(&mut self.found);
        limits
    }
}

/// Whether a certificate could have this name.
fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
