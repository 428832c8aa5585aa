//! Durations and sizes as people write them: `30s`, `1h30m`, `64KiB`.
//!
//! Both say in their errors what was wanted and what was found, because these are the settings that people
//! mistype most.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// A length of time with Prometheus' grammar: `y`, `w`, `d`, `h`, `m`, `s`, `ms` in this order, each at most
/// once, or `0`. A year has 365 days, a week 7, a day 24 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    milliseconds: u64,
}

/// A number of bytes: `512B`, `64KiB`, `1MiB`, `2GiB`, or decimal `kB`, `MB`, `GB`; or `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes {
    bytes: u64,
}

/// What was wanted and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct UnitError {
    expected: &'static str,
    found: String,
}

const DURATION_EXPECTED: &str = "a duration like 30s, 5m or 1h30m";
const DURATION_TOO_LONG: &str = "a duration of at most 290y";
/// What Alertmanager's durations hold, too: nanoseconds in 63 bits.
const DURATION_MS_MAX: u64 = 290 * 365 * 86_400_000;
const BYTES_EXPECTED: &str = "a size like 512B, 64KiB or 1GiB";

/// Largest first: the order in which they must be written.
const DURATION_UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The first of equal factors is the one that is written.
const BYTES_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
];

impl Duration {
    /// `milliseconds` as a duration.
    pub const fn from_ms(milliseconds: u64) -> Duration {
        Duration { milliseconds }
    }

    /// `seconds` as a duration.
    pub const fn from_seconds(seconds: u64) -> Duration {
        Duration { milliseconds: seconds * 1000 }
    }

    /// In milliseconds.
    pub const fn ms(self) -> u64 {
        self.milliseconds
    }

    /// For the standard library.
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.milliseconds)
    }

    /// Reads `text`; the error says what was wanted.
    pub fn parse(text: &str) -> Result<Duration, UnitError> {
        let milliseconds = parse_duration(text).ok_or_else(|| wrong(DURATION_EXPECTED, text))?;
        match milliseconds {
            ..=DURATION_MS_MAX => Ok(Duration::from_ms(milliseconds)),
            _ => Err(wrong(DURATION_TOO_LONG, text)),
        }
    }
}

impl Bytes {
    /// `bytes` as a size.
    pub const fn new(bytes: u64) -> Bytes {
        Bytes { bytes }
    }

    /// As a plain number.
    pub const fn get(self) -> u64 {
        self.bytes
    }

    /// As a length in memory; more than fits is the most that fits.
    pub fn len(self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// Whether it is 0.
    pub const fn is_empty(self) -> bool {
        self.bytes == 0
    }

    /// Reads `text`; the error says what was wanted.
    pub fn parse(text: &str) -> Result<Bytes, UnitError> {
        parse_bytes(text).map(Bytes::new).ok_or_else(|| wrong(BYTES_EXPECTED, text))
    }
}

fn wrong(expected: &'static str, found: &str) -> UnitError {
    /// More of a wrong value than this tells nobody more.
    const FOUND_CHARS_MAX: usize = 40;
    UnitError { expected, found: format!("{:?}", found.chars().take(FOUND_CHARS_MAX).collect::<String>()) }
}

fn parse_duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut units, mut sum) = (text, &DURATION_UNITS[..], 0u64);
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let index = units.iter().position(|(unit, _)| *unit == &after[..unit_len])?;
        sum = sum.checked_add(number.checked_mul(units[index].1)?)?;
        units = &units[index + 1..];
        rest = &after[unit_len..];
    }
    (!text.is_empty()).then_some(sum)
}

fn parse_bytes(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, unit) = split_number(text)?;
    let unit = unit.trim_start();
    let (_, factor) = BYTES_UNITS.iter().find(|(known, _)| *known == unit)?;
    number.checked_mul(*factor)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

