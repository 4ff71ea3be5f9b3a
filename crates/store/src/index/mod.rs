//! The key index: from a message's keys to the records that have them, in files a Java broker reads and writes.
//!
//! Life of an item: the keeper adds each record's keys ([`KeyIndex::put_record`]) to the newest file; when it is full it creates
//! the next one. [`KeyIndex::write`] and [`KeyIndex::sync`] make keys durable before a checkpoint says so. After an unclean stop
//! [`KeyIndex::cut`] truncates to the checkpoint.
//!
//! Invariants
//! - Log offsets of items rise within a file (equal for the keys of one record) and from file to file.
//! - Without space for the next file an addition fails with a clear error and can be repeated at any time; no key of the record was
//!   added then. Sends do not wait for the index.
//! - Item numbers in a chain fall, or the chain ends there: a query ends on any bytes.
//!
//! Not here: whether a record that was found has the key (hashes collide, the caller checks), and the thread that adds keys.

mod file;
mod filling;
mod hash;
mod layout;
mod recovery;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use message::LogOffset;

use crate::disk::{Allocate, Disk, DiskFile, OpenMode, if_exists};
use crate::sync::RwLock;
pub(crate) use file::{IndexFile, Wanted, find_in, list};
use filling::Filling;
pub(crate) use hash::{key_hash, key_hashes, tag_hash};
pub use layout::IndexOptions;
pub(crate) use layout::{Header, ITEM_LEN, Item, SLOT_LEN};

/// Maximum items that a query examines: the chain of one busy key may be as long as a file.
pub(crate) const STEPS_MAX: u32 = 1_000_000;

/// The index files of a store.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: IndexOptions,
    state: RwLock<IndexState>,
}

#[derive(Debug, Default)]
struct IndexState {
    /// Files that are not filled any more, oldest first.
    older: Vec<Arc<IndexFile>>,
    filling: Option<Filling>,
    /// Created before the record is added that does not fit into the file being filled.
    next: Option<Filling>,
    /// Whether the file being filled was written since the last sync.
    is_unsynced: bool,
    /// Files that were changed since the last sync and are not being filled.
    unsynced: Vec<Arc<dyn DiskFile>>,
    sync_failed: bool,
    /// An error occurred between two keys of the last record: it is incomplete.
    last_is_partial: bool,
}

/// Result of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexHits {
    /// Log offsets of records that may have the key, newest first.
    pub log_offsets: Vec<LogOffset>,
    /// Store timestamp of the record indexed last, in ms; 0 when there is none.
    pub last_timestamp: i64,
    /// Log offset of the record indexed last; 0 when there is none.
    pub last_log_offset: LogOffset,
}

