//! Addresses of computers: IPv4 and IPv6, the latter with a zone where it is link-local.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest zone (an interface's name), in bytes.
const ZONE_BYTES_MAX: usize = 64;

/// An address, in its one usual form: what is written in two ways is equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    ip: IpAddr,
    /// Where a link-local address is meant; empty for none.
    zone: String,
}

/// Why something is no address of a computer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is none at all.
    #[error("is no IPv4 or IPv6 address")]
    NoAddress,
    /// It is one of many computers, or of none.
    #[error("is no address of one computer")]
    NotOne,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let (ip, zone) = text.split_once('%').unwrap_or((text, ""));
        let ip: IpAddr = ip.parse().map_err(|_| AddressError::NoAddress)?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let fits = match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                zone.len() <= ZONE_BYTES_MAX && zone.chars().all(is_part) && !text.ends_with('%')
            }
            _ => !text.contains('%'),
        };
        if !fits {
            return Err(AddressError::NoAddress);
        }
        let is_one = !ip.is_unspecified() && !ip.is_multicast() && ip != Ipv4Addr::BROADCAST;
        is_one.then(|| Address { ip, zone: zone.into() }).ok_or(AddressError::NotOne)
    }
}

impl Address {
    /// Whether the text, which begins with a colon, is an address all the same.
    pub(super) fn is_v6(text: &str) -> bool {
        text.parse::<Ipv6Addr>().is_ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone.as_str() {
            "" => write!(f, "{}", self.ip),
            zone => write!(f, "{}%{zone}", self.ip),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| serde::de::Error::custom(format!("`{text}` {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_one_computer_in_its_usual_form() {
        for (text, expected) in [
            ("192.0.2.1", Ok("192.0.2.1")),
            ("2001:DB8:0::1", Ok("2001:db8::1")),
            ("::1", Ok("::1")),
            ("fe80::1%eth0", Ok("fe80::1%eth0")),
            ("fe80::1", Ok("fe80::1")),
            ("192.0.2.300", Err(AddressError::NoAddress)),
            ("192.0.2", Err(AddressError::NoAddress)),
            ("192.0.2.01", Err(AddressError::NoAddress)),
            ("192.0.2.1:80", Err(AddressError::NoAddress)),
            ("[::1]", Err(AddressError::NoAddress)),
            ("host.example", Err(AddressError::NoAddress)),
            ("2001:db8::1%eth0", Err(AddressError::NoAddress)),
            ("fe80::1%", Err(AddressError::NoAddress)),
            ("fe80::1%a b", Err(AddressError::NoAddress)),
            ("", Err(AddressError::NoAddress)),
            ("0.0.0.0", Err(AddressError::NotOne)),
            ("255.255.255.255", Err(AddressError::NotOne)),
            ("224.0.0.1", Err(AddressError::NotOne)),
            ("ff02::1", Err(AddressError::NotOne)),
            ("::", Err(AddressError::NotOne)),
        ] {
            let found = text.parse::<Address>().map(|address| address.to_string());
            assert_eq!(found.as_deref().map_err(|error| *error), expected, "{text}");
        }
    }
}
