//! After a failed flush: whether what was answered before is on the disk, and not only in memory.

use std::{io, sync::Arc};

use ams2_core::{At, Input};

use super::{
    codec::{Decoder, InMemory},
    holes::read_whole,
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
/// a segment that takes one again counts for all that follow. With how many places memory does not give back either: what stood
/// there cannot be written again. An error says that it could not be read at all: nobody knows then what is lost.
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
    let (mut lost, mut damaged) = (Vec::new(), Vec::new());
    let mut walk = Walk::new(bytes, *header);
    for found in walk.by_ref() {
        match found {
            Found::Frame(offset, frame, payload) => {
                let range = offset as usize..offset as usize + FRAME_HEADER + payload.len();
                if lost.is_empty() && disk.bytes.get(range.clone()) == Some(&bytes[range]) {
                    continue;
                }
                let mut inputs = Vec::new();
                let mut decoder = Decoder::new(payload);
                let earlier = InMemory { bytes, damaged: &damaged };
                while !decoder.is_empty() {
                    let Ok(input) = decoder.input(&earlier, header.base_ms) else { break };
                    inputs.push(input);
                }
                lost.push(LostFrame { seq: frame.seq, at: frame.at, inputs });
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
    Ok((lost, damaged.len() as u64))
}
