//! The way of an alert from server to server, as annotations that ams2 alone sets: where it was accepted first, which tells
//! it from every other alert there is, and for people every server that handed it on.

use alloc::{format, string::String};

use crate::input::Position;

/// The annotation that names the place where a forwarded alert was accepted first: `server/journal/position`.
pub const ORIGIN: &str = "ams2_origin";
/// The annotation that names the servers on a forwarded alert's way, the first one first, each with the time at which it
/// handed the alert on: `laptop-17/0123456789abcdef 2026-12-01T10:00:00Z > branch/89abcdef01234567 2026-12-01T10:00:02Z`.
pub const TRAIL: &str = "ams2_trail";
/// What parts two servers of a trail.
pub const THEN: &str = " > ";
/// The longest name of a server, in bytes.
pub const SERVER_BYTES_MAX: usize = 128;

/// Whether only ams2 sets an annotation of this name: what others send under it is left out.
pub fn is_reserved(name: &str) -> bool {
    name == ORIGIN || name == TRAIL
}

/// Whether a server may have this name: letters, digits, `.`, `_`, `-` and `/`, at most [`SERVER_BYTES_MAX`] of them.
pub fn is_server_name(name: &str) -> bool {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    !name.is_empty() && name.len() <= SERVER_BYTES_MAX && name.bytes().all(is_good)
}

/// The value of [`ORIGIN`] for an alert that the server of this name and journal accepted at a position.
pub fn origin(server: &str, journal: u64, position: Position) -> String {
    place(server, journal, &format!("{position}"))
}

/// The same, of a position in words.
pub fn place(server: &str, journal: u64, position: &str) -> String {
    format!("{}/{position}", hop(server, journal))
}

/// A server on the way, by its name and that of its journal: no two servers have the same.
pub fn hop(server: &str, journal: u64) -> String {
    format!("{server}/{journal:016x}")
}

/// Whether a trail leads through the server with this journal.
pub fn passes(trail: &str, journal: u64) -> bool {
    let mark = format!("/{journal:016x}");
    let hops = trail.split(THEN).map(|hop| hop.split(' ').next().unwrap_or_default());
    hops.into_iter().any(|hop| hop.ends_with(&mark))
}

/// Who that is: an origin without the position.
pub fn server_of(origin: &str) -> &str {
    origin.rsplit_once('/').map_or(origin, |(server, _)| server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_names_a_server_its_journal_and_a_place() {
        let first = origin("branch/laptop-17", 0xABC, Position::arrived(17));
        assert_eq!(first, "branch/laptop-17/0000000000000abc/17");
        assert_eq!(server_of(&first), "branch/laptop-17/0000000000000abc");
        assert_eq!(server_of(&origin("a", 1, Position::raised(17, 0))), "a/0000000000000001");
    }

    #[test]
    fn a_trail_names_each_server_by_its_journal() {
        let trail = format!("{} 2026-12-01T10:00:00Z{THEN}{} 2026-12-01T10:00:02Z", hop("a", 1), hop("b", 2));
        assert!(passes(&trail, 1) && passes(&trail, 2) && !passes(&trail, 3));
        assert!(!passes("a/0000000000000001/0000000000000003x", 3));
    }

    #[test]
    fn names_of_servers_are_plain() {
        for (name, good) in [
            ("laptop-17.example.com", true),
            ("branch/pc_1", true),
            ("", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(is_server_name(name), good, "{name:?}");
        }
        assert!(
            is_server_name(&"a".repeat(SERVER_BYTES_MAX))
                && !is_server_name(&"a".repeat(SERVER_BYTES_MAX + 1))
        );
    }
}
