//! Reading back: one alert's or config's text by its position, and ranges of records, beside the writing.

use std::{
    borrow::Cow,
    cell::Cell,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use ams2_core::{
    AlertBatch, Input, Position,
    input::{CarriedText, JournalRecord},
};
use smol_str::SmolStr;

use super::{
    codec::{Decoder, Earlier, InMemory, Undecodable},
    holes::is_fault,
    records::numbers_of_each,
    segment::{FRAME_HEADER, Found, FrameHeader, SEGMENT_HEADER, Walk, checked_frame, frame_header},
    spans::{self, Span, Spans},
    writer::{SegmentInfo, Segments, note},
};
use crate::handler::{StoredAlert, TextError, Texts};

/// How much is read for a definition that stands elsewhere: mostly enough, then more, and then twice as much each time. The
/// first is small, so that a page that cannot be read costs no definition before it.
const DEFINITION_BYTES: [u64; 3] = [1 << 10, 64 << 10, 256 << 10];

/// Why a text cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk said no.
    #[error("the journal cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Nothing, or something else, stands there: it was damaged, or has gone with its segment.
    #[error("nothing can be read at position {0} of the journal")]
    Missing(Position),
}

/// Frames that are kept in memory: a few actions may be at different places of the journal at once. A frame is
/// mostly small, and rarely more than the 8 MiB that one flush takes.
const FRAMES_MAX: usize = 4;

/// Reads what is flushed. Clones share a small cache.
#[derive(Clone)]
pub struct JournalReader {
    segments: Segments,
    /// Frames that were read last, the newest at the end: alerts that are told together mostly stand together.
    cache: Arc<Mutex<Vec<Arc<Frame>>>>,
    /// The first sequence number that any segment held when the process started.
    first: u64,
    spans: Arc<Mutex<Spans>>,
}

struct Frame {
    segment: u64,
    header: FrameHeader,
    payload: Box<[u8]>,
    /// Where each sequence number stands: a frame may hold a hundred thousand.
    places: Vec<Place>,
}

/// Where one sequence number stands in a frame's payload.
#[derive(Clone, Copy)]
struct Place {
    /// Offset of its record.
    record: u32,
    /// Offset of its alert, or its number among the items of the record.
    within: u32,
}

impl Frame {
    /// Where a sequence number stands, and its record.
    fn at(&self, seq: u64) -> Option<(Place, Decoder<'_>)> {
        let place = *self.places.get(usize::try_from(seq.checked_sub(self.header.seq)?).ok()?)?;
        Some((place, Decoder::new(self.payload.get(place.record as usize..)?)))
    }
}

struct InFile<'a> {
    reader: &'a JournalReader,
    info: &'a SegmentInfo,
    window: u64,
    /// Whether there was more to read than the window.
    is_cut: Cell<bool>,
}

impl Earlier for InFile<'_> {
    fn at(&self, offset: u64) -> io::Result<Option<Cow<'_, [u8]>>> {
        let (info, segment) = (self.info, self.info.header.id);
        let is_damaged = info.damaged.iter().any(|range| range.contains(&offset));
        if is_damaged || offset < SEGMENT_HEADER || info.end.is_none_or(|end| end <= offset) {
            return Ok(None);
        }
        let range = spans::around(info, offset);
        let known = self.reader.spans().checked(segment, range.start, offset);
        let span = match known {
            Some(span) => span,
            None => match Span::read(info, range.clone()) {
                Ok(span) => {
                    let span = Arc::new(span);
                    self.reader.spans().keep(segment, span.clone());
                    span
                }
                Err(error) if is_fault(&error) => {
                    let rest = spans::frame_rest(info, range, offset)?;
                    if rest.is_none() {
                        self.reader.note_damage(segment, offset);
                    }
                    return Ok(rest.map(Cow::Owned));
                }
                Err(error) => return Err(error),
            },
        };
        if let Some(start) = span.damage_at(offset) {
            self.reader.note_damage(segment, start);
            return Ok(None);
        }
        let (bytes, changed) = span.bytes(info, offset, self.window)?;
        if let Some(place) = changed {
            self.reader.note_damage(segment, place);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.is_cut.set(self.is_cut.get() || bytes.len() as u64 == self.window);
        Ok(Some(Cow::Owned(bytes)))
    }
}

