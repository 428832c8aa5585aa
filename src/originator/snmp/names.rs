//! Names of notifications and objects: those that every network has, those of AMS2-MIB under any enterprise, and the config's.

use std::{collections::BTreeMap, sync::LazyLock};

use smol_str::SmolStr;

use super::oid;

/// SNMPv2-MIB and IF-MIB (RFC 3418, RFC 2863): notifications.
const TRAPS: [(&str, &str); 6] = [
    ("coldStart", "1.3.6.1.6.3.1.1.5.1"),
    ("warmStart", "1.3.6.1.6.3.1.1.5.2"),
    ("linkDown", "1.3.6.1.6.3.1.1.5.3"),
    ("linkUp", "1.3.6.1.6.3.1.1.5.4"),
    ("authenticationFailure", "1.3.6.1.6.3.1.1.5.5"),
    ("egpNeighborLoss", "1.3.6.1.6.3.1.1.5.6"),
];
/// Objects that such notifications hold.
const OBJECTS: [(&str, &str); 9] = [
    ("sysDescr", "1.3.6.1.2.1.1.1"),
    ("sysName", "1.3.6.1.2.1.1.5"),
    ("sysLocation", "1.3.6.1.2.1.1.6"),
    ("ifIndex", "1.3.6.1.2.1.2.2.1.1"),
    ("ifDescr", "1.3.6.1.2.1.2.2.1.2"),
    ("ifAdminStatus", "1.3.6.1.2.1.2.2.1.7"),
    ("ifOperStatus", "1.3.6.1.2.1.2.2.1.8"),
    ("ifName", "1.3.6.1.2.1.31.1.1.1.1"),
    ("ifAlias", "1.3.6.1.2.1.31.1.1.1.18"),
];
/// The notifications of AMS2-MIB, the first with number 1.
const AMS2_TRAPS: [&str; 4] = ["ams2AlertFiring", "ams2AlertCleared", "ams2Heartbeat", "ams2Test"];
/// Its objects, likewise.
const AMS2_OBJECTS: [&str; 17] = [
    "ams2DeliveryId",
    "ams2Fingerprint",
    "ams2Severity",
    "ams2SeverityWord",
    "ams2State",
    "ams2Event",
    "ams2EventId",
    "ams2Source",
    "ams2Summary",
    "ams2Labels",
    "ams2Starts",
    "ams2Ends",
    "ams2Count",
    "ams2Group",
    "ams2Url",
    "ams2AlertCut",
    "ams2TestAlert",
];
/// Where enterprises stand.
const ENTERPRISES: [u8; 5] = [0x2b, 6, 1, 4, 1];
/// AMS2-MIB below a site's number.
const ARC: [u8; 2] = [0x8f, 0x54];

/// The table of names that come with ams2, octets first.
static KNOWN: LazyLock<Vec<(Vec<u8>, &'static str)>> = LazyLock::new(|| {
    let all = TRAPS.iter().chain(&OBJECTS);
    let mut known: Vec<_> = all.map(|(name, text)| (oid::parse(text).expect("an OID"), *name)).collect();
    known.sort();
    known
});

/// Names of a config, and those that are always there.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_name: BTreeMap<SmolStr, Vec<u8>>,
    by_oid: BTreeMap<Vec<u8>, SmolStr>,
}

/// Where an object is found among the varbinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this OID, or below it.
    Below(Vec<u8>),
    /// AMS2-MIB's object of this number, whatever the enterprise.
    OfAms2(u8),
}

impl Place {
    /// What stands behind it in an OID that belongs there: the row of a table.
    pub fn index<'o>(&self, octets: &'o [u8]) -> Option<&'o [u8]> {
        match self {
            Place::Below(prefix) => octets.strip_prefix(&prefix[..]),
            Place::OfAms2(number) => {
                let end = [ARC[0], ARC[1], 1, *number, 0];
                oid::between(octets, &ENTERPRISES, &end).map(|_| &octets[octets.len() - 1..])
            }
        }
    }
}

impl Names {
    /// Adds one of the config; its own come before those that are always there.
    pub fn add(&mut self, name: SmolStr, octets: Vec<u8>) {
        self.by_oid.insert(octets.clone(), name.clone());
        self.by_name.insert(name, octets);
    }

