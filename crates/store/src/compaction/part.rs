//! One file of records with its file of entries.

use super::layout::{COMPACTING, CompactedEntry, ENTRY_LEN, FileSizes, end_entry, file_name};
use crate::disk::{Allocate, Disk, DiskFile, OpenMode, if_exists};
use crate::error::StoreError;
use crate::sync::atomic::{AtomicI64, Ordering};
use bytes::{Bytes, BytesMut};
use message::record::{self, Record};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LEN: i64 = ENTRY_LEN as i64;
/// Entries of one read.
const ENTRIES_A_READ: usize = 64;
/// Bytes of records of one read, unless one is larger.
const BYTES_A_READ: i64 = 1 << 20;

/// The directories of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    pub(crate) log: PathBuf,
    pub(crate) index: PathBuf,
}

impl Dirs {
    /// Those of a pass that is not complete.
    pub(super) fn compacting(&self) -> Self {
        Self {
            log: self.log.join(COMPACTING),
            index: self.index.join(COMPACTING),
        }
    }
}

/// A file of records with its file of entries. What is published can be read by any thread.
#[derive(Debug)]
pub(super) struct Part {
    /// Position of its first byte.
    pub(super) base: i64,
    pub(super) log_len: i64,
    pub(super) index_len: i64,
    log: Arc<dyn DiskFile>,
    index: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Published entries.
    count: AtomicI64,
    /// End of the last published record.
    end: AtomicI64,
    /// Queue offset of the first entry; `i64::MAX` if there is none.
    first: AtomicI64,
    /// Queue offset of the last entry; -1 if there is none.
    last: AtomicI64,
}

impl Part {
    /// Creates empty files.
    fn create(disk: &dyn Disk, dirs: &Dirs, base: i64, log_len: i64, index_len: i64) -> Result<Self, StoreError> {
        let path = dirs.log.join(file_name(base));
        let create = |dir: &Path, len: i64| {
            let path = dir.join(file_name(base));
            // An attempt that failed may have left one of the two.
            if_exists(disk.remove_file(&path))
                .and_then(|_| disk.create(&path, len.unsigned_abs(), Allocate::Sparse))
                .map_err(|e| StoreError::io("create", &path, e))
        };
        disk.create_dir_all(&dirs.index)
            .and_then(|()| disk.create_dir_all(&dirs.log))
            .map_err(|e| StoreError::io("create", &dirs.log, e))?;
        // The log file last: entries without one are removed by the next start.
        let index = create(&dirs.index, index_len)?;
        let log = create(&dirs.log, log_len)?;
        Ok(Self::empty(base, log, log_len, index, index_len, path))
    }

    fn empty(base: i64, log: Arc<dyn DiskFile>, log_len: i64, index: Arc<dyn DiskFile>, index_len: i64, path: PathBuf) -> Self {
        Self {
            base,
            log_len,
            index_len,
            log,
            index,
            path,
            count: AtomicI64::new(0),
            end: AtomicI64::new(base),
            first: AtomicI64::new(i64::MAX),
            last: AtomicI64::new(-1),
        }
    }

    /// Opens files that exist; with [`OpenMode::Read`] nothing can be appended. `is_last`: a crash may have torn what was written last; the entries are examined one by one.
    pub(super) fn open(disk: &dyn Disk, dirs: &Dirs, base: i64, mode: OpenMode, is_last: bool) -> Result<Self, StoreError> {
        let open = |dir: &Path| {
            let path = dir.join(file_name(base));
            let file = disk.open(&path, mode).map_err(|e| StoreError::io("open", &path, e))?;
            let len = file.len().map_err(|e| StoreError::io("examine", &path, e))?;
            Ok::<_, StoreError>((file, i64::try_from(len).unwrap_or(i64::MAX)))
        };
        let (log, log_len) = open(&dirs.log)?;
        let (index, index_len) = open(&dirs.index)?;
        let part = Self::empty(base, log, log_len, index, index_len, dirs.log.join(file_name(base)));
        let searched = if is_last { None } else { part.count_by_search()? };
        let count = searched.map_or_else(|| part.count_one_by_one(), Ok)?;
        if count > 0 {
            let (first, last) = (part.entry_in_file(0)?, part.entry_in_file(count - 1)?);
            if let (Some(first), Some(last)) = (first, last) {
                part.publish(count, first.queue_offset, &last);
            }
        }
        Ok(part)
    }

