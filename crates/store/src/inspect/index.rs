//! Checks the key index beside a pass through the log: items are in log order, too, so one cursor over all files finds keys that
//! are not indexed and items that name no record. The chains of each file are checked in the same pass.
//!
//! Memory: the slots of one file (4 bytes each) and one block of items.

use super::Judge;
use super::report::{Findings, IndexSummary, Part, Severity};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::StoreError;
use crate::index::{self, Header, ITEM_LEN, IndexFile, IndexOptions, Item, SLOT_LEN, key_hashes};
use message::properties::Indexed;
use message::record::Record;
use message::sys_flag;
use smallvec::SmallVec;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Items or slots read at once.
const CHUNK: usize = 8 * 1024;

const LENGTH: &str =
    "index files of another length than maxHashSlotNum and maxIndexNum give; not checked (give the configuration with -c FILE)";
const HEADER: &str = "index files whose header has impossible numbers";
const ORDER: &str = "index items that go back in the log";
const CHAIN: &str = "index items or slots that do not lead to the previous item: keys behind them are not found";
const DANGLING: &str = "index items that name no record";
const LOST: &str = "index items whose record was in a damaged part of the log";
const FOREIGN: &str = "index items under a key that their record does not have";
const MISSING: &str = "keys of records that are not indexed: they are not found by key";

/// The files of an index directory, oldest first; none if it does not exist.
pub(super) fn files(disk: &dyn Disk, dir: &Path, options: IndexOptions) -> Result<Vec<IndexFile>, StoreError> {
    index::list(disk, dir, options).map_err(|e| StoreError::io("read", dir, e))
}

/// Reads the items of one file, in the order in which they were added, up to the first that cannot be read.
pub(super) struct Items {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    options: IndexOptions,
    next: u32,
    end: u32,
    buffer: Vec<Item>,
    buffer_at: u32,
}

impl Items {
    pub(super) fn open(disk: &dyn Disk, file: &IndexFile, options: IndexOptions, from: u32) -> Result<Self, StoreError> {
        let opened = disk.open(&file.path, OpenMode::Read);
        Ok(Self {
            file: opened.map_err(|e| StoreError::io("open", &file.path, e))?,
            path: file.path.clone(),
            options,
            next: from.max(1),
            end: file.header.next,
            buffer: Vec::new(),
            buffer_at: 0,
        })
    }

    /// The item at the cursor and its number.
    pub(super) fn peek(&mut self) -> Result<Option<(u32, Item)>, StoreError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let index = self.next.checked_sub(self.buffer_at).map(|index| index as usize);
        if let Some(item) = index.and_then(|index| self.buffer.get(index)) {
            return Ok(Some((self.next, *item)));
        }
        let count = CHUNK.min((self.end - self.next) as usize);
        let mut bytes = vec![0; count * ITEM_LEN];
        let read = self.file.read_at(&mut bytes, self.options.item_at(self.next));
        let read = read.map_err(|e| StoreError::io("read", &self.path, e))?;
        let (items, _) = bytes[..read].as_chunks::<ITEM_LEN>();
        self.buffer.clear();
        self.buffer.extend(items.iter().map(Item::decode));
        self.buffer_at = self.next;
        Ok(self.buffer.first().map(|item| (self.next, *item)))
    }

    pub(super) fn take(&mut self) {
        self.next += 1;
    }
}

/// The cursor over all files.
pub(super) struct Index {
    disk: Arc<dyn Disk>,
    options: IndexOptions,
    files: Vec<IndexFile>,
    /// The file being checked, and which of `files` is next.
    current: Option<Current>,
    next_file: usize,
    in_use: bool,
    log_first: i64,
    last_log_offset: i64,
    summary: IndexSummary,
}

struct Current {
    file: IndexFile,
    items: Items,
    slots: Vec<u32>,
    is_newest: bool,
}

/// Hashes of one record's keys.
type Hashes = SmallVec<[i32; 8]>;