    /// Where an object is found: by its name, or by an OID.
    pub fn place(&self, name: &str) -> Option<Place> {
        if let Some(octets) = self.by_name.get(name) {
            return Some(Place::Below(octets.clone()));
        }
        if name.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return oid::parse(name).map(Place::Below);
        }
        if let Some(at) = AMS2_OBJECTS.iter().position(|known| *known == name) {
            return Some(Place::OfAms2(at as u8 + 1));
        }
        KNOWN.iter().find(|(_, known)| *known == name).map(|(octets, _)| Place::Below(octets.clone()))
    }

    /// The name of a notification, if it has one.
    pub fn of_trap(&self, octets: &[u8]) -> Option<&str> {
        if let Some(name) = self.by_oid.get(octets) {
            return Some(name);
        }
        if let Ok(at) = KNOWN.binary_search_by(|(known, _)| known[..].cmp(octets)) {
            return Some(KNOWN[at].1);
        }
        let (number, before) = octets.split_last()?;
        oid::between(before, &ENTERPRISES, &[ARC[0], ARC[1], 0])?;
        AMS2_TRAPS.get(usize::from(number.checked_sub(1)?)).copied()
    }

    /// The name of an object with its row, `ifIndex.3`; its OID where it has no name.
    pub fn of_object(&self, octets: &[u8]) -> String {
        let named = |name: &str, index: &[u8]| match index {
            [] => name.to_owned(),
            index => format!("{name}.{}", oid::dotted_behind(index)),
        };
        let mut prefix = octets;
        while !prefix.is_empty() {
            if let Some(name) = self.by_oid.get(prefix) {
                return named(name, &octets[prefix.len()..]);
            }
            if let Ok(at) = KNOWN.binary_search_by(|(known, _)| known[..].cmp(prefix)) {
                return named(KNOWN[at].1, &octets[prefix.len()..]);
            }
            prefix = oid::parent(prefix);
        }
        let ours = (1..).zip(AMS2_OBJECTS).find(|(number, _)| Place::OfAms2(*number).index(octets).is_some());
        ours.map_or_else(|| oid::dotted(octets), |(_, name)| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(text: &str) -> Vec<u8> {
        oid::parse(text).expect("an OID")
    }

    #[test]
    fn names_are_found_by_oid_and_back() {
        let mut names = Names::default();
        names.add("upsOnBattery".into(), octets("1.3.6.1.2.1.33.2.1"));
        names.add("ifDescr".into(), octets("1.3.6.1.4.1.9.2"));
        for (text, name) in [
            ("1.3.6.1.6.3.1.1.5.3", Some("linkDown")),
            ("1.3.6.1.2.1.33.2.1", Some("upsOnBattery")),
            ("1.3.6.1.4.1.32473.2004.0.1", Some("ams2AlertFiring")),
            ("1.3.6.1.4.1.7.2004.0.4", Some("ams2Test")),
            ("1.3.6.1.4.1.7.2004.0.5", None),
            ("1.3.6.1.4.1.7.2004.0.0", None),
            ("1.3.6.1.4.1.7.2005.0.1", None),
            ("1.3.6.1.6.3.1.1.5.7", None),
        ] {
            assert_eq!(names.of_trap(&octets(text)), name, "{text}");
        }
        for (text, name) in [
            ("1.3.6.1.2.1.2.2.1.1.3", "ifIndex.3"),
            ("1.3.6.1.4.1.32473.2004.1.6.0", "ams2Event"),
            ("1.3.6.1.4.1.32473.2004.1.18.0", "1.3.6.1.4.1.32473.2004.1.18.0"),
            ("1.3.6.1.4.1.9.2.1", "ifDescr.1"),
        ] {
            assert_eq!(names.of_object(&octets(text)), name, "{text}");
        }
        assert_eq!(names.place("ifDescr"), Some(Place::Below(octets("1.3.6.1.4.1.9.2"))));
        assert_eq!(names.place("1.3.6"), Some(Place::Below(octets("1.3.6"))));
        assert_eq!(names.place("ams2TestAlert"), Some(Place::OfAms2(17)));
        assert_eq!(names.place("nothing"), None);
    }
}
