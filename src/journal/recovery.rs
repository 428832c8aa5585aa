//! Opening a journal: finding segments and snapshots, reading the records behind a snapshot, and setting aside what
//! does not check.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    sync::Arc,
};

use ams2_core::{At, Input, input::JournalRecord};

use crate::poison::{PANICS_MAX, SET_ASIDE_MAX};

use super::{
    Options,
    codec::InMemory,
    holes::{Readable, is_fault, read_start, read_whole},
    reader::JournalReader,
    records::Records,
    segment::{
        FRAME_HEADER, Found, HeaderError, PAYLOAD_MAX, SEGMENT_HEADER, SegmentHeader, Walk, checked_frame,
        frame_header, frame_marks, likely_header, version_text,
    },
    snapshots::{self, Checked, Content, SnapshotWriter},
    storage::{Storage, StoredFile, is_no_room},
    writer::{End, LastFrame, NUMBER_MAX, SegmentInfo, Segments, Writer, free_number, note, segment_name},
};

/// Bytes of a segment that tell that nothing was ever written to it.
const FIRST_PAGE: usize = 4 << 10;
/// Files of one journal that a refused start names.
const FILES_NAMED_MAX: usize = 4;

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk said no.
    #[error("the journal cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// The router panicked at a record, as it will at the next start, until the record is set aside.
    #[error(
        "the router panicked at the record {sequence} of the journal, a fault of this program: what was accepted is kept; start again (after {PANICS_MAX} panics a record is set aside, up to {SET_ASIDE_MAX} of them), and please report what the log says"
    )]
    Panicked {
        /// The record's number.
        sequence: u64,
    },
    /// The disk is full, and so is the last segment.
    #[error(
        "the journal has no room: a new segment takes {segment_bytes} bytes ({error}), and the last one is full: make room in the data folder's file system, then start again"
    )]
    NoRoom {
        /// Size of a segment.
        segment_bytes: u64,
        /// What the disk said.
        error: io::Error,
    },
    /// Files of more than one journal are in the folder.
    #[error(
        "files of more than one journal are in the data folder: {files}; nothing was changed: move those that do not belong here to another folder, then start again"
    )]
    Strangers {
        /// Whose are which.
        files: String,
    },
    /// Written by a newer program.
    #[error(
        "{what} was written by ams2 {by} in {format}, which this ams2 ({}) does not know; nothing was changed: start that version, or a newer one",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file, or the record in it.
        what: String,
        /// The version of the program that wrote it.
        by: String,
        /// Its format, in words.
        format: String,
    },
}

/// Why a snapshot that checks cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It does not decode, in words.
    Damaged(String),
    /// A newer program wrote it, in this version of the state.
    Newer(u16),
}

/// A journal that is being opened: read it with [`Opened::replay`], then go on with [`Opened::finish`].
pub struct Opened {
    storage: Arc<dyn Storage>,
    options: Options,
    segments: Segments,
    journal: u64,
    random: [u64; 3],
    next_id: u64,
    next_seq: u64,
    at: At,
    free: Vec<String>,
    snapshots: Vec<String>,
    /// Those that were read and check.
    checked: Checked,
    /// Up to where the snapshot that was taken covers the records.
    covered: u64,
    /// The last frame: whether it was synced before the process died is not known.
    last: Option<LastFrame>,
    /// Whether the last segment could be read as a whole.
    last_is_readable: bool,
    /// Whether all of it checks, too.
    last_is_clean: bool,
    /// Whole segments under another's name: what becomes of them is known once it is known what a snapshot covers.
    misnamed: Vec<Misnamed>,
    /// Numbers that files have as segments, whatever is in them.
    names: BTreeSet<u64>,
    /// Segments that were read under these names, and get their own.
    renames: Vec<(String, u64)>,
    /// Behind the last sequence number that a file which is left alone is known to hold; 0 for none.
    beyond: u64,
    /// Files of which nobody knows what they hold: the number in their name, and how many sequence numbers that is at most.
    unknown: Vec<(u64, u64)>,
    /// What was set aside, in words for people.
    pub damage: Vec<String>,
    /// What is changed once all is read: until then a newer program's files may turn up.
    changes: Vec<Change>,
}

