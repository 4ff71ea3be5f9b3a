//! Reads messages of a queue: selects entries by their tag hash, then reads their records.

use crate::error::StoreError;
use crate::log::{CommitLog, RecordPlace};
use crate::queue::{ConsumeQueue, Entry};
use crate::store::queue_error;
use bytes::Bytes;
use message::{LogOffset, QueueOffset};
use smallvec::SmallVec;
use std::io;

/// Limits of one read. The first message is returned whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum messages.
    pub messages: usize,
    /// Maximum bytes of records.
    pub bytes: usize,
    /// Maximum queue entries examined, so that a filter that matches nothing does not occupy the thread. At least `messages` are
    /// examined.
    pub scan: usize,
}

/// The slowest storage that a read may use. It depends on how long the reading thread may be blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSource {
    /// What is in memory: the log's tail and blocks that were read for others. Queue entries (20 bytes each) may come from the page cache.
    Memory,
    /// Also the page cache: never waits for the disk, but copies.
    PageCache,
    /// Also the disk. May block.
    Disk,
}

/// Outcome of a read; Apache's `GetMessageStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// Messages were found.
    Found,
    /// There are messages, but the filter accepts none of them.
    NoMatchedMessage,
    /// The messages were deleted, or lost in a crash of the broker that wrote the queue.
    MessageWasRemoving,
    /// The queue's entries cannot be read there.
    OffsetFoundNull,
    /// More than one beyond the end.
    OffsetOverflowBadly,
    /// At the end: the next message has not arrived.
    OffsetOverflowOne,
    /// Before the first message that is kept.
    OffsetTooSmall,
    /// There is no such queue.
    NoMatchedLogicQueue,
    /// The queue is empty.
    NoMessageInQueue,
}

/// Result of a read.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// Outcome.
    pub status: ReadStatus,
    /// Where to read next.
    pub next: QueueOffset,
    /// First offset that is kept.
    pub min: QueueOffset,
    /// Offset after the last message.
    pub max: QueueOffset,
    /// The records, in queue order.
    pub records: Vec<Bytes>,
    /// Sum of their lengths.
    pub bytes: usize,
    /// The read needs slower storage than it may use. The rest of the result is void.
    pub cold: bool,
    /// The message at the requested offset is damaged. There are no records then, and `next` is behind it.
    pub damaged: Option<Damaged>,
}

/// A message whose queue entry names no record of that length in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its offset in its queue.
    pub queue_offset: QueueOffset,
    /// Log offset of the record.
    pub log_offset: LogOffset,
    /// Length of the record in bytes, as its queue entry says.
    pub size: i32,
}

impl ReadResult {
    pub(crate) fn empty(status: ReadStatus, next: QueueOffset, min: QueueOffset, max: QueueOffset) -> Self {
        Self {
            status,
            next,
            min,
            max,
            records: Vec::new(),
            bytes: 0,
            cold: false,
            damaged: None,
        }
    }

    pub(crate) fn cold(self) -> Self {
        Self {
            cold: true,
            status: ReadStatus::Found,
            ..self
        }
    }
}

/// Entries of one read that need no allocation: the batch size of most consumers.
const USUAL: usize = 32;

/// Reads messages from `from` on whose tag hash `takes` accepts, within `limits`.
///
/// # Errors
/// `StoreError::Io` if the queue's files or the log cannot be read.
pub(crate) fn read(
    log: &CommitLog,
    queue: &ConsumeQueue,
    from: QueueOffset,
    limits: Limits,
    takes: &dyn Fn(i64) -> bool,
    source: ReadSource,
) -> Result<ReadResult, StoreError> {
    let (min, max) = (queue.min(), queue.max());
    if let Some((status, next)) = refused(from, min, max) {
        return Ok(ReadResult::empty(status, next, min, max));
    }
    let mut selection = Selection::new(from, limits);
    let result = |status, next| ReadResult::empty(status, next, min, max);
    if !selection.scan(log, queue, max, takes, source)? {
        return Ok(result(ReadStatus::Found, from).cold());
    }
    if selection.next == from {
        return Ok(result(ReadStatus::OffsetFoundNull, from));
    }
    let status = if selection.skipped_removed {
        ReadStatus::MessageWasRemoving
    } else {
        ReadStatus::NoMatchedMessage
    };
    selection.fetch(log, result(status, selection.next), source)
}

/// Why there is nothing to read at an offset, and where to continue.
fn refused(from: QueueOffset, min: QueueOffset, max: QueueOffset) -> Option<(ReadStatus, QueueOffset)> {
    if max.0 == 0 {
        Some((ReadStatus::NoMessageInQueue, QueueOffset(0)))
    } else if from < min {
        Some((ReadStatus::OffsetTooSmall, min))
    } else if from == max {
        Some((ReadStatus::OffsetOverflowOne, from))
    } else if from > max {
        Some((ReadStatus::OffsetOverflowBadly, max))
    } else {
        None
    }
}

