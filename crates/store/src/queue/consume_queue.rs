//! One queue: its published entries, of which the newest are in memory and the others in files.
//!
//! Not here: the files and the search for their written end (`files`), the list of queues (`table`).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};

use crate::compaction::CompactedQueue;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use message::{LogOffset, QueueOffset};
use smallvec::SmallVec;

use super::due::Code;
use super::entry::{ENTRY_LEN, Entry};
use super::files::{Extent, QueueFiles};
use super::light::Chain;
use super::synced::{LastRun, Synced};

/// Bytes of an entry, as a difference of byte offsets.
pub(super) const LEN: i64 = ENTRY_LEN as i64;
/// Maximum entries of one write to a file.
const WRITE_MAX: usize = 32 * 1024;
/// Maximum entries of one read from a file; the buffer is on the stack.
const READ_MAX: usize = 256;

/// A consume queue. All methods may be called from any thread, but only one thread at a time assigns and publishes.
#[derive(Debug)]
pub struct ConsumeQueue {
    pub(super) files: QueueFiles,
    pub(super) assigned: AtomicI64,
    /// The topic was deleted: no more offsets are assigned. Changed under the log's append lock.
    retired: AtomicBool,
    pub(super) min: AtomicI64,
    pub(super) max: AtomicI64,
    /// Log offset of the entry at `min`, if there is one.
    pub(super) min_log_offset: AtomicI64,
    pub(super) log_end: AtomicI64,
    pub(super) on_disk: Mutex<OnDisk>,
    pub(super) tail: Mutex<Unwritten>,
    /// For a light queue: its blocks in the light log. It has no files.
    pub(super) light: Option<Box<Mutex<Chain>>>,
    /// The part of a compacted topic's queue that is not read from the log.
    compacted: OnceLock<Arc<CompactedQueue>>,
}

/// Published entries that are not written to a file.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    pub(super) entries: VecDeque<Entry>,
    /// Queue offset of the first of them; all before it are in files.
    pub(super) written: i64,
    /// End in the log of the message of the entry before.
    pub(super) written_log_end: i64,
    /// Whether the table's list of queues to write has this one.
    pub(super) is_listed: bool,
    pub(super) is_gone: bool,
}

#[derive(Debug)]
pub(super) struct OnDisk {
    pub(super) extent: Extent,
    /// The lowest byte that was changed since the last sync; `i64::MAX` when none.
    pub(super) unsynced_from: i64,
    pub(super) names_unsynced: bool,
    /// Whether the names of the first file and of its directories have never been synced.
    pub(super) is_new: bool,
    /// Whether the table's list of queues to sync has this one.
    pub(super) is_listed: bool,
    /// Content of the next `consumequeue.synced`.
    pub(super) synced: Synced,
    /// The queue offset above which a crash may have left damaged entries, by the last run's `consumequeue.synced`; `i64::MAX` if
    /// it is unknown, or if something was written since.
    pub(super) limit: i64,
    /// Files before a gap, until retention has deleted the messages that they name.
    pub(super) strays: Vec<i64>,
}

impl OnDisk {
    fn new(extent: Extent) -> Self {
        Self {
            extent,
            unsynced_from: i64::MAX,
            names_unsynced: false,
            is_new: false,
            is_listed: false,
            synced: Synced { max: 0, log_end: 0 },
            limit: i64::MAX,
            strays: Vec::new(),
        }
    }
}

impl Unwritten {
    /// The synced end after a sync of all files.
    pub(super) fn synced_after(&self) -> Synced {
        Synced {
            max: self.written,
            log_end: self.written_log_end,
        }
    }
}

/// Result of [`ConsumeQueue::skip_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// The queue was at the offset already.
    Nothing,
    /// The queue had no message and starts at the offset now.
    Restarted,
    /// This many entries without a message were published to get there.
    Blanks(u64),
    /// The offset is below the maximum: the message is in the queue already.
    Behind,
}

