//! Writing: one frame a flush, one segment after the other. No threads: the journal's thread and the simulation
//! drive the same code.

use std::{
    io,
    ops::Range,
    sync::{Arc, RwLock},
    time::Duration,
};

use ams2_core::{At, Input};

use super::{
    Options,
    codec::{self, Dictionary},
    segment::{FRAME_HEADER, PAYLOAD_MAX, SEGMENT_HEADER, SegmentHeader, seal_frame, writer_version},
    spares::Spares,
    storage::{Storage, StoredFile, is_no_room},
    verify::{self, LostFrame},
};

/// Highest number of a file that is taken for ours. Nobody gets there by counting, and there is always a next one.
pub(super) const NUMBER_MAX: u64 = u64::MAX / 2;
/// Zeros are written ahead in pieces of this size: overwriting allocated bytes is cheaper to sync than growing.
const ZERO_BYTES: u64 = 4 << 20;
/// The reader's index has an entry for each piece of a segment of this size.
const INDEX_BYTES: u64 = 64 << 10;
/// The part of the current segment that clients may not use once no other can be allocated: one in this many.
const RESERVE_PART: u64 = 4;
/// New segments that are tried for one flush before the journal has failed.
const SEGMENTS_TRIED: u32 = 3;
/// A start goes on in the last segment while at least one in this many parts of it is left.
const RESUME_PART: u64 = 4;

/// What goes when. Both limits hold; neither touches what no snapshot covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Records older than this may go.
    pub age: Duration,
    /// Oldest segments may go while the journal is larger than this many bytes.
    pub bytes: u64,
}

/// What is in the way of a flush: nobody could read such a frame again. Nothing was kept of it, and less at once can be.
#[derive(Debug, thiserror::Error)]
#[error("{0} bytes do not fit into one frame")]
pub struct FrameTooLarge(pub usize);

/// Whether room is so scarce that segments go before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// No: retention alone says what goes.
    None,
    /// Yes: the oldest goes as soon as nobody needs it.
    Scarce,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Whether clients must be refused: what is left is kept for our own inputs.
    pub full: bool,
    /// Bytes that are free on the disk.
    pub free: u64,
}

/// A segment as readers see it.
#[derive(Clone)]
pub(super) struct SegmentInfo {
    pub header: SegmentHeader,
    pub file: Arc<dyn StoredFile>,
    /// Bytes that its file has, or is to have.
    pub bytes: u64,
    /// Behind the last flushed frame; `None` for one that was not read since the start.
    pub end: Option<u64>,
    /// Sequence numbers and offsets of some frames, ascending.
    pub index: Vec<(u64, u64)>,
    /// What did not check.
    pub damaged: Vec<Range<u64>>,
    /// Whether rot was met in it that the writer has not heard of.
    pub has_rotted: bool,
}

impl SegmentInfo {
    /// One that a start found, and has not read yet.
    pub fn found(header: SegmentHeader, file: Arc<dyn StoredFile>, bytes: u64) -> SegmentInfo {
        let (index, damaged) = (Vec::new(), Vec::new());
        SegmentInfo { header, file, bytes, end: None, index, damaged, has_rotted: false }
    }
}

/// All segments, oldest first.
pub(super) type Segments = Arc<RwLock<Vec<SegmentInfo>>>;

/// The end of the journal.
pub struct Writer {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) segments: Segments,
    options: Options,
    key: [u64; 2],
    current: Current,
    spares: Spares,
    /// The number of the next segment: no file has it, nor a higher one.
    next_id: u64,
    next_seq: u64,
    at: At,
    frame: Vec<u8>,
    /// Flushes that failed and were written again elsewhere.
    pub(super) failures: u64,
    /// Places of damage that were found behind failed flushes.
    pub(super) damaged: u64,
    /// Bytes that were free on the disk when it was asked last.
    free: u64,
}

struct Current {
    header: SegmentHeader,
    file: Arc<dyn StoredFile>,
    /// Bytes that it may hold, but for a frame that needs more and has it to itself.
    size: u64,
    offset: u64,
    zeroed: u64,
    dictionary: Dictionary,
}

/// The name of a segment's file.
pub(super) fn segment_name(id: u64) -> String {
    format!("{id:016x}.seg")
}