impl Index {
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        options: IndexOptions,
        log_first: i64,
        in_use: bool,
        findings: &mut Findings,
    ) -> Result<Self, StoreError> {
        let options = options.checked();
        let files = files(&**disk, dir, options)?;
        for file in files.iter().filter(|file| !file.is_readable) {
            findings.add(Severity::Damage, Part::Index, LENGTH, || {
                format!("{} has not {} bytes", file.path.display(), options.file_len())
            });
        }
        for file in files.iter().filter(|file| file.is_readable && !is_sound(&file.header)) {
            findings.add(Severity::Damage, Part::Index, HEADER, || {
                format!("{}: {:?}", file.path.display(), file.header)
            });
        }
        let summary = IndexSummary {
            files: files.len(),
            items: 0,
        };
        Ok(Self {
            disk: Arc::clone(disk),
            options,
            files,
            current: None,
            next_file: 0,
            in_use,
            log_first,
            last_log_offset: -1,
            summary,
        })
    }

    /// Compares the items of a record with its keys. Records come in log order.
    pub(super) fn meet(&mut self, record: &Record<'_>, judge: &Judge, findings: &mut Findings) -> Result<(), StoreError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let at = record.log_offset.0;
        let found = self.items_of(at, judge, findings)?;
        let wanted = wanted(record);
        let place = || {
            format!(
                "{}/{} offset {}, log offset {at}",
                record.topic, record.queue_id, record.queue_offset
            )
        };
        let missing = wanted.iter().filter(|hash| !found.contains(hash)).count() as u64;
        // A message that a Java broker does not index is no loss.
        if missing > 0 && !self.is_unknown(at) {
            findings.add_many(missing, judge.index_severity(at), Part::Index, MISSING, place);
        }
        let own = own(record);
        if found.iter().any(|hash| !own.contains(hash)) {
            findings.add(judge.index_severity(at), Part::Index, FOREIGN, place);
        }
        Ok(())
    }

    /// The hashes of the items that name this record; items before it name none.
    fn items_of(&mut self, at: i64, judge: &Judge, findings: &mut Findings) -> Result<Hashes, StoreError> {
        let mut found = Hashes::new();
        while let Some((number, item)) = self.peek(judge, findings)? {
            if item.log_offset > at {
                break;
            }
            if item.log_offset == at {
                found.push(item.key_hash);
            } else if item.log_offset >= self.log_first && item.log_offset > self.last_log_offset {
                self.dangles(number, item, judge, findings);
            }
            self.take(number, item, judge, findings);
        }
        self.last_log_offset = at;
        Ok(found)
    }

    /// Whether the record may be indexed in a file that could not be read.
    fn is_unknown(&self, at: i64) -> bool {
        let mut unread = self.files.iter().filter(|file| !file.is_readable);
        unread.any(|file| at >= file.header.begin_log && at <= file.header.end_log)
    }

    fn dangles(&self, number: u32, item: Item, judge: &Judge, findings: &mut Findings) {
        let at = item.log_offset;
        let what = if judge.is_in_hole(at) { LOST } else { DANGLING };
        let name = || self.current.as_ref().map(|current| current.file.name()).unwrap_or_default();
        findings.add(judge.index_severity(at), Part::Index, what, || {
            format!("{} item {number} names {at}", name())
        });
    }

    fn peek(&mut self, judge: &Judge, findings: &mut Findings) -> Result<Option<(u32, Item)>, StoreError> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(found) = current.items.peek()? {
                    return Ok(Some(found));
                }
                let done = self.current.take();
                done.map_or(Ok(()), |done| self.compare_slots(&done, judge, findings))?;
            }
            let Some(file) = self.files.get(self.next_file) else {
                return Ok(None);
            };
            self.next_file += 1;
            if !file.is_readable {
                continue;
            }
            let items = match Items::open(&*self.disk, file, self.options, 1) {
                // Retention removed it.
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            self.current = Some(Current {
                file: file.clone(),
                items,
                slots: vec![0; self.options.slots as usize],
                is_newest: self.next_file == self.files.len(),
            });
        }
    }

    /// Moves to the next item, whose link must lead to the previous item in its slot.
    fn take(&mut self, number: u32, item: Item, judge: &Judge, findings: &mut Findings) {
        let Some(current) = &mut self.current else { return };
        current.items.take();
        self.summary.items += 1;
        let slot = &mut current.slots[self.options.slot_of(item.key_hash) as usize];
        let before = std::mem::replace(slot, number);
        let at = item.log_offset;
        if item.before.max(0).unsigned_abs() != before {
            findings.add(judge.index_severity(at), Part::Index, CHAIN, || {
                format!("{} item {number} leads to {}, not {before}", current.file.name(), item.before)
            });
        }
        if at < self.last_log_offset && at >= self.log_first {
            findings.add(judge.index_severity(at), Part::Index, ORDER, || {
                format!("{} item {number} names {at} after {}", current.file.name(), self.last_log_offset)
            });
        }
    }

    /// Each slot must lead to the newest item in it.
    fn compare_slots(&self, done: &Current, judge: &Judge, findings: &mut Findings) -> Result<(), StoreError> {
        // A process is adding items to it.
        if done.is_newest && self.in_use {
            return Ok(());
        }
        let severity = judge.index_severity(done.file.header.end_log);
        let mut bytes = vec![0; CHUNK * SLOT_LEN];
        for (part, slots) in done.slots.chunks(CHUNK).enumerate() {
            let first = part * CHUNK;
            let bytes = &mut bytes[..slots.len() * SLOT_LEN];
            let read = done.items.file.read_at(bytes, self.options.slot_at(first as u32));
            let read = read.map_err(|e| StoreError::io("read", &done.items.path, e))?;
            let (numbers, _) = bytes[..read].as_chunks::<SLOT_LEN>();
            for (at, (slot, number)) in slots.iter().zip(numbers).enumerate() {
                let number = u32::from_be_bytes(*number);
                // A slot that leads to no item counts as empty.
                let number = if number < done.file.header.next { number } else { 0 };
                if number != *slot {
                    findings.add(severity, Part::Index, CHAIN, || {
                        format!("{} slot {} leads to {number}, not {slot}", done.file.name(), first + at)
                    });
                }
            }
        }
        Ok(())
    }

    /// Checks the items that are left.
    pub(super) fn finish(&mut self, judge: &Judge, findings: &mut Findings) -> Result<IndexSummary, StoreError> {
        while let Some((number, item)) = self.peek(judge, findings)? {
            if item.log_offset > self.last_log_offset && item.log_offset >= self.log_first {
                self.dangles(number, item, judge, findings);
            }
            self.take(number, item, judge, findings);
        }
        Ok(self.summary.clone())
    }
}

/// The hashes under which a record must be found. Its tag is not among them: only newer brokers index tags. A Java broker indexes
/// half messages, ApogeeMQ does not.
fn wanted(record: &Record<'_>) -> Hashes {
    let mut wanted = Hashes::new();
    if !sys_flag::is_in_queue(record.sys_flag) {
        return wanted;
    }
    let indexed = Indexed::of(record.properties);
    key_hashes(record.topic, &indexed.uniq_key, &indexed.keys, "", |hash| wanted.push(hash));
    wanted
}

/// All hashes under which a record may be found.
fn own(record: &Record<'_>) -> Hashes {
    let indexed = Indexed::of(record.properties);
    let mut own = Hashes::new();
    key_hashes(record.topic, &indexed.uniq_key, &indexed.keys, &indexed.tags, |hash| own.push(hash));
    own
}

fn is_sound(header: &Header) -> bool {
    header.begin_log >= 0 && header.end_log >= header.begin_log && header.end_timestamp >= 0
}