impl JournalReader {
    pub(super) fn new(segments: Segments) -> JournalReader {
        let first = first_seq(&segments);
        JournalReader { segments, cache: Arc::default(), first, spans: Arc::default() }
    }

    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn in_file<'a>(&'a self, info: &'a SegmentInfo, window: u64) -> InFile<'a> {
        InFile { reader: self, info, window, is_cut: Cell::new(false) }
    }

    /// Notes what did not check, unless its segment has gone in the meantime and its file is used again. Who writes to the
    /// segment learns of it, and refers no more to what stands there.
    fn note_damage(&self, segment: u64, offset: u64) {
        let mut segments = self.segments.write().unwrap_or_else(|e| e.into_inner());
        let written = segments.last().map(|info| info.header.id);
        if let Some(info) = segments.iter_mut().find(|info| info.header.id == segment) {
            let mut spans = self.spans();
            spans.note_damage(segment, offset);
            info.has_rotted |= written == Some(segment) && spans.note_rotten(segment, offset);
        }
    }

    /// Damage that was met since the last call, in words for people; each place is said once.
    pub fn take_damage(&self) -> Vec<String> {
        self.spans().take_damage()
    }

    /// The alert that stands at a position: an arrival, or one that was carried.
    pub fn alert(&self, position: Position) -> Result<StoredAlert, ReadError> {
        let missing = || ReadError::Missing(position);
        let info = self.segment_of(position.seq())?.ok_or_else(missing)?;
        let frame = self.frame_of(&info, position)?;
        let [.., last] = DEFINITION_BYTES;
        let doubled = std::iter::successors(Some(last * 2), |window| window.checked_mul(2));
        for window in DEFINITION_BYTES.into_iter().chain(doubled) {
            let earlier = self.in_file(&info, window);
            match alert_in(&frame, position.seq(), &earlier, info.header.base_ms) {
                Ok((client, batch)) => return Ok(StoredAlert { client, at: frame.header.at, batch }),
                // That says nothing of what stands there: it may be read the next time.
                Err(Undecodable::Unreadable(error)) => return Err(error.into()),
                Err(Undecodable::Damaged | Undecodable::Newer) if earlier.is_cut.get() => {}
                Err(Undecodable::Damaged | Undecodable::Newer) => break,
            }
        }
        Err(missing())
    }

    /// The merged text of the configuration that was installed, or carried, at a position.
    pub fn config_text(&self, position: Position) -> Result<String, ReadError> {
        let missing = || ReadError::Missing(position);
        let info = self.segment_of(position.seq())?.ok_or_else(missing)?;
        let frame = self.frame_of(&info, position)?;
        let earlier = self.in_file(&info, DEFINITION_BYTES[0]);
        // Only its own record is decoded: what came with it in the same flush may be a hundred thousand alerts.
        let (place, mut decoder) = frame.at(position.seq()).ok_or_else(missing)?;
        if decoder.is_alerts() {
            return Err(missing());
        }
        let text = match decoder.input(&earlier, info.header.base_ms).map_err(|_| missing())? {
            Input::ConfigInstalled(install) => Some(install.text),
            Input::Started(started) => started.install.map(|install| install.text),
            Input::Carried(mut carried) => {
                let within = place.within as usize;
                let item = (within < carried.items.len()).then(|| carried.items.swap_remove(within));
                item.and_then(|item| match item.text {
                    CarriedText::Config(text) => Some(text),
                    CarriedText::Alert { .. } | CarriedText::Lost => None,
                })
            }
            _ => None,
        };
        text.ok_or_else(missing)
    }

    /// How many segments hold records behind `covered`: a start reads all of them.
    pub fn segments_behind(&self, covered: u64) -> usize {
        let segments = self.segments.read().unwrap_or_else(|e| e.into_inner());
        let whole = segments.windows(2).filter(|pair| pair[1].header.first_seq <= covered + 1).count();
        segments.len() - whole
    }

