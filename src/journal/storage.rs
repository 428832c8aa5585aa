//! The disk as the journal sees it: files in one folder. A simulated disk stands in for it in tests.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use rustix::{
    fs::{CWD, FallocateFlags, FlockOperation, OFlags, RenameFlags},
    io::Errno,
};

use super::holes::is_fault;

/// Interrupted writes that are made again; a device that only ever interrupts has failed.
const INTERRUPTIONS_MAX: u32 = 100;
/// Zeros that are written at once where a file system sets no blocks aside.
const ZERO_BYTES: u64 = 1 << 20;

/// A folder of files.
pub trait Storage: Send + Sync + 'static {
    /// Names and sizes of the files, in any order. One that the disk cannot look at is among them, with size 0.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes a new file with room for `bytes`; an error if there is no room. Its content reads as zeros.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// The same, but a file that has the other name is an error.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;
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
    /// Nothing more is written to it: it need not be held open.
    fn rest(&self) {}
    /// Forgets what is in memory of it, as far as the system does so, so that it is read from the disk.
    fn forget(&self) -> io::Result<()>;
    /// Size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Which file it is, whatever has become of its name.
    fn identity(&self) -> io::Result<Identity>;
}

/// Descriptors of files that are read and not written: enough for what is read at once, whatever the number of segments.
const DESCRIPTORS_MAX: usize = 16;

/// A real folder, locked for as long as this, or a file of it, lives.
#[derive(Clone, Debug)]
pub struct Folder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// The folder itself, locked: a file in it could be removed, and locked once more by another process.
    folder: File,
    /// Locked, too, for programs that look at nothing else; it says who holds the lock.
    _lock: File,
    open: Mutex<Descriptors>,
}

/// Files that are open, those used last at the end.
#[derive(Debug, Default)]
struct Descriptors {
    files: VecDeque<(u64, Arc<File>)>,
    next: u64,
}

/// A file of the folder. It is open while it is written to, and else when it is needed.
#[derive(Debug)]
struct FolderFile {
    shared: Arc<Shared>,
    number: u64,
    path: PathBuf,
    identity: Identity,
    /// What was written is synced on the same descriptor, or an error could be missed.
    written: Mutex<Option<Arc<File>>>,
}

/// What the system said, and of which file. [`os_error`] has the system's number.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
struct Named {
    path: PathBuf,
    error: io::Error,
}

fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), Named { path: path.into(), error })
}

/// The system's number of an error.
pub(super) fn os_error(error: &io::Error) -> Option<i32> {
    let inner = || error.get_ref()?.downcast_ref::<Named>()?.error.raw_os_error();
    error.raw_os_error().or_else(inner)
}

impl Folder {
    /// Opens the folder, making it if need be, and locks it. A folder that another process uses is an error that
    /// names the process; so is one that others own or may write into.
    pub fn open(path: &Path) -> io::Result<Folder> {
        make_durable(path)?;
        // The folder itself may be named by a link; what is in it may not.
        let folder = File::open(path)?;
        refuse_others(path, &folder.metadata()?)?;
        let lock_path = path.join("lock");
        let in_use = || {
            let holder = fs::read_to_string(&lock_path).unwrap_or_default();
            let message =
                format!("the data folder {} is in use by process {}", path.display(), holder.trim());
            io::Error::new(io::ErrorKind::ResourceBusy, message)
        };
        let open = options().create(true).truncate(false).open(&lock_path);
        let lock = open.map_err(named(&lock_path))?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use()),
            // Some network file systems lock nothing but files.
            Err(error) => tracing::warn!(%error, "the data folder cannot be locked: its file `lock` is"),
        }
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use()),
            Err(error) => return Err(named(&lock_path)(error.into())),
        }
        note_holder(&lock).map_err(named(&lock_path))?;
        let shared = Shared { path: path.into(), folder, _lock: lock, open: Mutex::default() };
        Ok(Folder { shared: Arc::new(shared) })
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.shared.path.join(name)
    }

    fn file(&self, path: PathBuf, file: File) -> io::Result<Arc<dyn StoredFile>> {
        let found = file.metadata().map_err(named(&path))?;
        let identity = Identity(found.dev(), found.ino());
        let shared = self.shared.clone();
        let number = shared.note(file);
        Ok(Arc::new(FolderFile { shared, number, path, identity, written: Mutex::default() }))
    }
}

/// For reading and writing, and of the owner alone. A link is not followed: what is ours is a file.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Descriptors> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Keeps a new file open for a while; the number that it has.
    fn note(&self, file: File) -> u64 {
        let mut open = self.open();
        open.next += 1;
        let number = open.next;
        open.keep(number, Arc::new(file));
        number
    }
}

impl Descriptors {
    fn keep(&mut self, number: u64, file: Arc<File>) {
        self.files.push_back((number, file));
        if self.files.len() > DESCRIPTORS_MAX {
            self.files.pop_front();
        }
    }

    fn take(&mut self, number: u64) -> Option<Arc<File>> {
        let place = self.files.iter().position(|(known, _)| *known == number)?;
        self.files.remove(place).map(|(_, file)| file)
    }
}

impl FolderFile {
    /// The open file: the one that was written to, one that is still open, or opened again.
    fn file(&self) -> io::Result<Arc<File>> {
        if let Some(file) = &*self.written() {
            return Ok(file.clone());
        }
        let mut open = self.shared.open();
        let file = match open.take(self.number) {
            Some(file) => file,
            None => {
                let file = options().open(&self.path)?;
                let found = file.metadata()?;
                if Identity(found.dev(), found.ino()) != self.identity {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "another file has this name now"));
                }
                Arc::new(file)
            }
        };
        open.keep(self.number, file.clone());
        Ok(file)
    }

    fn written(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.written.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Does something with the open file; an error names it.
    fn with<T>(&self, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        self.file().and_then(|file| work(&file)).map_err(named(&self.path))
    }
}

