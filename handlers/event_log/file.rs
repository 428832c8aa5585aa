//! Lines into a file: appended, one sync a batch, rotated by size and age, found again after `logrotate`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use ams2_core::Wall;
use rustix::fs::{Access, OFlags};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout_at},
};

use super::{
    Texts, all,
    line::{Lines, Time},
};
use crate::{Clock, Delivery, Failure, Receipt, SettingsError, units};

/// When a new file is begun and how many old ones are kept. The oldest has the highest number: `events.log.1` is
/// the newest of the old ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Before the file would grow past this; 64 MiB unless set; 0: never.
    pub size: Option<units::Bytes>,
    /// When the file is this old (by its birth time, else since we opened it); never unless set.
    pub age: Option<units::Duration>,
    /// How many old files are kept; 15 unless set, so that the log takes at most 1 GiB.
    pub keep: Option<u32>,
}

const ROTATE_BYTES: units::Bytes = units::Bytes::new(64 << 20);
const KEEP: u32 = 15;
/// Rotation renames each kept file: more is a job for an archive.
const KEEP_MAX: u32 = 1000;
/// Smaller files would be rotated at each batch.
const ROTATE_BYTES_MIN: u64 = 64 * 1024;
/// Rotating more often than this is a mistake of units.
const AGE_MS_MIN: u64 = 60_000;

impl Rotate {
    pub(super) fn check(&self) -> Vec<SettingsError> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, message: String, mend: &str| {
            errors.push(SettingsError::new(format!("rotate.{field}"), message, mend));
        };
        if let Some(size) = self.size.filter(|size| (1..ROTATE_BYTES_MIN).contains(&size.get())) {
            wrong("size", format!("a new file after each {size}"), "use at least 64KiB, or 0 for never");
        }
        if let Some(age) = self.age.filter(|age| age.ms() < AGE_MS_MIN) {
            wrong("age", format!("a new file each {age}"), "use at least 1m, or leave it out");
        }
        if let Some(keep) = self.keep.filter(|keep| !(1..=KEEP_MAX).contains(keep)) {
            wrong("keep", format!("{keep} old files"), "use 1 to 1000; `size: 0` turns rotation off");
        }
        errors
    }
}

/// A log file that is opened when first written to.
#[derive(Debug)]
pub(super) struct FileLog {
    writer: Arc<Mutex<Writer>>,
    path: PathBuf,
    data_dir: PathBuf,
}

