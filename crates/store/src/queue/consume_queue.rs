//! One queue: what is published, the tail in memory, and the files behind it.
//!
//! Not here: where files are and how their written end is found (`files`), which queues there are (`table`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use message::{LogOffset, QueueOffset};
use smallvec::SmallVec;

use super::due::Code;
use super::entry::{ENTRY_LEN, Entry};
use super::files::{Extent, QueueFiles};
use super::synced::{LastRun, Synced};

/// Bytes of an entry, as a place in the queue is counted.
pub(super) const LEN: i64 = ENTRY_LEN as i64;
/// Entries of one write to a file at most.
const WRITE_MAX: usize = 32 * 1024;
/// Entries of one read from a file at most; the buffer is on the stack.
const READ_MAX: usize = 256;

/// A queue. All methods may be called from any thread, but only one thread at a time assigns and publishes.
#[derive(Debug)]
pub struct ConsumeQueue {
    pub(super) files: QueueFiles,
    pub(super) assigned: AtomicI64,
    /// The topic was deleted: no more offsets are assigned. Changed under the log's append lock.
    retired: AtomicBool,
    pub(super) min: AtomicI64,
    pub(super) max: AtomicI64,
    /// Log offset of the entry at `min`, when there is one.
    pub(super) min_log_offset: AtomicI64,
    pub(super) log_end: AtomicI64,
    pub(super) on_disk: Mutex<OnDisk>,
    pub(super) tail: Mutex<Unwritten>,
}

/// What was published and not yet written to a file.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    pub(super) entries: VecDeque<Entry>,
    /// Queue offset of the first of them; all before it are in files.
    pub(super) written: i64,
    /// Where in the log the message of the entry before ends.
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
    /// Whether the table's list of queues to sync has this one.
    pub(super) is_listed: bool,
    /// What the next `consumequeue.synced` is to say.
    pub(super) synced: Synced,
    /// The queue offset above which a crash may have left anything, as the file of the last run says; `i64::MAX` when it
    /// does not say, or when something was written since.
    pub(super) limit: i64,
    /// Files before a hole, until retention has taken what they name.
    pub(super) strays: Vec<i64>,
}

impl OnDisk {
    fn new(extent: Extent) -> Self {
        Self {
            extent,
            unsynced_from: i64::MAX,
            names_unsynced: false,
            is_listed: false,
            synced: Synced { max: 0, log_end: 0 },
            limit: i64::MAX,
            strays: Vec::new(),
        }
    }
}

impl Unwritten {
    /// What will be synced when all files are.
    pub(super) fn synced_after(&self) -> Synced {
        Synced {
            max: self.written,
            log_end: self.written_log_end,
        }
    }
}

/// What [`ConsumeQueue::skip_to`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// The queue was there already.
    Nothing,
    /// The queue held no message and starts at the offset now.
    Restarted,
    /// So many places without a message were published to get there.
    Blanks(u64),
    /// The offset is below what is published: the message is in the queue already.
    Behind,
}

/// What memory has of a queue from an offset on.
enum InMemory {
    /// So many entries were read.
    Read(usize),
    /// The offset is in files; memory begins at this one.
    From(i64),
}

