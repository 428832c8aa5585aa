//! After a failed flush: whether what was answered before is on the disk, and not only in memory.

use std::{io, sync::Arc};

use ams2_core::{At, Input};

use super::{
    codec::InMemory,
    holes::read_whole,
    records::Records,
    segment::{FRAME_HEADER, Found, SegmentHeader, Walk},
    storage::StoredFile,
};

/// A frame that memory holds and the disk does not.
pub(super) struct LostFrame {
    pub seq: u64,
    pub at: At,
    pub inputs: Vec<Input>,
}

/// The frames of a segment before `end`, from the first on that the disk does not give back. Later ones are among them:
/// a segment that takes one again counts for all that follow. With how many places memory does not give back either, or
/// whose records do not decode: what stood there cannot be written again, and takes nothing along that stood beside it. An error says that it could not be read at all: nobody knows then what is lost.
pub(super) fn lost_from_disk(
    file: &Arc<dyn StoredFile>,
    header: &SegmentHeader,
    end: u64,
) -> io::Result<(Vec<LostFrame>, u64)> {
    // While it is in memory: reading it from the disk forgets that.
    let memory = read_whole(file)?;
    if let Err(error) = file.forget() {
        tracing::warn!(%error, segment = header.id, "the segment is verified in memory only");
    }
    let disk = read_whole(file)?;
    let bytes = &memory.bytes[..memory.bytes.len().min(end as usize)];
    let (mut lost, mut damaged, mut left_out) = (Vec::new(), Vec::new(), 0);
    // From the first frame that differs on, whether or not anything in that one decodes: what comes behind it may refer to it.
    let mut differs = false;
    let mut walk = Walk::new(bytes, *header);
    for found in walk.by_ref() {
        match found {
            Found::Frame(offset, frame, payload) => {
                let range = offset as usize..offset as usize + FRAME_HEADER + payload.len();
                differs |= disk.bytes.get(range.clone()) != Some(&bytes[range]);
                if !differs {
                    continue;
                }
                let earlier = InMemory { bytes, damaged: &damaged };
                let (first, end) = (frame.seq, frame.seq + u64::from(frame.sequences));
                // A form that only a newer program writes is none of ours: we wrote it.
                let of_none =
                    |_| Records { found: Vec::new(), left_out: std::iter::once(first..end).collect() };
                let records = Records::of(payload, &frame, &earlier, header.base_ms).unwrap_or_else(of_none);
                for numbers in records.left_out {
                    let (segment, first, last) = (header.id, numbers.start, numbers.end - 1);
                    tracing::error!(segment, first, last, "records do not decode and are left out");
                    left_out += 1;
                }
                lost.extend(runs(records.found, frame.at));
            }
            Found::Damage(range) | Found::TornEnd(range) => damaged.push(range),
        }
    }
    // All of it was written: what comes behind the last frame that checks was a frame, too.
    if walk.offset() < end && damaged.last().is_none_or(|range| range.end < end) {
        damaged.push(walk.offset()..end);
    }
    for range in &damaged {
        let (segment, offset, bytes) = (header.id, range.start, range.end - range.start);
        tracing::error!(segment, offset, bytes, "what was kept there cannot be read any more");
    }
    Ok((lost, damaged.len() as u64 + left_out))
}

/// Frames of records whose numbers follow each other.
fn runs(found: Vec<(u64, Input)>, at: At) -> Vec<LostFrame> {
    let mut runs: Vec<LostFrame> = Vec::new();
    let mut due = 0;
    for (seq, input) in found {
        if runs.is_empty() || seq != due {
            runs.push(LostFrame { seq, at, inputs: Vec::new() });
        }
        due = seq + input.sequences();
        runs.last_mut().expect("it has one from above").inputs.push(input);
    }
    runs
}
