//! A bounded cache of open queue files: with thousands of queues not each can keep a descriptor.
//!
//! Evicts by second chance: a file that was used since the clock hand last passed it stays. An evicted file that a reader uses is
//! closed when the reader is done, so the bound is exceeded by at most the number of readers.

use std::io;
use std::sync::Arc;

use crate::sync::Mutex;
use rustc_hash::FxHashMap;

use crate::disk::DiskFile;

/// Key of a file: the queue's serial number and the byte offset of the file in the queue.
pub(crate) type Key = (u64, i64);

#[derive(Debug)]
pub(crate) struct OpenFiles {
    max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    places: FxHashMap<Key, usize>,
    files: Vec<OpenFile>,
    hand: usize,
}

#[derive(Debug)]
struct OpenFile {
    key: Key,
    file: Arc<dyn DiskFile>,
    used: bool,
}

impl OpenFiles {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            open: Mutex::default(),
        }
    }

    /// The open file; `open` opens it if it is not open.
    pub(crate) fn take(&self, key: Key, open: impl FnOnce() -> io::Result<Arc<dyn DiskFile>>) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.open.lock().find(key) {
            return Ok(file);
        }
        let file = open()?;
        self.put(key, Arc::clone(&file));
        Ok(file)
    }

    pub(crate) fn put(&self, key: Key, file: Arc<dyn DiskFile>) {
        let pushed_out = self.open.lock().put(key, file, self.max);
        // Closing may block, so not under the lock.
        drop(pushed_out);
    }

    /// Closes the files of a queue that satisfy the condition.
    pub(super) fn close(&self, serial: u64, which: impl Fn(i64) -> bool) {
        let mut closed = Vec::new();
        let mut open = self.open.lock();
        let mut at = 0;
        while at < open.files.len() {
            let (owner, base) = open.files[at].key;
            if owner == serial && which(base) {
                closed.push(open.remove(at))
            } else {
                at += 1
            }
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.lock().files.len()
    }
}

impl Open {
    fn find(&mut self, key: Key) -> Option<Arc<dyn DiskFile>> {
        let place = &mut self.files[*self.places.get(&key)?];
        place.used = true;
        Some(Arc::clone(&place.file))
    }

    fn put(&mut self, key: Key, file: Arc<dyn DiskFile>, max: usize) -> Option<OpenFile> {
        let place = OpenFile { key, file, used: true };
        if let Some(at) = self.places.get(&key) {
            return Some(std::mem::replace(&mut self.files[*at], place));
        }
        if self.files.len() < max {
            self.places.insert(key, self.files.len());
            self.files.push(place);
            return None;
        }
        let at = self.unused();
        let pushed_out = std::mem::replace(&mut self.files[at], place);
        self.places.remove(&pushed_out.key);
        self.places.insert(key, at);
        Some(pushed_out)
    }

    /// The first slot from the hand on that was not used since the hand last passed. Ends after two rounds.
    fn unused(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.files.len();
            if !std::mem::take(&mut self.files[self.hand].used) {
                return self.hand;
            }
        }
    }

    fn remove(&mut self, at: usize) -> OpenFile {
        let removed = self.files.swap_remove(at);
        self.places.remove(&removed.key);
        if let Some(moved) = self.files.get(at) {
            self.places.insert(moved.key, at);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, OpenMode, simulated::SimulatedDisk};
    use std::cell::Cell;
    use std::path::Path;

    #[test]
    fn number_of_open_files_is_bounded_and_closed_ones_are_opened_again() {
        let disk = SimulatedDisk::new(0);
        let files = OpenFiles::new(3);
        let opened = Cell::new(0);
        let take = |key| {
            let open = || {
                opened.set(opened.get() + 1);
                disk.open(Path::new("/f"), OpenMode::WriteOrCreate)
            };
            files.take(key, open).unwrap()
        };
        for round in 0..3 {
            for serial in 0..10 {
                take((serial, 0));
                take((serial, 0));
                assert!(files.count() <= 3, "round {round}");
            }
        }
        assert_eq!(opened.get(), 30);
        take((100, 0));
        take((100, 20));
        files.close(100, |base| base == 20);
        let before = opened.get();
        take((100, 0));
        assert_eq!(opened.get(), before);
        take((100, 20));
        assert_eq!(opened.get(), before + 1);
    }
}
