//! Values of varbinds, and how they read.

use std::{borrow::Cow, fmt::Write, net::Ipv4Addr};

use super::{
    ber::{self, Malformed, Reader},
    message::Version,
    oid,
};

/// Tags of SMI's types (RFC 3416 section 3, RFC 2578 section 7.1).
pub struct Kind;

impl Kind {
    /// IpAddress.
    pub const IP_ADDRESS: u8 = 0x40;
    /// Counter32.
    pub const COUNTER32: u8 = 0x41;
    /// Gauge32 and Unsigned32.
    pub const GAUGE32: u8 = 0x42;
    /// TimeTicks.
    pub const TIME_TICKS: u8 = 0x43;
    /// Opaque.
    pub const OPAQUE: u8 = 0x44;
    /// Counter64.
    pub const COUNTER64: u8 = 0x46;
}

/// A name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Varbind<'m> {
    /// The object.
    pub oid: &'m [u8],
    /// The type of its value.
    pub tag: u8,
    /// The value's octets.
    pub content: &'m [u8],
}

impl<'m> Varbind<'m> {
    /// Reads the next one of a list.
    pub fn read(list: &mut Reader<'m>) -> Result<Varbind<'m>, Malformed> {
        let mut varbind = Reader::new(list.expect(ber::SEQUENCE)?);
        let oid = varbind.expect(ber::OID)?;
        let (tag, content) = varbind.element()?;
        if !oid::is_valid(oid) || !varbind.is_empty() {
            return Err(Malformed);
        }
        Ok(Varbind { oid, tag, content })
    }

    /// Whether the value is one of its type, and the type one of the version.
    pub fn is_right(&self, version: Version) -> bool {
        let unsigned = || ber::unsigned(self.content);
        match self.tag {
            ber::INTEGER => ber::signed(self.content).is_some(),
            ber::OCTETS | Kind::OPAQUE => true,
            ber::NULL | 0x80..=0x82 => self.content.is_empty(),
            ber::OID => oid::is_valid(self.content),
            Kind::IP_ADDRESS => self.content.len() == 4,
            Kind::COUNTER32 | Kind::GAUGE32 | Kind::TIME_TICKS => {
                unsigned().is_some_and(|number| u32::try_from(number).is_ok())
            }
            // RFC 3584 section 3.1: v1 has none.
            Kind::COUNTER64 => version != Version::V1 && unsigned().is_some(),
            _ => false,
        }
    }

    /// The name of its type.
    pub fn kind(&self) -> &'static str {
        match self.tag {
            ber::INTEGER => "Integer32",
            ber::OCTETS => "OctetString",
            ber::NULL => "Null",
            ber::OID => "ObjectIdentifier",
            Kind::IP_ADDRESS => "IpAddress",
            Kind::COUNTER32 => "Counter32",
            Kind::GAUGE32 => "Gauge32",
            Kind::TIME_TICKS => "TimeTicks",
            Kind::OPAQUE => "Opaque",
            Kind::COUNTER64 => "Counter64",
            0x80 => "noSuchObject",
            0x81 => "noSuchInstance",
            0x82 => "endOfMibView",
            _ => "unknown",
        }
    }

    /// The value as text: numbers and OIDs as people write them, octets as text where they are, else in hexadecimal. What is not
    /// what its type says is in hexadecimal, too.
    pub fn text(&self) -> Cow<'m, str> {
        let hex = || hex(self.content).into();
        let number = |number: Option<u64>| number.map_or_else(hex, |number| number.to_string().into());
        match self.tag {
            ber::INTEGER => ber::signed(self.content).map_or_else(hex, |number| number.to_string().into()),
            ber::OCTETS => octets(self.content),
            ber::NULL | 0x80..=0x82 if self.content.is_empty() => "".into(),
            ber::OID if oid::is_valid(self.content) => oid::dotted(self.content).into(),
            Kind::IP_ADDRESS => match <[u8; 4]>::try_from(self.content) {
                Ok(address) => Ipv4Addr::from(address).to_string().into(),
                Err(_) => hex(),
            },
            Kind::COUNTER32 | Kind::GAUGE32 | Kind::TIME_TICKS => {
                number(ber::unsigned(self.content).filter(|number| u32::try_from(*number).is_ok()))
            }
            Kind::COUNTER64 => number(ber::unsigned(self.content)),
            _ => hex(),
        }
    }

    /// DateAndTime (RFC 2579) as RFC 3339, if it is one. One without a zone is taken for UTC.
    pub fn moment(&self) -> Option<String> {
        let [high, low, month, day, hour, minute, second, tenth, zone @ ..] = self.content else {
            return None;
        };
        let offset = match zone {
            [] => "Z".to_owned(),
            [sign @ (b'+' | b'-'), hours, minutes] => format!("{}{hours:02}:{minutes:02}", char::from(*sign)),
            _ => return None,
        };
        let year = u16::from_be_bytes([*high, *low]);
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{tenth}{offset}");
        text.parse::<jiff::Timestamp>().ok().map(|_| text)
    }
}

