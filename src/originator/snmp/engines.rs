//! Engines that send us traps: how often each started and what its clock said last (RFC 3414 section 2.3), so that a trap that
//! somebody recorded is not taken again. Kept in the data folder: what a start would forget could be sent again after it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::value::hex;

/// The file, in the data folder.
const FILE: &str = "snmp-senders";
const HEAD: &str = "# Engines that sent SNMPv3 traps: engine, user, boots, time. Without it a trap that somebody recorded could be sent again.";
/// RFC 3414 section 2.2.3.
const WINDOW_SECONDS: u32 = 150;
/// A clock that stands here is refused for ever (RFC 3414 section 2.2.1).
const BOOTS_MAX: u32 = 0x7fff_ffff;
/// Most engines that are known; beyond that the one that was silent for the longest is forgotten.
const ENGINES_MAX: usize = 8192;
/// The file is written at most so often while only clocks go on: what was sent since its last writing could be taken again after a
/// crash, were it not known by its id then.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);
/// Longest file that is read: more than all engines need.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// One engine, for one user: who has one user's password must not move the clock that another's traps are judged by.
#[derive(Clone, Copy, Debug)]
struct Remote {
    boots: u32,
    /// The latest time that it said.
    latest: u32,
    /// When that was.
    at: Instant,
}

/// What the clock in a trap says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timely {
    /// It is of now.
    Yes,
    /// Nobody has heard of this engine: whether it is of now cannot be known.
    First,
    /// It is of another time.
    No,
}

/// Every engine that is known.
#[derive(Debug, Default)]
pub struct Engines {
    known: HashMap<(Vec<u8>, Vec<u8>), Remote>,
    path: PathBuf,
    written: Option<Instant>,
    /// Whether something is not on the disk, and whether it must be before an answer or the next trap.
    changed: bool,
    pressing: bool,
}

