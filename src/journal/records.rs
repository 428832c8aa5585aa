//! The records of a frame: what does not decode is passed over, what others sent in the same flush stands.

use std::ops::Range;

use ams2_core::Input;

use super::{
    codec::{Decoder, Earlier, Undecodable},
    segment::FrameHeader,
};

/// The records of a frame.
pub(super) struct Records {
    /// Those that decode, with their numbers, in order.
    pub found: Vec<(u64, Input)>,
    /// The numbers of those that do not.
    pub left_out: Vec<Range<u64>>,
}

impl Records {
    /// Decodes a frame that checks. What does not decode (what it refers to was damaged, or the program that wrote it made a
    /// mistake) is passed over: what others sent in the same flush stands. An error is the number of a record that only a
    /// newer program writes.
    pub fn of(
        payload: &[u8],
        header: &FrameHeader,
        earlier: &impl Earlier,
        base_ms: i64,
    ) -> Result<Records, u64> {
        let (first, end) = (header.seq, header.seq + u64::from(header.sequences));
        // Each with how many numbers it takes, where that is known.
        let mut read: Vec<(Option<u64>, Option<Input>)> = Vec::new();
        let mut decoder = Decoder::new(payload);
        while !decoder.is_empty() {
            let start = payload.len() - decoder.bytes_left();
            match decoder.input(earlier, base_ms) {
                Ok(input) => read.push((Some(input.sequences()), Some(input))),
                Err(Undecodable::Newer) => {
                    return Err(first + read.iter().filter_map(|(count, _)| *count).sum::<u64>());
                }
                Err(Undecodable::Damaged | Undecodable::Unreadable(_)) => {
                    decoder = Decoder::new(&payload[start..]);
                    let Ok(count) = decoder.skip() else { break };
                    read.push((count, None));
                }
            }
        }
        let known: u64 = read.iter().filter_map(|(count, _)| *count).sum();
        let unknown = read.iter().filter(|(count, _)| count.is_none()).count() as u64;
        // What the frame has beside the others: that of one, or one number each.
        let rest = u64::from(header.sequences).saturating_sub(known);
        let each = if decoder.is_empty() { numbers_of_each(rest, unknown) } else { None };
        let mut records = Records { found: Vec::new(), left_out: Vec::new() };
        let mut seq = first;
        for (count, input) in read {
            let Some(count) = count.or(each) else { break };
            match input {
                Some(input) => records.found.push((seq, input)),
                None => records.left_out.push(seq..seq + count),
            }
            seq += count;
        }
        if seq < end {
            records.left_out.push(seq..end);
        }
        Ok(records)
    }
}

/// How many sequence numbers each of the records takes that do not decode, of the `rest` that their frame has beside the others:
/// one alone has all of it, more have one each; `None` if that cannot be.
pub(super) fn numbers_of_each(rest: u64, unknown: u64) -> Option<u64> {
    match unknown {
        1 if rest > 0 => Some(rest),
        _ if rest == unknown => Some(1),
        _ => None,
    }
}