/// A change that the start makes to what it found.
enum Change {
    /// Of no use.
    Remove(String),
    /// A segment in which nothing is can be used again.
    Free(String, u64),
    /// Damaged bytes of a segment are copied to a file of their own.
    SetAside(u64, Arc<dyn StoredFile>, Range<u64>),
    /// A snapshot that does not check gets another name.
    SetSnapshotAside(String),
}

/// A file whose header is whole and says that it is another segment than its name says.
struct Misnamed {
    id: u64,
    name: String,
    header: SegmentHeader,
    file: Arc<dyn StoredFile>,
}

/// What counts of a segment.
struct Bounds {
    /// Covered by the snapshot.
    covered: u64,
    /// From here on a later segment counts.
    limit: u64,
    /// Where the next segment says that it begins.
    next: Option<u64>,
}

impl Opened {
    /// Looks at what is there. `random` names a new journal; it is not used for one that exists.
    pub fn open(storage: Arc<dyn Storage>, options: Options, random: [u64; 3]) -> Result<Opened, OpenError> {
        let mut opened = Opened {
            segments: Segments::default(),
            journal: random[0].max(1),
            random,
            next_id: 1,
            next_seq: 1,
            at: At(0),
            free: Vec::new(),
            snapshots: snapshots::names(&*storage)?,
            last: None,
            last_is_readable: true,
            last_is_clean: true,
            checked: Checked::new(),
            covered: 0,
            misnamed: Vec::new(),
            names: BTreeSet::new(),
            renames: Vec::new(),
            beyond: 0,
            unknown: Vec::new(),
            damage: Vec::new(),
            changes: Vec::new(),
            storage,
            options,
        };
        opened.find_segments()?;
        Ok(opened)
    }

    /// What names the journal.
    pub fn journal(&self) -> u64 {
        self.journal
    }

    /// The newest snapshot that checks and that `usable` takes, with the sequence number that it covers.
    pub fn snapshot<T>(
        &mut self,
        mut usable: impl FnMut(&[u8]) -> Result<T, Unusable>,
    ) -> Result<Option<(u64, T)>, OpenError> {
        for name in std::mem::take(&mut self.snapshots) {
            let newer = |by, format| OpenError::Newer { what: format!("the snapshot {name}"), by, format };
            let why = match snapshots::read(&*self.storage, &name, self.journal)? {
                Content::Damaged => "it does not check, or the disk cannot read it".to_owned(),
                Content::Newer { format, by } => return Err(newer(by, format!("format {format}"))),
                Content::State { covers, body, by } => match usable(&body) {
                    Ok(state) => {
                        self.next_seq = self.next_seq.max(covers + 1);
                        self.checked.insert(name, covers);
                        return Ok(Some((covers, state)));
                    }
                    Err(Unusable::Newer(version)) => return Err(newer(by, format!("version {version}"))),
                    Err(Unusable::Damaged(why)) => why,
                },
            };
            self.note(format!("the snapshot {name} is not used: {why}"));
            self.changes.push(Change::SetSnapshotAside(name));
        }
        Ok(None)
    }

    /// Says what was found damaged, in the log and to who opens the journal.
    fn note(&mut self, what: String) {
        tracing::error!("{what}");
        self.damage.push(what);
    }

    /// Gives every record behind `covered` to `take`, in order. `at` is the time of the snapshot, 0 without one.
    pub fn replay(
        &mut self,
        covered: u64,
        at: At,
        mut take: impl FnMut(JournalRecord),
    ) -> Result<(), OpenError> {
        self.at = self.at.max(at);
        self.covered = covered;
        self.next_seq = self.next_seq.max(covered + 1);
        self.adopt_misnamed();
        let segments = self.segments.read().unwrap_or_else(|e| e.into_inner()).clone();
        // Only what a later segment really holds is not read here: it may have been cut off before it held anything.
        let mut limits = vec![u64::MAX; segments.len()];
        for number in (1..segments.len()).rev() {
            limits[number - 1] = match limits[number] <= covered + 1 {
                true => limits[number],
                false if is_empty(&segments[number], segments.get(number + 1))? => limits[number],
                false => first_held(&segments[number])?.unwrap_or(limits[number]),
            };
        }
        let firsts: Vec<u64> = segments.iter().map(|info| info.header.first_seq).collect();
        for (number, (info, limit)) in segments.into_iter().zip(limits).enumerate() {
            if limit <= covered + 1 || info.header.first_seq >= limit {
                continue;
            }
            if info.header.first_seq > self.next_seq {
                let missing =
                    format!("the records {} to {} are missing", self.next_seq, info.header.first_seq - 1);
                self.note(missing);
                self.next_seq = info.header.first_seq;
            }
            let bounds = Bounds { covered, limit, next: firsts.get(number + 1).copied() };
            self.replay_segment(number, &info, bounds, &mut take)?;
        }
        Ok(())
    }

