//! A simulated disk: what was synced survives a crash; what was not may be there, in part, or not at all. One seed
//! decides. Calls can be made to fail.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use super::storage::{Identity, Storage, StoredFile};
use crate::simulation::random::Random;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Names as the process sees them.
    names: BTreeMap<String, u64>,
    /// Names as a crash may leave them: those of the last sync, and each state since. Changes reach the disk in order.
    name_states: Vec<BTreeMap<String, u64>>,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    random: Random,
    /// Calls that change something, counted from the start.
    calls: u64,
    fail_at: Option<(u64, io::ErrorKind, Failing)>,
    /// What fails once that has failed.
    fail_next: Option<(u64, io::ErrorKind, Failing)>,
    capacity: Option<u64>,
    /// What the disk says where there is no room: that it is full, unless told otherwise.
    no_room: Option<io::ErrorKind>,
    /// Files that the disk cannot even look at.
    inodes_lost: Vec<u64>,
    /// Calls that read, counted from the start, and the one that is to fail.
    reads: u64,
    /// How often the disk was asked for its room.
    asked: u64,
    fail_read: Option<u64>,
    /// What the medium has lost, by file.
    lost: Vec<(u64, Range<u64>)>,
}

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<(u64, Vec<u8>)>,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// One call fails.
    Once,
    /// From then on all do.
    ForGood,
    /// From then on all do, and what was written before may still land: the power goes in the middle of this call.
    PowerGone,
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: u64,
}

impl SimulatedDisk {
    /// An empty disk whose crashes this seed decides.
    pub fn new(seed: u64) -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        disk.lock().random = Random::new(seed);
        disk.lock().names_are_durable();
        disk
    }

    /// Lets the `call`-th changing call from the start fail.
    pub fn fail_at(&self, call: u64, kind: io::ErrorKind, failing: Failing) {
        self.lock().fail_at = Some((call, kind, failing));
    }

    /// Lets another call fail after that of [`SimulatedDisk::fail_at`].
    pub fn fail_next(&self, call: u64, kind: io::ErrorKind, failing: Failing) {
        self.lock().fail_next = Some((call, kind, failing));
    }

    /// Lets one read fail, `later` reads from now: a fault that passes.
    pub fn fail_read(&self, later: u64) {
        let mut state = self.lock();
        state.fail_read = Some(state.reads + 1 + later);
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// How often the disk was asked for its room.
    pub fn asked(&self) -> u64 {
        self.lock().asked
    }

    /// The medium loses these bytes of a file: whatever reads one of them fails.
    pub fn lose(&self, name: &str, range: Range<u64>) {
        let mut state = self.lock();
        if let Some(file) = state.names.get(name).copied() {
            state.lost.push((file, range));
        }
    }

    /// The medium loses the inode of a file: its name is there, and that is all.
    pub fn lose_inode(&self, name: &str) {
        let mut state = self.lock();
        if let Some(file) = state.names.get(name).copied() {
            state.inodes_lost.push(file);
        }
    }

    /// A quota of so many bytes, and not the disk, is what is used up.
    pub fn set_quota(&self, bytes: Option<u64>) {
        let mut state = self.lock();
        (state.capacity, state.no_room) = (bytes, bytes.map(|_| io::ErrorKind::QuotaExceeded));
    }

    /// How many changing calls there were.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Allows so many bytes in all files together; `None` without limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// The power goes: each unsynced write lands, lands in part, or does not, in any order; names go back to the last
    /// sync, or not.
    pub fn crash(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        (state.fail_at, state.fail_next) = (None, None);
        let random = &mut state.random;
        for content in state.files.values_mut() {
            content.now = content.durable.clone();
            let mut writes = std::mem::take(&mut content.unsynced);
            while !writes.is_empty() {
                let (offset, bytes) = writes.swap_remove(random.below(writes.len() as u64) as usize);
                let landed = match random.below(3) {
                    0 => 0,
                    1 => bytes.len(),
                    _ => random.below(bytes.len() as u64 + 1) as usize,
                };
                put(&mut content.now, offset, &bytes[..landed]);
            }
            content.durable = content.now.clone();
        }
        let states = state.name_states.len() as u64;
        if states > 0 {
            state.names = state.name_states.swap_remove(random.below(states) as usize);
        }
        state.names_are_durable();
    }

    /// Bytes that the files with a name take.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Fails no call from now on, whatever was to fail.
    pub fn heal(&self) {
        let mut state = self.lock();
        (state.fail_at, state.fail_next, state.fail_read) = (None, None, None);
    }

    /// Changes bytes of a file as rot would.
    pub fn corrupt(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if let Some(file) = state.names.get(name).copied()
            && let Some(content) = state.files.get_mut(&file)
        {
            change(&mut content.now);
            content.durable = content.now.clone();
        }
    }

    /// Changes what the medium holds of a file; what is in memory of it stays as it was.
    pub fn corrupt_medium(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if let Some(file) = state.names.get(name).copied()
            && let Some(content) = state.files.get_mut(&file)
        {
            change(&mut content.durable);
        }
    }

    /// A file's content; empty if there is none of this name.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        let file = state.names.get(name).and_then(|file| state.files.get(file));
        file.map(|content| content.now.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Counts a changing call, and fails it if it is to fail.
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.calls += 1;
        if state.fail_at.is_none_or(|(call, ..)| call < state.calls) && state.fail_next.is_some() {
            state.fail_at = state.fail_next.take();
        }
        match state.fail_at {
            Some((call, kind, Failing::Once)) if state.calls == call => Err(kind.into()),
            Some((call, kind, Failing::ForGood | Failing::PowerGone)) if state.calls >= call => {
                Err(kind.into())
            }
            _ => Ok(state),
        }
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|file| self.files.get(file)).map(|c| c.now.len() as u64).sum()
    }

    fn room(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used_bytes() + more > capacity => {
                Err(self.no_room.unwrap_or(io::ErrorKind::StorageFull).into())
            }
            _ => Ok(()),
        }
    }

    /// The file of this name, if the disk can look at it.
    fn look(&self, name: &str) -> io::Result<u64> {
        let file = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        if self.inodes_lost.contains(&file) { Err(rustix::io::Errno::IO.into()) } else { Ok(file) }
    }

    /// Notes the names as they are now among those that a crash may leave.
    fn names_changed(&mut self) {
        self.name_states.push(self.names.clone());
    }

    /// What has no name any more is gone, once nothing can bring the name back.
    fn names_are_durable(&mut self) {
        let State { names, files, name_states, .. } = self;
        *name_states = vec![names.clone()];
        files.retain(|file, _| names.values().any(|known| known == file));
    }

    fn power_is_going(&self) -> bool {
        matches!(self.fail_at, Some((call, _, Failing::PowerGone)) if self.calls == call)
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

impl Storage for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.lock();
        let seen = |file: &&u64| !state.inodes_lost.contains(file);
        let content = |file: &u64| Some(file).filter(seen).and_then(|file| state.files.get(file));
        let size = |file: &u64| content(file).map_or(0, |content| content.now.len() as u64);
        Ok(state.names.iter().map(|(name, file)| (name.clone(), size(file))).collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>> {
        let mut state = self.changing()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.room(bytes)?;
        state.next_file += 1;
        let file = state.next_file;
        let zeros = vec![0; bytes as usize];
        state.files.insert(file, Content { durable: zeros.clone(), now: zeros, unsynced: Vec::new() });
        state.names.insert(name.into(), file);
        state.names_changed();
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let file = self.lock().look(name)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        let file = state.look(from)?;
        state.names.remove(from);
        state.names.insert(to.into(), file);
        state.names_changed();
        Ok(())
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        if self.lock().names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        if state.names.contains_key(name) {
            state.look(name)?;
            state.names.remove(name);
            state.names_changed();
        }
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.changing()?;
        state.names_are_durable();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.lock();
        state.asked += 1;
        // What is free on the disk says nothing of a quota.
        let capacity = state.capacity.filter(|_| state.no_room.is_none());
        Ok(capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(state.used_bytes())))
    }

    fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        Ok(self.lock().names.get(name).map(|file| Identity(0, *file)))
    }
}

