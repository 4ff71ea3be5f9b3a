//! Finds the queue offset that a moment stands for: a binary search over the records' store timestamps.
//!
//! The answers are Apache's: for a moment between two messages the upper boundary is the message before it and the lower one
//! the message after it. Apache ends a search at the beginning of the queue when it meets a record that it cannot read, so that
//! a group reset to now consumes everything again; here such a record is passed over.

use std::io;

use message::QueueOffset;

use super::consume_queue::ConsumeQueue;
use super::entry::Entry;
use crate::error::StoreError;
use crate::store::queue_error;

/// Damaged messages that one search passes over at most.
const DAMAGED_MAX: i64 = 1_000;

/// Which of the messages around a moment is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The first message stored at the moment or after it; the maximum offset when there is none.
    Lower,
    /// The last message stored at the moment or before it; the minimum offset when there is none.
    Upper,
}

/// When an entry's message was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreTime {
    /// Epoch milliseconds.
    At(i64),
    /// Before all that are kept: the message is gone, or there never was one.
    Removed,
    /// The record is damaged.
    Unknown,
}

impl ConsumeQueue {
    /// The queue offset that a moment stands for, within minimum and maximum. `stored` reads the record of an entry; it is
    /// asked about twenty times.
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
            "over {DAMAGED_MAX} messages of queue {}/{} cannot be read, so a time cannot be found in it; see apogeemq store check",
            self.topic(),
            self.queue_id()
        ))
    }
}