struct Writer {
    path: PathBuf,
    /// Folders below this one are made when they are missing; others are the admin's.
    data_dir: PathBuf,
    rotate_bytes: u64,
    rotate_age_ms: Option<u64>,
    keep: u32,
    clock: Clock,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// Device and inode: where they differ from the path's, somebody moved the file away.
    identity: (u64, u64),
    born: Wall,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileLog {
    pub(super) fn new(path: PathBuf, data_dir: &Path, rotate: &Rotate, clock: Clock) -> FileLog {
        let size = rotate.size.unwrap_or(ROTATE_BYTES);
        let writer = Writer {
            path: path.clone(),
            data_dir: data_dir.to_owned(),
            rotate_bytes: if size.is_empty() { u64::MAX } else { size.get() },
            rotate_age_ms: rotate.age.map(units::Duration::ms),
            keep: rotate.keep.unwrap_or(KEEP),
            clock,
            open: None,
        };
        FileLog { writer: Arc::new(Mutex::new(writer)), path, data_dir: data_dir.to_owned() }
    }

    pub(super) fn texts(&self, lines: &Lines, delivery: &Delivery) -> Texts {
        let ended = |line: String| (line + "\n").into_bytes();
        lines.lines(delivery, Time::Written).into_iter().map(ended).collect()
    }

    pub(super) async fn send(&self, deliveries: Vec<Texts>, end: Instant) -> Vec<Result<Receipt, Failure>> {
        // A disk that hangs holds one thread, not one an attempt: the next attempt waits for the lock instead.
        let Ok(writer) = timeout_at(end, self.writer.clone().lock_owned()).await else {
            return all(&deliveries, &Failure::transient("an earlier write has not come back from the disk"));
        };
        let count = deliveries.len();
        let failed = |why: String| vec![Err(Failure::transient(why)); count];
        let written = tokio::task::spawn_blocking(move || append(writer, &deliveries));
        match timeout_at(end, written).await {
            Ok(Ok(results)) => results,
            Ok(Err(_)) => failed("the writer stopped; this is a bug".into()),
            Err(_) => failed(format!("{}: no answer from the disk", self.path.display())),
        }
    }

    /// Whether the file, or a new one in its folder, could be written. Makes nothing.
    pub(super) async fn probe(&self) -> Result<String, String> {
        let (path, data_dir) = (self.path.clone(), self.data_dir.clone());
        let looked = tokio::task::spawn_blocking(move || look(&path, &data_dir)).await;
        looked.map_err(|_| "the probe stopped; this is a bug".to_owned())?
    }
}

fn look(path: &Path, data_dir: &Path) -> Result<String, String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(format!("{shown} is not a regular file")),
        Ok(found) => {
            let writable = rustix::fs::access(path, Access::WRITE_OK);
            return writable
                .map(|()| format!("{shown} can be written; {} bytes so far", found.len()))
                .map_err(|error| format!("{shown}: {error}"));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(format!("{shown}: {error}")),
        Err(_) => {}
    }
    // The nearest folder that exists: those below the data folder are made on the way.
    // So is the data folder itself, when the router starts.
    let mut folder = path.parent().unwrap_or(path);
    let is_ours = folder.starts_with(data_dir);
    while is_ours && !folder.exists() {
        folder = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    rustix::fs::access(folder, Access::WRITE_OK)
        .map(|()| format!("{shown} does not exist yet and can be made"))
        .map_err(|error| format!("{}: {error}", folder.display()))
}

fn append(mut writer: OwnedMutexGuard<Writer>, deliveries: &[Texts]) -> Vec<Result<Receipt, Failure>> {
    let shown = writer.path.display().to_string();
    let every = |failure: Failure| all(deliveries, &failure);
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(deliveries.len()));
    for delivery in deliveries {
        delivery.iter().for_each(|line| bytes.extend_from_slice(line));
        ends.push(bytes.len());
    }
    let mut file = match writer.ready(bytes.len() as u64) {
        Ok(open) => &open.file,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return every(Failure::permanent(format!("{shown}: {error}")));
        }
        Err(error) => return every(Failure::transient(format!("{shown}: {error}"))),
    };
    let (written, failed) = write_counted(&mut file, &bytes);
    if let Err(error) = rustix::fs::fdatasync(file) {
        // What a failed sync did not keep, a second one does not report: start again with a new file handle.
        writer.open = None;
        return every(Failure::transient(format!("{shown}: sync: {error}")));
    }
    let failed = failed.map(|error| Failure::transient(format!("{shown}: {error}")));
    answers(&ends, written, failed.as_ref())
}

/// Deliveries whose last byte was written are done, even when the disk was full after them.
fn answers(ends: &[usize], written: usize, failed: Option<&Failure>) -> Vec<Result<Receipt, Failure>> {
    let answer = |end: &usize| match failed {
        Some(failure) if *end > written => Err(failure.clone()),
        _ => Ok(Receipt::delivered("synced")),
    };
    ends.iter().map(answer).collect()
}

