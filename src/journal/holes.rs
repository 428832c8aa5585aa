//! Reading around what the disk cannot read: the rest of a file is worth as much as before.

use std::{io, ops::Range, sync::Arc};

use rustix::io::Errno;

use super::storage::{StoredFile, os_error};

/// Smallest piece that is given up: what disks and file systems lose at once.
const PAGE: usize = 4 << 10;
/// Largest piece that is read at once. One that fails is read again by halves, down to a page: a fault that passes
/// costs nothing.
const PIECE: usize = 1 << 20;

/// What could be read.
pub(super) struct Readable {
    /// Zeros stand for what could not be read.
    pub bytes: Vec<u8>,
    /// What could not be read, ascending, counted from the first byte.
    pub holes: Vec<Range<u64>>,
}

/// Reads the whole of a file. An error is none of the disk's faults: the file may be readable at another time.
pub(super) fn read_whole(file: &Arc<dyn StoredFile>) -> io::Result<Readable> {
    let size = match file.size() {
        Ok(size) => size,
        Err(error) if is_fault(&error) => {
            return Ok(Readable { bytes: Vec::new(), holes: std::iter::once(0..PAGE as u64).collect() });
        }
        Err(error) => return Err(error),
    };
    read_start(file, usize::try_from(size).unwrap_or(usize::MAX))
}

/// Reads the first `length` bytes of a file, or what it has of them.
pub(super) fn read_start(file: &Arc<dyn StoredFile>, length: usize) -> io::Result<Readable> {
    let mut found = Readable { bytes: vec![0; length], holes: Vec::new() };
    let mut offset = 0;
    while offset < length {
        let end = length.min(offset + PIECE);
        let count = found.piece(file, offset..end)?;
        if count < end - offset {
            found.bytes.truncate(offset + count);
            break;
        }
        offset = end;
    }
    Ok(found)
}

impl Readable {
    /// Reads a piece into its place; how much of it the file has.
    fn piece(&mut self, file: &Arc<dyn StoredFile>, range: Range<usize>) -> io::Result<usize> {
        let mut tries = 0;
        let error = loop {
            match file.read_at(&mut self.bytes[range.clone()], range.start as u64) {
                Ok(count) => return Ok(count),
                // Halves are tries enough for what is larger.
                Err(error) if tries > 0 || range.len() > PAGE => break error,
                Err(_) => tries += 1,
            }
        };
        if !is_fault(&error) {
            return Err(error);
        }
        if range.len() > PAGE {
            // Whole pages, so that one bad page costs one page.
            let middle = range.start + (range.len() / 2).next_multiple_of(PAGE).min(range.len() - 1);
            let first = self.piece(file, range.start..middle)?;
            if first < middle - range.start {
                return Ok(first);
            }
            return Ok(first + self.piece(file, middle..range.end)?);
        }
        self.bytes[range.clone()].fill(0);
        let hole = range.start as u64..range.end as u64;
        match self.holes.last_mut() {
            Some(last) if last.end == hole.start => last.end = hole.end,
            _ => self.holes.push(hole),
        }
        Ok(range.len())
    }
}

/// Whether the disk or its file system has lost something. Other errors (permissions, descriptors, memory) pass or are
/// for an admin to mend, and nothing is lost by then.
pub fn is_fault(error: &io::Error) -> bool {
    // UCLEAN, BADMSG, NODATA: what file systems say when a checksum of theirs is wrong or a sector is gone.
    const FAULTS: [Errno; 6] =
        [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA, Errno::REMOTEIO, Errno::NXIO];
    os_error(error).is_some_and(|number| FAULTS.contains(&Errno::from_raw_os_error(number)))
}
