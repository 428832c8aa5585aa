//! The disk as the journal sees it: files in one folder. A simulated disk stands in for it in tests.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FallocateFlags, FlockOperation};

/// Interrupted writes that are made again; a device that only ever interrupts has failed.
const INTERRUPTIONS_MAX: u32 = 100;

/// A folder of files.
pub trait Storage: Send + Sync + 'static {
    /// Names and sizes of the files, in any order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes a new file with room for `bytes`; an error if there is no room. Its content reads as zeros.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. One that is not there is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: creations, renames, removals.
    fn sync_names(&self) -> io::Result<()>;
    /// Bytes that are free on the disk.
    fn free_bytes(&self) -> io::Result<u64>;
    /// The file that has this name now; `None` when there is none, nor perhaps the folder.
    fn identity(&self, name: &str) -> io::Result<Option<Identity>>;
}

/// What tells a file from every other that is there at the same time: on a real disk its device and its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(pub u64, pub u64);

/// One file. Reads may happen beside writes.
pub trait StoredFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content durable. After an error nothing is known about what was written since the last success, and a
    /// second call may lie: never call it again on this file.
    fn sync(&self) -> io::Result<()>;
    /// Forgets what is in memory of it, as far as the system does so, so that it is read from the disk.
    fn forget(&self) -> io::Result<()>;
    /// Size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Which file it is, whatever has become of its name.
    fn identity(&self) -> io::Result<Identity>;
}

/// A real folder, locked for as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens the folder, making it if need be, and locks it. A folder that another process uses is an error that
    /// names the process.
    pub fn open(path: &Path) -> io::Result<Folder> {
        make_durable(path)?;
        refuse_if_anybody_may_write(path)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = fs::read_to_string(&lock_path).unwrap_or_default();
                let message =
                    format!("the data folder {} is in use by process {}", path.display(), holder.trim());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
            }
            Err(error) => return Err(error.into()),
        }
        note_holder(&lock)?;
        Ok(Folder { path: path.into(), _lock: lock })
    }
}

/// Writes down who holds the lock. The lock holds without it: a full disk must not refuse the start for it.
fn note_holder(lock: &File) -> io::Result<()> {
    let written =
        lock.set_len(0).and_then(|()| lock.write_all_at(std::process::id().to_string().as_bytes(), 0));
    match written {
        Err(error) if is_no_room(&error) => {
            tracing::warn!(%error, "the number of this process does not fit into the file `lock`");
            Ok(())
        }
        written => written,
    }
}

/// Whether there is no room for it: the disk, the quota, or what a file may hold is used up.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Whoever may write into the folder can put a link where a file of ours is to be.
fn refuse_if_anybody_may_write(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata(path)?.permissions().mode() & 0o002 == 0 {
        return Ok(());
    }
    let message = format!("every user may write into it: chmod o-w {}", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Makes a folder, and sees to it that its name and those of the folders that it took are on disk.
fn make_durable(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.is_dir()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Storage for Folder {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Somebody removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_file() {
                files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&path)?;
        if bytes > 0
            && let Err(error) = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)
        {
            drop(fs::remove_file(&path));
            return Err(error.into());
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&File::open(&self.path)?)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        use io::ErrorKind::{NotADirectory, NotFound};
        match fs::metadata(self.path.join(name)) {
            Ok(found) => Ok(Some(Identity(found.dev(), found.ino()))),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl StoredFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match FileExt::read_at(self, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut done, mut interruptions) = (0, 0);
        while done < bytes.len() {
            match FileExt::write_at(self, &bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted && interruptions < INTERRUPTIONS_MAX =>
                {
                    interruptions += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // Not the standard library's, which goes on for ever while calls are interrupted: such a call has failed, too.
        Ok(rustix::fs::fdatasync(self)?)
    }

    fn forget(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn identity(&self) -> io::Result<Identity> {
        let found = self.metadata()?;
        Ok(Identity(found.dev(), found.ino()))
    }
}