/// What recovery found, and what a writer goes on from.
pub(super) struct End {
    pub storage: Arc<dyn Storage>,
    pub segments: Segments,
    pub journal: u64,
    pub next_id: u64,
    pub next_seq: u64,
    pub at: At,
    pub free: Vec<String>,
    pub wall_ms: i64,
    /// The last frame, if nothing of the journal comes behind it.
    pub last: Option<LastFrame>,
    /// Whether all of the last segment could be read: its rest may be written then.
    pub rest_is_usable: bool,
    /// Whether all of it checks, too, and nothing stands behind its last frame: a start goes on in it.
    pub rest_is_clean: bool,
}

/// A frame of which nobody knows whether it was synced before the process died. It was read, and others will build on
/// it, so it is written again.
pub(super) struct LastFrame {
    /// The segment that it stands in, and where.
    pub segment: u64,
    pub offset: u64,
    pub length: u64,
    pub seq: u64,
    pub at: At,
    pub inputs: Vec<Input>,
}

impl Writer {
    /// Goes on behind what recovery found: in the rest of the last segment, if that is clean and long enough, else in a
    /// new one, or, where there is no room for one, in whatever rest there is.
    pub(super) fn start(mut end: End, options: Options, key: [u64; 2]) -> io::Result<Writer> {
        let last = end.last.take();
        let (next_seq, at) = last.as_ref().map_or((end.next_seq, end.at), |last| (last.seq, last.at));
        let header = SegmentHeader {
            journal: end.journal,
            id: end.next_id,
            first_seq: next_seq,
            base_ms: end.wall_ms,
            first_at: at,
            by: writer_version(),
        };
        let mut spares = Spares::new(std::mem::take(&mut end.free));
        let has_rest =
            |current: &Current| current.size - current.offset >= options.segment_bytes / RESUME_PART;
        // A segment names the version that wrote it.
        let is_ours = |current: &Current| current.header.by == header.by && end.rest_is_clean;
        let rest = rest_of_last(&end, key).filter(|current| is_ours(current) && has_rest(current));
        let goes_on = rest.is_some();
        let begun = rest.map_or_else(|| begin(&*end.storage, &mut spares, &options, header, key), Ok);
        let (current, last) = match begun {
            Ok(current) => (current, last),
            Err(error) if is_no_room(&error) => {
                tracing::warn!(%error, "no room for a new segment: going on in the rest of the last one");
                // What stands of a file with this name would hide the records that come now.
                end.storage.remove(&segment_name(header.id))?;
                (rest_of_last(&end, key).ok_or(error)?, last)
            }
            Err(error) => return Err(error),
        };
        let is_new = current.header.id == header.id;
        let mut writer = Writer {
            storage: end.storage,
            segments: end.segments,
            options,
            key,
            current,
            spares,
            next_id: header.id + u64::from(is_new),
            next_seq,
            at,
            frame: Vec::new(),
            failures: 0,
            damaged: 0,
            free: 0,
        };
        writer.look_at_free();
        if is_new {
            writer.show_current(Vec::new());
        } else if let Err(error) = writer.make_certain(last.as_ref()) {
            if !goes_on {
                return Err(error);
            }
            tracing::warn!(%error, "the last segment cannot be read again: going on in a new one");
            writer.next_id += 1;
            writer.current = begin(&*writer.storage, &mut writer.spares, &writer.options, header, key)?;
            writer.show_current(Vec::new());
        }
        if let Some(last) = last.filter(|last| last.segment != writer.current.header.id)
            // A segment that begins behind the frame was begun once it was synced.
            && writer.current.header.first_seq <= last.seq
        {
            writer.flush(last.at, &last.inputs)?;
        }
        (writer.next_seq, writer.at) = (writer.next_seq.max(end.next_seq), writer.at.max(end.at));
        writer.ensure_spare();
        writer.warn_of_retention();
        Ok(writer)
    }