/// The messages that a read will return.
struct Selection {
    from: QueueOffset,
    limits: Limits,
    places: SmallVec<[RecordPlace; USUAL]>,
    /// Queue offset of each of the places.
    offsets: SmallVec<[QueueOffset; USUAL]>,
    /// Sum of the places' lengths.
    bytes: usize,
    /// The first queue offset that was not examined.
    next: QueueOffset,
    /// Entries without a message were skipped.
    skipped_removed: bool,
}

impl Selection {
    fn new(from: QueueOffset, limits: Limits) -> Self {
        Self {
            from,
            limits: Limits {
                messages: limits.messages.max(1),
                scan: limits.scan.max(limits.messages).max(1),
                ..limits
            },
            places: SmallVec::new(),
            offsets: SmallVec::new(),
            bytes: 0,
            next: from,
            skipped_removed: false,
        }
    }

    fn is_full(&self) -> bool {
        let looked_at = usize::try_from(self.next.0 - self.from.0).unwrap_or(usize::MAX);
        self.places.len() >= self.limits.messages || looked_at >= self.limits.scan
    }

    /// Selects entries up to `max`. False if the next ones need slower storage than `source`.
    fn scan(
        &mut self,
        log: &CommitLog,
        queue: &ConsumeQueue,
        max: QueueOffset,
        takes: &dyn Fn(i64) -> bool,
        source: ReadSource,
    ) -> Result<bool, StoreError> {
        let mut entries = SmallVec::<[Entry; USUAL]>::new();
        while self.next < max && !self.is_full() {
            entries.clear();
            let read = if source == ReadSource::Disk {
                queue.read(self.next, self.limits.messages, &mut entries)
            } else {
                queue.read_cached(self.next, self.limits.messages, &mut entries)
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && source != ReadSource::Disk => return Ok(false),
                read => read.map_err(|e| queue_error("read", queue, e))?,
            }
            let first_kept = log.first_offset().0;
            if entries.is_empty() || !entries.iter().all(|entry| self.take(entry, first_kept, takes)) {
                break;
            }
        }
        Ok(true)
    }

    /// Selects or skips an entry. False if the selection ends before it.
    fn take(&mut self, entry: &Entry, first_kept: i64, takes: &dyn Fn(i64) -> bool) -> bool {
        if entry.is_blank() || entry.log_offset < first_kept {
            self.skipped_removed = true;
            self.next = self.next.plus(1);
            return true;
        }
        let size = usize::try_from(entry.size).unwrap_or(0);
        if !self.places.is_empty() && (self.places.len() >= self.limits.messages || self.bytes + size > self.limits.bytes) {
            return false;
        }
        if takes(entry.tags_code) {
            self.places.push(entry.place());
            self.offsets.push(self.next);
            self.bytes += size;
        }
        self.next = self.next.plus(1);
        true
    }

    /// Reads the selected records into `result`.
    fn fetch(&self, log: &CommitLog, mut result: ReadResult, source: ReadSource) -> Result<ReadResult, StoreError> {
        if self.places.is_empty() {
            return Ok(result);
        }
        result.records.reserve_exact(self.places.len());
        match log.read_all(&self.places, source, &mut result.records) {
            Ok(true) => {}
            Ok(false) => return Ok(result.cold()),
            Err(StoreError::Corrupt(_)) => return Ok(self.stop_at(result.records.len(), log, result)),
            Err(error) => return Err(error),
        }
        debug_assert_eq!(self.places.len(), result.records.len(), "each place has its record");
        result.status = ReadStatus::Found;
        result.bytes = self.bytes;
        Ok(result)
    }

    /// The record of the `n`-th place does not exist. The result ends before it, or reports it as damaged if it is the first.
    fn stop_at(&self, n: usize, log: &CommitLog, mut result: ReadResult) -> ReadResult {
        debug_assert_eq!(self.places.len(), self.offsets.len(), "each place has its queue offset");
        let (place, at) = (self.places[n], self.offsets[n]);
        result.next = at;
        if n > 0 {
            result.status = ReadStatus::Found;
            result.bytes = result.records.iter().map(Bytes::len).sum();
            return result;
        }
        result.status = ReadStatus::MessageWasRemoving;
        // Retention may have deleted it meanwhile. A reader that repeats the read from the same offset finds what is left.
        if place.log_offset >= log.first_offset() {
            result.next = at.plus(1);
            result.damaged = Some(Damaged {
                queue_offset: at,
                log_offset: place.log_offset,
                size: place.size,
            });
        }
        result
    }
}