/// Writes as much as it can; how much that was, and what stopped it.
fn write_counted(file: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Makes what is missing of a folder below the data folder. Never the data folder itself: where it has been deleted, one
/// made anew would hide that from whoever looks for it.
fn make_folders(data_dir: &Path, folder: &Path) -> io::Result<()> {
    let Ok(below) = folder.strip_prefix(data_dir) else { return Ok(()) };
    let mut made = data_dir.to_owned();
    for part in below {
        made.push(part);
        match fs::DirBuilder::new().mode(0o700).create(&made) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Writer {
    /// The file, open at the right path, rotated if `more` bytes would be too many, and ending with a whole line.
    fn ready(&mut self, more: u64) -> io::Result<&mut Open> {
        if self.open.as_ref().is_some_and(|open| !open.stands_at(&self.path)) {
            self.open = None;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open_file()?,
        };
        let length = open.file.metadata()?.len();
        if length > 0 && (length.saturating_add(more) > self.rotate_bytes || self.is_old(open.born)) {
            match self.rotate() {
                Ok(()) => open = self.open_file()?,
                // The lines matter more than the size of the file.
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "the event log could not be rotated");
                }
            }
        }
        open.end_torn_line()?;
        Ok(self.open.insert(open))
    }

    fn open_file(&self) -> io::Result<Open> {
        let folder = self.path.parent().unwrap_or(&self.path);
        make_folders(&self.data_dir, folder)?;
        let is_new = !self.path.exists();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            // A pipe without a reader must not hold us.
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if is_new {
            File::open(folder)?.sync_all()?;
        }
        let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or_else(|| (self.clock)(), |since| Wall(since.as_millis() as i64));
        Ok(Open { file, identity: (found.dev(), found.ino()), born })
    }

    fn is_old(&self, born: Wall) -> bool {
        let age = (self.clock)().0.saturating_sub(born.0);
        self.rotate_age_ms.is_some_and(|most| u64::try_from(age).is_ok_and(|age| age >= most))
    }

    /// `events.log.1` becomes `events.log.2` and so on; the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        // Only up to the first gap: nothing beyond it needs to move.
        let filled = (1..self.keep).take_while(|number| numbered(*number).exists()).count() as u32;
        for number in (1..=filled).rev() {
            fs::rename(numbered(number), numbered(number + 1))?;
        }
        fs::rename(&self.path, numbered(1))?;
        File::open(self.path.parent().unwrap_or(&self.path))?.sync_all()
    }
}

impl Open {
    fn stands_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// After a crash or a full disk the file may end inside a line; the next line starts on its own.
    fn end_torn_line(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut last = [0];
        if length > 0 && self.file.read_at(&mut last, length - 1)? == 1 && last != *b"\n" {
            self.file.write_all(b"\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Format;
    use super::*;
    use crate::sample;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    const LINES: Lines = Lines { format: Format::Text, template: None, bytes_max: 64 * 1024 };

    fn log(folder: &Path, rotate: &Rotate, now: fn() -> Wall) -> FileLog {
        FileLog::new(folder.join("logs/events.log"), folder, rotate, Arc::new(now))
    }

    async fn write(log: &FileLog, count: u128) -> Vec<Result<Receipt, Failure>> {
        let batch: Vec<Delivery> =
            (0..count).map(|id| sample::delivery_of(id, vec![sample::alert()])).collect();
        let texts = batch.iter().map(|delivery| log.texts(&LINES, delivery)).collect();
        log.send(texts, Instant::now() + Duration::from_secs(20)).await
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).expect("the file is there")
    }

    #[tokio::test]
    async fn a_batch_is_appended_line_by_line_in_a_private_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = log(folder.path(), &Rotate::default(), || Wall(0));
        assert_eq!(write(&log, 3).await, vec![Ok(Receipt::delivered("synced")); 3]);
        assert_eq!(write(&log, 1).await.len(), 1);
        let path = folder.path().join("logs/events.log");
        assert_eq!(read(path.clone()).lines().filter(|line| line.contains("computer=ws-042")).count(), 4);
        assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_data_folder_that_was_deleted_is_not_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        for path in ["events.log", "logs/deep/events.log"] {
            fs::create_dir(&data).expect("made");
            let log = FileLog::new(data.join(path), &data, &Rotate::default(), Arc::new(|| Wall(0)));
            assert!(write(&log, 1).await[0].is_ok(), "{path}");
            fs::remove_dir_all(&data).expect("removed");
            let failed = write(&log, 1).await.remove(0).expect_err("there is no folder");
            assert!(failed.reason.contains("No such file"), "{failed:?}");
            assert!(!data.exists(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_file_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = log(folder.path(), &Rotate::default(), || Wall(0));
        write(&log, 1).await;
        let path = folder.path().join("logs/events.log");
        fs::rename(&path, folder.path().join("moved")).expect("moved");
        write(&log, 2).await;
        assert_eq!((read(folder.path().join("moved")).lines().count(), read(path).lines().count()), (1, 2));
    }

    #[tokio::test]
    async fn a_torn_line_is_ended_before_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("logs")).expect("made");
        let path = folder.path().join("logs/events.log");
        fs::write(&path, "time=2026 state=fir").expect("written");
        let log = log(folder.path(), &Rotate::default(), || Wall(0));
        write(&log, 1).await;
        let text = read(path);
        assert!(text.starts_with("time=2026 state=fir\ntime=2026-11-24T10:15:02"), "{text}");
    }

    #[tokio::test]
    async fn rotation_by_size_keeps_a_bounded_number_of_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let rotate = Rotate { size: Some(units::Bytes::new(500)), age: None, keep: Some(2) };
        let log = log(folder.path(), &rotate, || Wall(0));
        for _ in 0..5 {
            // Two lines of over 200 bytes: each batch fills a file.
            write(&log, 2).await;
        }
        let mut names: Vec<_> = fs::read_dir(folder.path().join("logs")).expect("listed").flatten().collect();
        names.sort_by_key(|entry| entry.file_name());
        let names: Vec<_> =
            names.iter().map(|entry| entry.file_name().into_string().expect("text")).collect();
        assert_eq!(names, ["events.log", "events.log.1", "events.log.2"]);
    }

    #[tokio::test]
    async fn rotation_by_age_begins_a_new_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let rotate = Rotate { age: Some(units::Duration::from_seconds(86_400)), ..Rotate::default() };
        write(&log(folder.path(), &rotate, || Wall(0)), 1).await;
        write(&log(folder.path(), &rotate, || Wall(0)), 1).await;
        assert!(!folder.path().join("logs/events.log.1").exists(), "young");
        write(&log(folder.path(), &rotate, || Wall(i64::MAX)), 1).await;
        assert_eq!(read(folder.path().join("logs/events.log.1")).lines().count(), 2);
    }