/// What a round of writing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The queue wants to be visited again.
    Active,
    /// Nothing was to write: the queue left the list and gave its memory back.
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
        }
    }

    /// A queue as its files have it.
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

    /// Which of the topic's queues this is.
    #[must_use]
    pub fn queue_id(&self) -> i32 {
        self.files.queue_id
    }

    /// Whether the queue's topic was deleted. Exact under the log's append lock only.
    #[must_use]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The topic is being deleted. Only under the log's append lock.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// What the last field of a message's entry says; the message is stored at `stored_ms`.
    pub(crate) fn code_of(&self, properties: &[u8], tags: &str, stored_ms: i64) -> Code {
        self.files.shared.due.code(self.topic(), properties, tags, stored_ms)
    }

    /// Takes the next queue offset. Only under the log's append lock.
    pub(crate) fn assign(&self) -> QueueOffset {
        let offset = self.assigned.load(Ordering::Relaxed);
        self.assigned.store(offset + 1, Ordering::Relaxed);
        QueueOffset(offset)
    }

    /// The entry at an offset; `None` when there is none. May block.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's file cannot be read.
    pub(crate) fn entry_at(&self, offset: QueueOffset) -> io::Result<Option<Entry>> {
        let mut entries = SmallVec::<[Entry; 1]>::new();
        self.read(offset, 1, &mut entries)?;
        Ok(entries.first().copied())
    }

    /// The queue offset that is assigned next.
    #[must_use]
    pub(crate) fn assigned(&self) -> QueueOffset {
        QueueOffset(self.assigned.load(Ordering::Relaxed))
    }

    /// Forgets what was assigned and never published, as after an append that failed. Only under the log's append lock.
    pub(crate) fn reset_assigned_to_published(&self) {
        self.assigned.store(self.max.load(Ordering::Acquire), Ordering::Relaxed);
    }

    /// The lowest queue offset whose message may still be in the log; [`ConsumeQueue::max`] when there is none.
    #[must_use]
    pub fn min(&self) -> QueueOffset {
        QueueOffset(self.min.load(Ordering::Acquire))
    }

    /// The queue offset after the last published one.
    #[must_use]
    pub fn max(&self) -> QueueOffset {
        QueueOffset(self.max.load(Ordering::Acquire))
    }

    /// Where in the log the last published message ends; 0 when no entry is left to tell.
    #[must_use]
    pub(crate) fn max_log_end(&self) -> LogOffset {
        LogOffset(self.log_end.load(Ordering::Acquire))
    }

    /// As [`ConsumeQueue::publish`], of a message whose record says `offset`: that is the offset it is found at.
    pub(crate) fn publish_at(self: &Arc<Self>, offset: QueueOffset, entry: Entry) {
        self.push(Some(offset), entry);
    }

    /// Makes an entry readable, at [`ConsumeQueue::max`]. Only in the log's order, by one thread at a time. Memory only.
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
            "a message of {}/{} says {offset:?} and would be found at {max}",
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

    /// Makes `offset` the next one that is published, for a message that was given this offset elsewhere (the master, or
    /// before a crash that took the queue's files). A queue without messages starts there; one with messages gets
    /// places without a message, unless there are so many (over a file's worth) that starting again is the lesser harm.
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
        on_disk.extent = Extent::default();
        on_disk.strays.clear();
        on_disk.unsynced_from = i64::MAX;
        on_disk.names_unsynced = false;
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

    /// Appends to `out` the published entries from `from` on, `max_entries` at most. Nothing when `from` is below the
    /// minimum or not below the maximum. What was just published comes from memory; the rest is read from files and may
    /// wait for the disk. Entries that are [`Entry::is_blank`] have no message.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's files cannot be read. `out` keeps the entries that were read before.
    pub fn read(&self, from: QueueOffset, max_entries: usize, out: &mut impl Extend<Entry>) -> io::Result<()> {
        self.read_with(from.0, max_entries, out, false).1
    }

    /// As [`ConsumeQueue::read`], never waiting for the disk: gives what memory and page cache have, up to the first place
    /// they do not.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when not even the first entry is there.
    pub(crate) fn read_cached(&self, from: QueueOffset, max_entries: usize, out: &mut impl Extend<Entry>) -> io::Result<()> {
        match self.read_with(from.0, max_entries, out, true) {
            (1.., Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            (_, outcome) => outcome,
        }
    }

    /// How many entries were read, and how it ended.
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
                // Retention was faster.
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
                // The others are read again.
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
        self.files.entry(at * LEN)
    }

    /// Writes what is in memory to files. `buffer` is scratch memory that many queues share.
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

    /// Encodes what one write takes: of one file, [`WRITE_MAX`] at most. Where it starts, and how many.
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

    /// Gives memory back and leaves the list, unless something was published meanwhile.
    fn rest(&self) -> bool {
        let mut tail = self.tail.lock();
        if !tail.entries.is_empty() {
            return false;
        }
        tail.entries = VecDeque::new();
        tail.is_listed = false;
        true
    }

    /// Sees to it that the file is there that the byte goes to.
    fn make_room(self: &Arc<Self>, on_disk: &mut OnDisk, byte: i64) -> io::Result<()> {
        let base = self.files.base(byte);
        let file_len = self.files.shared.file_len;
        if on_disk.extent == Extent::default() {
            self.files.create(base, true)?;
            self.write_blanks(base, byte)?;
            on_disk.extent = Extent {
                first: base,
                end: base + file_len,
            };
            self.mark_unsynced(on_disk, base);
        } else if byte >= on_disk.extent.end {
            self.files.create(base, false)?;
            on_disk.extent.end = base + file_len;
        }
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

    /// Makes durable what was written to files.
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
        if std::mem::take(&mut on_disk.names_unsynced) {
            self.files.sync_names()?;
        }
        on_disk.synced = written;
        Ok(())
    }

    /// How far the queue was on the disk at the last sync; `None` when it has no files.
    pub(super) fn synced(&self) -> Option<Synced> {
        let on_disk = self.on_disk.lock();
        (on_disk.extent != Extent::default()).then_some(on_disk.synced)
    }

    /// The queue's files are about to be removed: nobody reads or writes them any more, and what is published goes nowhere.
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
        let max = self.max().0;
        self.min.store(max, Ordering::Release);
        self.files.renew();
    }

    #[cfg(test)]
    pub(super) fn has_no_buffer(&self) -> bool {
        self.tail.lock().entries.capacity() == 0
    }
}