impl KeyIndex {
    /// Opens the files in `dir` (`index`), which is created if it does not exist. After an unclean stop [`KeyIndex::cut`] must
    /// follow before anything else.
    ///
    /// # Errors
    /// [`io::Error`] if the directory cannot be created, or files cannot be read.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, options: IndexOptions) -> io::Result<Self> {
        disk.create_dir_all(dir)?;
        let options = options.checked();
        let older = file::list(&*disk, dir, options)?;
        for odd in older.iter().filter(|known| !known.is_readable) {
            tracing::error!(file = %odd.path.display(), len = odd.len, expected = options.file_len(), "index file has another maxHashSlotNum or maxIndexNum than configured; its keys are not found by queries");
        }
        let index = Self {
            disk,
            dir: dir.to_owned(),
            options,
            state: RwLock::default(),
        };
        let mut state = index.state.write();
        state.older = older.into_iter().map(Arc::new).collect();
        index.fill_newest(&mut state)?;
        drop(state);
        Ok(index)
    }

    /// Continues to fill the newest file if it has room.
    fn fill_newest(&self, state: &mut IndexState) -> io::Result<()> {
        let has_room = |newest: &Arc<IndexFile>| newest.is_readable && newest.header.next < self.options.items;
        if let Some(newest) = state.older.pop_if(|newest| has_room(newest)) {
            let file = self.disk.open(&newest.path, OpenMode::Write)?;
            state.filling = Some(Filling::new(IndexFile::clone(&newest), file, self.options));
        }
        Ok(())
    }

    /// Adds a record under the hashes of its keys (see [`key_hashes`]), all or none. Records come in log order; one that is not
    /// after the last record is indexed already and skipped.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if there is no space for the next file. Repeat the call when there is space. Any other
    /// [`io::Error`] if files cannot be read or written.
    pub(crate) fn put_record(&self, key_hashes: &[i32], log_offset: LogOffset, store_timestamp: i64) -> io::Result<()> {
        let mut state = self.state.write();
        if key_hashes.is_empty() || state.has(log_offset.0) {
            return Ok(());
        }
        let room = state.filling.as_ref().map_or(0, Filling::room);
        if (room as usize) < key_hashes.len() && state.next.is_none() {
            state.next = Some(self.create(&state, store_timestamp)?);
        }
        for (n, key_hash) in key_hashes.iter().enumerate() {
            let put = self.put_key(&mut state, *key_hash, log_offset.0, store_timestamp);
            state.last_is_partial = n > 0 && put.is_err();
            put?;
        }
        Ok(())
    }

    fn put_key(&self, state: &mut IndexState, key_hash: i32, log_offset: i64, store_timestamp: i64) -> io::Result<()> {
        if state.filling.as_ref().is_none_or(|filling| filling.room() == 0) {
            self.turn(state, store_timestamp)?;
        }
        if let Some(filling) = &mut state.filling {
            filling.put(key_hash, log_offset, store_timestamp)?;
        }
        Ok(())
    }

    /// Continues in the next file, after the last one is written completely.
    fn turn(&self, state: &mut IndexState, store_timestamp: i64) -> io::Result<()> {
        if let Some(full) = &mut state.filling {
            // Synced with the other files that are not filled any more.
            full.write()?;
        }
        let mut next = match state.next.take() {
            Some(next) => next,
            None => self.create(state, store_timestamp)?,
        };
        let last = state.newest_header();
        if last.end_log > 0 {
            (next.known.header.begin_log, next.known.header.end_log) = (last.end_log, last.end_log);
        }
        if last.end_timestamp > 0 {
            (next.known.header.begin_timestamp, next.known.header.end_timestamp) = (last.end_timestamp, last.end_timestamp);
        }
        if let Some(full) = state.filling.replace(next) {
            state.unsynced.push(full.file);
            state.older.push(Arc::new(full.known));
        }
        Ok(())
    }

    /// Creates a file, named by the time (UTC), or later so that it sorts after all others.
    fn create(&self, state: &IndexState, store_timestamp: i64) -> io::Result<Filling> {
        let newest = state
            .filling
            .as_ref()
            .map(|filling| filling.known.number)
            .or(state.older.last().map(|known| known.number));
        let number = time_number(store_timestamp).max(newest.map_or(0, |newest| newest + 1));
        let path = self.dir.join(format!("{number:017}"));
        let len = self.options.file_len();
        let file = self.disk.create(&path, len, Allocate::Reserved).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "the key index waits for disk space: cannot create file {} of {len} bytes: {error}",
                    path.display()
                ),
            )
        })?;
        let known = IndexFile {
            path,
            number,
            len,
            header: Header::EMPTY,
            is_readable: true,
        };
        Ok(Filling::new(known, file, self.options))
    }

    /// Records under a hash that were stored from `begin_ms` to `end_ms` (both inclusive, to the second), newest first, at most
    /// `max`. May block.
    ///
    /// # Errors
    /// [`io::Error`] if a file cannot be read.
    pub(crate) fn query_hash(&self, key_hash: i32, begin_ms: i64, end_ms: i64, max: usize) -> io::Result<IndexHits> {
        let wanted = Wanted {
            key_hash,
            begin: begin_ms,
            end: end_ms,
            max,
        };
        let mut log_offsets = Vec::new();
        let mut steps = STEPS_MAX;
        let state = self.state.read();
        let last = state.newest_header();
        let mut is_over = false;
        if let Some(filling) = state.filling.as_ref().filter(|filling| filling.known.header.next > 1) {
            if filling.known.header.meets(begin_ms, end_ms) {
                filling.find(wanted, &mut steps, &mut log_offsets)?;
            }
            is_over = filling.known.header.begin_timestamp < begin_ms;
        }
        let older = if is_over {
            Vec::new()
        } else {
            state.older_in_time(begin_ms, end_ms)
        };
        drop(state);
        for known in older {
            if log_offsets.len() >= max {
                break;
            }
            // Retention may have removed it by now.
            if let Some(file) = if_exists(self.disk.open(&known.path, OpenMode::Read))? {
                file::find_in(&*file, self.options, &known.header, wanted, &mut steps, &mut log_offsets)?;
            }
        }
        Ok(IndexHits {
            log_offsets: log_offsets.into_iter().map(LogOffset).collect(),
            last_timestamp: last.end_timestamp,
            last_log_offset: LogOffset(last.end_log),
        })
    }

    /// Log offset and store timestamp (ms) of the record indexed last; zeros if there is none.
    #[must_use]
    pub(crate) fn last(&self) -> (LogOffset, i64) {
        let last = self.state.read().newest_header();
        (LogOffset(last.end_log), last.end_timestamp)
    }

    /// Writes keys that are only in memory to files.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be written, among them [`io::ErrorKind::StorageFull`] for a file whose blocks are not reserved
    /// (a Java broker's). What was not written stays in memory for the next call.
    pub(crate) fn write(&self) -> io::Result<()> {
        let IndexState { filling, is_unsynced, .. } = &mut *self.state.write();
        let Some(filling) = filling.as_mut().filter(|filling| filling.is_dirty()) else {
            return Ok(());
        };
        *is_unsynced = true;
        filling.write()
    }

    /// Whether all keys are written to files.
    #[must_use]
    pub(crate) fn is_written(&self) -> bool {
        !self.state.read().filling.as_ref().is_some_and(Filling::is_dirty)
    }

    /// Syncs what was written before the call. After an error no later call succeeds until the next start has truncated to the
    /// checkpoint.
    ///
    /// # Errors
    /// [`io::Error`] if a sync fails.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut state = self.state.write();
        if state.sync_failed {
            return Err(io::Error::other(
                "an earlier sync of index files failed; the next start repairs them",
            ));
        }
        let mut files = std::mem::take(&mut state.unsynced);
        if std::mem::take(&mut state.is_unsynced) {
            files.extend(state.filling.as_ref().map(|filling| Arc::clone(&filling.file)));
        }
        drop(state);
        for file in files {
            file.sync_data().inspect_err(|_| self.state.write().sync_failed = true)?;
        }
        Ok(())
    }

    /// Whether a sync has failed.
    pub(crate) fn has_failed_sync(&self) -> bool {
        self.state.read().sync_failed
    }

    /// Truncates after an unclean stop: drops the records that start at `log_end` or after it, where everything below `log_end` was
    /// synced for sure. Reads the whole newest file, unless `is_all_readable`: the process was killed, but the machine was not.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be read, removed or written; the index must not be used then.
    pub(crate) fn cut(&self, log_end: LogOffset, is_all_readable: bool) -> io::Result<()> {
        let mut state = self.state.write();
        let newest = [state.filling.take(), state.next.take()];
        state
            .older
            .extend(newest.into_iter().flatten().map(|filling| Arc::new(filling.known)));
        state.older.sort_unstable_by_key(|known| known.number);
        while let Some(known) = state.older.pop_if(|known| known.is_readable) {
            let file = self.disk.open(&known.path, OpenMode::Write)?;
            let header = file::read_header(&*file, self.options)?;
            let cut = match (self.has_below(&*file, log_end)?, is_all_readable) {
                (false, _) => None,
                (true, true) => Some(recovery::rewind(&*file, self.options, &header, log_end.0)?),
                (true, false) => recovery::rebuild(&*file, self.options, &header, log_end.0)?,
            };
            let Some(header) = cut else {
                drop(file);
                self.disk.remove_file(&known.path)?;
                continue;
            };
            state.unsynced.push(file);
            state.older.push(Arc::new(IndexFile {
                header,
                ..IndexFile::clone(&known)
            }));
            break;
        }
        self.disk.sync_dir(&self.dir)?;
        self.fill_newest(&mut state)
    }

    /// Whether the file's first item was synced.
    fn has_below(&self, file: &dyn DiskFile, log_end: LogOffset) -> io::Result<bool> {
        let mut bytes = [0; ITEM_LEN];
        let read = file.read_at(&mut bytes, self.options.item_at(1))?;
        let item = Item::decode(&bytes);
        Ok(read == ITEM_LEN && item != Item::default() && item.log_offset < log_end.0)
    }

    /// Retention: removes the files whose records all start below `log_min`, except the newest. Returns how many.
    ///
    /// # Errors
    /// [`io::Error`] if a file cannot be removed; the next call tries again.
    pub(crate) fn remove_below(&self, log_min: LogOffset) -> io::Result<usize> {
        let mut state = self.state.write();
        let removable = state.older.len() - usize::from(state.filling.is_none() && !state.older.is_empty());
        let count = state.older[..removable]
            .iter()
            .take_while(|known| known.header.end_log < log_min.0)
            .count();
        let removed: Vec<_> = state.older.drain(..count).collect();
        drop(state);
        for (at, known) in removed.iter().enumerate() {
            if let Err(error) = if_exists(self.disk.remove_file(&known.path)) {
                self.state.write().older.splice(0..0, removed[at..].iter().cloned());
                return Err(error);
            }
        }
        Ok(count)
    }
}