    #[tokio::test]
    async fn a_folder_in_its_place_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("logs/events.log")).expect("made");
        let log = log(folder.path(), &Rotate::default(), || Wall(0));
        let results = write(&log, 2).await;
        assert!(results.iter().all(Result::is_err), "{results:?}");
        assert!(log.probe().await.expect_err("a folder").contains("not a regular file"));
    }

    #[tokio::test]
    async fn a_missing_folder_outside_the_data_folder_is_not_made() {
        let (data, outside) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let path = outside.path().join("logs/events.log");
        let log = FileLog::new(path, data.path(), &Rotate::default(), Arc::new(|| Wall(0)));
        assert!(write(&log, 1).await[0].is_err());
        assert!(!outside.path().join("logs").exists());
        assert!(log.probe().await.is_err());
    }

    #[test]
    fn a_write_that_stops_midway_says_how_far_it_came() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let count = bytes.len().min(self.0).min(7);
                self.0 -= count;
                if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (written, error) = write_counted(&mut Full(20), &[0; 30]);
        assert_eq!((written, error.map(|e| e.kind())), (20, Some(io::ErrorKind::StorageFull)));
        assert!(write_counted(&mut Full(30), &[0; 30]).1.is_none());
    }

    #[test]
    fn a_full_disk_fails_only_the_deliveries_that_are_not_whole() {
        let full = Failure::transient("no space");
        let done = || Ok(Receipt::delivered("synced"));
        assert_eq!(answers(&[10, 20, 30], 20, Some(&full)), [done(), done(), Err(full.clone())]);
        assert_eq!(answers(&[10, 20], 20, None), [done(), done()]);
    }

    #[tokio::test]
    async fn a_device_is_refused_for_good() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = FileLog::new("/dev/full".into(), folder.path(), &Rotate::default(), Arc::new(|| Wall(0)));
        let results = write(&log, 1).await;
        let failure = results[0].as_ref().expect_err("no regular file");
        assert_eq!(*failure, Failure::permanent("/dev/full: not a regular file"));
    }
}
