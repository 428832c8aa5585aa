//! Who sends, and what they may send: known by the address that they come from, by their certificate, or by both.

use std::net::IpAddr;

use ams2_core::{AlertRef, Severities, matcher::Compiled};
use smol_str::{SmolStr, ToSmolStr};

use super::certificate::{Certificate, Fingerprint};
use crate::originator::RESERVED_CLIENTS;

/// A part of the addresses that there are: `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `192.0.2.0/24`, `2001:db8::/32` or one address. `None` for anything else, and where bits are set behind those
    /// that count.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits.parse().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let network = Network { address, bits: bits.unwrap_or(width) };
        let behind = number(address) & !network.mask();
        (network.bits <= width && behind == 0).then_some(network)
    }

    /// Whether an address is one of these.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && number(address) & self.mask() == number(self.address)
    }

    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.bits.min(128))).unwrap_or(0)
    }
}

/// An address as a number whose highest bits are its first.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A client of the config.
#[derive(Clone, Debug)]
pub struct KnownSender {
    /// Its name.
    pub name: SmolStr,
    /// Where it comes from; empty for anywhere.
    pub addresses: Vec<Network>,
    /// Names of which its certificate has one, in lower case.
    pub certificates: Vec<SmolStr>,
    /// Fingerprints of its certificates. One of the names or of these must fit, where there are any.
    pub fingerprints: Vec<Fingerprint>,
    /// It may send only alerts that match all of these.
    pub allow: Vec<Compiled>,
}

/// Every client of the config.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    /// In the order of the config: the first that fits counts.
    pub known: Vec<KnownSender>,
    /// For the matchers of `allow`.
    pub severities: Severities,
}

/// Who sends on a connection, or sent a datagram.
#[derive(Clone, Debug)]
pub struct Sender<'s> {
    /// The client's name: the config's, its certificate's, or its address.
    pub name: SmolStr,
    /// `None` where the config names nobody.
    pub known: Option<&'s KnownSender>,
}

impl KnownSender {
    /// `names`: those of the certificate that an authority vouches for.
    fn fits(&self, address: IpAddr, certificate: Option<&Certificate>, names: &[SmolStr]) -> bool {
        let from_there =
            self.addresses.is_empty() || self.addresses.iter().any(|network| network.contains(address));
        let by_certificate = self.certificates.is_empty() && self.fingerprints.is_empty()
            || certificate.is_some_and(|certificate| {
                self.fingerprints.contains(&certificate.fingerprint)
                    || names.iter().any(|name| self.certificates.contains(name))
            });
        from_there && by_certificate
    }
}

impl Senders {
    /// Who comes from an address, perhaps with a certificate; `None` where the config names clients, and this is none.
    pub fn who(&self, address: IpAddr, certificate: Option<&Certificate>) -> Option<Sender<'_>> {
        if self.known.is_empty() {
            return Some(Sender { name: plain_name(address, certificate), known: None });
        }
        // Who is believed for a fingerprint may have written any name into that certificate.
        let vouched = certificate.filter(|certificate| !self.trust(&certificate.fingerprint));
        let names = vouched.map(|certificate| &*certificate.names).unwrap_or_default();
        let known = self.known.iter().find(|known| known.fits(address, certificate, names))?;
        Some(Sender { name: known.name.clone(), known: Some(known) })
    }

    /// The first matcher of a client's that an alert does not match. Where it lacks a label, that of the message counts: a rule need not
    /// repeat what is known of its sender.
    pub fn refuses<'s>(
        &self,
        sender: &Sender<'s>,
        alert: &AlertRef<'_>,
        message: &AlertRef<'_>,
    ) -> Option<&'s Compiled> {
        let value = |name: &str| match alert.label(name) {
            "" => message.label(name).to_owned(),
            own => own.to_owned(),
        };
        let mut allow = sender.known?.allow.iter();
        allow.find(|m| !m.matches(&value(&m.matcher.name), &self.severities))
    }

    /// Whether a certificate with this fingerprint is a client's, whoever signed it.
    pub fn trust(&self, fingerprint: &Fingerprint) -> bool {
        self.known.iter().any(|known| known.fingerprints.contains(fingerprint))
    }
}

