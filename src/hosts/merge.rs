//! What a list changes in the cache: nothing that is there is overwritten unless that is wanted.

use std::collections::HashMap;

use super::{
    address::Address,
    cache::{Host, Origin},
    list::Pair,
};

/// What becomes of a pair whose name or address is in the cache with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// What is there stays.
    Keep,
    /// The list's takes its place, but for what is configured.
    Replace,
}

/// What became of one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is new.
    Added,
    /// It was there already.
    Unchanged,
    /// It took the place of others.
    Replaced,
    /// Others are there, and stay.
    Conflict,
}

impl Fate {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Added => "added",
            Fate::Unchanged => "unchanged",
            Fate::Replaced => "replaced",
            Fate::Conflict => "conflict",
        }
    }
}

/// One pair of the list, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The pair.
    pub pair: Pair,
    /// What became of it.
    pub fate: Fate,
    /// What was there in its place: one with its name, one with its address, or both.
    pub before: Vec<Host>,
}

/// Puts the pairs of a list into the cache, and says of each what that came to.
pub fn merge(hosts: &mut Vec<Host>, pairs: Vec<Pair>, how: Merge) -> Vec<Change> {
    // Places of those that go stay empty until the end, so that the others keep theirs.
    let mut rows: Vec<Option<Host>> = std::mem::take(hosts).into_iter().map(Some).collect();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut by_address: HashMap<Address, usize> = HashMap::new();
    for (host, place) in rows.iter().flatten().zip(0..) {
        by_name.insert(host.name.to_lowercase(), place);
        by_address.insert(host.address.clone(), place);
    }
    let mut changes = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let name = pair.name.to_lowercase();
        let mut places: Vec<usize> =
            by_name.get(&name).into_iter().chain(by_address.get(&pair.address)).copied().collect();
        places.dedup();
        let before: Vec<Host> = places.iter().filter_map(|place| rows[*place].clone()).collect();
        let is_same = |host: &Host| host.name.to_lowercase() == name && host.address == pair.address;
        let fate = match before.as_slice() {
            [] => Fate::Added,
            [one] if is_same(one) => Fate::Unchanged,
            some if how == Merge::Keep || some.iter().any(|host| host.origin == Origin::Configured) => {
                Fate::Conflict
            }
            _ => Fate::Replaced,
        };
        if matches!(fate, Fate::Added | Fate::Replaced) {
            for (host, place) in before.iter().zip(&places) {
                by_name.remove(&host.name.to_lowercase());
                by_address.remove(&host.address);
                rows[*place] = None;
            }
            // In the place of the first that goes, so that the order of the others is theirs.
            let place = places.first().copied().unwrap_or(rows.len());
            let (name_kept, address) = (pair.name.clone(), pair.address.clone());
            let host = Host { name: name_kept, address, origin: Origin::Imported, verified: None };
            match rows.get_mut(place) {
                Some(row) => *row = Some(host),
                None => rows.push(Some(host)),
            }
            by_name.insert(name, place);
            by_address.insert(pair.address.clone(), place);
        }
        let before = if fate == Fate::Unchanged { Vec::new() } else { before };
        changes.push(Change { pair, fate, before });
    }
    *hosts = rows.into_iter().flatten().collect();
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, address: &str, origin: Origin) -> Host {
        let verified = (origin == Origin::Discovered).then(|| "2026-11-24T10:15:02Z".to_owned());
        Host { name: name.into(), address: address.parse().expect("an address"), origin, verified }
    }

    fn cache() -> Vec<Host> {
        vec![
            host("a", "192.0.2.1", Origin::Imported),
            host("b", "192.0.2.2", Origin::Discovered),
            host("c", "192.0.2.3", Origin::Configured),
        ]
    }

    fn merged(pairs: &[(&str, &str)], how: Merge) -> (Vec<Host>, Vec<(Fate, usize)>) {
        let mut hosts = cache();
        let pairs = pairs.iter().zip(1..).map(|((name, address), line)| Pair {
            line,
            name: (*name).into(),
            address: address.parse().expect("an address"),
        });
        let changes = merge(&mut hosts, pairs.collect(), how);
        (hosts, changes.iter().map(|change| (change.fate, change.before.len())).collect())
    }

    #[test]
    fn what_is_there_is_never_overwritten_unless_that_is_wanted() {
        let rows = [
            ("new", "192.0.2.9", (Fate::Added, 0), (Fate::Added, 0)),
            ("a", "192.0.2.1", (Fate::Unchanged, 0), (Fate::Unchanged, 0)),
            ("A", "192.0.2.1", (Fate::Unchanged, 0), (Fate::Unchanged, 0)),
            ("a", "192.0.2.9", (Fate::Conflict, 1), (Fate::Replaced, 1)),
            ("new", "192.0.2.2", (Fate::Conflict, 1), (Fate::Replaced, 1)),
            ("a", "192.0.2.2", (Fate::Conflict, 2), (Fate::Replaced, 2)),
            ("c", "192.0.2.9", (Fate::Conflict, 1), (Fate::Conflict, 1)),
            ("a", "192.0.2.3", (Fate::Conflict, 2), (Fate::Conflict, 2)),
        ];
        for (name, address, kept, replaced) in rows {
            for (how, expected) in [(Merge::Keep, kept), (Merge::Replace, replaced)] {
                let (hosts, fates) = merged(&[(name, address)], how);
                assert_eq!(fates, [expected], "{name} {address} {how:?}");
                match expected {
                    (Fate::Unchanged | Fate::Conflict, _) => assert_eq!(hosts, cache(), "{name} {address}"),
                    (Fate::Added | Fate::Replaced, gone) => {
                        let new = host(name, address, Origin::Imported);
                        assert!(hosts.contains(&new), "{hosts:?}");
                        assert_eq!(hosts.len(), cache().len() + 1 - gone, "{name} {address}");
                    }
                }
            }
        }
    }

    #[test]
    fn pairs_that_replace_one_another_leave_each_once() {
        let (hosts, fates) =
            merged(&[("a", "192.0.2.2"), ("b", "192.0.2.1"), ("d", "192.0.2.9")], Merge::Replace);
        let names: Vec<_> = hosts.iter().map(|host| format!("{} {}", host.name, host.address)).collect();
        assert_eq!(names, ["a 192.0.2.2", "c 192.0.2.3", "b 192.0.2.1", "d 192.0.2.9"]);
        assert_eq!(fates, [(Fate::Replaced, 2), (Fate::Added, 0), (Fate::Added, 0)]);
    }
}
