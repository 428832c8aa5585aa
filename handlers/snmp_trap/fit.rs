//! How long the varbinds of a message get in BER, and to how many bytes its longest texts are cut so that they fit.

use super::mib::OBJECTS;

/// The texts that may be cut.
pub(super) struct Texts {
    pub(super) severity_word: String,
    pub(super) event: String,
    pub(super) event_id: String,
    pub(super) source: String,
    pub(super) summary: String,
    pub(super) labels: String,
    pub(super) group: String,
    pub(super) url: String,
}

impl Texts {
    fn lengths(&self) -> [usize; 8] {
        let Texts { severity_word, event, event_id, source, summary, labels, group, url } = self;
        [severity_word, event, event_id, source, summary, labels, group, url].map(String::len)
    }

    pub(super) fn longest(&self) -> usize {
        self.lengths().into_iter().max().unwrap_or(0)
    }

    /// How long the longest of them may be, so that all varbinds fit into `room` bytes; `object` bytes is what the OID
    /// of each varbind takes.
    pub(super) fn bytes_max(&self, room: usize, object: usize) -> usize {
        let varbind = |value: usize| tlv(tlv(object) + tlv(value));
        // Numbers take at most five bytes; the longest of the others is the delivery id.
        let fixed: usize = OBJECTS
            .iter()
            .map(|object| match object.syntax {
                "Ams2Text" => 0,
                "OCTET STRING (SIZE (32))" => varbind(32),
                "OCTET STRING (SIZE (16))" => varbind(16),
                "DateAndTime" => varbind(11),
                _ => varbind(5),
            })
            .sum();
        let fits = |bytes_max: usize| {
            let texts = self.lengths().map(|length| varbind(length.min(bytes_max)));
            fixed + texts.into_iter().sum::<usize>() <= room
        };
        let longest = self.longest();
        if fits(longest) {
            return longest;
        }
        // The last that fits: `room` is the first that does not.
        let (mut fit, mut not) = (0, longest);
        while not - fit > 1 {
            let middle = fit.midpoint(not);
            if fits(middle) { fit = middle } else { not = middle }
        }
        fit
    }
}

/// Bytes of a value of so many bytes with its tag and length (X.690 section 8.1).
fn tlv(value: usize) -> usize {
    let length = match value {
        0..0x80 => 1,
        0x80..0x100 => 2,
        0x100..0x1_0000 => 3,
        _ => 4,
    };
    1 + length + value
}

/// Bytes of an OID's value (X.690 section 8.19): the first two arcs share one, each other takes one for every seven bits.
pub(super) fn oid_bytes(oid: &[u32]) -> usize {
    let arc = |arc: &u32| (32 - (arc | 1).leading_zeros()).div_ceil(7) as usize;
    1 + oid.iter().skip(2).map(arc).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_x_690s() {
        for (value, bytes) in [(0, 2), (127, 129), (128, 131), (255, 258), (256, 260), (65_535, 65_539)] {
            assert_eq!(tlv(value), bytes, "{value}");
        }
        let oid = [1, 3, 6, 1, 4, 1, 32_473, 2004, 1, 17, 0];
        assert_eq!(oid_bytes(&oid), 4 + 1 + 3 + 2 + 3);
        assert_eq!(oid_bytes(&[1, 3, u32::MAX, 127, 128]), 1 + 5 + 1 + 2);
    }
}
