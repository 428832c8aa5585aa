//! Snapshot files: written beside the journal's thread, found and checked at the start.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    holes::{Readable, is_fault, read_start, read_whole},
    segment::{version_text, writer_version},
    storage::Storage,
};

const MAGIC: &[u8; 7] = b"AMS2SNP";
const FORMAT: u8 = b'1';
const HEADER: usize = 40;
/// A snapshot goes to the disk in pieces of this size, each synced: a flush of the journal waits behind one piece at
/// most, not behind hundreds of megabytes.
const PIECE: usize = 256 << 10;
/// Snapshots that are kept: the newest, and one to fall back on.
const KEPT: usize = 2;

/// Snapshots that this process has written, or read and found whole, and what each covers.
pub(super) type Checked = BTreeMap<String, u64>;

/// Writes snapshots. Only one at a time.
#[derive(Clone)]
pub struct SnapshotWriter {
    storage: Arc<dyn Storage>,
    journal: u64,
    checked: Arc<Mutex<Checked>>,
}

impl SnapshotWriter {
    pub(super) fn new(storage: Arc<dyn Storage>, journal: u64, checked: Checked) -> SnapshotWriter {
        SnapshotWriter { storage, journal, checked: Arc::new(Mutex::new(checked)) }
    }

    /// Keeps a snapshot of the state after sequence number `covers`; returns once it is durable. Older ones than the
    /// newest two that check go.
    pub fn write(&self, covers: u64, body: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.journal.to_le_bytes());
        bytes.extend_from_slice(&covers.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), body);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&writer_version());
        bytes.extend_from_slice(body);
        let temporary = format!("{covers:016x}.snap.tmp");
        let written = self.write_file(&temporary, &bytes);
        if let Err(error) = written {
            // What is left of it takes space that others need; that it cannot be removed is said by the next try.
            drop(self.storage.remove(&temporary));
            return Err(error);
        }
        let name = format!("{covers:016x}.snap");
        self.storage.rename(&temporary, &name)?;
        self.storage.sync_names()?;
        self.checked().insert(name, covers);
        let kept = self.kept()?;
        let Some((oldest, _)) = kept.get(KEPT - 1) else { return Ok(()) };
        for name in names(&*self.storage)?.iter().filter(|name| *name < oldest) {
            // One that cannot be removed stays: the new one is kept all the same.
            if let Err(error) = self.storage.remove(name) {
                tracing::warn!(name, %error, "a snapshot that is of no use stays");
            }
            self.checked().remove(name);
        }
        Ok(())
    }

    fn checked(&self) -> MutexGuard<'_, Checked> {
        self.checked.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The newest snapshots that check, as many as are kept, newest first. What does not check on the way is set aside: it
    /// is none to fall back on.
    fn kept(&self) -> io::Result<Vec<(String, u64)>> {
        let mut kept = Vec::new();
        for name in names(&*self.storage)? {
            if kept.len() == KEPT {
                break;
            }
            let known = self.checked().get(&name).copied();
            let covers = match known {
                Some(covers) => Some(covers),
                None => self.check(&name)?.map(|(covers, _)| covers),
            };
            kept.extend(covers.map(|covers| (name, covers)));
        }
        Ok(kept)
    }

    /// Reads a snapshot: what it covers, and its body. One that does not check is set aside.
    fn check(&self, name: &str) -> io::Result<Option<(u64, Vec<u8>)>> {
        match read(&*self.storage, name, self.journal)? {
            Content::State { covers, body, .. } => {
                self.checked().insert(name.to_owned(), covers);
                Ok(Some((covers, body)))
            }
            Content::Newer { .. } => Ok(None),
            Content::Damaged => {
                self.checked().remove(name);
                set_aside(&*self.storage, name);
                Ok(None)
            }
        }
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.storage.remove(name)?;
        let file = self.storage.create(name, 0)?;
        let mut offset = 0;
        for piece in bytes.chunks(PIECE) {
            file.write_at(piece, offset)?;
            file.sync()?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Removes what a process left behind that died while it wrote a snapshot.
    pub(super) fn remove_unfinished(storage: &dyn Storage) -> io::Result<()> {
        for (name, _) in storage.list()?.iter().filter(|(name, _)| name.ends_with(".snap.tmp")) {
            storage.remove(name)?;
        }
        Ok(())
    }

    /// What each of the snapshots that are kept covers: what comes later is read whichever of them a start begins with. 0 while
    /// there is none to fall back on.
    pub fn covered(&self) -> io::Result<u64> {
        let kept = self.kept()?;
        let covers = kept.iter().map(|(_, covers)| *covers).min();
        Ok(covers.filter(|_| kept.len() == KEPT).unwrap_or(0))
    }

    /// The newest snapshot that checks: what it covers, and its body.
    pub fn newest(&self) -> io::Result<Option<(u64, Vec<u8>)>> {
        for name in names(&*self.storage)? {
            if let Some(found) = self.check(&name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Names of snapshot files, newest first.
pub(super) fn names(storage: &dyn Storage) -> io::Result<Vec<String>> {
    let mut names: Vec<String> =
        storage.list()?.into_iter().map(|(name, _)| name).filter(|name| is_name(name)).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// Whether a file's name is that of a snapshot, as we write it.
fn is_name(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_suffix(".snap").is_some_and(|number| number.len() == 16 && number.bytes().all(is_digit))
}

/// Gives a snapshot that does not check another name, so that nobody takes it for one to fall back on.
pub(super) fn set_aside(storage: &dyn Storage, name: &str) {
    let to = format!("{name}.damaged");
    match storage.rename(name, &to).and_then(|()| storage.sync_names()) {
        Ok(()) => {
            tracing::error!("the snapshot {name} does not check, or the disk cannot read it: it is now {to}")
        }
        // Gone in the meantime.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::error!(%error, "the snapshot {name} does not check, and cannot be set aside"),
    }
}

/// Whose journal a snapshot belongs to; `None` for one that does not check. One of the `known` is believed as it stands: the
/// whole of it is read later.
pub(super) fn journal_of(storage: &dyn Storage, name: &str, known: &[u64]) -> io::Result<Option<u64>> {
    let file = match storage.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_fault(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = read_start(&file, HEADER)?.bytes;
    let Some(number) = bytes.get(8..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
    let journal = u64::from_le_bytes(*number);
    if known.contains(&journal) {
        return Ok(Some(journal));
    }
    Ok(match read(storage, name, journal)? {
        Content::State { .. } | Content::Newer { .. } => Some(journal),
        Content::Damaged => None,
    })
}

/// What a snapshot's file holds.
pub(super) enum Content {
    /// A snapshot that checks, and the version of the program that wrote it.
    State { covers: u64, body: Vec<u8>, by: String },
    /// The format of a newer program, and the version of that.
    Newer { format: char, by: String },
    /// Nothing that checks, or that the disk can read.
    Damaged,
}

/// Reads a snapshot.
pub(super) fn read(storage: &dyn Storage, name: &str, journal: u64) -> io::Result<Content> {
    let file = match storage.open(name) {
        Ok(file) => file,
        // Gone since the names were read, or its place on the disk is.
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_fault(&error) => {
            return Ok(Content::Damaged);
        }
        Err(error) => return Err(error),
    };
    let Readable { mut bytes, holes } = read_whole(&file)?;
    if !holes.is_empty() {
        return Ok(Content::Damaged);
    }
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(Content::Damaged) };
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(number)
    };
    let length_fits = number(24) == (bytes.len() - HEADER) as u64;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..32]), &bytes[HEADER..]);
    if &header[..7] != MAGIC || number(8) != journal || !length_fits || crc.to_le_bytes() != header[32..36] {
        return Ok(Content::Damaged);
    }
    let by = version_text(&header[36..40]);
    if header[7] != FORMAT {
        return Ok(Content::Newer { format: char::from(header[7]), by });
    }
    let covers = number(16);
    Ok(Content::State { covers, body: bytes.split_off(HEADER), by })
}
