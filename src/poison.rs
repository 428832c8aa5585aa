//! Records at which the router panics. That is a fault of the program, and every start would meet it again: a record
//! that ended three processes is set aside, and the start goes on without it.
//!
//! The file `panics` in the data folder says how often which record did. It is written after a panic only, so a kill
//! counts for nothing. It belongs to the journal that its first line names: who folds that leaves out what it sets aside.

use std::{
    any::Any,
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
};

use ams2_core::input::JournalRecord;

use crate::journal::{is_fault, storage::Storage};

/// Panics at one record after which it is set aside.
pub const PANICS_MAX: u32 = 3;
/// Records that are set aside. More are a fault of the state, and not of what comes: leaving out one accepted alert after
/// the other would mend nothing.
pub const SET_ASIDE_MAX: usize = 8;
const FILE: &str = "panics";
const FILE_TEMPORARY: &str = "panics.tmp";
/// The file has at most a few lines of some bytes.
const FILE_BYTES_MAX: usize = 64 << 10;

/// How often the router panicked at which record. Clones are the same.
#[derive(Clone)]
pub struct Panics {
    storage: Arc<dyn Storage>,
    journal: u64,
    counts: Arc<Mutex<BTreeMap<u64, u32>>>,
    /// Why the file could not be read, in words for people.
    damage: Option<String>,
}

/// What a panic gives to those who catch it.
pub type Payload = Box<dyn Any + Send>;

impl Panics {
    /// Reads the file of a journal; there mostly is none. What another journal left counts for nothing: its numbers name
    /// other records.
    pub fn read(storage: Arc<dyn Storage>, journal: u64) -> io::Result<Panics> {
        // A fault that passes costs nothing.
        let text = read_text(&*storage)
            .or_else(|error| if is_fault(&error) { read_text(&*storage) } else { Err(error) });
        let (text, damage) = match text {
            Ok(text) => (text, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), None),
            Err(error) if is_fault(&error) => {
                let what = format!(
                    "the file `{FILE}` cannot be read, and counts for nothing: a record that was set aside is tried again: {error}"
                );
                tracing::error!("{what}");
                (String::new(), Some(what))
            }
            Err(error) => return Err(error),
        };
        let mut counts = BTreeMap::new();
        let (first, lines) = text.split_once('\n').unwrap_or_default();
        let is_ours = first == first_line(journal);
        if !is_ours && !text.is_empty() {
            tracing::warn!("the file `{FILE}` is not of this journal and counts for nothing");
        }
        for line in lines.lines().filter(|_| is_ours) {
            match line.split_once(' ').map(|(seq, count)| (seq.parse(), count.parse())) {
                Some((Ok(seq), Ok(count))) => drop(counts.insert(seq, count)),
                _ => tracing::warn!(
                    line,
                    "a line of the file `{FILE}` is not understood and counts for nothing"
                ),
            }
        }
        Ok(Panics { storage, journal, counts: Arc::new(Mutex::new(counts)), damage })
    }

    /// Why the file could not be read, in words for people.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Whether a record is to be left out.
    pub fn sets_aside(&self, seq: u64) -> bool {
        self.lock().get(&seq).is_some_and(|count| *count >= PANICS_MAX)
    }

    /// The same of a record that is about to be folded; says so in the log.
    pub fn leaves_out(&self, seq: u64) -> bool {
        let is_left_out = self.sets_aside(seq);
        if is_left_out {
            tracing::error!(
                sequence = seq,
                file = format!("{seq:016x}.poison"),
                "a record is left out: the router panicked at it {PANICS_MAX} times"
            );
        }
        is_left_out
    }

    /// How many records are left out.
    pub fn set_aside(&self) -> usize {
        self.lock().values().filter(|count| **count >= PANICS_MAX).count()
    }

    /// Folds a record, unless it is set aside; whether it was folded. A panic is noted, and given back: the state that
    /// it left is worth nothing.
    pub fn watch(&self, record: &JournalRecord, fold: impl FnOnce()) -> Result<bool, Payload> {
        if self.leaves_out(record.seq) {
            return Ok(false);
        }
        catch_unwind(AssertUnwindSafe(fold)).map(|()| true).inspect_err(|_| self.note(record))
    }

    /// Counts a panic, durably, and keeps the record in words once it is set aside.
    fn note(&self, record: &JournalRecord) {
        let seq = record.seq;
        let (times, text) = {
            let mut counts = self.lock();
            let is_full = counts.values().filter(|count| **count >= PANICS_MAX).count() >= SET_ASIDE_MAX;
            let times = counts.entry(seq).or_default();
            *times = (*times + 1).min(if is_full { PANICS_MAX - 1 } else { PANICS_MAX });
            let times = *times;
            let lines: String = counts.iter().map(|(seq, count)| format!("{seq} {count}\n")).collect();
            (times, format!("{}\n{lines}", first_line(self.journal)))
        };
        tracing::error!(sequence = seq, times, of = PANICS_MAX, "the router panicked at a record");
        if let Err(error) = self.write(FILE, text.as_bytes()) {
            tracing::error!(%error, "the panic cannot be noted: it does not count");
        }
        if times == PANICS_MAX {
            let name = format!("{seq:016x}.poison");
            tracing::error!(sequence = seq, file = name, "the record is set aside: please report it");
            if let Err(error) = self.write(&name, format!("{record:#?}\n").as_bytes()) {
                tracing::error!(%error, file = name, "the record cannot be kept in a file of its own");
            }
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.storage.remove(FILE_TEMPORARY)?;
        let file = self.storage.create(FILE_TEMPORARY, 0)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        self.storage.rename(FILE_TEMPORARY, name)?;
        self.storage.sync_names()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u32>> {
        self.counts.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn read_text(storage: &dyn Storage) -> io::Result<String> {
    let file = storage.open(FILE)?;
    let mut bytes = vec![0; FILE_BYTES_MAX];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn first_line(journal: u64) -> String {
    format!("journal {journal:016x}")
}

#[cfg(test)]
mod tests;
