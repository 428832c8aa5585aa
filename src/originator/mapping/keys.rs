//! Names that senders give to alerts and to occurrences.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// A name of at most so many bytes: a longer one as its SHA-256, since one that is cut could be another's.
pub(super) fn short(name: &str, bytes_max: usize) -> Cow<'_, str> {
    if name.len() <= bytes_max {
        return Cow::Borrowed(name);
    }
    let digits = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut short = format!("sha256:{digits}");
    short.truncate(bytes_max);
    Cow::Owned(short)
}

/// The key that the core knows an alert by. `source` stands before it: two tools of one client give the same keys to different alerts
/// (Alertmanager has one hash for all of its receivers).
pub(super) fn key_of(source: &str, key: &str, bytes_max: usize) -> String {
    let key = short(key, bytes_max);
    if source.is_empty() { key.into_owned() } else { format!("{source}/{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_a_name_of_its_own_and_each_source_has_its_keys() {
        let long = |last: &str| format!("{}{last}", "k".repeat(511));
        assert_eq!((&*short("abc", 3), short(&long("a"), 256).len()), ("abc", "sha256:".len() + 64));
        assert_ne!(short(&long("a"), 256), short(&long("b"), 256));
        assert_eq!(short(&long("a"), 32).len(), 32);
        assert_eq!((key_of("pagerduty", "a", 256), key_of("", "a", 256)), ("pagerduty/a".into(), "a".into()));
        assert_ne!(key_of("pagerduty", &long("a"), 256), key_of("opsgenie", &long("a"), 256));
    }
}
