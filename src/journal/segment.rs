//! Segments and frames: headers, checksums, and walking through what a file holds.

use ams2_core::At;

/// Size of a segment's header: two copies, so that one flipped bit does not cost the segment.
pub(super) const SEGMENT_HEADER: u64 = 2 * COPY as u64;
const COPY: usize = 64;
/// Size of a frame's header.
pub(super) const FRAME_HEADER: usize = 36;
/// Largest payload of a frame.
pub(super) const PAYLOAD_MAX: u32 = 64 << 20;

const SEGMENT_MAGIC: &[u8; 7] = b"AMS2SEG";
const FORMAT: u8 = b'1';
const FRAME_MAGIC: &[u8; 4] = b"FRM1";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub journal: u64,
    pub id: u64,
    pub first_seq: u64,
    pub base_ms: i64,
    /// The journal's clock when the segment began.
    pub first_at: At,
    /// The version of the program that began it, see [`version_text`].
    pub by: [u8; 4],
}

/// Why a file is not a segment that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Not a segment, or its header is damaged.
    Damaged,
    /// Written by a newer program: its format, and the program's version.
    Newer(char, String),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut bytes = [0; COPY];
        bytes[..7].copy_from_slice(SEGMENT_MAGIC);
        bytes[7] = FORMAT;
        bytes[8..16].copy_from_slice(&self.journal.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_at.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.by);
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        let mut both = [0; SEGMENT_HEADER as usize];
        both[..COPY].copy_from_slice(&bytes);
        both[COPY..].copy_from_slice(&bytes);
        both
    }

    /// The header, and whether both of its copies are whole.
    pub fn decode(bytes: &[u8]) -> Result<(SegmentHeader, bool), HeaderError> {
        let first = SegmentHeader::decode_copy(bytes);
        let second = SegmentHeader::decode_copy(bytes.get(COPY..).unwrap_or_default());
        match (first, second) {
            (Ok(header), second) => Ok((header, second == Ok(header))),
            (Err(newer @ HeaderError::Newer(..)), _) => Err(newer),
            (Err(HeaderError::Damaged), second) => second.map(|header| (header, false)),
        }
    }

    fn decode_copy(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let bytes: &[u8; COPY] = bytes.first_chunk().ok_or(HeaderError::Damaged)?;
        if &bytes[..7] != SEGMENT_MAGIC || crc32c::crc32c(&bytes[..60]).to_le_bytes() != bytes[60..] {
            return Err(HeaderError::Damaged);
        }
        if bytes[7] != FORMAT {
            return Err(HeaderError::Newer(char::from(bytes[7]), version_text(&bytes[48..52])));
        }
        Ok(SegmentHeader {
            journal: u64_at(bytes, 8),
            id: u64_at(bytes, 16),
            first_seq: u64_at(bytes, 24),
            base_ms: u64_at(bytes, 32) as i64,
            first_at: At(u64_at(bytes, 40)),
            by: [bytes[48], bytes[49], bytes[50], bytes[51]],
        })
    }
}

/// Our version as files name it: major, minor, and two bytes of patch.
pub(super) fn writer_version() -> [u8; 4] {
    let part = |text: &str| text.parse::<u16>().unwrap_or(u16::MAX).to_le_bytes();
    let patch = part(env!("CARGO_PKG_VERSION_PATCH"));
    [part(env!("CARGO_PKG_VERSION_MAJOR"))[0], part(env!("CARGO_PKG_VERSION_MINOR"))[0], patch[0], patch[1]]
}

/// The same in words. All zero: it was not named yet.
pub(super) fn version_text(bytes: &[u8]) -> String {
    match bytes {
        [0, 0, 0, 0] => "0.1.0".into(),
        [major, minor, low, high] => format!("{major}.{minor}.{}", u16::from_le_bytes([*low, *high])),
        _ => "of an unknown version".into(),
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub payload: u32,
    pub seq: u64,
    pub at: At,
    /// How many sequence numbers its records take.
    pub sequences: u32,
}

/// Fills in the header of a frame whose payload stands behind [`FRAME_HEADER`] free bytes.
pub(super) fn seal_frame(frame: &mut [u8], segment: &SegmentHeader, seq: u64, at: At, sequences: u32) {
    let payload = (frame.len() - FRAME_HEADER) as u32;
    frame[..4].copy_from_slice(FRAME_MAGIC);
    frame[4..8].copy_from_slice(&payload.to_le_bytes());
    frame[8..16].copy_from_slice(&seq.to_le_bytes());
    frame[16..24].copy_from_slice(&at.0.to_le_bytes());
    frame[24..28].copy_from_slice(&sequences.to_le_bytes());
    let crc = header_crc(segment.journal, segment.id, frame);
    frame[28..32].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &frame[FRAME_HEADER..]);
    frame[32..36].copy_from_slice(&crc.to_le_bytes());
}

fn header_crc(journal: u64, segment: u64, frame: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&journal.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &segment.to_le_bytes());
    crc32c::crc32c_append(crc, &frame[..28])
}