    fn publish(&self, count: i64, first: i64, last: &CompactedEntry) {
        self.first.store(first, Ordering::Release);
        self.last.store(last.queue_offset, Ordering::Release);
        self.end.store(last.end(), Ordering::Release);
        self.count.store(count, Ordering::Release);
    }

    /// Number of entries, each of which continues the one before and names bytes of the log file.
    fn count_one_by_one(&self) -> Result<i64, StoreError> {
        let (mut end, mut offset, mut count) = (self.base, -1, 0);
        'file: loop {
            let entries = self.entries_in_file(count, ENTRIES_A_READ)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                let continues = entry
                    .is_some_and(|entry| entry.position == end && entry.queue_offset > offset && entry.end() <= self.base + self.log_len);
                let Some(entry) = entry.filter(|_| continues) else { break 'file };
                (end, offset) = (entry.end(), entry.queue_offset);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Number of entries of a file that was sealed; `None` if it was not, or looks as if it were not: Apache's broker may leave
    /// entries of an earlier attempt behind the last one.
    fn count_by_search(&self) -> Result<Option<i64>, StoreError> {
        let (mut low, mut high) = (0, self.index_len / LEN);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry_in_file(middle)?.is_some() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(last) = self.entry_in_file((low - 1).max(0))?.filter(|_| low > 0) else {
            return Ok(None);
        };
        let left = self.base + self.log_len - last.end();
        let mut head = [0; record::FILLER_LEN];
        let at = (last.end() - self.base).unsigned_abs();
        self.log.read_at(&mut head, at).map_err(|e| self.failed(e))?;
        let is_sealed = left < record::FILLER_LEN as i64 || record::peek(&head) == record::Peek::Filler;
        Ok(is_sealed.then_some(low))
    }

    fn failed(&self, error: std::io::Error) -> StoreError {
        StoreError::io("read", &self.path, error)
    }

    fn entry_in_file(&self, n: i64) -> Result<Option<CompactedEntry>, StoreError> {
        Ok(self.entries_in_file(n, 1)?.pop().flatten())
    }

    fn entries_in_file(&self, from: i64, most: usize) -> Result<Vec<Option<CompactedEntry>>, StoreError> {
        let mut bytes = vec![0; most * ENTRY_LEN];
        let read = self
            .index
            .read_at(&mut bytes, (from * LEN).unsigned_abs())
            .map_err(|e| self.failed(e))?;
        let (entries, _) = bytes[..read].as_chunks::<ENTRY_LEN>();
        Ok(entries.iter().map(CompactedEntry::decode).collect())
    }

    pub(super) fn count(&self) -> i64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn first(&self) -> i64 {
        self.first.load(Ordering::Acquire)
    }

    pub(super) fn last(&self) -> i64 {
        self.last.load(Ordering::Acquire)
    }

    /// Bytes of published records.
    pub(super) fn bytes(&self) -> i64 {
        self.end.load(Ordering::Acquire) - self.base
    }

    /// The published entries from the `from`-th on, at most a read's.
    pub(super) fn entries(&self, from: i64) -> Result<Vec<CompactedEntry>, StoreError> {
        let left = usize::try_from(self.count() - from).unwrap_or(0);
        let entries = self.entries_in_file(from, left.min(ENTRIES_A_READ))?;
        Ok(entries.into_iter().map_while(|entry| entry).collect())
    }

    /// The number of the first entry for which `is_left` no longer holds.
    pub(super) fn search(&self, is_left: impl Fn(&CompactedEntry) -> bool) -> Result<i64, StoreError> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry_in_file(middle)?.is_some_and(|entry| is_left(&entry)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The records of entries, which are in order. `None` for one that is damaged.
    pub(super) fn records(&self, entries: &[CompactedEntry]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut records = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let mut end = first.position;
            let together = |entry: &&CompactedEntry| {
                let fits = entry.position == end && (end == first.position || entry.end() - first.position <= BYTES_A_READ);
                end = entry.end();
                fits
            };
            let count = rest.iter().take_while(together).count().max(1);
            let (some, others) = rest.split_at(count);
            self.read_together(some, &mut records)?;
            rest = others;
        }
        Ok(records)
    }

    fn read_together(&self, entries: &[CompactedEntry], records: &mut Vec<Option<Bytes>>) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let is_inside = first.position >= self.base && last.end() <= self.base + self.log_len;
        let Some(len) = usize::try_from(last.end() - first.position).ok().filter(|_| is_inside) else {
            records.extend(entries.iter().map(|_| None));
            return Ok(());
        };
        let mut bytes = BytesMut::zeroed(len);
        let at = (first.position - self.base).unsigned_abs();
        let read = self.log.read_at(&mut bytes, at).map_err(|e| self.failed(e))?;
        bytes.truncate(read);
        let bytes = bytes.freeze();
        for entry in entries {
            let from = (entry.position - first.position) as usize;
            let record = bytes.get(from..from + entry.size as usize);
            records.push(record.filter(|record| is_of(entry, record)).map(|record| bytes.slice_ref(record)));
        }
        Ok(())
    }

    /// Passes all published entries with their records to `visit`, in order; `None` for a damaged record.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(&CompactedEntry, Option<&Bytes>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut at = 0;
        loop {
            let entries = self.entries(at)?;
            if entries.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            at += entries.len() as i64;
            for (entry, record) in entries.iter().zip(self.records(&entries)?) {
                if visit(entry, record.as_ref())?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }

    /// Drops the entries from the `count`-th on.
    pub(super) fn truncate(&self, count: i64) -> Result<(), StoreError> {
        match (self.entry_in_file(0)?, self.entry_in_file(count - 1)?) {
            (Some(first), Some(last)) if count > 0 => self.publish(count, first.queue_offset, &last),
            _ => {
                self.count.store(0, Ordering::Release);
                self.end.store(self.base, Ordering::Release);
                self.last.store(-1, Ordering::Release);
                self.first.store(i64::MAX, Ordering::Release);
            }
        }
        self.erase_rest()
    }

    /// Erases what is behind the published part in both files.
    fn erase_rest(&self) -> Result<(), StoreError> {
        let cut = |file: &dyn DiskFile, at: i64, len: i64| {
            file.make_zeros(at.unsigned_abs()..len.unsigned_abs())?;
            file.sync_data()
        };
        cut(&*self.index, self.count() * LEN, self.index_len)
            .and_then(|()| cut(&*self.log, self.bytes(), self.log_len))
            .map_err(|e| StoreError::io("truncate", &self.path, e))
    }
}

/// Whether the bytes are the whole record of an entry.
fn is_of(entry: &CompactedEntry, bytes: &[u8]) -> bool {
    record::peek(bytes) == record::Peek::Record { size: bytes.len() }
        && Record::parse(bytes).is_ok_and(|record| record.queue_offset.0 == entry.queue_offset && record.crc_matches())
}

/// Bytes of records that are written before they are synced and published.
const COMMIT_BYTES: usize = 16 << 20;
/// Bytes that are collected for one write.
const WRITE_BYTES: usize = 1 << 20;

/// Appends records behind the last file of a list.
///
/// Records are synced before their entries are written, so an entry that is found after a crash has its record. After an error drop
/// the writer: the next one begins behind what was published.
pub(super) struct PartWriter<'a> {
    disk: &'a dyn Disk,
    dirs: Dirs,
    sizes: FileSizes,
    /// Position of the first file, if there is none.
    first_base: i64,
    parts: Vec<Arc<Part>>,
    /// Records and entries that are not written.
    records: BytesMut,
    entries: Vec<u8>,
    /// Bytes of records that are written and not synced.
    unsynced: usize,
    /// The first and last entry that are not published.
    unpublished: Option<(i64, CompactedEntry)>,
    /// Whether the rest of the last file was erased.
    is_clean: bool,
}

impl<'a> PartWriter<'a> {
    pub(super) fn new(disk: &'a dyn Disk, dirs: &Dirs, sizes: FileSizes, first_base: i64, parts: Vec<Arc<Part>>) -> Self {
        Self {
            disk,
            dirs: dirs.clone(),
            sizes,
            first_base,
            parts,
            records: BytesMut::new(),
            entries: Vec::new(),
            unsynced: 0,
            unpublished: None,
            is_clean: false,
        }
    }