    /// Gives the flushed records from `from` up to `to` (both included) to `take`, in order; an error at the first that
    /// cannot be read.
    pub fn records(&self, from: u64, to: u64, mut take: impl FnMut(JournalRecord)) -> Result<(), ReadError> {
        let segments = self.segments.read().unwrap_or_else(|e| e.into_inner()).clone();
        let mut next_seq = from;
        for (number, info) in segments.iter().enumerate() {
            let limit = segments.get(number + 1).map_or(u64::MAX, |next| next.header.first_seq);
            if limit <= from || info.header.first_seq > to {
                continue;
            }
            let mut bytes = super::holes::read_whole(&info.file)?.bytes;
            if let Some(end) = info.end {
                bytes.truncate(end as usize);
            }
            let mut damaged = info.damaged.clone();
            for found in Walk::new(&bytes, info.header) {
                let (header, payload) = match found {
                    Found::Frame(_, header, payload) => (header, payload),
                    // It may have come since the start: who refers to it does not decode.
                    Found::Damage(range) | Found::TornEnd(range) => {
                        if !info.damaged.contains(&range) {
                            self.note_damage(info.header.id, range.start);
                        }
                        damaged.push(range);
                        continue;
                    }
                };
                if header.seq >= limit || header.seq > to {
                    break;
                }
                let mut decoder = Decoder::new(payload);
                let mut seq = header.seq;
                while !decoder.is_empty() {
                    let Ok(input) =
                        decoder.input(&InMemory { bytes: &bytes, damaged: &damaged }, info.header.base_ms)
                    else {
                        break;
                    };
                    let next = seq + input.sequences();
                    if seq > next_seq {
                        return Err(ReadError::Missing(Position::arrived(next_seq)));
                    }
                    if seq == next_seq && seq <= to {
                        next_seq = next;
                        take(JournalRecord { seq, at: header.at, input });
                    }
                    seq = next;
                }
            }
        }
        if next_seq <= to { Err(ReadError::Missing(Position::arrived(next_seq))) } else { Ok(()) }
    }

    fn segment_of(&self, seq: u64) -> io::Result<Option<SegmentInfo>> {
        let segments = self.segments.read().unwrap_or_else(|e| e.into_inner());
        let after = segments.partition_point(|info| info.header.first_seq <= seq);
        let Some(number) = after.checked_sub(1) else { return Ok(None) };
        let mut info = segments[number].clone();
        if info.end.is_none() {
            drop(segments);
            info = self.index(info)?;
        }
        Ok(Some(info))
    }

    /// Walks through a segment that was not read since the start, and keeps its index.
    fn index(&self, mut info: SegmentInfo) -> io::Result<SegmentInfo> {
        let bytes = super::holes::read_whole(&info.file)?.bytes;
        let mut walk = Walk::new(&bytes, info.header);
        for found in walk.by_ref() {
            match found {
                Found::Frame(offset, header, _) => note(&mut info.index, &info.damaged, header.seq, offset),
                Found::Damage(range) => info.damaged.push(range),
                Found::TornEnd(_) => {}
            }
        }
        info.end = Some(walk.offset());
        let mut segments = self.segments.write().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = segments.iter_mut().find(|known| known.header.id == info.header.id) {
            (known.index, known.damaged, known.end) = (info.index.clone(), info.damaged.clone(), info.end);
        }
        Ok(info)
    }

    /// The frame that holds a sequence number.
    fn frame_of(&self, info: &SegmentInfo, position: Position) -> Result<Arc<Frame>, ReadError> {
        let seq = position.seq();
        let is_it = |frame: &&Arc<Frame>| frame.segment == info.header.id && holds(frame, seq);
        let cached = self.cache.lock().unwrap_or_else(|e| e.into_inner()).iter().find(is_it).cloned();
        if let Some(frame) = cached {
            return Ok(frame);
        }
        let place = info.index.partition_point(|(first, _)| *first <= seq);
        let mut offset = place.checked_sub(1).map_or(SEGMENT_HEADER, |place| info.index[place].1);
        let end = info.end.unwrap_or(0);
        let mut found = None;
        while offset + FRAME_HEADER as u64 <= end {
            let mut bytes = [0; FRAME_HEADER];
            info.file.read_at(&mut bytes, offset)?;
            // Behind damage the index has an entry.
            let Some(header) = frame_header(info.header.journal, info.header.id, &bytes) else {
                if !info.damaged.iter().any(|range| range.contains(&offset)) {
                    self.note_damage(info.header.id, offset);
                }
                break;
            };
            if header.seq > seq {
                break;
            }
            found = Some((offset, header));
            offset += FRAME_HEADER as u64 + u64::from(header.payload);
        }
        let (offset, header) = found.ok_or(ReadError::Missing(position))?;
        let mut bytes = vec![0; FRAME_HEADER + header.payload as usize];
        info.file.read_at(&mut bytes, offset)?;
        let Some((header, payload)) = checked_frame(info.header.journal, info.header.id, &bytes) else {
            self.note_damage(info.header.id, offset);
            return Err(ReadError::Missing(position));
        };
        let earlier = self.in_file(info, DEFINITION_BYTES[0]);
        let places =
            places(payload, &header, &earlier, info.header.base_ms).ok_or(ReadError::Missing(position))?;
        let frame = Arc::new(Frame { segment: info.header.id, header, payload: payload.into(), places });
        let mut cache = self.cache.lock().unwrap_or_else(|e| e.into_inner());
        if cache.len() == FRAMES_MAX {
            cache.remove(0);
        }
        cache.push(frame.clone());
        Ok(frame)
    }
}

