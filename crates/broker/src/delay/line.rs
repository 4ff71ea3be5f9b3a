//! One level's queue as the delivering thread reads it: in order, a few entries ahead.

use message::{QueueOffset, names};
use std::collections::VecDeque;
use std::io;
use store::Store;
use store::queue::Entry;

/// Entries read at once.
const READ_AHEAD: usize = 512;

/// A level's queue, and how far it was handed over.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) level: i32,
    pub(super) delay_ms: i64,
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
            next,
            entries: VecDeque::new(),
            taken: 0,
            doubt: is_doubtful.then_some(0),
        }
    }

    /// The next entry, read from the queue if need be; `None` when there is no more.
    pub(super) fn head(&mut self, store: &Store) -> io::Result<Option<Entry>> {
        if let Some(entry) = self.entries.get(self.taken) {
            return Ok(Some(*entry));
        }
        let Some(queue) = store.find_queue(names::SCHEDULE_TOPIC, super::queue_of(self.level)) else {
            return Ok(None);
        };
        if self.taken == 0 {
            // Retention may have taken what was never delivered, or an operator the whole topic.
            self.next = self.next.clamp(queue.min().0, queue.max().0);
        }
        let mut read = Vec::with_capacity(READ_AHEAD);
        let from = QueueOffset(self.next + self.entries.len() as i64);
        queue.read(from, READ_AHEAD, &mut read)?;
        self.entries.extend(read);
        Ok(self.entries.get(self.taken).copied())
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