impl Drop for FolderFile {
    fn drop(&mut self) {
        self.shared.open().take(self.number);
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

/// Whoever owns the folder, or may write into it, can put a file or a link where one of ours is to be.
fn refuse_others(path: &Path, folder: &fs::Metadata) -> io::Result<()> {
    let (owner, mode) = (folder.uid(), folder.mode() & 0o7777);
    let us = rustix::process::geteuid().as_raw();
    let shown = path.display();
    let message = if owner != us {
        format!(
            "it belongs to user {owner} (mode {mode:04o}), and ams2 runs as user {us}: chown -R {us} {shown}, or run ams2 as user {owner}"
        )
    } else if mode & 0o022 != 0 {
        format!("others than its owner {owner} may write into it (mode {mode:04o}): chmod go-w {shown}")
    } else {
        return Ok(());
    };
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
        let path = &self.shared.path;
        match files_of(path) {
            // A fault that passes costs nothing.
            Err(error) if is_fault(&error) => files_of(path).map_err(|error| {
                let message = format!(
                    "the list of files in the data folder cannot be read: {error}: check its file system (fsck), then start again"
                );
                io::Error::new(error.kind(), message)
            }),
            listed => listed,
        }
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>> {
        let path = self.path_of(name);
        let file = options().create_new(true).open(&path).map_err(named(&path))?;
        let set_aside = |file: &File, bytes| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes);
        if bytes > 0
            && let Err(error) = allocate(&file, bytes, set_aside)
        {
            drop(fs::remove_file(&path));
            return Err(named(&path)(error));
        }
        self.file(path, file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let path = self.path_of(name);
        let file = options().open(&path).map_err(named(&path))?;
        self.file(path, file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let from = self.path_of(from);
        fs::rename(&from, self.path_of(to)).map_err(named(&from))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path_of(from), self.path_of(to));
        match rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            // A file system that knows no such renames.
            Err(Errno::INVAL | Errno::NOSYS) => match fs::symlink_metadata(&to) {
                Ok(_) => Err(named(&to)(io::ErrorKind::AlreadyExists.into())),
                Err(_) => fs::rename(&from, &to).map_err(named(&from)),
            },
            Err(error @ Errno::EXIST) => Err(named(&to)(error.into())),
            Err(error) => Err(named(&from)(error.into())),
            Ok(()) => Ok(()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path_of(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(named(&path)),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.shared.folder).map_err(|error| named(&self.shared.path)(error.into()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.shared.folder)
            .map_err(|error| named(&self.shared.path)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        use io::ErrorKind::{NotADirectory, NotFound};
        let path = self.path_of(name);
        match fs::symlink_metadata(&path) {
            Ok(found) => Ok(Some(Identity(found.dev(), found.ino()))),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(named(&path)(error)),
        }
    }
}

impl StoredFile for FolderFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| read_at(file, buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.file().map_err(named(&self.path))?;
        *self.written() = Some(file.clone());
        write_at(&file, bytes, offset).map_err(named(&self.path))
    }

    fn sync(&self) -> io::Result<()> {
        // Not the standard library's, which goes on for ever while calls are interrupted: such a call has failed, too.
        self.with(|file| Ok(rustix::fs::fdatasync(file)?))
    }

    fn rest(&self) {
        *self.written() = None;
    }

    fn forget(&self) -> io::Result<()> {
        self.with(|file| Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?))
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.metadata()?.len()))
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(self.identity)
    }
}

/// The files of a folder. One that the disk cannot look at is among them, without a size: whoever opens it learns more. An error
/// says that the list itself cannot be read. Then nobody knows what is missing from it: a start that went on without the newest
/// segments would give their numbers again.
fn files_of(path: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(named(path))? {
        let entry = entry.map_err(named(path))?;
        let bytes = match entry.metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => continue,
            // Somebody removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if is_fault(&error) => {
                let is_none = entry.file_type().is_ok_and(|kind| !kind.is_file());
                if is_none {
                    continue;
                }
                tracing::error!(path = %entry.path().display(), %error, "the disk cannot look at a file");
                0
            }
            Err(error) => return Err(named(&entry.path())(error)),
        };
        files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
    }
    Ok(files)
}

/// Gives a new file room for so many bytes. Where the file system sets no blocks aside (NFS before 4.2, ext2, some of FUSE), zeros
/// are written: a size alone would be no room, and what the journal keeps in reserve is a promise.
fn allocate(
    file: &File,
    bytes: u64,
    set_aside: impl FnOnce(&File, u64) -> Result<(), Errno>,
) -> io::Result<()> {
    match set_aside(file, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        done => return Ok(done?),
    }
    let zeros = vec![0; bytes.min(ZERO_BYTES) as usize];
    let mut offset = 0;
    while offset < bytes {
        let piece = (bytes - offset).min(ZERO_BYTES);
        write_at(file, &zeros[..piece as usize], offset)?;
        offset += piece;
    }
    // A server says only now that it has no room for what it took.
    Ok(rustix::fs::fdatasync(file)?)
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let (mut done, mut interruptions) = (0, 0);
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted && interruptions < INTERRUPTIONS_MAX => {
                interruptions += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