/// Entries in memory from an offset on.
enum InMemory {
    /// This many entries were read.
    Read(usize),
    /// The offset is in files; memory begins at this one.
    From(i64),
}

/// Result of a round of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The queue is to be visited again.
    Active,
    /// Nothing had to be written: the queue left the list and freed its memory.
    AtRest,
}

impl ConsumeQueue {
    /// A queue without files that starts at offset 0.
    pub(super) fn fresh(files: QueueFiles) -> Self {
        Self {
            files,
            assigned: AtomicI64::new(0),
            retired: AtomicBool::new(false),
            min: AtomicI64::new(0),
            max: AtomicI64::new(0),
            min_log_offset: AtomicI64::new(i64::MAX),
            log_end: AtomicI64::new(0),
            on_disk: Mutex::new(OnDisk::new(Extent::default())),
            tail: Mutex::default(),
            light: None,
            compacted: OnceLock::new(),
        }
    }

    /// A light queue without messages.
    pub(super) fn fresh_light(files: QueueFiles) -> Self {
        Self {
            light: Some(Box::new(Mutex::new(Chain::NEW))),
            ..Self::fresh(files)
        }
    }

    /// A queue with its bounds from its files.
    pub(super) fn open(files: QueueFiles, last_run: LastRun) -> io::Result<Self> {
        let queue = Self::fresh(files);
        let mut on_disk = queue.on_disk.lock();
        let found = queue.files.find()?;
        (on_disk.extent, on_disk.strays) = (found.extent, found.strays);
        on_disk.limit = last_run.limit();
        if on_disk.extent != Extent::default() {
            let end = match last_run {
                LastRun::Synced(synced) if queue.files.ends_at(on_disk.extent, synced)? => synced.max * LEN,
                _ => queue.files.written_end(on_disk.extent, i64::MAX, i64::MAX)?,
            };
            queue.settle(&mut on_disk, end)?;
            let first = on_disk.extent.first / LEN;
            queue.settle_min(first, 0)?;
        }
        drop(on_disk);
        Ok(queue)
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.files.topic
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.files.topic
    }

    /// The part that is not read from the log, if the topic is compacted.
    pub(crate) fn compacted(&self) -> Option<&Arc<CompactedQueue>> {
        self.compacted.get()
    }

    /// Sets the part that is not read from the log, unless there is one; returns the one that counts.
    pub(crate) fn set_compacted(&self, compacted: Arc<CompactedQueue>) -> &Arc<CompactedQueue> {
        self.compacted.get_or_init(|| compacted)
    }

    /// The queue id.
    #[must_use]
    pub fn queue_id(&self) -> i32 {
        self.files.queue_id
    }

    /// Whether the queue's topic was deleted. Exact under the log's append lock only.
    #[must_use]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Marks the queue of a topic that is being deleted. Only under the log's append lock.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// The last field of the entry of a message that is stored at `stored_ms`.
    pub(crate) fn code_of(&self, properties: &[u8], tags: &str, stored_ms: i64) -> Code {
        self.files.shared.due.code(self.topic(), properties, tags, stored_ms)
    }

    /// Assigns the next queue offset. Only under the log's append lock.
    pub(crate) fn assign(&self) -> QueueOffset {
        let offset = self.assigned.load(Ordering::Relaxed);
        self.assigned.store(offset + 1, Ordering::Relaxed);
        QueueOffset(offset)
    }

    /// The entry at an offset; `None` if there is none. May block.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's file cannot be read.
    pub(crate) fn entry_at(&self, offset: QueueOffset) -> io::Result<Option<Entry>> {
        let mut entries = SmallVec::<[Entry; 1]>::new();
        self.read(offset, 1, &mut entries)?;
        Ok(entries.first().copied())
    }

    /// Whether the message at an offset is the one at this place of the log. May block.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's file cannot be read.
    pub(crate) fn holds(&self, offset: QueueOffset, at: LogOffset) -> io::Result<bool> {
        Ok(self.entry_at(offset)?.is_some_and(|entry| entry.log_offset == at.0))
    }