/// What looks like a frame's header; whether it is one is not checked.
pub(super) fn likely_header(bytes: &[u8]) -> Option<FrameHeader> {
    let bytes: &[u8; FRAME_HEADER] = bytes.first_chunk()?;
    let payload = u32_at(bytes, 4);
    (&bytes[..4] == FRAME_MAGIC && payload <= PAYLOAD_MAX).then(|| FrameHeader {
        payload,
        seq: u64_at(bytes, 8),
        at: At(u64_at(bytes, 16)),
        sequences: u32_at(bytes, 24),
    })
}

/// The header of the frame at the start of `bytes`, if it checks. It has a checksum of its own: whoever sends alerts
/// full of marks with lengths would else have us read megabytes behind each of them.
pub(super) fn frame_header(journal: u64, segment: u64, bytes: &[u8]) -> Option<FrameHeader> {
    let header = likely_header(bytes)?;
    (header_crc(journal, segment, bytes) == u32_at(bytes, 28)).then_some(header)
}

/// The frame at the start of `bytes`, if it checks.
pub(super) fn checked_frame(journal: u64, segment: u64, bytes: &[u8]) -> Option<(FrameHeader, &[u8])> {
    let header = frame_header(journal, segment, bytes)?;
    let frame = bytes.get(..FRAME_HEADER + header.payload as usize)?;
    let (head, payload) = frame.split_at(FRAME_HEADER);
    let crc = crc32c::crc32c_append(u32_at(head, 28), payload);
    (crc == u32_at(head, 32)).then_some((header, payload))
}

/// Something found on the way through a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A frame that checks, and where it begins.
    Frame(u64, FrameHeader, &'a [u8]),
    /// Bytes that do not check, with a frame that does behind them.
    Damage(std::ops::Range<u64>),
    /// Bytes behind the last frame that look like a frame that was not finished.
    TornEnd(std::ops::Range<u64>),
}

/// Walks through the frames of a segment, and looks behind what does not check.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    segment: SegmentHeader,
    offset: usize,
    /// The sequence number that the next frame is expected to have, at least.
    next_seq: u64,
    /// The first sequence number of the next segment, if there is one: what comes before it was answered.
    sealed_at: Option<u64>,
}

impl<'a> Walk<'a> {
    pub fn new(bytes: &'a [u8], segment: SegmentHeader) -> Walk<'a> {
        Walk { bytes, segment, offset: SEGMENT_HEADER as usize, next_seq: segment.first_seq, sealed_at: None }
    }

    /// The same through a segment behind which another begins with sequence number `sealed_at`.
    pub fn sealed(bytes: &'a [u8], segment: SegmentHeader, sealed_at: Option<u64>) -> Walk<'a> {
        Walk { sealed_at, ..Walk::new(bytes, segment) }
    }

    /// Where the walk stands: behind the last frame that checked.
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    fn frame_at(&self, offset: usize) -> Option<(FrameHeader, &'a [u8])> {
        let found = checked_frame(self.segment.journal, self.segment.id, self.bytes.get(offset..)?)?;
        (found.0.seq >= self.next_seq).then_some(found)
    }

    /// The next place behind `offset` where a frame checks.
    fn search(&self, offset: usize) -> Option<usize> {
        frame_marks(self.bytes, offset).find(|place| self.frame_at(*place).is_some())
    }
}

/// Where a frame may begin, from `offset` on.
pub(super) fn frame_marks(bytes: &[u8], offset: usize) -> impl Iterator<Item = usize> {
    let rest = bytes.get(offset..).unwrap_or_default();
    memchr::memmem::find_iter(rest, FRAME_MAGIC).map(move |place| offset + place)
}

impl<'a> Iterator for Walk<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if let Some((header, payload)) = self.frame_at(self.offset) {
            let start = self.offset as u64;
            self.offset += FRAME_HEADER + payload.len();
            self.next_seq = header.seq + u64::from(header.sequences.max(1));
            return Some(Found::Frame(start, header, payload));
        }
        let start = self.offset as u64;
        if let Some(place) = self.search(self.offset) {
            self.offset = place;
            return Some(Found::Damage(start..place as u64));
        }
        // Behind the last flush there are zeros, or what a recycled file held in its earlier life.
        let rest = self.bytes.get(self.offset..)?;
        self.bytes = &self.bytes[..self.offset];
        let torn = likely_header(rest).filter(|header| header.seq == self.next_seq);
        let torn = torn.map(|header| rest.len().min(FRAME_HEADER + header.payload as usize));
        if self.sealed_at.is_some_and(|next| self.next_seq < next) {
            // The next segment goes on behind what is missing here: it was answered, and has rotted since.
            let end = torn.or_else(|| rest.iter().rposition(|byte| *byte != 0).map(|last| last + 1))?;
            return Some(Found::Damage(start..start + end as u64));
        }
        torn.map(|end| Found::TornEnd(start..start + end as u64))
    }
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}
