//! Finds the queue offset for a time: a binary search over the records' store timestamps.
//!
//! The results are Apache's: for a time between two messages the upper boundary is the message before it and the lower one the
//! message after it. Apache ends a search at the beginning of the queue if it meets a damaged record, so that a group that is reset
//! to now consumes everything again; here such a record is skipped.

use std::io;

use message::QueueOffset;

use super::consume_queue::ConsumeQueue;
use super::entry::Entry;
use crate::error::StoreError;
use crate::store::queue_error;

/// Maximum damaged messages that one search skips.
const DAMAGED_MAX: i64 = 1_000;

/// Which of the messages around a time is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The first message stored at or after the time; the maximum offset if there is none.
    Lower,
    /// The last message stored at or before the time; the minimum offset if there is none.
    Upper,
}

/// Store timestamp of an entry's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreTime {
    /// Epoch milliseconds.
    At(i64),
    /// Older than all that are kept: the message was deleted, or there never was one.
    Removed,
    /// The record is damaged.
    Unknown,
}

impl ConsumeQueue {
    /// The queue offset for a time, within minimum and maximum. `stored` reads the record of an entry; it is called about twenty
    /// times.
    ///
    /// # Errors
    /// `StoreError::Io` if the queue's files cannot be read, `StoreError::Corrupt` over [`DAMAGED_MAX`] damaged records; the
    /// errors of `stored`.
    pub(crate) fn search_by_time(
        &self,
        timestamp_ms: i64,
        boundary: Boundary,
        mut stored: impl FnMut(&Entry) -> Result<StoreTime, StoreError>,
    ) -> Result<QueueOffset, StoreError> {
        let (min, max) = (self.min().0, self.max().0);
        let (mut low, mut high) = (min, max);
        let mut damaged = 0;
        while low < high {
            let middle = low + (high - low) / 2;
            let mut at = middle;
            let is_left = loop {
                let entry = self.entry(at).map_err(|e| self.search_error(e))?;
                match (stored(&entry)?, boundary) {
                    (StoreTime::Removed, _) => break true,
                    (StoreTime::At(stored), Boundary::Lower) => break stored < timestamp_ms,
                    (StoreTime::At(stored), Boundary::Upper) => break stored <= timestamp_ms,
                    (StoreTime::Unknown, _) if at + 1 == high => break false,
                    (StoreTime::Unknown, _) if damaged >= DAMAGED_MAX => return Err(self.too_damaged()),
                    (StoreTime::Unknown, _) => {
                        damaged += 1;
                        at += 1;
                    }
                }
            };
            if is_left { low = at + 1 } else { high = middle }
        }
        Ok(QueueOffset(match boundary {
            Boundary::Lower => low,
            Boundary::Upper => (low - 1).max(min),
        }))
    }

    fn search_error(&self, error: io::Error) -> StoreError {
        queue_error("search", self, error)
    }

    fn too_damaged(&self) -> StoreError {
        StoreError::Corrupt(format!(
            "over {DAMAGED_MAX} messages of queue {}/{} are damaged, so a search by time cannot find its place; run apogeemq store check",
            self.topic(),
            self.queue_id()
        ))
    }
}