    /// Says when retention promises more than the disk can hold.
    fn warn_of_retention(&self) {
        let files = self.storage.list().unwrap_or_default();
        let is_ours = |name: &str| name.ends_with(".seg") || name.ends_with(".free");
        let held: u64 = files.iter().filter(|(name, _)| is_ours(name)).map(|(_, bytes)| bytes).sum();
        let Ok(free) = self.storage.free_bytes() else { return };
        let (wanted, room) = (self.options.retention.bytes, held.saturating_add(free));
        if wanted > room {
            tracing::warn!(
                retention_bytes = wanted,
                room,
                "retention_bytes is more than the disk has room for: old records go when the disk is nearly full"
            );
        }
    }

    /// Sees to it that the segment that is gone on in is on disk. Its header and its last frame were read, but their
    /// sync may have failed, or never have begun; a frame between them was synced before the next was written. The
    /// same bytes are written at the same place, so that a power cut meanwhile costs nothing of them.
    fn make_certain(&self, last: Option<&LastFrame>) -> io::Result<()> {
        let Current { header, file, .. } = &self.current;
        file.write_at(&header.encode(), 0)?;
        if let Some(last) = last.filter(|last| last.segment == header.id) {
            let mut bytes = vec![0; usize::try_from(last.length).unwrap_or(usize::MAX)];
            file.read_at(&mut bytes, last.offset)?;
            file.write_at(&bytes, last.offset)?;
        }
        if self.options.unsafe_no_sync {
            return Ok(());
        }
        file.sync()?;
        self.storage.sync_names()
    }

    /// The sequence number that the next input will get.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The time of the last flush.
    pub fn at(&self) -> At {
        self.at
    }