fn first_seq(segments: &Segments) -> u64 {
    let segments = segments.read().unwrap_or_else(|e| e.into_inner());
    segments.first().map_or(0, |info| info.header.first_seq)
}

fn holds(frame: &Frame, seq: u64) -> bool {
    (frame.header.seq..frame.header.seq + u64::from(frame.header.sequences)).contains(&seq)
}

/// Where each sequence number of a frame stands; `None` if that cannot be told. A record that does not decode has its numbers,
/// and whoever asks for one of them gets nothing.
fn places(payload: &[u8], header: &FrameHeader, earlier: &InFile<'_>, base_ms: i64) -> Option<Vec<Place>> {
    let mut decoder = Decoder::new(payload);
    let mut places = Vec::new();
    // Behind how many numbers such a record stands, and where.
    let mut unknown = Vec::new();
    let offset = |decoder: &Decoder<'_>| u32::try_from(payload.len() - decoder.bytes_left()).ok();
    while !decoder.is_empty() {
        let record = offset(&decoder)?;
        if decoder.is_alerts() {
            let count = decoder.alerts_head().ok()?.1;
            if count == 0 {
                // It takes a number all the same.
                places.push(Place { record, within: offset(&decoder)? });
            }
            for _ in 0..count {
                places.push(Place { record, within: offset(&decoder)? });
                decoder.skip_alert().ok()?;
            }
        } else if let Ok(input) = decoder.input(earlier, base_ms) {
            places.extend((0..u32::try_from(input.sequences()).ok()?).map(|within| Place { record, within }));
        } else {
            decoder = Decoder::new(payload.get(record as usize..)?);
            decoder.skip().ok()?;
            unknown.push((places.len(), record));
        }
    }
    let rest = u64::from(header.sequences).checked_sub(places.len() as u64)?;
    let each = numbers_of_each(rest, unknown.len() as u64)?;
    for (behind, record) in unknown.into_iter().rev() {
        places.splice(behind..behind, (0..each).map(|_| Place { record, within: 0 }));
    }
    Some(places)
}

fn alert_in(
    frame: &Frame,
    seq: u64,
    earlier: &InFile<'_>,
    base_ms: i64,
) -> Result<(SmolStr, AlertBatch), Undecodable> {
    let (place, mut decoder) = frame.at(seq).ok_or(Undecodable::Damaged)?;
    if decoder.is_alerts() {
        let (client, _) = decoder.alerts_head()?;
        let alert = frame.payload.get(place.within as usize..).ok_or(Undecodable::Damaged)?;
        return Ok((client, Decoder::new(alert).one_alert(earlier, base_ms)?));
    }
    let Input::Carried(carried) = decoder.input(earlier, base_ms)? else { return Err(Undecodable::Damaged) };
    match carried.items.get(place.within as usize).map(|item| &item.text) {
        Some(CarriedText::Alert { client, batch }) => Ok((client.clone(), batch.clone())),
        Some(CarriedText::Config(_) | CarriedText::Lost) | None => Err(Undecodable::Damaged),
    }
}

impl Texts for JournalReader {
    fn alert(&self, position: Position) -> Result<StoredAlert, TextError> {
        JournalReader::alert(self, position).map_err(|error| match error {
            // What is needed of a segment is carried forward before it goes, but an attempt that was under way still
            // asks for the old place. The next one asks for the new.
            ReadError::Missing(_) if (self.first..first_seq(&self.segments)).contains(&position.seq()) => {
                TextError::Unreadable("it was carried forward in the meantime".into())
            }
            ReadError::Missing(_) => TextError::Lost,
            ReadError::Io(error) => TextError::Unreadable(error.to_string()),
        })
    }
}