/// As short as Prometheus writes it: `1h30m`.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milliseconds == 0 {
            return f.write_str("0");
        }
        let mut rest = self.milliseconds;
        for (unit, factor) in DURATION_UNITS {
            // As Prometheus does: weeks and years only where nothing is left over.
            let whole = rest.is_multiple_of(factor) || !matches!(unit, "y" | "w");
            if rest >= factor && whole {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

/// In the largest unit that leaves no rest: `64KiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BYTES_UNITS
            .iter()
            .find(|(_, factor)| self.bytes >= *factor && self.bytes.is_multiple_of(*factor))
        {
            Some((unit, factor)) => write!(f, "{}{unit}", self.bytes / factor),
            None => f.write_str("0"),
        }
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time with units: 500ms, 30s, 5m, 1h30m, 7d. 0 alone needs none.",
            "anyOf": [{ "type": "string" }, { "const": 0 }],
            "pattern": r"^(0|(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?)$",
        })
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size with its unit: 512B, 64KiB, 8MiB, 1GiB, or decimal kB, MB, GB. 0 alone needs none.",
            "anyOf": [{ "type": "string" }, { "const": 0 }],
            "pattern": r"^(0|\d+ *(TiB|TB|GiB|GB|MiB|MB|KiB|kB|KB|B))$",
        })
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let read = UnitVisitor { expected: DURATION_EXPECTED, parse: parse_duration };
        deserializer.deserialize_any(read).map(Duration::from_ms)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer
            .deserialize_any(UnitVisitor { expected: BYTES_EXPECTED, parse: parse_bytes })
            .map(Bytes::new)
    }
}

/// Takes text, and a bare 0; any other number lacks its unit.
struct UnitVisitor {
    expected: &'static str,
    parse: fn(&str) -> Option<u64>,
}

impl Visitor<'_> for UnitVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        (self.parse)(text).ok_or_else(|| E::custom(wrong(self.expected, text)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_prometheus_reads_them() {
        let rows = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("1y2w3d4h5m6s7ms", Some(31_536_000_000 + 1_209_600_000 + 259_200_000 + 14_706_007)),
            ("250ms", Some(250)),
            ("30", None),
            ("", None),
            ("s", None),
            ("1.5h", None),
            ("30m1h", None),
            ("1m1m", None),
            ("-1s", None),
            (" 1s", None),
            ("1 s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615y", None),
        ];
        for (text, milliseconds) in rows {
            assert_eq!(Duration::parse(text).ok().map(Duration::ms), milliseconds, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        let rows = [
            ("0", Some(0)),
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("1MB", Some(1_000_000)),
            ("2GiB", Some(2_147_483_648)),
            ("64", None),
            ("64K", None),
            ("", None),
            ("-1B", None),
            ("99999999999TiB", None),
        ];
        for (text, bytes) in rows {
            assert_eq!(Bytes::parse(text).ok().map(Bytes::get), bytes, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["0", "30s", "1h30m", "1d", "2w", "1y", "8d", "1m30s", "250ms"] {
            assert_eq!(Duration::parse(text).expect("valid").to_string(), text);
        }
        assert_eq!(Duration::from_ms(691_200_000).to_string(), "8d");
        for text in ["0", "512B", "64KiB", "1MB", "3GiB"] {
            assert_eq!(Bytes::parse(text).expect("valid").to_string(), text);
        }
    }

    #[test]
    fn a_missing_unit_is_named_with_what_was_wanted() {
        let error = serde_json::from_str::<Duration>("30").expect_err("no unit").to_string();
        assert!(error.starts_with(r#"expected a duration like 30s, 5m or 1h30m, found "30""#), "{error}");
        let error = serde_saphyr::from_str::<Bytes>("64").expect_err("no unit").to_string();
        assert!(error.contains(r#"expected a size like 512B, 64KiB or 1GiB, found "64""#), "{error}");
        assert_eq!(serde_saphyr::from_str::<Duration>("1h30m").expect("valid"), Duration::from_seconds(5400));
        assert_eq!(serde_saphyr::from_str::<Duration>("0").expect("zero"), Duration::default());
        assert!(serde_json::from_str::<Duration>("[1]").is_err());
    }
}
