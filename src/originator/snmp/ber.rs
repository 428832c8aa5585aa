//! BER as SNMP has it (RFC 3417 section 8): read in place without allocating, and written for answers.

/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// OCTET STRING.
pub const OCTETS: u8 = 0x04;
/// NULL.
pub const NULL: u8 = 0x05;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;

/// Most octets of a length, beside the one that says how many: more than fits into a datagram needs.
const LENGTH_OCTETS_MAX: usize = 4;

/// It is no BER, or none that SNMP allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What is left to read. Nothing is read beyond it, and no length is believed that does not fit into it: what stands there
/// costs no memory, however it is nested.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Reads these bytes.
    pub fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader { rest: bytes }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Whether there is nothing more.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element: its tag and its content. Lengths are definite (an indefinite one is none in SNMP); that one is longer
    /// than it needs to be is allowed by BER, and agents write such.
    pub fn element(&mut self) -> Result<(u8, &'b [u8]), Malformed> {
        let [tag, first, rest @ ..] = self.rest else { return Err(Malformed) };
        // Tags of several octets are none of SNMP's.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            _ => {
                let octets = usize::from(first & 0x7f);
                if octets == 0 || octets > LENGTH_OCTETS_MAX || octets > rest.len() {
                    return Err(Malformed);
                }
                let (length, rest) = rest.split_at(octets);
                (length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
            }
        };
        if length > rest.len() {
            return Err(Malformed);
        }
        let (content, rest) = rest.split_at(length);
        self.rest = rest;
        Ok((*tag, content))
    }

    /// The content of the next element, which has this tag.
    pub fn expect(&mut self, wanted: u8) -> Result<&'b [u8], Malformed> {
        let (tag, content) = self.element()?;
        if tag == wanted { Ok(content) } else { Err(Malformed) }
    }

    /// An INTEGER of 32 bits.
    pub fn integer(&mut self) -> Result<i32, Malformed> {
        signed(self.expect(INTEGER)?).and_then(|number| i32::try_from(number).ok()).ok_or(Malformed)
    }
}

/// The number in the content of an INTEGER; `None` when there is none, or one of more than 64 bits.
pub fn signed(content: &[u8]) -> Option<i64> {
    let first = *content.first()?;
    if content.len() > 8 {
        return None;
    }
    let start = if first & 0x80 == 0 { 0 } else { -1 };
    Some(content.iter().fold(start, |number: i64, octet| number << 8 | i64::from(*octet)))
}

/// The number in the content of what has no sign; `None` when there is none, it is negative, or has more than 64 bits.
pub fn unsigned(content: &[u8]) -> Option<u64> {
    let content = match content {
        [0, rest @ ..] if rest.len() == 8 => rest,
        [first, ..] if first & 0x80 != 0 => return None,
        [] => return None,
        content => content,
    };
    (content.len() <= 8).then(|| content.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)))
}

/// Adds an element to what is written.
pub fn write(to: &mut Vec<u8>, tag: u8, content: &[u8]) {
    to.push(tag);
    match content.len() {
        length @ 0..=0x7f => to.push(length as u8),
        length => {
            let octets = (length as u32).to_be_bytes();
            let first = octets.iter().position(|octet| *octet != 0).unwrap_or(3);
            to.push(0x80 | (octets.len() - first) as u8);
            to.extend_from_slice(&octets[first..]);
        }
    }
    to.extend_from_slice(content);
}

/// Adds an INTEGER, or another number with this tag, in as few octets as it needs.
pub fn write_number(to: &mut Vec<u8>, tag: u8, number: i64) {
    let octets = number.to_be_bytes();
    let spare = |pair: &[u8]| {
        matches!(pair, [0, next] if next & 0x80 == 0) || matches!(pair, [0xff, next] if next & 0x80 != 0)
    };
    let first = octets.windows(2).take_while(|pair| spare(pair)).count();
    write(to, tag, &octets[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_nothing_beyond_them() {
        let rows: [(&[u8], Option<(u8, &[u8])>); 14] = [
            (&[0x04, 2, b'a', b'b'], Some((4, b"ab"))),
            (&[0x04, 0], Some((4, b""))),
            (&[0x04, 0x81, 1, b'a'], Some((4, b"a"))),
            (&[0x30, 0x82, 0, 1, b'a'], Some((0x30, b"a"))),
            (&[0x30, 0x84, 0, 0, 0, 1, b'a'], Some((0x30, b"a"))),
            // Row 71: more than there is, indefinite, lengths of lengths, tags of several octets.
            (&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], None),
            (&[0x30, 0x80, 0, 0], None),
            (&[0x30, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'a'], None),
            (&[0x30, 0xff, 0], None),
            (&[0x30, 0x82, 0], None),
            (&[0x30, 3, 1, 2], None),
            (&[0x1f, 1, 1], None),
            (&[0x30], None),
            (&[], None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Reader::new(bytes).element().ok(), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn numbers_have_their_bounds() {
        let rows: [(&[u8], Option<i64>, Option<u64>); 9] = [
            (&[], None, None),
            (&[0], Some(0), Some(0)),
            (&[0x7f], Some(127), Some(127)),
            (&[0x80], Some(-128), None),
            (&[0, 0x80], Some(128), Some(128)),
            (&[0xff, 0xff], Some(-1), None),
            (&[0x7f; 8], Some(0x7f7f_7f7f_7f7f_7f7f), Some(0x7f7f_7f7f_7f7f_7f7f)),
            (&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None, Some(u64::MAX)),
            (&[1; 9], None, None),
        ];
        for (content, number, without_sign) in rows {
            assert_eq!((signed(content), unsigned(content)), (number, without_sign), "{content:x?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for number in [0, 1, -1, 127, 128, -128, -129, 65_535, i64::from(i32::MAX), i64::from(i32::MIN)] {
            let mut bytes = Vec::new();
            write_number(&mut bytes, INTEGER, number);
            assert_eq!(Reader::new(&bytes).integer().map(i64::from), Ok(number), "{bytes:x?}");
            assert!(bytes.len() <= 6);
        }
        for length in [0, 127, 128, 255, 256, 65_536] {
            let (mut bytes, content) = (Vec::new(), vec![7; length]);
            write(&mut bytes, OCTETS, &content);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.expect(OCTETS), Ok(&content[..]));
            assert!(reader.is_empty());
        }
    }
}
