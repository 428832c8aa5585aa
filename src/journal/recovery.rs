//! Opening a journal: finding segments and snapshots, reading the records behind a snapshot, and setting aside what
//! does not check.

use std::{io, sync::Arc};

use ams2_core::{At, input::JournalRecord};

use super::{
    Options,
    codec::{Decoder, InMemory},
    reader::JournalReader,
    segment::{Found, HeaderError, SEGMENT_HEADER, SegmentHeader, Walk, read_whole},
    snapshots::{self, SnapshotWriter},
    storage::Storage,
    writer::{End, SegmentInfo, Segments, Writer, free_number, note, segment_name},
};

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk said no.
    #[error("the journal cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// Written by a newer program.
    #[error(
        "the segment {name} has format {format}, this program knows format 1: use the program that wrote it, or a newer one"
    )]
    Newer {
        /// The file.
        name: String,
        /// Its format.
        format: char,
    },
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
    /// What was set aside, in words for people.
    pub damage: Vec<String>,
}

impl Opened {
    /// Looks at what is there. `random` names a new journal; it is not used for one that exists.
    pub fn open(storage: Arc<dyn Storage>, options: Options, random: [u64; 3]) -> Result<Opened, OpenError> {
        if let Err(error) = SnapshotWriter::remove_unfinished(&*storage) {
            tracing::warn!(%error, "an unfinished snapshot stays");
        }
        let mut opened = Opened {
            segments: Segments::default(),
            journal: random[0].max(1),
            random,
            next_id: 1,
            next_seq: 1,
            at: At(0),
            free: Vec::new(),
            snapshots: snapshots::names(&*storage)?,
            damage: Vec::new(),
            storage,
            options,
        };
        opened.find_segments()?;
        Ok(opened)
    }

    /// Whether there is nothing yet.
    pub fn is_new(&self) -> bool {
        self.segments.read().unwrap_or_else(|e| e.into_inner()).is_empty() && self.snapshots.is_empty()
    }

    /// The number of this journal.
    pub fn journal(&self) -> u64 {
        self.journal
    }

    /// The newest snapshot that checks and that `usable` takes, with the sequence number that it covers.
    pub fn snapshot<T>(
        &mut self,
        mut usable: impl FnMut(&[u8]) -> Result<T, String>,
    ) -> io::Result<Option<(u64, T)>> {
        for name in std::mem::take(&mut self.snapshots) {
            let why = match snapshots::read(&*self.storage, &name, self.journal)? {
                None => "it does not check".to_owned(),
                Some((covers, body)) => match usable(&body) {
                    Ok(state) => {
                        self.next_seq = self.next_seq.max(covers + 1);
                        return Ok(Some((covers, state)));
                    }
                    Err(why) => why,
                },
            };
            self.damage.push(format!("the snapshot {name} is not used: {why}"));
        }
        Ok(None)
    }

    /// Gives every record behind `covered` to `take`, in order. `at` is the time of the snapshot, 0 without one.
    pub fn replay(&mut self, covered: u64, at: At, mut take: impl FnMut(JournalRecord)) -> io::Result<()> {
        self.at = self.at.max(at);
        self.next_seq = self.next_seq.max(covered + 1);
        let count = self.segments.read().unwrap_or_else(|e| e.into_inner()).len();
        for number in 0..count {
            let (info, limit) = {
                let segments = self.segments.read().unwrap_or_else(|e| e.into_inner());
                let limit = segments.get(number + 1).map_or(u64::MAX, |next| next.header.first_seq);
                (segments[number].clone(), limit)
            };
            if limit <= covered + 1 {
                continue;
            }
            if info.header.first_seq > self.next_seq {
                let missing =
                    format!("the records {} to {} are missing", self.next_seq, info.header.first_seq - 1);
                self.damage.push(missing);
                self.next_seq = info.header.first_seq;
            }
            self.replay_segment(number, &info, covered, limit, &mut take)?;
        }
        Ok(())
    }

