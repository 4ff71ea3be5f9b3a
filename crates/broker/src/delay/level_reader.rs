//! Reads the queue of one delay level in order, some entries ahead.

use super::clock::{Moment, WallClock};
use crate::schedule;
use message::{QueueOffset, names};
use std::collections::VecDeque;
use std::path::Path;
use store::queue::Entry;
use store::{Store, StoreError};

/// Entries read at once.
const READ_AHEAD: usize = 512;

/// A level's queue, and how far its messages were appended to their own topics.
#[derive(Debug)]
pub(super) struct LevelReader {
    pub(super) level: i32,
    /// Delay of the level in ms by the current `messageDelayLevel`; 0 for a level that is no longer configured.
    delay_ms: i64,
    /// Log offset of a message that waits longer than the level's delay, and its delay in ms.
    longer: Option<(i64, i64)>,
    /// Queue offset of the first entry that was not appended.
    next: i64,
    /// Entries from `next` on.
    entries: VecDeque<Entry>,
    /// How many of them are being appended.
    taken: usize,
    /// `Some` while due messages may have been delivered before a crash (see [`super::delivered`]): log offset of the last delivery that
    /// was found.
    pub(super) recheck: Option<i64>,
}

impl LevelReader {
    /// A level that was delivered up to `next`. With `may_be_delivered`, later messages may have been delivered, too.
    pub(super) fn new(level: i32, delay_ms: i64, next: i64, may_be_delivered: bool) -> Self {
        Self {
            level,
            delay_ms,
            longer: None,
            next,
            entries: VecDeque::new(),
            taken: 0,
            recheck: may_be_delivered.then_some(0),
        }
    }

    /// The next entry, read from the queue if necessary; `None` at the end of the queue.
    pub(super) fn head(&mut self, store: &Store) -> Result<Option<Entry>, StoreError> {
        if let Some(entry) = self.entries.get(self.taken) {
            return Ok(Some(*entry));
        }
        let Some(queue) = store.find_queue(names::SCHEDULE_TOPIC, schedule::queue_of(self.level)) else {
            return Ok(None);
        };
        if self.taken == 0 {
            // Retention may have deleted messages that were never delivered, or an operator the topic.
            self.next = self.next.clamp(queue.min().0, queue.max().0);
        }
        let mut read = Vec::with_capacity(READ_AHEAD);
        let from = QueueOffset(self.next + self.entries.len() as i64);
        let outcome = queue.read(from, READ_AHEAD, &mut read);
        outcome.map_err(|error| StoreError::io("read", Path::new(names::SCHEDULE_TOPIC), error))?;
        for entry in read {
            self.entries.push_back(with_time(entry, store)?);
        }
        Ok(self.entries.get(self.taken).copied())
    }

    /// Milliseconds until the message of the head entry is due; 0 for an entry without a message. A message that seems to wait longer
    /// than its level's delay was sent under another `messageDelayLevel`, or before the clock was set back: its record says how long
    /// it has to wait.
    pub(super) fn due_in_ms(&mut self, head: &Entry, store: &Store, clock: &WallClock, now: Moment) -> Result<i64, StoreError> {
        if head.is_blank() {
            return Ok(0);
        }
        if head.tags_code.saturating_sub(now.wall_ms) <= self.delay_ms {
            return Ok(clock.due_in_ms(head.tags_code, self.delay_ms, now));
        }
        let delay_ms = match self.longer {
            Some((at, delay_ms)) if at == head.log_offset => delay_ms,
            _ => {
                let delay_ms = delay_of(head, store)?.unwrap_or(0).max(self.delay_ms);
                self.longer = Some((head.log_offset, delay_ms));
                delay_ms
            }
        };
        Ok(clock.due_in_ms(head.tags_code, delay_ms, now))
    }

    /// Takes the head entry, to be appended.
    pub(super) fn take_head(&mut self) {
        self.taken += 1;
    }

    /// Queue offset after the entries that were taken.
    pub(super) fn after_taken(&self) -> i64 {
        self.next + self.taken as i64
    }

    /// The entries that were taken are appended or skipped.
    pub(super) fn finish_taken(&mut self) {
        self.next += self.taken as i64;
        self.entries.drain(..self.taken);
        self.taken = 0;
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// The entries that were taken are to be taken again.
    pub(super) fn release_taken(&mut self) {
        self.taken = 0;
    }

    /// Continues at this offset, whose messages may have been delivered.
    pub(super) fn restart(&mut self, next: i64) {
        self.next = next;
        self.entries = VecDeque::new();
        self.taken = 0;
        self.recheck = Some(0);
    }

    /// Queue offset of the first entry that was not appended.
    pub(super) fn next(&self) -> i64 {
        self.next
    }
}

/// The entry with the due time of its message, read from the record where a Java broker kept it in an extension file that is gone.
fn with_time(entry: Entry, store: &Store) -> Result<Entry, StoreError> {
    if entry.has_value() {
        return Ok(entry);
    }
    let tags_code = store.value_of(&entry)?.unwrap_or(entry.tags_code);
    Ok(Entry { tags_code, ..entry })
}

/// Delay in ms that a message was stored with; `None` if its record cannot be read.
pub(super) fn delay_of(entry: &Entry, store: &Store) -> Result<Option<i64>, StoreError> {
    Ok(store.stored_at(entry)?.map(|stored_ms| entry.tags_code.saturating_sub(stored_ms)))
}
