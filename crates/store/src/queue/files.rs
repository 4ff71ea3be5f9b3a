//! The files of one queue: names, lengths, and the end of the written part.
//!
//! A queue is a sequence of bytes in files of the same length. A file's name is the offset of its first byte, in 20 digits. Files
//! are created with their whole length and filled from the start; unwritten space is zeros, as a Java broker expects.
//!
//! Invariant: entries below the last sync are complete. Above it, after a power cut, any of them may be missing or torn at a sector
//! boundary, so [`QueueFiles::written_end`] never trusts a single entry.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::entry::{ENTRY_LEN, Entry};
use super::extended::Extended;
use super::synced::Synced;
use super::table::Shared;
use crate::disk::{Allocate, DiskFile, OpenMode, if_exists};
use crate::sync::atomic::{AtomicU64, Ordering};

const LEN: i64 = ENTRY_LEN as i64;
/// Bytes of a file system's block, which is written or not as a whole.
const BLOCK: usize = 4 << 10;

/// A queue's name and access to its files.
#[derive(Debug)]
pub(super) struct QueueFiles {
    pub(super) shared: Arc<Shared>,
    pub(super) topic: Arc<str>,
    pub(super) queue_id: i32,
    /// Files of a Java broker with values that are not in the entries.
    extended: Option<Box<Extended>>,
    /// Identifies the queue's open files; a new number invalidates those opened before.
    serial: AtomicU64,
}

/// What the directory has.
#[derive(Debug, Default)]
pub(super) struct FoundFiles {
    pub(super) extent: Extent,
    /// Files before a gap, which are not part of the queue: a power cut undid their removal and not that of the files behind them.
    pub(super) strays: Vec<i64>,
}

/// The files' byte offsets in the queue, multiples of the file length. Empty if equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: i64,
    pub(super) end: i64,
}

impl QueueFiles {
    pub(super) fn new(shared: Arc<Shared>, topic: Arc<str>, queue_id: i32) -> Self {
        let serial = AtomicU64::new(shared.serials.fetch_add(1, Ordering::Relaxed));
        Self {
            shared,
            topic,
            queue_id,
            extended: None,
            serial,
        }
    }

    /// Looks for files with values that are not in the entries.
    ///
    /// # Errors
    /// [`io::Error`] if the directory cannot be listed.
    pub(super) fn with_extended(mut self) -> io::Result<Self> {
        let Shared { disk, dir, serials, .. } = &*self.shared;
        let serial = serials.fetch_add(1, Ordering::Relaxed);
        self.extended = Extended::find(&**disk, dir, &self.topic, self.queue_id, serial)?.map(Box::new);
        Ok(self)
    }

    /// Invalidates the open files: their names may soon belong to other files.
    pub(super) fn renew(&self) {
        self.shared.files.close(self.serial(), |_| true);
        self.serial
            .store(self.shared.serials.fetch_add(1, Ordering::Relaxed), Ordering::Release);
    }

    fn serial(&self) -> u64 {
        self.serial.load(Ordering::Acquire)
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.shared.dir.join(&*self.topic).join(self.queue_id.to_string())
    }

    fn path(&self, base: i64) -> PathBuf {
        self.dir().join(format!("{base:020}"))
    }