impl IndexState {
    fn newest_header(&self) -> Header {
        let filling = self.filling.as_ref().map(|filling| filling.known.header);
        filling
            .or_else(|| self.older.last().map(|known| known.header))
            .unwrap_or(Header::EMPTY)
    }

    /// Whether a record is indexed already.
    fn has(&self, log_offset: i64) -> bool {
        let last = self.newest_header();
        // Headers alone do not distinguish a record at offset 0 from none.
        let has_items = || last.next > 1 || self.older.iter().any(|known| known.header.next > 1);
        log_offset < last.end_log || (log_offset == last.end_log && !self.last_is_partial && has_items())
    }

    /// The files to examine, newest first, up to the first that begins before the requested time.
    fn older_in_time(&self, begin: i64, end: i64) -> Vec<Arc<IndexFile>> {
        let mut files = Vec::new();
        for known in self.older.iter().rev().filter(|known| known.is_readable && known.header.next > 1) {
            if known.header.meets(begin, end) {
                files.push(Arc::clone(known));
            }
            if known.header.begin_timestamp < begin {
                break;
            }
        }
        files
    }
}

/// The last millisecond of the year 9999: a damaged record may have a later time, with more digits than a name.
const LAST_TIME_MS: u64 = 253_402_300_799_999;

/// A time as the digits yyyyMMddHHmmssSSS, in UTC.
fn time_number(timestamp_ms: i64) -> u64 {
    let timestamp_ms = u64::try_from(timestamp_ms).unwrap_or(0).min(LAST_TIME_MS);
    let (days, in_day) = (timestamp_ms / 86_400_000, timestamp_ms % 86_400_000);
    // Counted in eras of 400 years from 1 March of the year 0, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, in_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second, milli) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60, in_day % 1000);
    [month, day, hour, minute, second]
        .iter()
        .fold(year, |number, part| number * 100 + part)
        * 1000
        + milli
}

#[cfg(test)]
mod tests;
