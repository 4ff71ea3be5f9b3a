//! Where in a queue a moment is: a binary search over the records' store timestamps.
//!
//! The answers are Apache's, also its odd ones: for a moment between two messages the upper boundary is the message
//! before it and the lower one the message after it.

use std::io;

use message::QueueOffset;

use super::consume_queue::ConsumeQueue;
use super::entry::Entry;

/// Which of the messages around a moment is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The first message stored at the moment or after it; the maximum offset when there is none.
    Lower,
    /// The last message stored at the moment or before it; the minimum offset when there is none.
    Upper,
}

impl ConsumeQueue {
    /// The queue offset that a moment stands for, within minimum and maximum. `store_timestamp` reads the record of an
    /// entry; it is asked about twenty times.
    ///
    /// # Errors
    /// Whatever the machine says about the queue's files.
    pub fn search_by_time(
        &self,
        timestamp_ms: i64,
        boundary: Boundary,
        mut store_timestamp: impl FnMut(&Entry) -> Option<i64>,
    ) -> io::Result<QueueOffset> {
        let (min, max) = (self.min().0, self.max().0);
        let (mut low, mut high) = (min, max);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            // Compat: a record that cannot be read ends the search at the beginning, as with Apache.
            let Some(stored) = (if entry.is_blank() {
                Some(i64::MIN)
            } else {
                store_timestamp(&entry)
            }) else {
                return Ok(QueueOffset(min));
            };
            let is_left = match boundary {
                Boundary::Lower => stored < timestamp_ms,
                Boundary::Upper => stored <= timestamp_ms,
            };
            if is_left { low = middle + 1 } else { high = middle }
        }
        Ok(QueueOffset(match boundary {
            Boundary::Lower => low,
            Boundary::Upper => (low - 1).max(min),
        }))
    }
}
