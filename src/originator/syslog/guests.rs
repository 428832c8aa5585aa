//! How many connections there are, and how fast they come: in all, and from each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::SyslogLimits;
use crate::originator::neighbours;

/// Addresses are looked through for those that are gone when there are so many, and then at twice as many as are left.
const ADDRESSES_MIN: usize = 4096;
/// In so long an address has all of its new connections again.
const WINDOW: Duration = Duration::from_secs(1);

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// There are too many.
    Connections,
    /// There are too many from this address, or too many come.
    Address,
}

/// Those who are here. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Guests(Arc<Mutex<Here>>);

#[derive(Debug, Default)]
struct Here {
    all: usize,
    addresses: HashMap<IpAddr, Address>,
    look_at: usize,
}

/// One address.
#[derive(Debug)]
struct Address {
    open: usize,
    /// Connections that came since then.
    came: usize,
    since: Instant,
}

impl Address {
    fn is_gone(&self, now: Instant) -> bool {
        self.open == 0 && now.duration_since(self.since) >= WINDOW
    }
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct Guest {
    guests: Guests,
    address: IpAddr,
}

impl Guests {
    /// Somebody connects.
    pub fn enter(&self, address: IpAddr, limits: &SyslogLimits, now: Instant) -> Result<Guest, Crowded> {
        let address = neighbours(address);
        let mut here = self.lock();
        if here.addresses.len() >= here.look_at.max(ADDRESSES_MIN) {
            here.addresses.retain(|_, of| !of.is_gone(now));
            here.look_at = 2 * here.addresses.len();
        }
        let is_full = here.all >= limits.connections;
        let of = here.addresses.entry(address).or_insert(Address { open: 0, came: 0, since: now });
        if now.duration_since(of.since) >= WINDOW {
            (of.came, of.since) = (0, now);
        }
        of.came += 1;
        if of.came > limits.connects_per_second || of.open >= limits.connections_per_address {
            return Err(Crowded::Address);
        }
        if is_full {
            return Err(Crowded::Connections);
        }
        of.open += 1;
        here.all += 1;
        Ok(Guest { guests: self.clone(), address })
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Here> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut here = self.guests.lock();
        here.all -= 1;
        if let Some(of) = here.addresses.get_mut(&self.address) {
            of.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SyslogLimits = SyslogLimits {
        connections: 5,
        connections_per_address: 3,
        connects_per_second: 4,
        ..SyslogLimits::DEFAULT
    };

    fn address(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from(last).into()
    }

    #[test]
    fn connections_are_bounded_in_all_by_address_and_by_how_fast_they_come() {
        let (guests, now) = (Guests::default(), Instant::now());
        let enter = |last, at| guests.enter(address(last), &LIMITS, now + Duration::from_millis(at));
        let mut here: Vec<Guest> = (0..3).map(|_| enter(1, 0).expect("room")).collect();
        assert_eq!(enter(1, 0).expect_err("three are enough"), Crowded::Address);
        here.pop();
        assert_eq!(enter(1, 999).expect_err("four came in this second"), Crowded::Address);
        here.push(enter(1, 1000).expect("another second"));
        here.extend((0..2).map(|_| enter(2, 1000).expect("room")));
        assert_eq!((enter(3, 1000).expect_err("it is full"), guests.count()), (Crowded::Connections, 5));
        drop(here);
        assert_eq!(guests.count(), 0);
        enter(3, 1000).expect("room");
    }

    #[test]
    fn of_ipv6_a_network_counts_as_one() {
        let (guests, now) = (Guests::default(), Instant::now());
        let enter = |text: &str| guests.enter(text.parse().expect("an address"), &LIMITS, now);
        let _here: Vec<Guest> = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"]
            .map(|text| enter(text).expect("room"))
            .into();
        assert_eq!(enter("2001:db8::4").expect_err("three are enough"), Crowded::Address);
        enter("2001:db8:0:1::1").expect("another network");
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let (guests, now) = (Guests::default(), Instant::now());
        let stays = guests.enter(address(0), &LIMITS, now).expect("room");
        for last in 0..20 * ADDRESSES_MIN as u32 {
            let at = now + Duration::from_millis(u64::from(last));
            drop(guests.enter(address(1 + last), &LIMITS, at).expect("room"));
        }
        let known = guests.lock().addresses.len();
        assert!(known <= ADDRESSES_MIN, "{known}");
        drop(stays);
    }
}
