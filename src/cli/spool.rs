//! The spool of `ams2 send`: alerts that no server took yet, one file a request, in order of their names.
//!
//! A file appears whole or not at all (temporary name, sync, rename, sync of the folder) and goes when a server has
//! said that it keeps the alerts. One that a server refuses for good is moved to `refused/` with the reason beside it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FlockOperation, flock};

/// Largest spool in bytes: a machine that is off for weeks must not fill its disk.
pub(super) const SPOOL_BYTES_MAX: u64 = 256 << 20;

/// Where in it stands what a server refused for good.
const REFUSED: &str = "refused";

/// A folder of waiting requests.
pub(super) struct Spool {
    dir: PathBuf,
}

impl Spool {
    pub fn open(dir: &Path) -> io::Result<Spool> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Spool { dir: dir.into() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps a request; returns once it is on disk.
    pub fn keep(&self, body: &[u8]) -> io::Result<()> {
        let held = bytes_in(&self.dir)?;
        if held + body.len() as u64 > SPOOL_BYTES_MAX {
            let refused = bytes_in(&self.dir.join(REFUSED))?;
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "the spool holds {held} bytes already, {refused} of them in {REFUSED}/; at most {SPOOL_BYTES_MAX} are kept"
                ),
            ));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{now:020}-{:08}", std::process::id());
        let temporary = self.dir.join(format!("{name}.tmp"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(body)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, self.dir.join(format!("{name}.ndjson"))));
        if let Err(error) = written {
            // On a full disk half a request would take the room of the next; why it failed is the error to tell.
            drop(fs::remove_file(&temporary));
            return Err(error);
        }
        self.sync()
    }

    /// What waits, oldest first.
    pub fn waiting(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "ndjson") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Only one sender at a time empties the spool; `None` while another does.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(self.dir.join(".lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A server keeps what this file holds.
    pub fn done(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        self.sync()
    }

    /// A server refused it for good: set aside, with its words.
    pub fn refused(&self, path: &Path, why: &str) -> io::Result<PathBuf> {
        let folder = self.dir.join(REFUSED);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let target = folder.join(path.file_name().unwrap_or_default());
        fs::write(target.with_extension("why"), why)?;
        fs::rename(path, &target)?;
        self.sync()?;
        Ok(target)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// The bytes of all files in a folder and those below; a folder that is not there has none.
fn bytes_in(dir: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path())?,
            Ok(meta) => meta.len(),
            // Sent by another call meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_waits_in_order_until_it_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Spool::open(&folder.path().join("spool")).expect("a spool");
        spool.keep(b"one").expect("kept");
        spool.keep(b"two").expect("kept");
        let waiting = spool.waiting().expect("readable");
        let texts: Vec<_> = waiting.iter().map(|path| fs::read(path).expect("readable")).collect();
        assert_eq!(texts, [b"one", b"two"]);
        spool.done(&waiting[0]).expect("removed");
        let aside = spool.refused(&waiting[1], "no labels").expect("moved");
        assert!(spool.waiting().expect("readable").is_empty());
        assert_eq!(fs::read(&aside).expect("readable"), b"two");
        assert_eq!(fs::read(aside.with_extension("why")).expect("readable"), b"no labels");
    }

    #[test]
    fn all_that_the_folder_holds_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Spool::open(folder.path()).expect("a spool");
        fs::create_dir(folder.path().join(REFUSED)).expect("a folder");
        for (name, share) in [("refused/1.ndjson", 2), ("1-1.tmp", 4), ("1.ndjson", 4)] {
            let file = File::create(folder.path().join(name)).expect("a file");
            file.set_len(SPOOL_BYTES_MAX / share).expect("a hole takes no room");
        }
        let error = spool.keep(b"one more").expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("134217728 of them in refused/"), "{error}");
        fs::remove_dir_all(folder.path().join(REFUSED)).expect("emptied");
        spool.keep(b"one more").expect("there is room");
    }

    #[test]
    fn one_sender_at_a_time_empties_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Spool::open(folder.path()).expect("a spool");
        let held = spool.lock().expect("lockable").expect("free");
        assert!(spool.lock().expect("lockable").is_none());
        drop(held);
        assert!(spool.lock().expect("lockable").is_some());
    }
}