    /// All offsets below this one are assigned. Only while nothing is appended.
    pub(crate) fn assigned_before(&self, next: QueueOffset) {
        self.assigned.fetch_max(next.0, Ordering::Relaxed);
    }

    /// The queue offset that is assigned next.
    #[must_use]
    pub fn assigned(&self) -> QueueOffset {
        QueueOffset(self.assigned.load(Ordering::Relaxed))
    }

    /// Resets the next queue offset to the published maximum, as after an append that failed. Only under the log's append lock.
    pub(crate) fn reset_assigned_to_published(&self) {
        self.assigned.store(self.max.load(Ordering::Acquire), Ordering::Relaxed);
    }

    /// The lowest queue offset whose message may still be in the log; [`ConsumeQueue::max`] if there is none.
    #[must_use]
    pub fn min(&self) -> QueueOffset {
        QueueOffset(self.min.load(Ordering::Acquire))
    }

    /// The queue offset after the last published one.
    #[must_use]
    pub fn max(&self) -> QueueOffset {
        QueueOffset(self.max.load(Ordering::Acquire))
    }

    /// End of the last published message in the log; 0 if there is no entry.
    #[must_use]
    pub(crate) fn max_log_end(&self) -> LogOffset {
        LogOffset(self.log_end.load(Ordering::Acquire))
    }

    /// As [`ConsumeQueue::publish`], with the queue offset in the message's record, which must be the maximum.
    pub(crate) fn publish_at(self: &Arc<Self>, offset: QueueOffset, entry: Entry) {
        self.push(Some(offset), entry);
    }

    /// Publishes an entry at [`ConsumeQueue::max`]: it can be read from now on. Only in log order, by one thread at a time. Memory
    /// only.
    pub(crate) fn publish(self: &Arc<Self>, entry: Entry) {
        self.push(None, entry);
    }

    fn push(self: &Arc<Self>, offset: Option<QueueOffset>, entry: Entry) {
        let mut tail = self.tail.lock();
        if tail.is_gone {
            return;
        }
        let max = self.max.load(Ordering::Relaxed);
        assert!(
            offset.is_none_or(|offset| offset.0 == max),
            "a message of {}/{} has offset {offset:?} and would be published at {max}",
            self.topic(),
            self.queue_id()
        );
        tail.entries.push_back(entry);
        if self.min.load(Ordering::Relaxed) == max {
            self.min_log_offset.store(entry.log_offset, Ordering::Relaxed);
        }
        self.log_end.store(entry.log_end(), Ordering::Release);
        self.max.store(max + 1, Ordering::Release);
        let is_listed = std::mem::replace(&mut tail.is_listed, true);
        drop(tail);
        self.files.shared.pending.fetch_add(1, Ordering::Relaxed);
        if !is_listed {
            self.files.shared.dirty.lock().push(Arc::clone(self));
        }
    }

    /// Makes `offset` the next one to be published, for a message that got this offset elsewhere (on the master, or before a crash
    /// that took the queue's files). A queue without messages starts there. A queue with messages gets entries without a message,
    /// unless there were too many (more than a file's): then it starts again.
    ///
    /// # Errors
    /// [`io::Error`] if the files of a queue that starts again cannot be removed.
    pub(crate) fn skip_to(self: &Arc<Self>, offset: QueueOffset) -> io::Result<Skipped> {
        let max = self.max().0;
        let gap = offset.0.saturating_sub(max);
        if gap == 0 {
            return Ok(Skipped::Nothing);
        }
        if gap < 0 {
            return Ok(Skipped::Behind);
        }
        if self.min().0 < max && gap <= self.files.shared.file_len / LEN {
            let log_offset = self.tail.lock().entries.back().map(|entry| entry.log_offset);
            let log_offset = log_offset.map_or_else(|| Ok(self.entry(max - 1)?.log_offset), io::Result::Ok)?;
            for _ in 0..gap {
                self.publish(Entry {
                    log_offset,
                    ..Entry::BLANK
                });
            }
            self.reset_assigned_to_published();
            return Ok(Skipped::Blanks(gap as u64));
        }
        self.restart(offset.0)?;
        Ok(Skipped::Restarted)
    }

