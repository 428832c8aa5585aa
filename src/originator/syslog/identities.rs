//! How many different alerts messages make. Each is kept until its time is over: who makes up hosts and programs must not fill the
//! memory with them, nor bury what others say.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// So often all that was seen is forgotten: longer than an alert that nobody sees again is kept, unless `resolve_timeout` says otherwise.
const WINDOW: Duration = Duration::from_secs(600);
/// All together may have so many times as many as one: an address in a datagram is what its sender wrote.
const ALL_TIMES: usize = 5;

/// Those of senders for whom no certificate vouches.
#[derive(Debug, Default)]
pub struct Identities {
    random: RandomState,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    since: Option<Instant>,
    all: HashSet<u64>,
    by_address: HashMap<IpAddr, usize>,
}

impl Identities {
    /// Whether an alert that is `what` may be one of its own: it is known, or its sender has fewer than `most`.
    pub fn admits(&self, sender: IpAddr, what: impl Hash, most: usize, now: Instant) -> bool {
        let hash = self.random.hash_one(what);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            *seen = Seen { since: Some(now), ..Seen::default() };
        }
        if seen.all.contains(&hash) {
            return true;
        }
        let count = seen.by_address.get(&sender).copied().unwrap_or(0);
        if count >= most || seen.all.len() >= most.saturating_mul(ALL_TIMES) {
            return false;
        }
        seen.by_address.insert(sender, count + 1);
        seen.all.insert(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sender_has_so_many_alerts_and_all_have_some_times_as_many() {
        let (identities, now) = (Identities::default(), Instant::now());
        let admits = |last: u32, what: u32, at: u64| {
            let sender = std::net::Ipv4Addr::from(last).into();
            identities.admits(sender, what, 10, now + Duration::from_secs(at))
        };
        assert!((0..10).all(|what| admits(1, what, 0)));
        assert!(!admits(1, 10, 0) && admits(1, 9, 599), "what is known goes on");
        assert!((2..6).all(|sender| (0..10).all(|what| admits(sender, 100 * sender + what, 1))));
        assert!(!admits(6, 600, 1), "all have enough");
        assert!(admits(1, 10, 600), "another ten minutes");
    }
}