    /// An I/O error with the file's name.
    fn named(&self, base: i64, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("queue file {}: {error}", self.path(base).display()))
    }

    fn bad(&self, what: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("queue directory {}: {what}", self.dir().display()),
        )
    }

    /// The beginning of the file that has the byte.
    pub(super) fn base(&self, byte: i64) -> i64 {
        byte - byte.rem_euclid(self.shared.file_len)
    }

    fn open(&self, base: i64) -> io::Result<Arc<dyn DiskFile>> {
        let open = || self.shared.disk.open(&self.path(base), OpenMode::Write);
        self.shared
            .files
            .take((self.serial(), base), open)
            .map_err(|error| self.named(base, &error))
    }

    /// Creates the first file, which starts at `base`, and its directories. Nothing of it is on the device before the file, and the
    /// names in the directories of queue, topic and all topics, are synced: a queue with a few messages takes no syncs of its own.
    pub(super) fn create_first(&self, base: i64) -> io::Result<()> {
        self.shared.disk.make_dirs(&self.dir())?;
        let made = self.shared.disk.open(&self.path(base), OpenMode::WriteOrCreate).and_then(|file| {
            // Something may be left by an attempt that could not write the blank entries at the beginning.
            file.set_len(0)?;
            file.set_len(self.shared.file_len as u64)?;
            Ok(file)
        });
        let file = made.map_err(|error| self.named(base, &error))?;
        self.shared.files.put((self.serial(), base), file);
        Ok(())
    }

    /// Creates the file that starts at `base`, behind another one. All before it must be synced.
    pub(super) fn create(&self, base: i64) -> io::Result<()> {
        let made = self
            .shared
            .disk
            .create(&self.path(base), self.shared.file_len as u64, Allocate::Sparse);
        let file = made.map_err(|error| self.named(base, &error))?;
        self.shared.files.put((self.serial(), base), file);
        Ok(())
    }

    pub(super) fn write(&self, byte: i64, bytes: &[u8]) -> io::Result<()> {
        let base = self.base(byte);
        self.open(base)?
            .write_at(bytes, (byte - base) as u64)
            .map_err(|error| self.named(base, &error))
    }

    pub(super) fn sync(&self, base: i64) -> io::Result<()> {
        self.open(base)?.sync_data().map_err(|error| self.named(base, &error))
    }

    /// Syncs the names of the files.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        self.shared.disk.sync_dir(&self.dir())
    }

    /// Syncs the names of the directories, too.
    pub(super) fn sync_all_names(&self) -> io::Result<()> {
        let Shared { disk, dir, .. } = &*self.shared;
        self.sync_names()?;
        disk.sync_dir(&dir.join(&*self.topic))?;
        disk.sync_dir(dir)
    }

    pub(super) fn remove(&self, base: i64) -> io::Result<()> {
        self.shared.files.close(self.serial(), |open| open == base);
        let removed = if_exists(self.shared.disk.remove_file(&self.path(base)));
        removed.map(drop).map_err(|error| self.named(base, &error))
    }

    /// Erases everything from the byte to the end of its file.
    pub(super) fn blank_from(&self, byte: i64) -> io::Result<()> {
        let base = self.base(byte);
        let range = (byte - base) as u64..self.shared.file_len as u64;
        self.open(base)?.make_zeros(range).map_err(|error| self.named(base, &error))
    }

    /// Whether everything from the byte to the end of its file reads as zeros: looked up without reading what was never written. False
    /// if there is much to read.
    pub(super) fn is_blank_from(&self, byte: i64) -> io::Result<bool> {
        let base = self.base(byte);
        let named = |error: io::Error| self.named(base, &error);
        let file = self.open(base)?;
        let at = (byte - base) as u64;
        let Some(data) = file.next_data(at).map_err(named)? else {
            return Ok(true);
        };
        let mut rest = [0; BLOCK];
        let Some(rest) = usize::try_from(data.end - data.start).ok().and_then(|len| rest.get_mut(..len)) else {
            return Ok(false);
        };
        fill(&*file, data.start, rest, false, |error| self.named(base, error))?;
        Ok(rest.iter().all(|byte| *byte == 0) && file.next_data(data.end).map_err(named)?.is_none())
    }

    /// Reads bytes of one file, none beyond its end.
    pub(super) fn read(&self, byte: i64, out: &mut [u8], cached_only: bool) -> io::Result<()> {
        let base = self.base(byte);
        let file = self.open(base)?;
        let at = (byte - base) as u64;
        fill(&*file, at, out, cached_only, |error| self.named(base, error))
    }

    /// Whether entries may have addresses of values.
    pub(super) const fn is_extended(&self) -> bool {
        self.extended.is_some()
    }

    /// The entry with its value, if it has an address; unchanged if there is no value.
    ///
    /// # Errors
    /// [`io::Error`] if a file cannot be read; [`io::ErrorKind::WouldBlock`] if `cached_only` is set and it is not in the page
    /// cache.
    pub(super) fn resolve(&self, entry: Entry, cached_only: bool) -> io::Result<Entry> {
        let Some(extended) = self.extended.as_ref().filter(|_| !entry.has_value()) else {
            return Ok(entry);
        };
        let Shared { disk, files, .. } = &*self.shared;
        let value = extended.value(&**disk, files, entry.tags_code, cached_only)?;
        Ok(Entry {
            tags_code: value.unwrap_or(entry.tags_code),
            ..entry
        })
    }

    /// The entry at a byte offset.
    pub(super) fn entry(&self, byte: i64) -> io::Result<Entry> {
        let mut bytes = [0; ENTRY_LEN];
        self.read(byte, &mut bytes, false)?;
        Ok(Entry::decode(&bytes))
    }

    /// Lists the files. A last file that does not have its full length (of a Java broker that was killed) is extended. Of files
    /// with a gap only those behind the gap are used.
    pub(super) fn find(&self) -> io::Result<FoundFiles> {
        let file_len = self.shared.file_len;
        let mut files: Vec<(i64, u64)> = Vec::new();
        for entry in self.shared.disk.list(&self.dir())? {
            if entry.is_dir || entry.name.len() != 20 {
                continue;
            }
            if let Ok(base) = entry.name.parse::<i64>() {
                files.push((base, entry.len));
            }
        }
        files.sort_unstable();
        let Some((last, last_len)) = files.last().copied() else {
            return Ok(FoundFiles::default());
        };
        for (base, len) in &files {
            if base % file_len != 0 || (*len != file_len as u64 && (base, *len) != (&last, last_len)) || *len > file_len as u64 {
                return Err(self.bad(&format!(
                    "file {base:020} has {len} bytes, but mappedFileSizeConsumeQueue is {file_len}: set it to what the files were made with"
                )));
            }
        }
        if last_len != file_len as u64 {
            self.open(last)?
                .set_len(file_len as u64)
                .map_err(|error| self.named(last, &error))?;
        }
        let mut first = last;
        while files.iter().any(|(base, _)| base + file_len == first) {
            first -= file_len;
        }
        let strays = files.iter().map(|(base, _)| *base).take_while(|base| *base < first).collect();
        Ok(FoundFiles {
            extent: Extent {
                first,
                end: last + file_len,
            },
            strays,
        })
    }

    /// End, in bytes, of the entries that point below `log_end`. Entries above the last sync may be missing or torn; those at
    /// `limit` or above are not examined.
    pub(super) fn written_end(&self, extent: Extent, log_end: i64, limit: i64) -> io::Result<i64> {
        let limit = limit.clamp(extent.first, extent.end);
        let mut base = self.base((limit - LEN).max(extent.first));
        while base >= extent.first && limit > extent.first {
            if is_below(&self.entry(base)?, log_end) {
                return self.written_end_in(base, log_end, limit);
            }
            base -= self.shared.file_len;
        }
        Ok(extent.first)
    }

    fn written_end_in(&self, base: i64, log_end: i64, limit: i64) -> io::Result<i64> {
        let mut end = self.shared.file_len.min(limit - base) / LEN;
        loop {
            let found = partition(0, end, |at| self.entry(base + at * LEN).map(|entry| is_below(&entry, log_end)))?;
            if found < 2 || self.are_in_order(base + (found - 2) * LEN)? {
                return Ok(base + found * LEN);
            }
            // A torn entry was accepted: neither it nor anything after it is part of the queue.
            end = found - 1;
        }
    }

    /// Whether the entries end where they did at the last sync. Also true if more were written and a crash took the first of them:
    /// recovery examines that.
    pub(super) fn ends_at(&self, extent: Extent, synced: Synced) -> io::Result<bool> {
        let end = synced.max.saturating_mul(LEN);
        if end < extent.first || end > extent.end {
            return Ok(false);
        }
        if end > extent.first && self.entry(end - LEN)?.log_end() != synced.log_end {
            return Ok(false);
        }
        Ok(end == extent.end || !self.entry(end)?.is_written())
    }

    /// Whether the entry at this byte and the next one are in log order.
    fn are_in_order(&self, byte: i64) -> io::Result<bool> {
        let (before, after) = (self.entry(byte)?, self.entry(byte + LEN)?);
        Ok(before.is_written() && before.log_offset <= after.log_offset)
    }
}

fn is_below(entry: &Entry, log_end: i64) -> bool {
    entry.is_written() && entry.log_offset < log_end
}

/// Binary search: the first number from `low` to `high` for which `is_left` does not hold.
pub(crate) fn partition<E>(low: i64, high: i64, mut is_left: impl FnMut(i64) -> Result<bool, E>) -> Result<i64, E> {
    let (mut low, mut high) = (low, high);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_left(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
/// Fills `out` from a file. `named` says which file an error is about.
pub(super) fn fill(
    file: &dyn DiskFile,
    at: u64,
    out: &mut [u8],
    cached_only: bool,
    named: impl FnOnce(&io::Error) -> io::Error,
) -> io::Result<()> {
    let read = if cached_only {
        file.read_cached_at(out, at)
    } else {
        file.read_at(out, at)
    };
    match read {
        Ok(read) if read == out.len() => Ok(()),
        Ok(read) => {
            let text = format!("{read} bytes at {at}, not {}", out.len());
            Err(named(&io::Error::new(io::ErrorKind::UnexpectedEof, text)))
        }
        // The usual error for a file that is not in the page cache: no text is made for it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        Err(error) => Err(named(&error)),
    }
}