/// Octets as the text that they are: UTF-8 without controls but line ends and tabs, perhaps with NULs behind it, as agents in C
/// send them; else in hexadecimal.
fn octets(content: &[u8]) -> Cow<'_, str> {
    let end = content.iter().rposition(|octet| *octet != 0).map_or(0, |at| at + 1);
    // A text that is all NULs is none.
    let text = if end == 0 && !content.is_empty() { None } else { std::str::from_utf8(&content[..end]).ok() };
    let is_plain = |text: &&str| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
    text.filter(is_plain).map_or_else(|| hex(content).into(), Cow::Borrowed)
}

/// `0x` and two digits an octet; nothing for none.
pub fn hex(octets: &[u8]) -> String {
    if octets.is_empty() {
        return String::new();
    }
    let mut text = String::with_capacity(2 + octets.len() * 2);
    text.push_str("0x");
    for octet in octets {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_as_what_it_is_or_as_its_octets() {
        let rows: [(u8, &[u8], &str, bool); 26] = [
            (0x02, &[0xff], "-1", true),
            (0x02, &[], "", false),
            (0x02, &[1; 9], "0x010101010101010101", false),
            (0x04, b"eth0", "eth0", true),
            (0x04, b"eth0\0", "eth0", true),
            (0x04, b"", "", true),
            (0x04, &[0, 0], "0x0000", true),
            (0x04, &[0, 0x1b, 0x63, 0x84, 0x45, 0xe6], "0x001b638445e6", true),
            (0x04, "a\nb é".as_bytes(), "a\nb é", true),
            (0x04, b"\x1b[31m", "0x1b5b33316d", true),
            (0x05, &[], "", true),
            (0x05, &[1], "0x01", false),
            (0x06, &[0x2b, 6], "1.3.6", true),
            (0x06, &[0x2b, 0x86], "0x2b86", false),
            (0x40, &[192, 0, 2, 1], "192.0.2.1", true),
            (0x40, &[192, 0, 2], "0xc00002", false),
            (0x41, &[0, 0xff, 0xff, 0xff, 0xff], "4294967295", true),
            (0x42, &[1, 0, 0, 0, 0], "0x0100000000", false),
            (0x43, &[0xff], "0xff", false),
            (0x43, &[0x64], "100", true),
            (0x44, &[0x9f, 0x78], "0x9f78", true),
            (0x46, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "18446744073709551615", true),
            (0x80, &[], "", true),
            (0x82, &[], "", true),
            (0x47, &[1], "0x01", false),
            (0x30, &[2, 1, 1], "0x020101", false),
        ];
        for (tag, content, text, is_right) in rows {
            let varbind = Varbind { oid: &[0x2b], tag, content };
            assert_eq!(
                (&*varbind.text(), varbind.is_right(Version::V2c)),
                (text, is_right),
                "{tag:x} {content:x?}"
            );
        }
        let counter64 = Varbind { oid: &[0x2b], tag: 0x46, content: &[1] };
        assert!(!counter64.is_right(Version::V1) && counter64.is_right(Version::V3));
    }

    #[test]
    fn times_are_rfc_3339() {
        let rows: [(&[u8], Option<&str>); 5] = [
            (&[7, 234, 11, 24, 10, 15, 1, 5, b'+', 1, 30], Some("2026-11-24T10:15:01.5+01:30")),
            (&[7, 234, 11, 24, 10, 15, 1, 5], Some("2026-11-24T10:15:01.5Z")),
            (&[0; 8], None),
            (&[7, 234, 13, 24, 10, 15, 1, 5], None),
            (b"yesterday", None),
        ];
        for (content, text) in rows {
            let varbind = Varbind { oid: &[0x2b], tag: 4, content };
            assert_eq!(varbind.moment().as_deref(), text, "{content:x?}");
        }
    }
}