    /// Writes the inputs as one frame and syncs. Answers the sequence number of the first; the others follow. On an
    /// error nothing was kept, and the journal can take nothing any more, unless it is that of a `FrameTooLarge`.
    pub fn flush(&mut self, at: At, inputs: &[Input]) -> io::Result<u64> {
        let at = at.max(self.at);
        let first = self.next_seq;
        let mut failed = 0;
        loop {
            self.look_at_rot();
            self.encode(at, inputs);
            if self.frame.len() as u64 > u64::from(PAYLOAD_MAX) {
                // What it defines stands nowhere.
                self.current.dictionary = Dictionary::new(self.key);
                let error = FrameTooLarge(self.frame.len());
                self.frame = Vec::new();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            let fits = self.current.offset + self.frame.len() as u64 <= self.current.size;
            let is_new = self.current.offset == SEGMENT_HEADER;
            if !fits && !is_new {
                self.roll(at)?;
                continue;
            }
            match self.put() {
                Ok(()) => break,
                Err(error) if failed == SEGMENTS_TRIED => return Err(error),
                // What a failed write left is unknown: never again to this file.
                Err(error) => {
                    tracing::warn!(%error, segment = self.current.header.id, "a flush failed: another segment takes it");
                    failed += 1;
                    self.failures += 1;
                    self.roll_after_failure(at)?;
                }
            }
        }
        self.next_seq += inputs.iter().map(Input::sequences).sum::<u64>();
        self.at = at;
        Ok(first)
    }

    /// Allocates the next segment if there is none, and says whether clients must be refused. An error says that the
    /// current segment is lost: its name leads to it no more, so that no start would find what is written there.
    pub fn look_at_space(&mut self) -> io::Result<Space> {
        let name = segment_name(self.current.header.id);
        match (self.storage.identity(&name), self.current.file.identity()) {
            (Ok(named), Ok(open)) if named != Some(open) => {
                let what = if named.is_none() { "has been removed" } else { "is another file now" };
                let message = format!("{name} {what} while it was written to: was the data folder deleted?");
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
            // A disk that cannot say is no proof: what is written says whether it is well.
            _ => {}
        }
        let spare = self.ensure_spare();
        let free = self.look_at_free();
        let full = free < self.options.free_bytes_min || (!spare && !self.has_room_for_clients());
        Ok(Space { full, free })
    }

    /// Asks the disk how many bytes are free; 0 where it cannot say.
    pub fn look_at_free(&mut self) -> u64 {
        self.free = self.storage.free_bytes().unwrap_or(0);
        self.free
    }

    /// Forgets the spare segment, as if none could be had.
    #[cfg(test)]
    pub(super) fn forget_free(&mut self) {
        self.spares.forget();
    }

    /// Lets something else go from now on.
    #[cfg(test)]
    pub(super) fn set_retention(&mut self, retention: Retention) {
        self.options.retention = retention;
    }

    /// Where the next frame begins in the current segment.
    #[cfg(test)]
    pub(super) fn offset(&self) -> u64 {
        self.current.offset
    }

    /// Whether inputs of clients may use the space there is.
    pub fn has_room_for_clients(&self) -> bool {
        self.room_for_clients() > 0
    }

    /// Bytes that inputs of clients may use: what the next segment and the disk have, where there is another segment, else what the
    /// reserve leaves.
    pub fn room_for_clients(&self) -> u64 {
        self.room_before(self.options.segment_bytes / RESERVE_PART)
    }

    /// The same for inputs of operators: half of the reserve is theirs, too.
    pub fn room_for_operators(&self) -> u64 {
        self.room_before(self.options.segment_bytes / RESERVE_PART / 2)
    }

    /// Bytes that inputs of clients may use without making the journal larger: what depends on how much is free on the disk is
    /// larger than that. It is what [`Writer::look_at_free`] was told last.
    pub fn room_allocated(&self) -> u64 {
        let reserve = self.options.segment_bytes / RESERVE_PART;
        self.rest_before(reserve).max(self.next_before(reserve).unwrap_or(0))
    }

    fn room_before(&self, reserve: u64) -> u64 {
        let rest = self.rest_before(reserve);
        // What is larger than a segment has one to itself, which grows as far as the disk has room.
        let free = self.free.saturating_sub(self.options.free_bytes_min);
        self.next_before(reserve).map_or(rest, |next| rest.max(next.saturating_add(free)))
    }

    /// What the current segment has before a reserve at its end.
    fn rest_before(&self, reserve: u64) -> u64 {
        self.current.size.saturating_sub(self.current.offset + reserve)
    }

    /// The same of the next one, if there is one.
    fn next_before(&self, reserve: u64) -> Option<u64> {
        let next = self.options.segment_bytes.saturating_sub(SEGMENT_HEADER + reserve);
        (!self.spares.is_empty()).then_some(next)
    }

    /// Allocates the segment after this one; whether there is one.
    pub fn ensure_spare(&mut self) -> bool {
        self.spares.ensure(&*self.storage, self.options.segment_bytes)
    }

    /// The first sequence number to keep, when retention at time `now`, or pressure, lets older segments go that `covered`
    /// covers. Under pressure it is one segment at a time.
    pub fn droppable(&self, covered: u64, now: At, pressure: Pressure) -> Option<u64> {
        let segments = self.segments.read().unwrap_or_else(|e| e.into_inner());
        let oldest_at = now.0.saturating_sub(self.options.retention.age.as_millis() as u64);
        let mut bytes: u64 = segments.iter().map(|info| info.bytes).sum();
        let mut keep_from = None;
        for pair in segments.windows(2) {
            let next = &pair[1].header;
            let is_scarce = pressure == Pressure::Scarce && keep_from.is_none();
            let expired = next.first_at.0 < oldest_at || bytes > self.options.retention.bytes || is_scarce;
            if !expired || next.first_seq > covered + 1 {
                break;
            }
            bytes -= pair[0].bytes;
            keep_from = Some(next.first_seq);
        }
        keep_from
    }

    /// Lets the segments before `seq` go. Whoever calls has seen to it that nothing needs them.
    pub fn drop_before(&mut self, seq: u64) -> io::Result<()> {
        loop {
            let SegmentInfo { header: oldest, bytes, .. } = {
                let mut segments = self.segments.write().unwrap_or_else(|e| e.into_inner());
                match segments.get(1) {
                    Some(next) if next.header.first_seq <= seq => segments.remove(0),
                    _ => return self.storage.sync_names(),
                }
            };
            let name = segment_name(oldest.id);
            // One that has grown would take more than is counted, again and again.
            if self.spares.want_more() && bytes == self.options.segment_bytes {
                self.spares.keep(&*self.storage, &name)?;
            } else {
                self.storage.remove(&name)?;
            }
        }
    }

    /// Defines anew what stands earlier in the current segment, if rot was met in it: what refers to that does not decode.
    fn look_at_rot(&mut self) {
        let mut segments = self.segments.write().unwrap_or_else(|e| e.into_inner());
        if segments.last_mut().is_some_and(|info| std::mem::take(&mut info.has_rotted)) {
            self.current.dictionary = Dictionary::new(self.key);
        }
    }

    fn encode(&mut self, at: At, inputs: &[Input]) {
        let Writer { frame, current, .. } = self;
        frame.clear();
        frame.resize(FRAME_HEADER, 0);
        let base = current.header.base_ms;
        for input in inputs {
            codec::encode(input, frame, current.offset, base, &mut current.dictionary);
        }
        let sequences = inputs.iter().map(Input::sequences).sum::<u64>() as u32;
        seal_frame(frame, &current.header, self.next_seq, at, sequences);
    }

    fn put(&mut self) -> io::Result<()> {
        let end = self.write_frame()?;
        let current = &mut self.current;
        if !self.options.unsafe_no_sync {
            current.file.sync()?;
        }
        let start = std::mem::replace(&mut current.offset, end);
        let mut segments = self.segments.write().unwrap_or_else(|e| e.into_inner());
        if let Some(info) = segments.last_mut() {
            info.end = Some(end);
            info.bytes = info.bytes.max(end);
            note(&mut info.index, &info.damaged, self.next_seq, start);
        }
        Ok(())
    }

    /// Writes the frame without making it durable; where it ends.
    fn write_frame(&mut self) -> io::Result<u64> {
        let current = &mut self.current;
        let end = current.offset + self.frame.len() as u64;
        while current.zeroed < end.min(current.size) {
            let bytes = ZERO_BYTES.min(current.size - current.zeroed);
            current.file.write_at(&vec![0; bytes as usize], current.zeroed)?;
            current.zeroed += bytes;
        }
        current.file.write_at(&self.frame, current.offset)?;
        Ok(end)
    }

    /// Ends the current segment and begins the next.
    fn roll(&mut self, at: At) -> io::Result<()> {
        let current = self.tried(|writer| {
            let header = writer.next_header(at);
            begin(&*writer.storage, &mut writer.spares, &writer.options, header, writer.key)
        })?;
        std::mem::replace(&mut self.current, current).file.rest();
        self.show_current(Vec::new());
        self.ensure_spare();
        Ok(())
    }

    /// Begins a segment so. A file that cannot be made one is left, and another is tried, under another number.
    fn tried<T>(&mut self, begin: impl Fn(&mut Writer) -> io::Result<T>) -> io::Result<T> {
        let mut tried = 0;
        loop {
            match begin(self) {
                Err(error) if tried < SEGMENTS_TRIED => {
                    tracing::warn!(%error, "a segment cannot be begun: another is tried");
                    tried += 1;
                }
                result => return result,
            }
        }
    }

    fn next_header(&mut self, at: At) -> SegmentHeader {
        let id = self.next_id;
        self.next_id += 1;
        SegmentHeader {
            id,
            first_seq: self.next_seq,
            // Wall time and journal time run at one pace between jumps: good enough for short numbers.
            base_ms: self
                .current
                .header
                .base_ms
                .saturating_add_unsigned(at.since(self.current.header.first_at)),
            first_at: at,
            by: writer_version(),
            ..self.current.header
        }
    }

    /// The same after a failed flush. What was answered before stands in the segment that failed, and perhaps on the very
    /// page: it is read from the disk, and what is not there any more is written again from memory, under its numbers.
    fn roll_after_failure(&mut self, at: At) -> io::Result<()> {
        let (lost, unreadable) =
            verify::lost_from_disk(&self.current.file, &self.current.header, self.current.offset)?;
        self.damaged += unreadable;
        let Some(first) = lost.first() else { return self.roll(at) };
        let (segment, sequence, next_seq) = (self.current.header.id, first.seq, self.next_seq);
        tracing::error!(segment, sequence, "what was kept is not on the disk any more, and is written again");
        self.damaged += 1;
        let index = self.tried(|writer| writer.write_again(at, &lost));
        self.next_seq = next_seq;
        self.show_current(index?);
        self.ensure_spare();
        Ok(())
    }

    /// Begins a segment with frames that are not on the disk any more; their index.
    fn write_again(&mut self, at: At, lost: &[LostFrame]) -> io::Result<Vec<(u64, u64)>> {
        self.next_seq = lost.first().map_or(self.next_seq, |frame| frame.seq);
        let header = self.next_header(at);
        // It counts from its first frame on, whatever the old one holds behind that: so it gets its header, and is a
        // segment, once it has all of them.
        let current = place(&*self.storage, &mut self.spares, &self.options, header, self.key)?;
        std::mem::replace(&mut self.current, current).file.rest();
        let mut index = Vec::new();
        for frame in lost {
            self.next_seq = frame.seq;
            self.encode(frame.at, &frame.inputs);
            note(&mut index, &[], frame.seq, self.current.offset);
            self.current.offset = self.write_frame()?;
        }
        if !self.options.unsafe_no_sync {
            self.current.file.sync()?;
        }
        make_segment(&*self.storage, &self.options, &self.current)?;
        Ok(index)
    }

    fn show_current(&mut self, index: Vec<(u64, u64)>) {
        let info = SegmentInfo {
            header: self.current.header,
            file: self.current.file.clone(),
            bytes: self.options.segment_bytes.max(self.current.offset),
            end: Some(self.current.offset),
            index,
            damaged: Vec::new(),
            has_rotted: false,
        };
        self.segments.write().unwrap_or_else(|e| e.into_inner()).push(info);
    }
}

/// Notes a frame in the index, unless one close before it is there, from which it is reached: nobody gets across damage.
pub(super) fn note(index: &mut Vec<(u64, u64)>, damaged: &[Range<u64>], seq: u64, offset: u64) {
    let is_reached = |last: u64| {
        offset < last + INDEX_BYTES
            && damaged.last().is_none_or(|range| range.end <= last || offset < range.start)
    };
    if index.last().is_none_or(|(_, last)| !is_reached(*last)) {
        index.push((seq, offset));
    }
}

pub(super) fn free_number(name: &str) -> Option<u64> {
    name.strip_suffix(".free")?.parse().ok().filter(|number| *number <= NUMBER_MAX)
}

/// Makes a free or new file into a segment, durable by name and header.
fn begin(
    storage: &dyn Storage,
    spares: &mut Spares,
    options: &Options,
    header: SegmentHeader,
    key: [u64; 2],
) -> io::Result<Current> {
    let current = place(storage, spares, options, header, key)?;
    make_segment(storage, options, &current)?;
    Ok(current)
}

/// A free or new file with the name of a segment; without a header it is none yet.
fn place(
    storage: &dyn Storage,
    spares: &mut Spares,
    options: &Options,
    header: SegmentHeader,
    key: [u64; 2],
) -> io::Result<Current> {
    let name = segment_name(header.id);
    let file = spares.place(storage, &name, options.segment_bytes, !options.unsafe_no_sync)?;
    let (size, dictionary) = (options.segment_bytes, Dictionary::new(key));
    // The first frame's room is made with the header's page, which must not be zeroed again.
    Ok(Current { header, file, size, offset: SEGMENT_HEADER, zeroed: SEGMENT_HEADER, dictionary })
}

fn make_segment(storage: &dyn Storage, options: &Options, current: &Current) -> io::Result<()> {
    current.file.write_at(&current.header.encode(), 0)?;
    if options.unsafe_no_sync {
        return Ok(());
    }
    current.file.sync()?;
    storage.sync_names()
}

/// The last segment behind its last frame, to be written on; `None` if it cannot be. What a flush that was cut off
/// left there was answered to nobody.
fn rest_of_last(end: &End, key: [u64; 2]) -> Option<Current> {
    let segments = end.segments.read().unwrap_or_else(|e| e.into_inner());
    let info = segments.last().filter(|_| end.rest_is_usable)?;
    let (offset, size) = (info.end?, info.file.size().ok()?);
    let (header, file) = (info.header, info.file.clone());
    // Definitions that stand earlier are written once more: nobody has read all of them.
    (offset < size).then(|| Current {
        header,
        file,
        size,
        offset,
        zeroed: offset,
        dictionary: Dictionary::new(key),
    })
}