    fn replay_segment(
        &mut self,
        number: usize,
        info: &SegmentInfo,
        covered: u64,
        limit: u64,
        take: &mut impl FnMut(JournalRecord),
    ) -> io::Result<()> {
        let bytes = read_whole(&info.file)?;
        let name = segment_name(info.header.id);
        let (mut index, mut damaged) = (Vec::new(), Vec::new());
        let mut walk = Walk::new(&bytes, info.header);
        for found in walk.by_ref() {
            match found {
                Found::Frame(offset, header, payload) => {
                    // A later segment wrote this again: what a failed flush left here does not count.
                    if header.seq >= limit {
                        break;
                    }
                    note(&mut index, header.seq, offset);
                    let mut seq = header.seq;
                    let mut decoder = Decoder::new(payload);
                    while !decoder.is_empty() {
                        let Ok(input) = decoder
                            .input(&InMemory { bytes: &bytes, damaged: &damaged }, info.header.base_ms)
                        else {
                            self.damage
                                .push(format!("{name}: the record {seq} does not decode and is left out"));
                            break;
                        };
                        let sequences = input.sequences();
                        if seq > covered && seq >= self.next_seq {
                            self.at = self.at.max(header.at);
                            self.next_seq = seq + sequences;
                            take(JournalRecord { seq, at: self.at, input });
                        }
                        seq += sequences;
                    }
                }
                Found::Damage(range) => {
                    damaged.push(range.clone());
                    self.set_aside(&name, &bytes, range)?;
                }
                Found::TornEnd(range) => {
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
        let mut segments = self.segments.write().unwrap_or_else(|e| e.into_inner());
        let info = &mut segments[number];
        (info.index, info.damaged, info.end) = (index, damaged, Some(end));
        Ok(())
    }

    /// Copies damaged bytes to a file of their own and says so.
    fn set_aside(&mut self, name: &str, bytes: &[u8], range: std::ops::Range<u64>) -> io::Result<()> {
        let count = range.end - range.start;
        let what = format!("{name}: {count} bytes at {} do not check", range.start);
        tracing::error!("{what}");
        self.damage.push(what);
        let target = format!("{}-{:08x}.damaged", name.trim_end_matches(".seg"), range.start);
        self.storage.remove(&target)?;
        let file = self.storage.create(&target, 0)?;
        file.write_at(&bytes[range.start as usize..range.end as usize], 0)?;
        file.sync()
    }

    /// Begins a new segment behind all that was read.
    pub fn finish(
        self,
        wall_ms: i64,
    ) -> Result<(Writer, JournalReader, SnapshotWriter, Vec<String>), OpenError> {
        let end = End {
            storage: self.storage.clone(),
            segments: self.segments.clone(),
            journal: self.journal,
            next_id: self.next_id,
            next_seq: self.next_seq,
            at: self.at,
            free: self.free,
            wall_ms,
        };
        let writer = Writer::start(end, self.options, [self.random[1], self.random[2]])?;
        let reader = JournalReader::new(self.segments);
        let snapshots = SnapshotWriter { storage: self.storage, journal: self.journal };
        Ok((writer, reader, snapshots, self.damage))
    }

    fn find_segments(&mut self) -> Result<(), OpenError> {
        let mut found = Vec::new();
        let mut free = Vec::new();
        for (name, size) in self.storage.list()? {
            if free_number(&name).is_some() {
                // One that was not wholly allocated when the process died is no use.
                if size >= self.options.segment_bytes {
                    free.push(name)
                } else {
                    self.storage.remove(&name)?
                }
                continue;
            }
            let Some(id) = name.strip_suffix(".seg").and_then(|id| u64::from_str_radix(id, 16).ok()) else {
                continue;
            };
            let file = self.storage.open(&name)?;
            let mut bytes = [0; SEGMENT_HEADER as usize];
            let count = file.read_at(&mut bytes, 0)?;
            // Whatever it is, its number is taken.
            self.next_id = self.next_id.max(id + 1);
            match SegmentHeader::decode(&bytes[..count]) {
                Err(HeaderError::Newer(format)) => return Err(OpenError::Newer { name, format }),
                Ok(header) if header.id == id => found.push((header, file)),
                // The process died between giving the file its name and writing its header: nothing is in it.
                Ok(_) => {}
                Err(HeaderError::Damaged) if bytes.iter().all(|byte| *byte == 0) => {}
                Err(HeaderError::Damaged) => {
                    self.damage.push(format!("{name}: its header does not check; it is left alone"));
                }
            }
        }
        found.sort_unstable_by_key(|(header, _)| header.id);
        if let Some((newest, _)) = found.last() {
            self.journal = newest.journal;
        }
        let mut segments = Vec::new();
        for (header, file) in found {
            if header.journal != self.journal {
                let name = segment_name(header.id);
                self.damage.push(format!("{name} belongs to another journal; it is left alone"));
                continue;
            }
            segments.push(SegmentInfo { header, file, end: None, index: Vec::new(), damaged: Vec::new() });
        }
        self.free = free;
        self.segments = Arc::new(std::sync::RwLock::new(segments));
        Ok(())
    }
}
