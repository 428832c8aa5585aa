//! How much one address may send: a flood from one must not take the place of what others say.

use std::{collections::HashMap, net::IpAddr, time::Instant};

/// Addresses that are counted each for itself. An address in a datagram is whatever its sender wrote: beyond so many the rest is
/// counted as one.
const ADDRESSES_MAX: usize = 8192;

/// Buckets of tokens, one an address: full at first, and full again after a second.
#[derive(Debug)]
pub struct Rates {
    per_second: f64,
    buckets: HashMap<IpAddr, Bucket>,
    others: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn takes(&mut self, per_second: f64, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * per_second).min(per_second);
        self.at = now;
        let takes = self.tokens >= 1.0;
        if takes {
            self.tokens -= 1.0;
        }
        takes
    }
}

impl Rates {
    /// Nobody has sent anything yet.
    pub fn new(per_second: usize, now: Instant) -> Rates {
        let per_second = per_second as f64;
        Rates { per_second, buckets: HashMap::new(), others: Bucket { tokens: per_second, at: now } }
    }

    /// Another rate holds from now on.
    pub fn set(&mut self, per_second: usize) {
        self.per_second = per_second as f64;
    }

    /// Whether an address may send one more.
    pub fn takes(&mut self, address: IpAddr, now: Instant) -> bool {
        let per_second = self.per_second;
        if let Some(bucket) = self.buckets.get_mut(&address) {
            return bucket.takes(per_second, now);
        }
        if self.buckets.len() >= ADDRESSES_MAX {
            // Those whose bucket is full by now are as new ones.
            self.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at).as_secs_f64() < 1.0);
        }
        if self.buckets.len() >= ADDRESSES_MAX {
            return self.others.takes(per_second, now);
        }
        let mut bucket = Bucket { tokens: per_second, at: now };
        let takes = bucket.takes(per_second, now);
        self.buckets.insert(address, bucket);
        takes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_has_its_rate_and_takes_none_of_anothers() {
        let start = Instant::now();
        let mut rates = Rates::new(10, start);
        let address = |n: u32| IpAddr::V4(n.into());
        let mut taken = |n, ms| {
            let now = start + Duration::from_millis(ms);
            (0..100).filter(|_| rates.takes(address(n), now)).count()
        };
        assert_eq!(
            [taken(1, 0), taken(2, 0), taken(1, 0), taken(1, 500), taken(1, 5000)],
            [10, 10, 0, 5, 10]
        );
        // Who makes addresses up has as much as one when the table is full.
        let mut rates = Rates::new(10, start);
        let taken = (0..100_000).filter(|n| rates.takes(address(*n), start)).count();
        assert_eq!(taken, ADDRESSES_MAX + 10);
        assert!(rates.takes(address(100_001), start + Duration::from_secs(2)));
    }
}
