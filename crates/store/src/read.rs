//! Reading a queue: which entries, filtered by their tag's hash, and then the records they name.

use crate::error::StoreError;
use crate::log::{CommitLog, Place};
use crate::queue::{ConsumeQueue, Entry};
use crate::store::queue_error;
use bytes::Bytes;
use message::QueueOffset;
use std::cell::RefCell;

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
        }
    }
}

thread_local! {
    static ENTRIES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    static PLACES: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// Reads up to `limits` messages from `from` on whose tag hash `takes` accepts.
///
/// # Errors
/// The machine's.
pub(crate) fn read(
    log: &CommitLog,
    queue: &ConsumeQueue,
    from: QueueOffset,
    limits: Limits,
    takes: &dyn Fn(i64) -> bool,
    reach: Reach,
) -> Result<ReadResult, StoreError> {
    let (min, max) = (queue.min(), queue.max());
    let refused = |status, next| Ok(ReadResult::empty(status, next, min, max));
    if max.0 == 0 {
        return refused(ReadStatus::NoMessageInQueue, QueueOffset(0));
    }
    if from < min {
        return refused(ReadStatus::OffsetTooSmall, min);
    }
    if from == max {
        return refused(ReadStatus::OffsetOverflowOne, from);
    }
    if from > max {
        return refused(ReadStatus::OffsetOverflowBadly, max);
    }
    ENTRIES.with_borrow_mut(|entries| {
        PLACES.with_borrow_mut(|places| {
            entries.clear();
            places.clear();
            let wanted = limits.messages.max(1);
            let scan = i64::try_from(limits.scan.max(wanted)).unwrap_or(i64::MAX);
            let mut next = from;
            let mut bytes = 0;
            let mut removed = false;
            'scan: while next < max && places.len() < wanted && next.0 - from.0 < scan {
                entries.clear();
                let read = if reach == Reach::Disk {
                    queue.read(next, wanted, entries)
                } else {
                    queue.read_cached(next, wanted, entries)
                };
                match read {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && reach != Reach::Disk => {
                        return Ok(ReadResult {
                            cold: true,
                            ..ReadResult::empty(ReadStatus::Found, from, min, max)
                        });
                    }
                    other => other.map_err(|e| queue_error("read", queue, e))?,
                }
                if entries.is_empty() {
                    break;
                }
                for entry in entries.iter() {
                    if entry.is_blank() || entry.log_offset < log.first_offset().0 {
                        removed = true;
                        next = next.plus(1);
                        continue;
                    }
                    let size = usize::try_from(entry.size).unwrap_or(0);
                    if !places.is_empty() && (places.len() >= wanted || bytes + size > limits.bytes) {
                        break 'scan;
                    }
                    next = next.plus(1);
                    if takes(entry.tags_code) {
                        places.push((entry.log_offset, entry.size));
                        bytes += size;
                    }
                }
            }
            if next == from {
                return refused(ReadStatus::OffsetFoundNull, from);
            }
            let status = if removed {
                ReadStatus::MessageWasRemoving
            } else {
                ReadStatus::NoMatchedMessage
            };
            select(log, places, bytes, ReadResult::empty(status, next, min, max), from, reach)
        })
    })
}

/// Reads the records of the places chosen into a result that has all else.
fn select(
    log: &CommitLog,
    places: &[Place],
    bytes: usize,
    mut result: ReadResult,
    from: QueueOffset,
    reach: Reach,
) -> Result<ReadResult, StoreError> {
    let Some((first, _)) = places.first() else {
        return Ok(result);
    };
    result.records.reserve_exact(places.len());
    result.cold = match log.read_all(places, reach, &mut result.records) {
        // Retention was faster. Whoever reads on from the same place finds what is left.
        Err(StoreError::Corrupt(_)) if *first < log.first_offset().0 => {
            return Ok(ReadResult::empty(ReadStatus::MessageWasRemoving, from, result.min, result.max));
        }
        read => !read?,
    };
    result.status = ReadStatus::Found;
    result.bytes = bytes;
    Ok(result)
}