    /// The files.
    pub(super) fn parts(&self) -> &[Arc<Part>] {
        &self.parts
    }

    fn end(&self) -> Option<i64> {
        let last = self.parts.last()?;
        Some(match &self.unpublished {
            Some((_, entry)) => entry.end(),
            None => last.base + last.bytes(),
        })
    }

    fn entries_of_last(&self) -> i64 {
        self.parts.last().map_or(0, |last| last.count()) + (self.entries.len() / ENTRY_LEN) as i64
    }

    /// Appends a record. True if the list of files has changed.
    ///
    /// # Errors
    /// `StoreError::Io` if a file cannot be created, written or synced.
    pub(super) fn append(&mut self, entry: &CompactedEntry, record: &[u8]) -> Result<bool, StoreError> {
        let needed = record.len() as i64 + record::FILLER_LEN as i64;
        let fits = self
            .end()
            .zip(self.parts.last())
            .is_some_and(|(end, last)| end + needed <= last.base + last.log_len && self.entries_of_last() < last.index_len / LEN - 1);
        if !fits {
            self.begin_file(record.len() as i64)?;
        }
        let position = self.end().unwrap_or(self.first_base);
        let entry = CompactedEntry {
            position,
            size: record.len() as i32,
            ..*entry
        };
        self.records.extend_from_slice(record);
        self.entries.extend_from_slice(&entry.encode());
        let first = self.unpublished.map_or(entry.queue_offset, |(first, _)| first);
        self.unpublished = Some((first, entry));
        if self.records.len() >= WRITE_BYTES {
            self.write_records()?;
        }
        if self.unsynced >= COMMIT_BYTES {
            self.commit()?;
        }
        Ok(!fits)
    }