    pub(super) fn restart(&self, offset: i64) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        let mut tail = self.tail.lock();
        self.forget_tail(&mut tail);
        if on_disk.extent != Extent::default() {
            self.files.renew();
            self.files.shared.disk.remove_dir_all(&self.files.dir())?;
        }
        self.forget_light_blocks();
        on_disk.extent = Extent::default();
        on_disk.strays.clear();
        on_disk.unsynced_from = i64::MAX;
        on_disk.names_unsynced = false;
        on_disk.is_new = false;
        on_disk.synced = Synced { max: offset, log_end: 0 };
        on_disk.limit = i64::MAX;
        (tail.written, tail.written_log_end) = (offset, 0);
        self.set_bounds(offset, offset, 0);
        Ok(())
    }

    pub(super) fn forget_tail(&self, tail: &mut Unwritten) {
        self.files.shared.pending.fetch_sub(tail.entries.len() as i64, Ordering::Relaxed);
        tail.entries = VecDeque::new();
    }

    pub(super) fn set_bounds(&self, min: i64, max: i64, log_end: i64) {
        self.min.store(min, Ordering::Release);
        self.max.store(max, Ordering::Release);
        self.assigned.store(max, Ordering::Release);
        self.log_end.store(log_end, Ordering::Release);
        if min == max {
            self.min_log_offset.store(i64::MAX, Ordering::Release);
        }
    }

    /// Appends at most `max_entries` published entries from `from` on to `out`; none if `from` is below the minimum or not below
    /// the maximum. The newest entries come from memory; the others are read from files, which may block. Entries that are
    /// [`Entry::is_blank`] have no message.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's files cannot be read. `out` keeps the entries that were read before.
    pub fn read(&self, from: QueueOffset, max_entries: usize, out: &mut impl Extend<Entry>) -> io::Result<()> {
        self.read_with(from.0, max_entries, out, false).1
    }

    /// As [`ConsumeQueue::read`] without waiting for the disk: reads up to the first entry that is neither in memory nor in the
    /// page cache.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the first entry is not there.
    pub(crate) fn read_cached(&self, from: QueueOffset, max_entries: usize, out: &mut impl Extend<Entry>) -> io::Result<()> {
        match self.read_with(from.0, max_entries, out, true) {
            (1.., Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            (_, outcome) => outcome,
        }
    }

    /// The number of entries read, and the outcome.
    fn read_with(&self, from: i64, max_entries: usize, out: &mut impl Extend<Entry>, cached_only: bool) -> (usize, io::Result<()>) {
        let mut count = 0;
        let max = self.max().0;
        if from < self.min().0 {
            return (0, Ok(()));
        }
        while count < max_entries && from + (count as i64) < max {
            let (at, left) = (from + count as i64, max_entries - count);
            let read = match self.read_tail(at, left, out) {
                InMemory::Read(read) => return (count + read, Ok(())),
                InMemory::From(written) => self.read_files(at, left.min((written - at) as usize), out, cached_only),
            };
            match read {
                Ok(read) => count += read,
                // Retention has deleted it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && at < self.min().0 => break,
                Err(error) => return (count, Err(error)),
            }
        }
        (count, Ok(()))
    }

    fn read_tail(&self, at: i64, left: usize, out: &mut impl Extend<Entry>) -> InMemory {
        let tail = self.tail.lock();
        if at < tail.written {
            return InMemory::From(tail.written);
        }
        let from = ((at - tail.written) as usize).min(tail.entries.len());
        let to = from.saturating_add(left).min(tail.entries.len());
        out.extend(tail.entries.range(from..to).copied());
        InMemory::Read(to - from)
    }

    /// Reads up to `left` entries of one file.
    fn read_files(&self, at: i64, left: usize, out: &mut impl Extend<Entry>, cached_only: bool) -> io::Result<usize> {
        let byte = at * LEN;
        let in_file = (self.files.base(byte) + self.files.shared.file_len - byte) / LEN;
        let count = left.min(READ_MAX).min(in_file as usize);
        let mut buffer = [[0; ENTRY_LEN]; READ_MAX];
        let buffer = &mut buffer[..count];
        if self.is_light() {
            let read = self.read_light(at, buffer, cached_only)?;
            out.extend(buffer[..read].iter().map(Entry::decode));
            return Ok(read);
        }
        self.files.read(byte, buffer.as_flattened_mut(), cached_only)?;
        let entries = buffer.iter().map(Entry::decode);
        if !self.files.is_extended() {
            out.extend(entries);
            return Ok(count);
        }
        let mut read = 0;
        for entry in entries {
            match self.files.resolve(entry, cached_only) {
                Ok(entry) => out.extend([entry]),
                Err(error) if read == 0 => return Err(error),
                // The caller reads the others again.
                Err(_) => break,
            }
            read += 1;
        }
        Ok(read)
    }

    /// The published entry at an offset.
    pub(super) fn entry(&self, at: i64) -> io::Result<Entry> {
        {
            let tail = self.tail.lock();
            let index = usize::try_from(at - tail.written).ok();
            if let Some(entry) = index.and_then(|index| tail.entries.get(index)) {
                return Ok(*entry);
            }
        }
        if self.is_light() {
            return self.light_entry(at);
        }
        self.files.entry(at * LEN)
    }

    /// Writes the entries in memory to files. `buffer` is scratch memory that queues share.
    pub(super) fn write_pending(self: &Arc<Self>, buffer: &mut Vec<u8>) -> io::Result<Left> {
        let mut on_disk = self.on_disk.lock();
        let mut wrote = false;
        loop {
            let (from, count) = self.encode_pending(buffer);
            if count == 0 {
                return Ok(if wrote || !self.rest() { Left::Active } else { Left::AtRest });
            }
            self.make_room(&mut on_disk, from * LEN)?;
            self.files.write(from * LEN, buffer)?;
            self.mark_unsynced(&mut on_disk, from * LEN);
            on_disk.limit = i64::MAX;
            let mut tail = self.tail.lock();
            let last = tail.entries.drain(..count).next_back();
            tail.written += count as i64;
            tail.written_log_end = last.map_or(0, |last| last.log_end());
            drop(tail);
            self.files.shared.pending.fetch_sub(count as i64, Ordering::Relaxed);
            wrote = true;
        }
    }

    /// Encodes the entries of one write: of one file, at most [`WRITE_MAX`]. Returns where they start, and how many they are.
    fn encode_pending(&self, buffer: &mut Vec<u8>) -> (i64, usize) {
        buffer.clear();
        let tail = self.tail.lock();
        let byte = tail.written * LEN;
        let in_file = (self.files.base(byte) + self.files.shared.file_len - byte) / LEN;
        let count = tail.entries.len().min(WRITE_MAX).min(in_file as usize);
        tail.entries
            .iter()
            .take(count)
            .for_each(|entry| buffer.extend_from_slice(&entry.encode()));
        (tail.written, count)
    }

    /// Frees memory and leaves the list, unless something was published meanwhile.
    pub(super) fn rest(&self) -> bool {
        let mut tail = self.tail.lock();
        if !tail.entries.is_empty() {
            return false;
        }
        tail.entries = VecDeque::new();
        tail.is_listed = false;
        true
    }

    /// Creates the file of a byte if it does not exist.
    fn make_room(self: &Arc<Self>, on_disk: &mut OnDisk, byte: i64) -> io::Result<()> {
        let base = self.files.base(byte);
        let file_len = self.files.shared.file_len;
        if on_disk.extent == Extent::default() {
            self.files.create_first(base)?;
            self.write_blanks(base, byte)?;
            on_disk.is_new = true;
            on_disk.extent = Extent {
                first: base,
                end: base + file_len,
            };
            self.mark_unsynced(on_disk, base);
        } else if byte >= on_disk.extent.end {
            self.sync_if_new(on_disk)?;
            self.files.create(base)?;
            on_disk.extent.end = base + file_len;
        }
        Ok(())
    }

    /// Syncs the first file, its name and those of its directories, if they are not synced yet: a file behind it, which is synced when it
    /// is created, must not outlast it.
    fn sync_if_new(&self, on_disk: &mut OnDisk) -> io::Result<()> {
        if !on_disk.is_new {
            return Ok(());
        }
        let synced = self.files.sync(on_disk.extent.first).and_then(|()| self.files.sync_all_names());
        synced.inspect_err(|_| self.files.shared.sync_failed.store(true, Ordering::Release))?;
        on_disk.is_new = false;
        Ok(())
    }

    /// Compat: a Java broker finds the first message of a queue by skipping these.
    fn write_blanks(&self, from: i64, to: i64) -> io::Result<()> {
        let blanks = Entry::BLANK.encode().repeat(READ_MAX);
        let mut at = from;
        while at < to {
            let part = (to - at).min(blanks.len() as i64);
            self.files.write(at, &blanks[..part as usize])?;
            at += part;
        }
        Ok(())
    }

    fn mark_unsynced(self: &Arc<Self>, on_disk: &mut OnDisk, from: i64) {
        on_disk.unsynced_from = on_disk.unsynced_from.min(from);
        self.list_for_sync(on_disk);
    }

    pub(super) fn list_for_sync(self: &Arc<Self>, on_disk: &mut OnDisk) {
        if !std::mem::replace(&mut on_disk.is_listed, true) {
            self.files.shared.unsynced.lock().push(Arc::clone(self));
        }
    }

    /// The whole file system was synced after the last write to the files.
    pub(super) fn note_synced(&self) {
        let mut on_disk = self.on_disk.lock();
        on_disk.is_listed = false;
        on_disk.unsynced_from = i64::MAX;
        on_disk.names_unsynced = false;
        on_disk.is_new = false;
        on_disk.synced = self.tail.lock().synced_after();
    }

    /// Whether the names of its directories are not synced.
    pub(super) fn is_new(&self) -> bool {
        self.on_disk.lock().is_new
    }

    /// Syncs what was written to files, and their names, but not those of their directories.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        on_disk.is_listed = false;
        let written = self.tail.lock().synced_after();
        let unsynced_from = std::mem::replace(&mut on_disk.unsynced_from, i64::MAX);
        if unsynced_from != i64::MAX {
            let mut base = self.files.base(unsynced_from).max(on_disk.extent.first);
            while base < on_disk.extent.end {
                self.files.sync(base)?;
                base += self.files.shared.file_len;
            }
        }
        let is_new = std::mem::take(&mut on_disk.is_new);
        if std::mem::take(&mut on_disk.names_unsynced) || is_new {
            self.files.sync_names()?;
        }
        on_disk.synced = written;
        Ok(())
    }

    /// The queue's synced end; `None` if it has no files.
    pub(super) fn synced(&self) -> Option<Synced> {
        let on_disk = self.on_disk.lock();
        (on_disk.extent != Extent::default()).then_some(on_disk.synced)
    }

    /// Disconnects the queue from its files, which are about to be removed: nothing reads or writes them any more, and published
    /// entries are dropped.
    pub(super) fn abandon(&self) {
        let mut on_disk = self.on_disk.lock();
        {
            let mut tail = self.tail.lock();
            tail.is_gone = true;
            self.forget_tail(&mut tail);
        }
        on_disk.extent = Extent::default();
        on_disk.strays.clear();
        on_disk.unsynced_from = i64::MAX;
        on_disk.names_unsynced = false;
        on_disk.is_new = false;
        let max = self.max().0;
        self.min.store(max, Ordering::Release);
        self.files.renew();
    }

    #[cfg(test)]
    pub(super) fn has_no_buffer(&self) -> bool {
        self.tail.lock().entries.capacity() == 0
    }
}
