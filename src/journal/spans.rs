//! Texts that stand in frames which were written earlier: the frame is checked before a text of it is believed. What was
//! checked once is checked again piece by piece: a text costs a few kilobytes, not its whole frame.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    ops::Range,
    sync::Arc,
};

use super::{
    holes::is_fault,
    segment::{FRAME_HEADER, SEGMENT_HEADER, checked_frame, frame_header},
    writer::{SegmentInfo, segment_name},
};

/// Bytes of a span that have a sum of their own.
const BLOCK: u64 = 4 << 10;
/// Sums that are kept: four bytes for four kilobytes, so for a gigabyte of what is told again and again. Past this all are
/// forgotten.
const SUMS_MAX: usize = 256 << 10;
/// Places of damage that are told apart; a disk that loses more has been reported well enough.
const DAMAGE_MAX: usize = 256;

/// Places of damage in the segment that is written to that are told apart: past this each reading of one counts as news, which
/// costs that definitions are written once more.
const ROTTEN_MAX: usize = 64 << 10;

/// What was checked, and what did not check.
#[derive(Default)]
pub(super) struct Spans {
    checked: HashMap<(u64, u64), Arc<Span>>,
    sums: usize,
    damaged: BTreeSet<(u64, u64)>,
    /// The same of one segment, that which is written to, whatever is said.
    rotten: (u64, BTreeSet<u64>),
    /// Damage that nobody has taken yet, in words for people.
    said: Vec<String>,
}

/// Frames from one entry of a segment's index to the next.
pub(super) struct Span {
    start: u64,
    end: u64,
    /// One for each block from `start` on.
    sums: Vec<u32>,
    /// Frames that do not check.
    damaged: Vec<Range<u64>>,
}

impl Spans {
    /// Notes damage in the segment that is written to; whether it was not known.
    pub fn note_rotten(&mut self, segment: u64, offset: u64) -> bool {
        if self.rotten.0 != segment {
            self.rotten = (segment, BTreeSet::new());
        }
        let rotten = &mut self.rotten.1;
        rotten.len() >= ROTTEN_MAX || rotten.insert(offset)
    }

    /// Notes damage, to be said once.
    pub fn note_damage(&mut self, segment: u64, offset: u64) {
        let is_new = self.damaged.len() < DAMAGE_MAX && self.damaged.insert((segment, offset));
        if is_new {
            let what = format!("{}: what stands at {offset} does not check any more", segment_name(segment));
            tracing::error!("{what}");
            self.said.push(what);
        }
    }

    /// Damage that was found since the last call.
    pub fn take_damage(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// What was checked of the span that begins at `start`, if that reaches to `offset`.
    pub fn checked(&self, segment: u64, start: u64, offset: u64) -> Option<Arc<Span>> {
        self.checked.get(&(segment, start)).filter(|span| offset < span.end).cloned()
    }

    pub fn keep(&mut self, segment: u64, span: Arc<Span>) {
        if self.sums + span.sums.len() > SUMS_MAX {
            self.checked.clear();
            self.sums = 0;
        }
        self.sums += span.sums.len();
        if let Some(old) = self.checked.insert((segment, span.start), span) {
            self.sums -= old.sums.len();
        }
    }
}

/// Where the span begins and ends in which something stands.
pub(super) fn around(info: &SegmentInfo, offset: u64) -> Range<u64> {
    let place = info.index.partition_point(|(_, at)| *at <= offset);
    let start = place.checked_sub(1).map_or(SEGMENT_HEADER, |place| info.index[place].1);
    let end = info.index.get(place).map_or(info.end.unwrap_or(0), |(_, next)| *next);
    start..end
}

impl Span {
    /// Reads a span and checks its frames.
    pub fn read(info: &SegmentInfo, range: Range<u64>) -> io::Result<Span> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
        let count = info.file.read_at(&mut bytes, range.start)?;
        let sums = bytes[..count].chunks(BLOCK as usize).map(crc32c::crc32c).collect();
        let mut damaged = Vec::new();
        let mut place = 0;
        while place < bytes.len() {
            let frame = &bytes[place..];
            let header = frame_header(info.header.journal, info.header.id, frame);
            let length = header.map_or(frame.len(), |header| FRAME_HEADER + header.payload as usize);
            let end = place + length.min(frame.len());
            if checked_frame(info.header.journal, info.header.id, frame).is_none() {
                damaged.push(range.start + place as u64..range.start + end as u64);
            }
            place = end;
        }
        Ok(Span { start: range.start, end: range.end, sums, damaged })
    }

    /// Where the damage begins in which something stands.
    pub fn damage_at(&self, offset: u64) -> Option<u64> {
        self.damaged.iter().find(|range| range.contains(&offset)).map(|range| range.start)
    }

    /// Up to `window` bytes from `offset` on, or fewer where what follows cannot be read or has changed since it was checked;
    /// and where it has.
    pub fn bytes(&self, info: &SegmentInfo, offset: u64, window: u64) -> io::Result<(Vec<u8>, Option<u64>)> {
        let first = (offset - self.start) / BLOCK;
        let from = self.start + first * BLOCK;
        let end = self.end.min(offset.saturating_add(window));
        let to = self.end.min(self.start + (end - self.start).next_multiple_of(BLOCK));
        let mut bytes = vec![0; (to - from) as usize];
        let count = match info.file.read_at(&mut bytes, from) {
            // What is behind may have gone alone.
            Err(error) if is_fault(&error) && bytes.len() as u64 > BLOCK => {
                info.file.read_at(&mut bytes[..BLOCK as usize], from)?
            }
            read => read?,
        };
        bytes.truncate(count);
        let sums = self.sums.iter().skip(first as usize);
        let whole =
            bytes.chunks(BLOCK as usize).zip(sums).take_while(|(block, sum)| crc32c::crc32c(block) == **sum);
        let whole: usize = whole.map(|(block, _)| block.len()).sum();
        let changed = (whole < bytes.len()).then_some(from + whole as u64);
        bytes.truncate(whole.min((end - from) as usize));
        bytes.drain(..bytes.len().min((offset - from) as usize));
        Ok((bytes, changed))
    }
}

/// From `offset` to the end of its frame, read and checked alone: where other frames around it cannot be read. `None` if it
/// does not check.
pub(super) fn frame_rest(info: &SegmentInfo, range: Range<u64>, offset: u64) -> io::Result<Option<Vec<u8>>> {
    let mut place = range.start;
    while place < range.end {
        let mut bytes = [0; FRAME_HEADER];
        info.file.read_at(&mut bytes, place)?;
        let Some(header) = frame_header(info.header.journal, info.header.id, &bytes) else { return Ok(None) };
        let end = place + (FRAME_HEADER + header.payload as usize) as u64;
        if offset < end {
            let mut bytes = vec![0; (end - place) as usize];
            info.file.read_at(&mut bytes, place)?;
            let is_whole = checked_frame(info.header.journal, info.header.id, &bytes).is_some();
            return Ok(is_whole.then(|| bytes.split_off((offset - place) as usize)));
        }
        place = end;
    }
    Ok(None)
}
