//! Where a request may go: looked at on the address that a name has when we connect, not before.
//!
//! Addresses inside (private, loopback, link-local and their like) are for hosts that the config names itself. A host that
//! came from an alert's text, from a redirect or from a service's own file must be outside: nobody reaches a neighbour, a cloud's
//! metadata or ams2 itself by what an alert says.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

use crate::{lane::Lane, net};

/// Hosts that the config names itself, in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named(Arc<BTreeSet<String>>);

impl Named {
    pub(crate) fn new(hosts: impl IntoIterator<Item = String>) -> Named {
        Named(Arc::new(hosts.into_iter().map(|host| bare(&host).to_ascii_lowercase()).collect()))
    }

    pub(crate) fn has(&self, host: &str) -> bool {
        self.0.contains(&bare(host).to_ascii_lowercase())
    }

    /// Whether a host that is an address may be connected to. Names are looked at once they are resolved.
    pub(crate) fn allows(&self, host: &str) -> bool {
        self.has(host) || bare(host).parse::<IpAddr>().map_or(true, is_outside)
    }
}

/// Without the brackets that an address of IPv6 has in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// A name led to addresses inside alone, and the config does not name it.
#[derive(Debug)]
pub(crate) struct Inside;

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "its address is private, loopback or link-local, and the config does not name that host itself",
        )
    }
}

impl Error for Inside {}

/// Resolves names by the system, and lets through what the rules allow.
pub(crate) struct Resolver {
    pub(crate) named: Named,
    /// The name that certificates must have, and the host that is connected to for it.
    pub(crate) alias: Option<(String, String)>,
    lookups: Lane,
}

impl Resolver {
    pub(crate) fn new(named: Named, alias: Option<(String, String)>) -> Resolver {
        Resolver { named, alias, lookups: net::lookups() }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let asked = match &self.alias {
            Some((alias, host)) if alias.eq_ignore_ascii_case(name.as_str()) => host.clone(),
            _ => name.as_str().to_owned(),
        };
        let (is_named, lookups) = (self.named.has(&asked), self.lookups.clone());
        Box::pin(async move {
            // The wait for a name has a bound of its own there; the deadline ends the whole.
            let end = Instant::now() + net::RESOLVE_WAIT;
            let mut addresses = net::look_up(&lookups, bare(&asked), 0, end).await?;
            addresses.retain(|address| is_named || is_outside(address.ip()));
            if addresses.is_empty() {
                return Err(Inside.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the internet at large.
pub(crate) fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_outside_v4(address),
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => is_outside_v4(inner),
            None => {
                let first = address.segments()[0];
                // Of what is not given out yet nothing is anybody's: only 2000::/3 is the internet.
                first & 0xe000 == 0x2000
                    // Teredo, and the numbers for documentation.
                    && !(first == 0x2001 && (address.segments()[1] == 0 || address.segments()[1] == 0xdb8))
            }
        },
    }
}

fn is_outside_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        // Multicast, reserved and broadcast.
        || a >= 224
        || a == 0
        // Between a provider and its customers (RFC 6598), protocol assignments, benchmarks (RFC 2544).
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (b == 18 || b == 19)))
}

/// The address of IPv4 that one of IPv6 leads to: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => Some(of(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_outside() {
        let rows = [
            ("1.1.1.1", true),
            ("8.8.8.8", true),
            ("100.63.0.1", true),
            ("172.32.0.1", true),
            ("2606:4700::1111", true),
            ("64:ff9b::808:808", true),
            ("::ffff:8.8.8.8", true),
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("240.0.0.1", false),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("fd00:ec2::254", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2001:0:808:808::1", false),
            ("::ffff:127.0.0.1", false),
            ("::127.0.0.1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("2002:7f00:1::", false),
            ("4000::1", false),
        ];
        for (address, outside) in rows {
            assert_eq!(is_outside(address.parse().expect(address)), outside, "{address}");
        }
    }

    #[test]
    fn a_host_that_the_config_names_may_be_inside() {
        let named = Named::new(["127.0.0.1".to_owned(), "[::1]".to_owned(), "Hooks.example.com".to_owned()]);
        for (host, allowed) in [
            ("127.0.0.1", true),
            ("[::1]", true),
            ("::1", true),
            ("127.0.0.2", false),
            ("[fe80::1]", false),
            ("8.8.8.8", true),
            ("other.example.com", true),
        ] {
            assert_eq!(named.allows(host), allowed, "{host}");
        }
        assert!(named.has("hooks.EXAMPLE.com"));
    }

    #[tokio::test]
    async fn names_are_judged_by_the_addresses_that_they_have() {
        let resolve = async |named: Named, name: &str| {
            let resolver = Resolver::new(named, None);
            resolver.resolve(name.parse().expect("a name")).await.map(Iterator::count)
        };
        let refused = resolve(Named::default(), "localhost").await.expect_err("inside");
        assert!(refused.is::<Inside>(), "{refused}");
        assert!(resolve(Named::new(["localhost".into()]), "localhost").await.expect("named") > 0);
    }

    #[tokio::test]
    async fn an_alias_leads_to_its_host() {
        let named = Named::new(["127.0.0.1".to_owned()]);
        let alias = Some(("hooks.example.com".to_owned(), "127.0.0.1".to_owned()));
        let resolver = Resolver::new(named, alias);
        let found: Vec<std::net::SocketAddr> =
            resolver.resolve("hooks.example.com".parse().expect("a name")).await.expect("found").collect();
        assert_eq!(found, ["127.0.0.1:0".parse().expect("an address")]);
    }
}