    fn replay_segment(
        &mut self,
        number: usize,
        info: &SegmentInfo,
        Bounds { covered, limit, next }: Bounds,
        take: &mut impl FnMut(JournalRecord),
    ) -> Result<(), OpenError> {
        let Readable { bytes, holes } = read_whole(&info.file)?;
        (self.last_is_readable, self.last_is_clean) = (holes.is_empty(), holes.is_empty());
        let name = segment_name(info.header.id);
        let (mut index, mut damaged) = (Vec::new(), Vec::new());
        // The number that is due next, unless damage is in between.
        let mut due = Some(info.header.first_seq);
        let mut walk = Walk::sealed(&bytes, info.header, next);
        for found in walk.by_ref() {
            match found {
                Found::Frame(offset, header, payload) => {
                    // A later segment wrote this again: what a failed flush left here does not count.
                    if header.seq >= limit {
                        break;
                    }
                    note(&mut index, &damaged, header.seq, offset);
                    let missing = due.map(|due| due.max(covered + 1)).filter(|due| *due < header.seq);
                    if let Some(due) = missing {
                        // Pages that have changed places still check.
                        self.last_is_clean = false;
                        self.note(format!("{name}: the records {due} to {} are missing", header.seq - 1));
                    }
                    due = Some(header.seq + u64::from(header.sequences.max(1)));
                    let earlier = InMemory { bytes: &bytes, damaged: &damaged };
                    let records = Records::of(payload, &header, &earlier, info.header.base_ms);
                    let Records { found, left_out } = records.map_err(|seq| OpenError::Newer {
                        what: format!("the record {seq} in {name}"),
                        by: version_text(&info.header.by),
                        format: "a form".into(),
                    })?;
                    let is_whole = left_out.is_empty();
                    for range in left_out {
                        let (first, last) = (range.start, range.end.saturating_sub(1));
                        let what = match first == last {
                            true => format!("the record {first} does not decode and is left out"),
                            false => format!("the records {first} to {last} do not decode and are left out"),
                        };
                        self.note(format!("{name}: {what}"));
                    }
                    let inputs = found.iter().map(|(_, input)| input.clone()).collect();
                    for (seq, input) in found {
                        if seq > covered && seq >= self.next_seq {
                            self.at = self.at.max(header.at);
                            self.next_seq = seq + input.sequences();
                            take(JournalRecord { seq, at: self.at, input });
                        }
                    }
                    // Numbers that were given are not given again.
                    self.next_seq = self.next_seq.max(header.seq + u64::from(header.sequences));
                    self.last = is_whole.then(|| LastFrame {
                        segment: info.header.id,
                        offset,
                        length: (FRAME_HEADER + payload.len()) as u64,
                        seq: header.seq,
                        at: header.at,
                        inputs,
                    });
                }
                Found::Damage(range) => {
                    self.last_is_clean = false;
                    due = None;
                    damaged.push(range.clone());
                    self.say(&name, &range, &holes);
                    self.changes.push(Change::SetAside(info.header.id, info.file.clone(), range));
                }
                Found::TornEnd(range) => {
                    // It cannot be told from a last frame that has rotted: the bytes stay as they are.
                    self.last_is_clean = false;
                    tracing::info!(
                        segment = name,
                        offset = range.start,
                        bytes = range.end - range.start,
                        "the last flush was cut off; nobody was answered"
                    );
                }
            }
        }
        let end = walk.offset();
        // What cannot be read behind the last frame may have been a frame.
        for hole in holes.iter().filter(|hole| hole.end > end) {
            self.note(unreadable(&name, hole));
        }
        let mut segments = self.segments.write().unwrap_or_else(|e| e.into_inner());
        let info = &mut segments[number];
        (info.index, info.damaged, info.end) = (index, damaged, Some(end));
        Ok(())
    }

