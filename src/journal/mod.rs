//! The journal: the durable, ordered log of every input. Nothing outside this folder knows the format on disk.
//!
//! # Bytes on disk
//! All numbers are little-endian; `varint` is LEB128; `text` is a varint length and that many bytes of UTF-8.
//!
//! A **segment** is a file `<id, 16 hex digits>.seg`, 64 MiB, allocated ahead and recycled. It decodes alone.
//! ```text
//! offset size
//!      0    8  "AMS2SEG1": format 1. Another digit is another format; a newer one is refused
//!      8    8  journal id: random, the same in all segments and snapshots of one journal
//!     16    8  segment id: counts from 1
//!     24    8  sequence number of the first record
//!     32    8  base: milliseconds since 1970 that times in this segment are relative to
//!     40    8  the journal's clock when the segment began, in milliseconds
//!     48    4  version of the program that wrote it: major, minor, patch (2 bytes)
//!     52    8  zero
//!     60    4  CRC32C of the 60 bytes before
//!     64   64  the same once more: one flipped bit does not cost the segment
//!    128       frames, end to end
//! ```
//! A **frame** is what one flush wrote.
//! ```text
//!      0    4  "FRM1"
//!      4    4  length of the payload, at most 64 MiB
//!      8    8  sequence number of its first record
//!     16    8  the journal's clock, in milliseconds, of all its records
//!     24    4  how many sequence numbers its records take
//!     28    4  CRC32C of journal id, segment id, and the 28 bytes before
//!     32    4  CRC32C of the same and the payload
//!     36       payload: records, end to end
//! ```
//! The checksum covers the segment's id, so that frames of a recycled file's earlier life do not pass.
//!
//! A **record** is a kind byte and its content. Kind 0: version byte (6; 4 and 5 are read, too), varint length, and an [`ams2_core::Input`] by postcard.
//! Kind 1, alerts: client as text, varint count, and for each alert
//! ```text
//! flags    1: labels stand earlier  2: text stands earlier  4: starts_at  8: ends_at  16: id  32: key
//! labels   varint offset in the segment of an equal definition, else the definition: varint count, name and value
//!          of each as text
//! text     the same for generator URL (a text, empty for none), varint count, annotations
//! times    varints, zigzag, relative to the segment's base
//! id, key  texts
//! ```
//! So a refresh of a firing alert costs some nine bytes.
//!
//! A **snapshot** is a file `<sequence, 16 hex digits>.snap`: "AMS2SNP1", journal id, the last sequence number it
//! covers, length of the body, CRC32C of all that and the body, version of the program (4 bytes each for the last two,
//! the version as in segments), body. Another digit is a newer format; its checksum is at the same place.
//!
//! # Writing
//! One thread does all I/O ([`Journal`]). It takes all that waits, writes it as one frame and syncs; what comes
//! meanwhile waits for the next flush, so many senders share one and a lone one does not wait. An answer follows the
//! sync. A failed write or sync is final for its segment: what it held unanswered is written again, under the same
//! sequence numbers, to a new segment, once what the old one holds was read from the disk and written again where it is
//! not there; where two segments hold a number, the later segment counts. A try that fails costs no more than the number of
//! its segment; if no new segment can be had in some tries, the journal has failed and says so. A disk that can only be read
//! (EROFS) is such a failure; a quota that is used up (EDQUOT) is a full disk, below.
//!
//! Rot that is met in the current segment ends what refers to it: definitions are written once more from there on.
//!
//! What is larger than a segment has one to itself, which grows; clients are refused what neither a segment nor the disk has
//! room for.
//!
//! The next segment is allocated while there is room. When that fails, clients are refused before the rest of the
//! current one is used up: it is kept for outcomes, advances, own alerts and acknowledgements. Once that is used up,
//! too, the journal has failed; a start in this state is refused and says how much room it takes.
//!
//! # Recovery
//! A frame that does not check is looked behind: if a later one checks, the bytes between are damage. They are
//! copied to a file `<segment>-<offset>.damaged`, counted and said; reading goes on behind them. Pages that the disk
//! cannot read are damage, too: the rest of their file is read. If none follows,
//! it is the torn end of the last flush, which nobody was answered; unless another segment begins behind what is missing:
//! then it was answered, and is damage. A start goes on in the rest of the last segment, and writes its header and last
//! frame again as they stand, where all of it checks and a quarter of it is left; else it begins a new one. Where there is no
//! room for that it goes on in the rest, however little it is.
//!
//! A segment under another's name is read as what its header says, and gets its name back, unless another file is that segment, too,
//! or has its name: then it is left alone, and said. So is a file that cannot be opened, or whose header does not check. Numbers that
//! such files hold, or may hold where nobody can tell, are not given again.
//! Only a folder that cannot be listed refuses the start: what is missing from the list nobody knows, and a start without the
//! newest segments would give their numbers again.
//!
//! Where files of two journals are in one folder the start is refused, and names them: whichever it took, the other would be
//! put aside.
//!
//! What a newer program wrote (a format, a kind or version of record, a version of the state) refuses the start: nothing
//! is changed before all is read.
//!
//! # Deletion
//! Only segments that both snapshots that are kept cover go, oldest first: a start that falls back on the older one finds what
//! comes behind it. A snapshot counts as kept once it was written by this process, or read and checked; one that does not check
//! is renamed to `.damaged`. A file that is missing is no error. When the disk is nearly full, snapshots are made and segments go
//! before their time: what nobody needs any more goes before alerts are refused.

mod codec;
mod holes;
mod reader;
mod records;
mod recovery;
mod segment;
#[cfg(test)]
pub mod simulated;
mod snapshots;
mod spans;
mod spares;
pub mod storage;
mod thread;
mod verify;
mod writer;

#[cfg(test)]
mod failed_sync;
#[cfg(test)]
mod forged;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod going_on;
#[cfg(test)]
mod lost_pages;
#[cfg(test)]
mod moved;
#[cfg(test)]
mod newer;
#[cfg(test)]
mod running;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod tests;

pub use holes::is_fault;
pub use reader::{JournalReader, ReadError};
pub use recovery::{OpenError, Opened, Unusable};
pub use snapshots::SnapshotWriter;
pub use thread::{Accepted, Clock, Health, Journal, JournalMetrics, Refused, SystemClock};
pub use writer::{Pressure, Retention, Space, Writer};

use std::time::Duration;

/// What an admin may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment in bytes.
    pub segment_bytes: u64,
    /// Inputs of clients that may wait for a flush, in bytes of memory; more are refused.
    pub waiting_bytes_max: usize,
    /// Inputs of clients that may wait for a flush; more are refused.
    pub waiting_max: usize,
    /// Clients are refused while fewer bytes are free on the disk.
    pub free_bytes_min: u64,
    /// What goes when.
    pub retention: Retention,
    /// Whether to skip the sync. Alerts are lost when the machine stops: for benchmarks only.
    pub unsafe_no_sync: bool,
}

impl Options {
    /// Bytes that are free on the disk below which it is time to act: twice those at which clients are refused.
    pub fn free_bytes_low(&self) -> u64 {
        self.free_bytes_min.saturating_mul(2)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            waiting_bytes_max: 256 << 20,
            waiting_max: 65_536,
            free_bytes_min: 64 << 20,
            retention: Retention { age: Duration::from_secs(90 * 86_400), bytes: 16 << 30 },
            unsafe_no_sync: false,
        }
    }
}
