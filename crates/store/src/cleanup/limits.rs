//! Limits of a topic that are lower than those of the log: older messages, or those beyond a number of bytes, are hidden by raising
//! the first offset of their queue. Their place in the log is freed by the log's own retention.

use crate::error::StoreError;
use crate::queue::{ConsumeQueue, Entry};
use crate::store::queue_error;
use message::QueueOffset;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Queue entries of one read.
const ENTRIES_A_READ: i64 = 1_024;

/// Hides the messages before an offset.
///
/// # Errors
/// `StoreError::Io` if the queue's files cannot be read.
pub(super) fn hide_before(queue: &Arc<ConsumeQueue>, first: QueueOffset) -> Result<(), StoreError> {
    if first <= queue.min() {
        return Ok(());
    }
    queue.raise_min_to(first).map_err(|e| queue_error("read", queue, e))
}

/// The visible bytes of each queue that has a limit, so that each entry is read twice at most: when it comes, and when it is hidden.
#[derive(Default)]
pub(super) struct Limits {
    queues: HashMap<(String, i32), VisibleBytes>,
    round: u64,
}

/// The entries `from..to` of a queue, and the bytes of their records.
struct VisibleBytes {
    queue: Weak<ConsumeQueue>,
    from: i64,
    to: i64,
    bytes: i64,
    round: u64,
}

impl Limits {
    pub(super) fn begin_round(&mut self) {
        self.round += 1;
    }

    /// Forgets queues that were not asked for in this round.
    pub(super) fn end_round(&mut self) {
        let round = self.round;
        self.queues.retain(|_, queue| queue.round == round);
    }

    /// Hides the oldest messages of a queue until the others have at most `max_bytes`. The newest message stays whatever its size.
    ///
    /// # Errors
    /// `StoreError::Io` if the queue's files cannot be read.
    pub(super) fn hide_beyond(&mut self, queue: &Arc<ConsumeQueue>, max_bytes: i64) -> Result<(), StoreError> {
        let name = (queue.topic().to_owned(), queue.queue_id());
        let (min, max) = (queue.min().0, queue.max().0);
        let known = self.queues.remove(&name);
        let is_same = |known: &VisibleBytes| known.queue.upgrade().is_some_and(|known| Arc::ptr_eq(&known, queue)) && known.to <= max;
        let mut visible = match known.filter(is_same) {
            Some(known) => known,
            None => newest(queue, min, max, max_bytes)?,
        };
        visible.round = self.round;
        for entry in entries(queue, visible.to, max)? {
            visible.bytes += i64::from(entry.size);
            visible.to += 1;
        }
        // What the log's retention or another limit has hidden meanwhile does not count.
        while visible.from < visible.to && (visible.bytes > max_bytes || visible.from < min) {
            let some = entries(
                queue,
                visible.from.max(min),
                (visible.from + ENTRIES_A_READ).min(visible.to).max(min),
            )?;
            if visible.from < min || some.is_empty() {
                visible = newest(queue, min, visible.to, max_bytes)?;
                visible.round = self.round;
                break;
            }
            for entry in some {
                if visible.bytes <= max_bytes || visible.from + 1 >= visible.to {
                    break;
                }
                visible.bytes -= i64::from(entry.size);
                visible.from += 1;
            }
            if visible.from + 1 >= visible.to {
                break;
            }
        }
        let first = QueueOffset(visible.from);
        self.queues.insert(name, visible);
        hide_before(queue, first)
    }
}

/// The newest entries of a queue that have at most `max_bytes`, at least one; read backwards from the end.
fn newest(queue: &Arc<ConsumeQueue>, min: i64, max: i64, max_bytes: i64) -> Result<VisibleBytes, StoreError> {
    let mut visible = VisibleBytes {
        queue: Arc::downgrade(queue),
        from: max,
        to: max,
        bytes: 0,
        round: 0,
    };
    'reads: while visible.from > min {
        let from = (visible.from - ENTRIES_A_READ).max(min);
        for entry in entries(queue, from, visible.from)?.iter().rev() {
            let bytes = visible.bytes + i64::from(entry.size);
            if bytes > max_bytes && visible.from < max {
                break 'reads;
            }
            visible.bytes = bytes;
            visible.from -= 1;
        }
        if from < queue.min().0 {
            break;
        }
    }
    Ok(visible)
}

fn entries(queue: &ConsumeQueue, from: i64, to: i64) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let count = usize::try_from(to - from).unwrap_or(0);
    queue
        .read(QueueOffset(from), count, &mut entries)
        .map_err(|e| queue_error("read", queue, e))?;
    Ok(entries)
}