    fn say(&mut self, name: &str, range: &Range<u64>, holes: &[Range<u64>]) {
        let what = format!("{name}: {} bytes at {} do not check", range.end - range.start, range.start);
        self.note(what);
        for hole in holes.iter().filter(|hole| range.start < hole.end && hole.start < range.end) {
            self.note(unreadable(name, hole));
        }
    }

    /// Makes the changes that what was found calls for. One that fails is said, and the start goes on: what is of no use
    /// stays, and damaged bytes stay in their segment until it goes.
    fn change(&mut self) {
        if let Err(error) = SnapshotWriter::remove_unfinished(&*self.storage) {
            tracing::warn!(%error, "an unfinished snapshot stays");
        }
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Remove(name) => {
                    if let Err(error) = self.storage.remove(&name) {
                        tracing::warn!(name, %error, "a file that is of no use stays");
                    }
                }
                Change::Free(name, bytes) => {
                    let number = self.free.iter().filter_map(|name| free_number(name)).max().unwrap_or(0) + 1;
                    let free_name = format!("{number}.free");
                    match self.storage.rename_new(&name, &free_name) {
                        Ok(()) if bytes == self.options.segment_bytes => self.free.push(free_name),
                        // The next start removes it.
                        Ok(()) => {}
                        Err(error) => tracing::warn!(name, %error, "a file that is of no use stays"),
                    }
                }
                Change::SetSnapshotAside(name) => snapshots::set_aside(&*self.storage, &name),
                Change::SetAside(id, file, range) => {
                    let target = format!("{id:016x}-{:08x}.damaged", range.start);
                    if let Err(error) = self.set_aside(&target, &file, range) {
                        tracing::error!(file = target, %error, "damaged bytes cannot be copied");
                    }
                }
            }
        }
    }

    /// Reads what is under another name as the segment that its header says, unless another file is that, too. What was taken for
    /// another segment before that one's header was durable holds what nobody needs any more: it is used again.
    fn adopt_misnamed(&mut self) {
        let mut segments = self.segments.read().unwrap_or_else(|e| e.into_inner()).clone();
        let oldest = segments.first().map_or(u64::MAX, |info| info.header.id);
        let newest = segments.last().map_or(0, |info| info.header.id);
        let mut whole = Vec::new();
        for misnamed in std::mem::take(&mut self.misnamed) {
            let Misnamed { id, name, header, file } = &misnamed;
            let (bytes, holes) = match read_whole(file) {
                Ok(Readable { bytes, holes }) => (bytes, holes),
                Err(error) => {
                    self.unknown.push((*id, numbers_max(0, self.options.segment_bytes)));
                    self.note(format!("{name}: it cannot be read; it is left alone: {error}"));
                    continue;
                }
            };
            // Frames came before the header: after a failed flush it is written last.
            if let Some(end) = frames_end(&bytes, self.journal, *id) {
                self.beyond = self.beyond.max(end);
                self.note(format!("{name}: its header does not check; it is left alone"));
                continue;
            }
            let end = frames_end(&bytes, self.journal, header.id).unwrap_or(0);
            let (is_old, is_new) = (header.id < oldest, newest < *id);
            if is_old && is_new && holes.is_empty() && end <= self.covered + 1 {
                self.changes.push(Change::Free(name.clone(), bytes.len() as u64));
                continue;
            }
            whole.push((misnamed, end, bytes.len() as u64));
        }
        loop {
            let ids: Vec<u64> = whole.iter().map(|(misnamed, ..)| misnamed.header.id).collect();
            let names: Vec<u64> = whole.iter().map(|(misnamed, ..)| misnamed.id).collect();
            let is_alone = |id: u64| {
                id <= NUMBER_MAX
                    && segments.iter().all(|info| info.header.id != id)
                    && ids.iter().filter(|other| **other == id).count() == 1
                    // Whoever has its name gets another.
                    && (names.contains(&id) || !self.names.contains(&id))
            };
            let (alone, others): (Vec<_>, Vec<_>) =
                whole.into_iter().partition(|(misnamed, ..)| is_alone(misnamed.header.id));
            whole = alone;
            if others.is_empty() {
                break;
            }
            for (Misnamed { name, header, .. }, end, _) in others {
                // Whoever takes it instead of the other has what is in it: no number of that is given again.
                self.beyond = self.beyond.max(end);
                self.note(format!(
                    "{name}: by its header it is {}, and so is another file, by header or name; it is left alone: while ams2 is stopped, give that name to the one that is to be read, and move the other to another folder",
                    segment_name(header.id)
                ));
            }
        }
        for (Misnamed { name, header, file, .. }, _, bytes) in whole {
            let own = segment_name(header.id);
            tracing::warn!(
                name,
                own,
                "by its header it is another segment: it is read as that, and gets its name"
            );
            self.next_id = self.next_id.max(header.id + 1);
            segments.push(SegmentInfo::found(header, file, bytes));
            self.renames.push((name, header.id));
        }
        segments.sort_unstable_by_key(|info| info.header.id);
        *self.segments.write().unwrap_or_else(|e| e.into_inner()) = segments;
    }

    /// Gives segments that were read under another name their own. An error refuses the start: whoever lets a segment go by
    /// its name would else let another go. The next start reads them again, whatever name they have got by then.
    fn give_names_back(&mut self) -> io::Result<()> {
        let mut waiting = std::mem::take(&mut self.renames);
        if waiting.is_empty() {
            return Ok(());
        }
        let mut moves_left = waiting.len();
        while !waiting.is_empty() {
            let (count, mut blocked) = (waiting.len(), Vec::new());
            for (name, id) in waiting {
                let own = segment_name(id);
                match self.storage.rename_new(&name, &own) {
                    Ok(()) => {
                        let file = self.storage.open(&own)?;
                        let mut segments = self.segments.write().unwrap_or_else(|e| e.into_inner());
                        if let Some(info) = segments.iter_mut().find(|info| info.header.id == id) {
                            info.file = file;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && moves_left > 0 => {
                        blocked.push((name, id));
                    }
                    Err(error) => return Err(error),
                }
            }
            waiting = blocked;
            // They have each other's names: one makes way.
            if waiting.len() == count
                && let Some((name, id)) = waiting.pop()
            {
                moves_left -= 1;
                let aside = segment_name(self.next_id);
                self.next_id += 1;
                self.storage.rename_new(&name, &aside)?;
                waiting.push((aside, id));
            }
        }
        self.storage.sync_names()
    }

    fn set_aside(&self, target: &str, file: &Arc<dyn StoredFile>, range: Range<u64>) -> io::Result<()> {
        let bytes = read_start(file, range.end as usize)?.bytes;
        self.storage.remove(target)?;
        let file = self.storage.create(target, 0)?;
        file.write_at(bytes.get(range.start as usize..).unwrap_or_default(), 0)?;
        file.sync()
    }

    /// Goes on behind all that was read: in a new segment, or in the rest of the last where there is no room for one.
    pub fn finish(
        mut self,
        wall_ms: i64,
    ) -> Result<(Writer, JournalReader, SnapshotWriter, Vec<String>), OpenError> {
        self.change();
        self.give_names_back()?;
        let next_seq = self.next_to_give();
        // What comes now stands behind what files that are left alone hold, and so in a segment behind them.
        let has_gap = next_seq != self.next_seq;
        let ends = |last: &LastFrame| last.seq + last.inputs.iter().map(Input::sequences).sum::<u64>();
        let segment_bytes = self.options.segment_bytes;
        let last = self.last.filter(|last| ends(last) == next_seq);
        let is_empty = |info: &SegmentInfo| info.end == Some(SEGMENT_HEADER);
        let segments = self.segments.read().unwrap_or_else(|e| e.into_inner());
        // What stands last in it is the last of all, and as it should be.
        let ends_well = last.is_some() || segments.last().is_some_and(is_empty);
        drop(segments);
        let end = End {
            storage: self.storage.clone(),
            segments: self.segments.clone(),
            journal: self.journal,
            next_id: self.next_id,
            next_seq,
            at: self.at,
            free: self.free,
            wall_ms,
            last,
            rest_is_usable: self.last_is_readable,
            rest_is_clean: self.last_is_clean && ends_well && !has_gap,
        };
        let writer = Writer::start(end, self.options, [self.random[1], self.random[2]]).map_err(|error| {
            match is_no_room(&error) {
                true => OpenError::NoRoom { segment_bytes, error },
                false => OpenError::Io(error),
            }
        })?;
        let reader = JournalReader::new(self.segments);
        let snapshots = SnapshotWriter::new(self.storage, self.journal, self.checked);
        Ok((writer, reader, snapshots, self.damage))
    }

    /// The next sequence number: none that a file may hold which is left alone is given again. A file behind which another
    /// segment begins holds none beyond that.
    fn next_to_give(&self) -> u64 {
        let segments = self.segments.read().unwrap_or_else(|e| e.into_inner());
        let newest = segments.last().map_or(0, |info| info.header.id);
        let unknown = self.unknown.iter().filter(|(id, _)| *id > newest).map(|(_, numbers)| numbers);
        self.next_seq.max(self.beyond).saturating_add(unknown.sum())
    }

    /// Whose files these are: a guess between two journals would put one of them aside as a whole.
    fn owner(&self, found: &[(SegmentHeader, Arc<dyn StoredFile>)]) -> Result<Option<u64>, OpenError> {
        let mut files: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (header, _) in found {
            files.entry(header.journal).or_default().push(segment_name(header.id));
        }
        for Misnamed { name, header, .. } in &self.misnamed {
            files.entry(header.journal).or_default().push(name.clone());
        }
        for name in &self.snapshots {
            let known: Vec<u64> = files.keys().copied().collect();
            if let Some(journal) = snapshots::journal_of(&*self.storage, name, &known)? {
                files.entry(journal).or_default().push(name.clone());
            }
        }
        if files.len() < 2 {
            return Ok(files.into_keys().next());
        }
        let named = files.into_values().map(|names| {
            let more = names.len().saturating_sub(FILES_NAMED_MAX);
            let shown = names[..names.len() - more].join(", ");
            if more > 0 { format!("{shown} and {more} more") } else { shown }
        });
        Err(OpenError::Strangers { files: named.collect::<Vec<_>>().join(" of one, of another ") })
    }

    fn find_segments(&mut self) -> Result<(), OpenError> {
        let mut found = Vec::new();
        let mut free = Vec::new();
        let mut headless = Vec::new();
        let mut damaged_headers = Vec::new();
        let mut sizes = BTreeMap::new();
        for (name, size) in self.storage.list()? {
            if free_number(&name).is_some() {
                // One that was not wholly allocated when the process died is no use, and a larger one takes more than is counted.
                if size == self.options.segment_bytes {
                    free.push(name)
                } else if let Some(error) = self.storage.open(&name).err().filter(is_fault) {
                    self.note(cannot_open(&name, &error));
                } else {
                    self.changes.push(Change::Remove(name));
                }
                continue;
            }
            let Some(id) = name.strip_suffix(".seg").and_then(|id| u64::from_str_radix(id, 16).ok()) else {
                continue;
            };
            if id > NUMBER_MAX {
                self.note(format!("{name}: no segment of ours has so high a number; it is left alone"));
                continue;
            }
            // Whatever it is, its number is taken.
            self.next_id = self.next_id.max(id + 1);
            self.names.insert(id);
            let numbers = numbers_max(size, self.options.segment_bytes);
            let file = match self.storage.open(&name) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if is_fault(&error) => {
                    self.note(cannot_open(&name, &error));
                    self.unknown.push((id, numbers));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let bytes = read_start(&file, SEGMENT_HEADER as usize)?.bytes;
            match SegmentHeader::decode(&bytes) {
                Err(HeaderError::Newer(format, by)) => {
                    let (what, format) = (format!("the segment {name}"), format!("format {format}"));
                    return Err(OpenError::Newer { what, by, format });
                }
                Ok((header, is_whole)) if header.id == id => {
                    if !is_whole {
                        damaged_headers.push((name, header.id));
                    }
                    found.push((header, file));
                    sizes.insert(header.id, size);
                }
                Ok((header, _)) => self.misnamed.push(Misnamed { id, name, header, file }),
                Err(HeaderError::Damaged) => headless.push((id, name, file, numbers)),
            }
        }
        found.sort_unstable_by_key(|(header, _)| header.id);
        let owner = self.owner(&found)?;
        self.journal = owner.unwrap_or(self.journal);
        for (name, id) in damaged_headers {
            // One that was cut off before it was durable has nothing behind it.
            let Some((_, file)) = found.iter().find(|(header, _)| header.id == id) else { continue };
            if holds_frames(&read_whole(file)?.bytes, Some(self.journal), id) {
                self.note(format!("{name}: one of the two copies of its header does not check"));
            }
        }
        for (id, name, file, numbers) in headless {
            let Readable { bytes, holes } = read_whole(&file)?;
            let is_empty = !holds_frames(&bytes, owner, id);
            let end = owner.and_then(|journal| frames_end(&bytes, journal, id)).unwrap_or(0);
            self.beyond = self.beyond.max(end);
            if !holes.is_empty() {
                self.unknown.push((id, numbers));
                self.note(format!("{name}: its header cannot be read; it is left alone"));
            } else if is_empty {
                // The process died before its header was durable, or its sync failed: nothing is in it.
                self.changes.push(Change::Free(name, bytes.len() as u64));
            } else {
                self.note(format!("{name}: its header does not check; it is left alone"));
            }
        }
        let mut segments = Vec::new();
        for (header, file) in found {
            let bytes = sizes.get(&header.id).copied().unwrap_or(0);
            segments.push(SegmentInfo::found(header, file, bytes));
        }
        self.free = free;
        self.segments = Arc::new(std::sync::RwLock::new(segments));
        Ok(())
    }
}

/// Whether a segment surely holds nothing that counts, as told without reading all of it: the next one begins where it
/// does, and nothing stands on its first page.
fn is_empty(info: &SegmentInfo, next: Option<&SegmentInfo>) -> io::Result<bool> {
    let is_passed = next.is_some_and(|next| next.header.first_seq <= info.header.first_seq);
    if !is_passed {
        return Ok(false);
    }
    let Readable { bytes, holes } = read_start(&info.file, FIRST_PAGE)?;
    let behind_header = bytes.get(SEGMENT_HEADER as usize..).unwrap_or_default();
    Ok(holes.is_empty() && behind_header.iter().all(|byte| *byte == 0))
}

/// The sequence number of the first frame that checks in a segment.
fn first_held(info: &SegmentInfo) -> io::Result<Option<u64>> {
    let SegmentHeader { journal, id, .. } = info.header;
    let start = SEGMENT_HEADER as usize;
    let behind_header = |bytes: usize| read_start(&info.file, start + bytes).map(|read| read.bytes);
    if let Some(header) =
        behind_header(FRAME_HEADER)?.get(start..).and_then(|bytes| frame_header(journal, id, bytes))
    {
        let bytes = behind_header(FRAME_HEADER + header.payload as usize)?;
        let frame = bytes.get(start..).unwrap_or_default();
        if checked_frame(journal, id, frame).is_some() {
            return Ok(Some(header.seq));
        }
    }
    let bytes = read_whole(&info.file)?.bytes;
    let first = Walk::new(&bytes, info.header).find_map(|found| match found {
        Found::Frame(_, header, _) => Some(header.seq),
        _ => None,
    });
    Ok(first)
}

/// Whether a file without a header holds frames of segment `id`; of an unknown journal, whether it holds any.
fn holds_frames(bytes: &[u8], journal: Option<u64>, id: u64) -> bool {
    frame_marks(bytes, 0).any(|offset| match journal {
        Some(journal) => checked_frame(journal, id, &bytes[offset..]).is_some(),
        None => likely_header(&bytes[offset..]).is_some(),
    })
}

/// Behind the last sequence number of the frames of segment `id` that a file holds, wherever they stand in it.
fn frames_end(bytes: &[u8], journal: u64, id: u64) -> Option<u64> {
    let checked = frame_marks(bytes, 0).filter_map(|offset| checked_frame(journal, id, &bytes[offset..]));
    checked.map(|(header, _)| header.seq.saturating_add(header.sequences.into())).max()
}

/// Sequence numbers that a file of so many bytes holds at most: each takes a byte, and a segment may hold one frame that is
/// larger than it was to be.
fn numbers_max(bytes: u64, segment_bytes: u64) -> u64 {
    bytes.max(segment_bytes).max(PAYLOAD_MAX.into())
}

fn cannot_open(name: &str, error: &io::Error) -> String {
    format!("{name}: the disk cannot open it; it is left alone: {error}")
}

fn unreadable(name: &str, hole: &Range<u64>) -> String {
    format!("{name}: the disk cannot read {} bytes at {}", hole.end - hole.start, hole.start)
}