/// The name of one that the config does not name.
fn plain_name(address: IpAddr, certificate: Option<&Certificate>) -> SmolStr {
    let Some(certificate) = certificate else { return address.to_smolstr() };
    let name = certificate.names.iter().find(|name| !RESERVED_CLIENTS.contains(&name.as_str()));
    name.cloned().unwrap_or_else(|| certificate.fingerprint.to_smolstr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        let rows = [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.7", false),
            ("::1", "::1", true),
        ];
        for (network, address, contains) in rows {
            let parsed = Network::parse(network).unwrap_or_else(|| panic!("{network}"));
            assert_eq!(parsed.contains(address.parse().expect("one")), contains, "{network} {address}");
        }
        for wrong in [
            "",
            "192.0.2.0/33",
            "192.0.2.1/24",
            "192.0.2/24",
            "::/129",
            "192.0.2.0/",
            "a/8",
            "192.0.2.0/+8",
            "::1/64",
        ] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    fn certificate(names: &[&str], first: u8) -> Certificate {
        Certificate {
            names: names.iter().map(|name| SmolStr::from(*name)).collect(),
            subject: String::new(),
            fingerprint: Fingerprint([first; 32]),
        }
    }

    #[test]
    fn a_client_is_known_by_all_that_the_config_says_of_it() {
        let known =
            |name: &str, addresses: &[&str], certificates: &[&str], fingerprints: &[u8]| KnownSender {
                name: name.into(),
                addresses: addresses.iter().map(|text| Network::parse(text).expect("one")).collect(),
                certificates: certificates.iter().map(|name| SmolStr::from(*name)).collect(),
                fingerprints: fingerprints.iter().map(|first| Fingerprint([*first; 32])).collect(),
                allow: Vec::new(),
            };
        let senders = Senders {
            known: vec![
                known("both", &["192.0.2.0/24"], &["gw.example.com"], &[]),
                known("gateway", &[], &["gw.example.com", "gw2.example.com"], &[7]),
                known("switches", &["192.0.2.0/24", "2001:db8::/32"], &[], &[]),
            ],
            ..Senders::default()
        };
        let rows = [
            ("192.0.2.1", Some(certificate(&["gw.example.com"], 1)), Some("both")),
            ("203.0.113.1", Some(certificate(&["gw.example.com"], 1)), Some("gateway")),
            ("203.0.113.1", Some(certificate(&["a", "gw2.example.com"], 1)), Some("gateway")),
            ("203.0.113.1", Some(certificate(&[], 7)), Some("gateway")),
            // Not by a name that it gave itself.
            ("192.0.2.1", Some(certificate(&["gw.example.com"], 7)), Some("gateway")),
            ("203.0.113.1", Some(certificate(&["other.example.com"], 1)), None),
            ("192.0.2.1", Some(certificate(&["other.example.com"], 1)), Some("switches")),
            ("192.0.2.1", None, Some("switches")),
            ("203.0.113.1", None, None),
        ];
        for (address, certificate, name) in rows {
            let who = senders.who(address.parse().expect("one"), certificate.as_ref());
            assert_eq!(who.map(|who| who.name).as_deref(), name, "{address} {certificate:?}");
        }
        assert!(senders.trust(&Fingerprint([7; 32])) && !senders.trust(&Fingerprint([1; 32])));
    }

    #[test]
    fn where_the_config_names_nobody_everybody_has_a_name_and_nobody_ours() {
        let senders = Senders::default();
        let name = |certificate: Option<Certificate>| {
            senders.who("192.0.2.1".parse().expect("one"), certificate.as_ref()).map(|who| who.name)
        };
        assert_eq!(name(None).as_deref(), Some("192.0.2.1"));
        assert_eq!(name(Some(certificate(&["ams2", "a.example.com"], 1))).as_deref(), Some("a.example.com"));
        let nameless = name(Some(certificate(&["local"], 1))).expect("anybody");
        assert!(nameless.starts_with("sha256:0101"), "{nameless}");
    }
}
