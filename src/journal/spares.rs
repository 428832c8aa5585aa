//! Files that wait to become segments: allocated ahead, or left by segments that have gone.

use std::{io, sync::Arc};

use super::{
    storage::{Storage, StoredFile},
    writer::free_number,
};

/// Files of segments that have gone and are kept for later ones.
const SPARES_MAX: usize = 2;

/// Spare files, by name.
pub(super) struct Spares {
    names: Vec<String>,
    /// Those that could not be renamed: they are tried again where no other file can be had.
    doubtful: Vec<String>,
    /// The highest number that was given.
    counter: u64,
}

impl Spares {
    /// Those that a start found.
    pub fn new(names: Vec<String>) -> Spares {
        let counter = names.iter().filter_map(|name| free_number(name)).max().unwrap_or(0);
        Spares { names, doubtful: Vec::new(), counter }
    }

    /// Whether there is none to rely on.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether another one is of use.
    pub fn want_more(&self) -> bool {
        self.names.len() < SPARES_MAX
    }

    /// Allocates one of `bytes` if there is none; whether there is one.
    pub fn ensure(&mut self, storage: &dyn Storage, bytes: u64) -> bool {
        if self.names.is_empty() {
            let name = self.next_name();
            if storage.create(&name, bytes).is_ok() {
                self.names.push(name);
            }
        }
        !self.names.is_empty()
    }

    /// Keeps the file of a segment that has gone. One that is not there is no error.
    pub fn keep(&mut self, storage: &dyn Storage, segment: &str) -> io::Result<()> {
        let name = self.next_name();
        match storage.rename_new(segment, &name) {
            Ok(()) => self.names.push(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A file of `bytes` that has the name from now on: a spare one, else a new one. An error costs no spare file that is
    /// still there.
    pub fn place(
        &mut self,
        storage: &dyn Storage,
        name: &str,
        bytes: u64,
        syncs: bool,
    ) -> io::Result<Arc<dyn StoredFile>> {
        if syncs && !(self.names.is_empty() && self.doubtful.is_empty()) {
            // That they are free may not be durable yet: else, were the power to go now, a segment would come back under its
            // old name with another's header.
            storage.sync_names()?;
        }
        while let Some(spare) = self.names.pop() {
            match storage.rename_new(&spare, name) {
                Ok(()) => return storage.open(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.names.push(spare);
                    return Err(error);
                }
                // Somebody removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => self.doubtful.push(spare),
            }
        }
        let created = storage.create(name, bytes);
        if created.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists)
            && let Some(spare) = self.doubtful.pop()
        {
            if let Err(error) = storage.rename_new(&spare, name) {
                self.doubtful.insert(0, spare);
                return Err(error);
            }
            return storage.open(name);
        }
        created
    }

    /// Forgets them all, as if none could be had.
    #[cfg(test)]
    pub fn forget(&mut self) {
        self.names.clear();
    }

    fn next_name(&mut self) -> String {
        self.counter += 1;
        format!("{}.free", self.counter)
    }
}
