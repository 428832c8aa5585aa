//! Object identifiers, as their octets in BER: compared and searched without being taken apart.

use std::fmt::Write;

/// Most arcs of an OID (RFC 2578 section 3.5).
pub const ARCS_MAX: usize = 128;

/// Whether octets are an OID: at least one arc, none of more than 32 bits, none unfinished, at most 128 of them.
pub fn is_valid(octets: &[u8]) -> bool {
    !octets.is_empty() && arcs(octets).all(|arc| arc.is_some()) && arcs(octets).count() < ARCS_MAX
}

/// The sub-identifiers: the first stands for two arcs. `None` for one that is too large or unfinished.
fn arcs(octets: &[u8]) -> impl Iterator<Item = Option<u32>> + '_ {
    let mut rest = octets;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(end) = rest.iter().position(|octet| octet & 0x80 == 0) else {
            rest = &[];
            return Some(None);
        };
        let (arc, behind) = rest.split_at(end + 1);
        rest = behind;
        // RFC 2578 section 3.5: 32 bits are five octets at most, and the first says something (X.690 section 8.19.2).
        if arc.len() > 5 || arc[0] == 0x80 {
            return Some(None);
        }
        let number = arc.iter().fold(0u64, |number, octet| number << 7 | u64::from(octet & 0x7f));
        Some(u32::try_from(number).ok())
    })
}

/// As people write it: `1.3.6.1`. Octets that are none end where they are wrong.
pub fn dotted(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 3);
    for (at, arc) in arcs(octets).map_while(|arc| arc).enumerate() {
        // Writing to a string cannot fail.
        let _ = match (at, arc) {
            (0, 0..80) => write!(text, "{}.{}", arc / 40, arc % 40),
            (0, _) => write!(text, "2.{}", arc - 80),
            _ => write!(text, ".{arc}"),
        };
    }
    text
}

/// The arcs behind the first two, as people write them: what tells one row of a table from another.
pub fn dotted_behind(octets: &[u8]) -> String {
    let parts: Vec<String> = arcs(octets).map_while(|arc| arc).map(|arc| arc.to_string()).collect();
    parts.join(".")
}

/// The octets of an OID that people write, with or without a dot before it.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix('.').unwrap_or(text);
    let arc = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse::<u32>().ok() } else { None }
    };
    let arcs: Vec<u32> = text.split('.').map(arc).collect::<Option<_>>()?;
    let [first, second, rest @ ..] = &arcs[..] else { return None };
    if *first > 2 || *first < 2 && *second > 39 || arcs.len() > ARCS_MAX {
        return None;
    }
    let mut octets = Vec::with_capacity(text.len());
    push(&mut octets, first.checked_mul(40)?.checked_add(*second)?);
    rest.iter().for_each(|arc| push(&mut octets, *arc));
    Some(octets)
}

/// Adds one arc.
pub fn push(octets: &mut Vec<u8>, arc: u32) {
    for shift in [28, 21, 14, 7] {
        if arc >> shift != 0 {
            octets.push(0x80 | (arc >> shift & 0x7f) as u8);
        }
    }
    octets.push((arc & 0x7f) as u8);
}

/// All but the last arc.
pub fn parent(octets: &[u8]) -> &[u8] {
    let Some((_, before)) = octets.split_last() else { return octets };
    let end = before.iter().rposition(|octet| octet & 0x80 == 0).map_or(0, |at| at + 1);
    &octets[..end]
}

/// What stands between an OID's start and its end, if it has both: `1.3.6.1.4.1.` *N* `.2004.0.1`.
pub fn between<'o>(octets: &'o [u8], start: &[u8], end: &[u8]) -> Option<&'o [u8]> {
    let within = octets.strip_prefix(start)?.strip_suffix(end)?;
    // One arc, and not the beginning of another.
    (arcs(within).count() == 1 && within.last().is_some_and(|octet| octet & 0x80 == 0)).then_some(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oid_is_its_text_and_back() {
        for text in [
            "1.3.6.1.6.3.1.1.5.3",
            "0.0",
            "2.999.3",
            "1.3.6.1.4.1.4294967295.0.1",
            "2.5.29.4294967295",
            "1.3.6.1.4.1.128.16384.2097152.268435456",
        ] {
            let octets = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert!(is_valid(&octets), "{text}");
            assert_eq!(dotted(&octets), text);
        }
        assert_eq!(parse(".1.3"), parse("1.3"));
        for wrong in
            ["", "1", "1.40", "3.1", "1.3.", "1..3", "1.3.4294967296", "1.3.-1", "1.3.+1", "IF-MIB::linkDown"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse(&vec!["1"; 129].join(".")), None);
        assert!(parse(&vec!["1"; 128].join(".")).is_some_and(|octets| is_valid(&octets)));
    }

    /// Row 72: empty, more than 32 bits, too many arcs, a first octet of 0xFF, an arc without an end.
    #[test]
    fn octets_that_are_no_oid_are_none() {
        let too_many = [1; 128];
        let rows: [&[u8]; 6] = [
            &[],
            &[0x2b, 0x90, 0x80, 0x80, 0x80, 0x00],
            &too_many,
            &[0xff],
            &[0x2b, 0x81],
            &[0x2b, 0x80, 0x01],
        ];
        for octets in rows {
            assert!(!is_valid(octets), "{octets:x?}");
            // Nothing panics at them.
            let _ = (dotted(octets), parent(octets), dotted_behind(octets));
        }
    }

    #[test]
    fn parts_are_arcs() {
        let oid = |text: &str| parse(text).expect("one");
        assert_eq!(parent(&oid("1.3.6.128")), oid("1.3.6"));
        assert_eq!(dotted_behind(&oid("1.3.6.1.7.300")[2..]), "1.7.300");
        let (start, end) = (oid("1.3.6.1.4.1"), [0x8f, 0x54, 0, 1]);
        assert_eq!(
            between(&oid("1.3.6.1.4.1.32473.2004.0.1"), &start, &end).map(dotted_behind).as_deref(),
            Some("32473")
        );
        assert_eq!(between(&oid("1.3.6.1.4.1.1.2.2004.0.1"), &start, &end), None);
        assert_eq!(between(&oid("1.3.6.1.4.1.2004.0.1"), &start, &end), None);
    }
}