    fn begin_file(&mut self, size: i64) -> Result<(), StoreError> {
        self.seal()?;
        let base = self.parts.last().map_or(self.first_base, |last| last.base + last.log_len);
        let part = Part::create(self.disk, &self.dirs, base, self.sizes.log_for(size), self.sizes.index)?;
        self.parts.push(Arc::new(part));
        self.is_clean = true;
        Ok(())
    }

    /// Marks the last file as full.
    ///
    /// # Errors
    /// As [`PartWriter::commit`].
    pub(super) fn seal(&mut self) -> Result<(), StoreError> {
        let (Some(last), Some(end)) = (self.parts.last(), self.end()) else {
            return Ok(());
        };
        let left = last.base + last.log_len - end;
        let has_room = self.entries_of_last() < last.index_len / LEN;
        self.commit()?;
        self.erase_earlier_attempt()?;
        let Some(last) = self.parts.last() else { return Ok(()) };
        if left >= record::FILLER_LEN as i64 {
            let mut filler = BytesMut::new();
            record::encode_filler(left as usize, &mut filler);
            let at = (end - last.base).unsigned_abs();
            last.log.write_at(&filler, at).map_err(|e| StoreError::io("write", &last.path, e))?;
            last.log.sync_data().map_err(|e| StoreError::io("sync", &last.path, e))?;
        }
        if has_room {
            let at = (last.count() * LEN).unsigned_abs();
            last.index
                .write_at(&end_entry(), at)
                .and_then(|()| last.index.sync_data())
                .map_err(|e| StoreError::io("write", &last.path, e))?;
        }
        Ok(())
    }

