//! Reads a queue: selects entries, filtered by their tag's hash, then reads the records they name.

use crate::error::StoreError;
use crate::log::{CommitLog, RecordPlace};
use crate::queue::{ConsumeQueue, Entry};
use crate::store::queue_error;
use bytes::Bytes;
use message::{LogOffset, QueueOffset};
use smallvec::SmallVec;
use std::io;

/// How much one read may return. The first message is returned whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most messages.
    pub messages: usize,
    /// Most bytes.
    pub bytes: usize,
    /// Most queue entries looked at, so that a filter that matches nothing does not keep a thread; at least as many as messages.
    pub scan: usize,
}

/// How far a read may go for a message. What it costs a thread to be kept from its next sender decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The log's tail in memory. Only the queue's entries, 20 bytes each, may come from the page cache.
    Memory,
    /// What the page cache has, too: no wait, but copies, and the page cache's own may be slow.
    PageCache,
    /// The disk, however long it takes.
    Disk,
}

/// What became of a read; Apache's `GetMessageStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// There are messages.
    Found,
    /// There are messages, but none the filter takes.
    NoMatchedMessage,
    /// The messages there were are deleted now, or were lost to a crash of whoever wrote the queue.
    MessageWasRemoving,
    /// The queue's own entries cannot be read there.
    OffsetFoundNull,
    /// Beyond the end by more than one.
    OffsetOverflowBadly,
    /// The next message has not come yet.
    OffsetOverflowOne,
    /// Before the first message kept.
    OffsetTooSmall,
    /// There is no such queue.
    NoMatchedLogicQueue,
    /// The queue is empty.
    NoMessageInQueue,
}

/// What a read returns.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// What became of it.
    pub status: ReadStatus,
    /// Where to read next.
    pub next: QueueOffset,
    /// First offset kept.
    pub min: QueueOffset,
    /// Offset after the last message.
    pub max: QueueOffset,
    /// The records, in order of the queue.
    pub records: Vec<Bytes>,
    /// Sum of their lengths.
    pub bytes: usize,
    /// Something is farther away than the read was allowed to reach; the result is void.
    pub cold: bool,
    /// The message at the offset asked for is damaged; there are no records then, and `next` is behind it.
    pub damaged: Option<Damaged>,
}

/// A message that a queue names and the log does not have: its bytes are not a record of that length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its offset in its queue.
    pub queue_offset: QueueOffset,
    /// Where the record should begin in the log.
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

/// Entries read from a queue at once that need no allocation: the batch size of most consumers.
const USUAL: usize = 32;

/// Reads up to `limits` messages from `from` on whose tag hash `takes` accepts.
///
/// # Errors
/// `StoreError::Io` if the queue's files or the log cannot be read.
pub(crate) fn read(
    log: &CommitLog,
    queue: &ConsumeQueue,
    from: QueueOffset,
    limits: Limits,
    takes: &dyn Fn(i64) -> bool,
    reach: Reach,
) -> Result<ReadResult, StoreError> {
    let (min, max) = (queue.min(), queue.max());
    if let Some((status, next)) = refused(from, min, max) {
        return Ok(ReadResult::empty(status, next, min, max));
    }
    let mut selection = Selection::new(from, limits);
    let result = |status, next| ReadResult::empty(status, next, min, max);
    if !selection.scan(log, queue, max, takes, reach)? {
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
    selection.fetch(log, result(status, selection.next), reach)
}

/// Why there is nothing to read at an offset, and where to go on.
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

/// The messages that a read is going to return.
struct Selection {
    from: QueueOffset,
    limits: Limits,
    places: SmallVec<[RecordPlace; USUAL]>,
    /// Queue offset of each of the places.
    offsets: SmallVec<[QueueOffset; USUAL]>,
    /// Sum of the places' lengths.
    bytes: usize,
    /// The first queue offset that was not looked at.
    next: QueueOffset,
    /// Places without a message were passed over.
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

    /// Selects entries up to `max`. False when the next ones are beyond the reach.
    fn scan(
        &mut self,
        log: &CommitLog,
        queue: &ConsumeQueue,
        max: QueueOffset,
        takes: &dyn Fn(i64) -> bool,
        reach: Reach,
    ) -> Result<bool, StoreError> {
        let mut entries = SmallVec::<[Entry; USUAL]>::new();
        while self.next < max && !self.is_full() {
            entries.clear();
            let read = if reach == Reach::Disk {
                queue.read(self.next, self.limits.messages, &mut entries)
            } else {
                queue.read_cached(self.next, self.limits.messages, &mut entries)
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && reach != Reach::Disk => return Ok(false),
                read => read.map_err(|e| queue_error("read", queue, e))?,
            }
            let first_kept = log.first_offset().0;
            if entries.is_empty() || !entries.iter().all(|entry| self.take(entry, first_kept, takes)) {
                break;
            }
        }
        Ok(true)
    }

    /// Passes an entry, selected or not. False: the selection ends before it.
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

    /// Reads the selected records into a result that has all else.
    fn fetch(&self, log: &CommitLog, mut result: ReadResult, reach: Reach) -> Result<ReadResult, StoreError> {
        if self.places.is_empty() {
            return Ok(result);
        }
        result.records.reserve_exact(self.places.len());
        match log.read_all(&self.places, reach, &mut result.records) {
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

    /// The record of the `n`-th place is not there: the result ends before it, or names it if it would be the first.
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
        // Retention may have been faster. Whoever reads on from the same place finds what is left.
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
