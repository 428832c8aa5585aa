//! A simulated disk: what was synced survives a crash; what was not may be there, in part, or not at all. One seed
//! decides. Calls can be made to fail.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::storage::{Storage, StoredFile};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Names as the process sees them, and as a crash would leave them.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    random: u64,
    /// Calls that change something, counted from the start.
    calls: u64,
    fail_at: Option<(u64, io::ErrorKind, Failing)>,
    capacity: Option<u64>,
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
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: u64,
}

impl SimulatedDisk {
    /// An empty disk whose crashes this seed decides.
    pub fn new(seed: u64) -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        disk.lock().random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        disk
    }

    /// Lets the `call`-th changing call from the start fail.
    pub fn fail_at(&self, call: u64, kind: io::ErrorKind, failing: Failing) {
        self.lock().fail_at = Some((call, kind, failing));
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
        state.fail_at = None;
        let random = &mut state.random;
        for content in state.files.values_mut() {
            content.now = content.durable.clone();
            let mut writes = std::mem::take(&mut content.unsynced);
            while !writes.is_empty() {
                let (offset, bytes) = writes.swap_remove(draw(random) as usize % writes.len());
                let landed = match draw(random) % 3 {
                    0 => 0,
                    1 => bytes.len(),
                    _ => draw(random) as usize % (bytes.len() + 1),
                };
                put(&mut content.now, offset, &bytes[..landed]);
            }
            content.durable = content.now.clone();
        }
        if draw(random).is_multiple_of(2) {
            state.names = state.durable_names.clone();
        }
        state.durable_names = state.names.clone();
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
        match state.fail_at {
            Some((call, kind, Failing::Once)) if state.calls == call => Err(kind.into()),
            Some((call, kind, Failing::ForGood)) if state.calls >= call => Err(kind.into()),
            _ => Ok(state),
        }
    }
}

/// xorshift64*: enough to vary crashes, and the same everywhere.
fn draw(random: &mut u64) -> u64 {
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    random.wrapping_mul(0x2545_F491_4F6C_DD1D)
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
        let size = |file: &u64| state.files.get(file).map_or(0, |content| content.now.len() as u64);
        Ok(state.names.iter().map(|(name, file)| (name.clone(), size(file))).collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>> {
        let mut state = self.changing()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let used: u64 =
            state.names.values().filter_map(|file| state.files.get(file)).map(|c| c.now.len() as u64).sum();
        if state.capacity.is_some_and(|capacity| used + bytes > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.next_file += 1;
        let file = state.next_file;
        let zeros = vec![0; bytes as usize];
        state.files.insert(file, Content { durable: zeros.clone(), now: zeros, unsynced: Vec::new() });
        state.names.insert(name.into(), file);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let state = self.lock();
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.changing()?.names.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.changing()?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock();
        let used: u64 = state.files.values().map(|content| content.now.len() as u64).sum();
        Ok(state.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(used)))
    }
}

impl StoredFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        let content = state.files.get(&self.file).map_or(&[][..], |content| &content.now);
        let rest = content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.changing()?;
        if let Some(content) = state.files.get_mut(&self.file) {
            put(&mut content.now, offset, bytes);
            content.unsynced.push((offset, bytes.to_vec()));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = match self.disk.changing() {
            Ok(state) => state,
            Err(error) => {
                // As Linux does it: what could not be written is forgotten, and the next sync says that all is well.
                if let Some(content) = self.disk.lock().files.get_mut(&self.file) {
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

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        Ok(state.files.get(&self.file).map_or(0, |content| content.now.len() as u64))
    }
}