impl Engines {
    /// Those that the data folder knows. A file that cannot be read is said, and begun anew.
    pub fn open(data_dir: &Path, now: Instant) -> Engines {
        let path = data_dir.join(FILE);
        let text =
            File::open(&path).and_then(|file| io::read_to_string(io::Read::take(file, FILE_BYTES_MAX)));
        let text = text.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %path.display(), %error, "who sent SNMPv3 traps before is not known");
            }
            String::new()
        });
        let known = text.lines().filter_map(|line| read(line, now)).take(ENGINES_MAX).collect();
        Engines { known, path, ..Engines::default() }
    }

    /// Whether an authenticated trap is of now; the engine's clock goes on with it (RFC 3414 section 3.2 (7b)).
    pub fn check(&mut self, engine: &[u8], user: &[u8], boots: u32, time: u32, now: Instant) -> Timely {
        if boots >= BOOTS_MAX {
            return Timely::No;
        }
        let key = (engine.to_vec(), user.to_vec());
        let Some(remote) = self.known.get_mut(&key) else {
            if self.known.len() >= ENGINES_MAX {
                let oldest =
                    self.known.iter().min_by_key(|(_, remote)| remote.at).map(|(key, _)| key.clone());
                oldest.map(|key| self.known.remove(&key));
            }
            self.known.insert(key, Remote { boots, latest: time, at: now });
            (self.changed, self.pressing) = (true, true);
            return Timely::First;
        };
        let elapsed = u32::try_from(now.saturating_duration_since(remote.at).as_secs()).unwrap_or(u32::MAX);
        let estimated = remote.latest.saturating_add(elapsed);
        if boots < remote.boots || boots == remote.boots && time.saturating_add(WINDOW_SECONDS) < estimated {
            return Timely::No;
        }
        if boots > remote.boots || time > remote.latest {
            self.pressing |= boots > remote.boots;
            *remote = Remote { boots, latest: time, at: now };
            self.changed = true;
        }
        Timely::Yes
    }

    /// Writes the file, if it is time for that. What cannot be written is said and tried again.
    pub fn keep(&mut self, now: Instant, at_once: bool) {
        let is_due =
            self.pressing || self.written.is_none_or(|written| now.duration_since(written) >= WRITTEN_EVERY);
        // Pressing or not: a disk that is slow must not be written for each of many new engines.
        let is_soon = self.written.is_some_and(|written| now.duration_since(written) < WRITTEN_EVERY / 10);
        if !self.changed || !at_once && (!is_due || is_soon) {
            return;
        }
        self.written = Some(now);
        match self.write() {
            Ok(()) => (self.changed, self.pressing) = (false, false),
            Err(error) => {
                tracing::error!(file = %self.path.display(), %error, "who sent SNMPv3 traps cannot be kept")
            }
        }
    }

    /// On disk under its name when this returns.
    fn write(&self) -> io::Result<()> {
        let mut text = format!("{HEAD}\n");
        for ((engine, user), remote) in &self.known {
            // Text of which every byte is known.
            text.push_str(&format!("{} {} {} {}\n", hex(engine), hex(user), remote.boots, remote.latest));
        }
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

/// One line of the file. Its clock goes on from now on: what was said before we were away is of then.
fn read(line: &str, now: Instant) -> Option<((Vec<u8>, Vec<u8>), Remote)> {
    let mut words = line.split(' ');
    let mut octets = || {
        let digits = words.next()?.strip_prefix("0x")?;
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()
    };
    let key = (octets()?, octets()?);
    let (boots, latest) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((key, Remote { boots, latest, at: now }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_of_another_time_is_not_taken_over_a_restart_either() {
        let folder = tempfile::tempdir().expect("a folder");
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut engines = Engines::open(folder.path(), start);
        let rows = [
            // Boots, time, when it arrives.
            (3, 1000, 0, Timely::First),
            (3, 1000, 0, Timely::Yes),
            (3, 1010, 10, Timely::Yes),
            // Late, and too late.
            (3, 900, 20, Timely::Yes),
            (3, 869, 20, Timely::No),
            (3, 1010, 161, Timely::No),
            (3, 1200, 161, Timely::Yes),
            (2, 5000, 161, Timely::No),
            (4, 5, 170, Timely::Yes),
            (3, 1300, 170, Timely::No),
            (BOOTS_MAX, 5, 170, Timely::No),
        ];
        for (boots, time, seconds, expected) in rows {
            assert_eq!(
                engines.check(b"e", b"u", boots, time, after(seconds)),
                expected,
                "{boots} {time} {seconds}"
            );
        }
        // Another user's clock is another.
        assert_eq!(engines.check(b"e", b"v", 1, 5, after(170)), Timely::First);
        engines.keep(after(171), true);
        let mut engines = Engines::open(folder.path(), after(1000));
        assert_eq!(engines.check(b"e", b"u", 3, 1300, after(1000)), Timely::No);
        assert_eq!(engines.check(b"e", b"u", 4, 5, after(1000)), Timely::Yes);
        assert_eq!(engines.check(b"e", b"u", 4, 5, after(1200)), Timely::No);
        assert_eq!(engines.check(b"e", b"u", 4, 1300, after(1200)), Timely::Yes);
    }

    #[test]
    fn nobody_fills_the_table_and_a_broken_file_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE), "nonsense\n0x 0x\n0xzz 0x 1 1\n0x01 0x02 1 7\n")
            .expect("written");
        let start = Instant::now();
        let mut engines = Engines::open(folder.path(), start);
        assert_eq!(engines.known.len(), 1);
        for n in 0..ENGINES_MAX as u32 + 10 {
            let now = start + Duration::from_secs(1 + u64::from(n));
            assert_eq!(engines.check(&n.to_be_bytes(), b"u", 1, 1, now), Timely::First);
        }
        assert_eq!(engines.known.len(), ENGINES_MAX);
        assert!(
            engines.known.contains_key(&(9u32.to_be_bytes().to_vec(), b"u".to_vec()))
                || engines.known.contains_key(&(10u32.to_be_bytes().to_vec(), b"u".to_vec()))
        );
        assert!(!engines.known.contains_key(&(vec![1], vec![2])), "the oldest goes first");
    }
}