impl StoredFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.reads += 1;
        let end = offset + buffer.len() as u64;
        let is_lost =
            |(file, lost): &(u64, Range<u64>)| *file == self.file && offset < lost.end && lost.start < end;
        if state.fail_read == Some(state.reads) || state.lost.iter().any(is_lost) {
            return Err(rustix::io::Errno::IO.into());
        }
        let content = state.files.get(&self.file).map_or(&[][..], |content| &content.now);
        let rest = content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let allowed = self.disk.changing().map(drop);
        let mut state = self.disk.lock();
        if allowed.is_err() && !state.power_is_going() {
            return allowed;
        }
        let size = state.files.get(&self.file).map_or(0, |content| content.now.len() as u64);
        state.room((offset + bytes.len() as u64).saturating_sub(size))?;
        if let Some(content) = state.files.get_mut(&self.file) {
            put(&mut content.now, offset, bytes);
            content.unsynced.push((offset, bytes.to_vec()));
        }
        allowed
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = match self.disk.changing() {
            Ok(state) => state,
            Err(error) => {
                // As Linux does it: what could not be written is forgotten, and the next sync says that all is well.
                let mut state = self.disk.lock();
                if !state.power_is_going()
                    && let Some(content) = state.files.get_mut(&self.file)
                {
                    content.unsynced.clear();
                }
                return Err(error);
            }
        };
        if let Some(content) = state.files.get_mut(&self.file) {
            for (offset, bytes) in std::mem::take(&mut content.unsynced) {
                put(&mut content.durable, offset, &bytes);
            }
        }
        Ok(())
    }

    fn forget(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        if let Some(content) = state.files.get_mut(&self.file)
            && content.unsynced.is_empty()
        {
            content.now = content.durable.clone();
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        Ok(state.files.get(&self.file).map_or(0, |content| content.now.len() as u64))
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity(0, self.file))
    }
}
