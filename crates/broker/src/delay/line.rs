//! One level's queue as the delivering thread reads it: in order, a few entries ahead.

use super::clock::{Moment, WallClock};
use crate::schedule;
use message::{QueueOffset, names};
use std::collections::VecDeque;
use std::path::Path;
use store::queue::Entry;
use store::{Store, StoreError};

/// Entries read at once.
const READ_AHEAD: usize = 512;

/// A level's queue, and how far it was handed over.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) level: i32,
    /// How long messages of the level wait by today's levels; 0 for a level that is not among them any more.
    delay_ms: i64,
    /// Log offset of a message that was sent to wait longer, and how long.
    longer: Option<(i64, i64)>,
    /// Queue offset of the first entry that was not handed over.
    next: i64,
    /// Entries from `next` on.
    entries: VecDeque<Entry>,
    /// How many of them are being handed over.
    taken: usize,
    /// See [`super::delivered`]: what is due may have been delivered before a crash; the last delivery that was found.
    pub(super) doubt: Option<i64>,
}

impl Line {
    /// A level that has been delivered up to `next`; whether what follows may have been delivered too.
    pub(super) fn new(level: i32, delay_ms: i64, next: i64, is_doubtful: bool) -> Self {
        Self {
            level,
            delay_ms,
            longer: None,
            next,
            entries: VecDeque::new(),
            taken: 0,
            doubt: is_doubtful.then_some(0),
        }
    }

    /// The next entry, read from the queue if need be; `None` when there is no more.
    pub(super) fn head(&mut self, store: &Store) -> Result<Option<Entry>, StoreError> {
        if let Some(entry) = self.entries.get(self.taken) {
            return Ok(Some(*entry));
        }
        let Some(queue) = store.find_queue(names::SCHEDULE_TOPIC, schedule::queue_of(self.level)) else {
            return Ok(None);
        };
        if self.taken == 0 {
            // Retention may have taken what was never delivered, or an operator the whole topic.
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

    /// In how many ms an entry's message is due, the entry being the head; a place without a message at once. A message that
    /// seems to wait longer than its level says was sent under other levels, or by a clock that was set back since: its record
    /// says how long it was to wait.
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

    /// The head is being handed over.
    pub(super) fn take(&mut self) {
        self.taken += 1;
    }

    /// Queue offset after what is being handed over.
    pub(super) fn after_taken(&self) -> i64 {
        self.next + self.taken as i64
    }

    /// What was taken is handed over.
    pub(super) fn keep(&mut self) {
        self.next += self.taken as i64;
        self.entries.drain(..self.taken);
        self.taken = 0;
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// What was taken stays.
    pub(super) fn give_back(&mut self) {
        self.taken = 0;
    }

    /// Begins again at an offset.
    pub(super) fn restart(&mut self, next: i64) {
        self.next = next;
        self.entries = VecDeque::new();
        self.taken = 0;
        self.doubt = Some(0);
    }

    /// Queue offset of the first entry that was not handed over.
    pub(super) fn next(&self) -> i64 {
        self.next
    }
}

/// An entry that says when its message is due, also where a Java broker wrote that elsewhere and it is not found there.
fn with_time(entry: Entry, store: &Store) -> Result<Entry, StoreError> {
    if entry.has_value() {
        return Ok(entry);
    }
    let tags_code = store.value_of(&entry)?.unwrap_or(entry.tags_code);
    Ok(Entry { tags_code, ..entry })
}

/// How long a message was to wait when it was stored; `None` if its record cannot be read.
pub(super) fn delay_of(entry: &Entry, store: &Store) -> Result<Option<i64>, StoreError> {
    Ok(store.stored_at(entry)?.map(|stored_ms| entry.tags_code.saturating_sub(stored_ms)))
}