    /// Erases what an earlier attempt may have left behind the last entry: a start would take it for ours.
    fn erase_earlier_attempt(&mut self) -> Result<(), StoreError> {
        if let Some(last) = self.parts.last().filter(|_| !self.is_clean) {
            last.erase_rest()?;
            self.is_clean = true;
        }
        Ok(())
    }

    fn write_records(&mut self) -> Result<(), StoreError> {
        self.erase_earlier_attempt()?;
        let Some(last) = self.parts.last() else { return Ok(()) };
        let at = last.bytes().unsigned_abs() + self.unsynced as u64;
        last.log
            .write_at(&self.records, at)
            .map_err(|e| StoreError::io("write", &last.path, e))?;
        self.unsynced += self.records.len();
        self.records.clear();
        Ok(())
    }

    /// Syncs and publishes what was appended.
    ///
    /// # Errors
    /// `StoreError::Io` if a file cannot be written or synced.
    pub(super) fn commit(&mut self) -> Result<(), StoreError> {
        let Some((first, entry)) = self.unpublished else { return Ok(()) };
        self.write_records()?;
        let Some(last) = self.parts.last() else { return Ok(()) };
        last.log.sync_data().map_err(|e| StoreError::io("sync", &last.path, e))?;
        let at = (last.count() * LEN).unsigned_abs();
        last.index
            .write_at(&self.entries, at)
            .and_then(|()| last.index.sync_data())
            .map_err(|e| StoreError::io("write", &last.path, e))?;
        let first = if last.count() == 0 { first } else { last.first() };
        last.publish(last.count() + (self.entries.len() / ENTRY_LEN) as i64, first, &entry);
        self.entries.clear();
        self.unsynced = 0;
        self.unpublished = None;
        Ok(())
    }
}

/// Rebuilds a file of entries from its log file, which is all that is needed of it.
///
/// # Errors
/// `StoreError::Io` if files cannot be read or written.
pub(super) fn rebuild_index(disk: &dyn Disk, dirs: &Dirs, base: i64, index_len: i64, tag_of: fn(&[u8]) -> i64) -> Result<(), StoreError> {
    let path = dirs.log.join(file_name(base));
    let failed = |e| StoreError::io("read", &path, e);
    let file = disk.open(&path, OpenMode::Read).map_err(failed)?;
    let len = i64::try_from(file.len().map_err(failed)?).unwrap_or(i64::MAX);
    let (mut at, mut last, mut bytes) = (0, -1, Vec::new());
    while at + (record::MIN_LEN as i64) < len && (bytes.len() as i64) < index_len - LEN {
        let mut head = [0; record::FILLER_LEN];
        file.read_at(&mut head, at.unsigned_abs()).map_err(failed)?;
        let record::Peek::Record { size } = record::peek(&head) else {
            break;
        };
        if size as i64 > len - at {
            break;
        }
        let mut content = vec![0; size];
        file.read_at(&mut content, at.unsigned_abs()).map_err(failed)?;
        let Some(record) = Record::parse(&content).ok().filter(|record| record.queue_offset.0 > last) else {
            break;
        };
        last = record.queue_offset.0;
        let entry = CompactedEntry {
            position: base + at,
            size: size as i32,
            tags_code: tag_of(record.properties),
            stored_ms: record.store_timestamp,
            queue_offset: last,
        };
        bytes.extend_from_slice(&entry.encode());
        at += size as i64;
    }
    disk.create_dir_all(&dirs.index)
        .map_err(|e| StoreError::io("create", &dirs.index, e))?;
    let path = dirs.index.join(file_name(base));
    let write = || {
        if_exists(disk.remove_file(&path))?;
        let file = disk.create(&path, index_len.unsigned_abs(), Allocate::Sparse)?;
        file.write_at(&bytes, 0)?;
        file.sync_data()
    };
    write().map_err(|e| StoreError::io("write", &path, e))?;
    tracing::warn!(file = %path.display(), entries = bytes.len() / ENTRY_LEN, "entries of a compacted file were missing; they were made again from its records");
    Ok(())
}
