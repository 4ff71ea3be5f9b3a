//! Pulls that select messages by the content of their records, not by their queue entries: SQL filters.
//!
//! Such a pull reads records in batches and keeps those that are selected. The thread of its connection examines up to
//! [`MAX_EXAMINED_INLINE`] records of the log's tail; catch-up threads examine more. A pull that selects nothing within its limits is
//! answered with PULL_RETRY_IMMEDIATELY and the next offset, as a pull by tags.
//!
//! A new message wakes the parked pulls of its queue on a catch-up thread, so the sender evaluates no expression. A woken pull that
//! selects nothing is parked again, behind the messages it examined, until its deadline.

use super::selection::Content;
use super::{BATCH, MAX_WOKEN_INLINE, Pull, Puller};
use message::QueueOffset;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Limits, ReadResult, ReadSource, ReadStatus, Store, StoreError};

/// Maximum number of records that a pull examines on the thread of its connection, which also serves senders.
const MAX_EXAMINED_INLINE: usize = 64;
/// Number of records in one read of the store.
const READ_BATCH: usize = 32;
/// Bytes of examined records after which a pull is answered, whatever it found.
const MAX_EXAMINED_BYTES: usize = 16 << 20;
/// Time after which a pull is answered, whatever it found: reads of a slow disk add up.
const MAX_DURATION: Duration = Duration::from_millis(50);

/// The messages that a pull found so far.
struct Found {
    records: Vec<bytes::Bytes>,
    bytes: usize,
    /// Bytes of all examined records, selected or not.
    examined_bytes: usize,
    next: QueueOffset,
}

/// A queue to read, and how much of it.
pub(crate) struct ContentRead<'a> {
    pub(crate) store: &'a Store,
    pub(crate) topic: &'a str,
    pub(crate) queue_id: i32,
    pub(crate) offset: i64,
    pub(crate) limits: Limits,
}

/// Reads records from `examined_to`, or from the offset of the read, and keeps those that `content` selects. If the result is cold,
/// `examined_to` is where the next source continues.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub(crate) fn read(of: &ContentRead<'_>, content: &Content, source: ReadSource, examined_to: &mut i64) -> Result<ReadResult, StoreError> {
    let limits = of.limits;
    let most = limits.messages.max(1);
    let scan = if source == ReadSource::Memory {
        MAX_EXAMINED_INLINE
    } else {
        limits.scan.max(most)
    };
    let begun = Instant::now();
    let start = QueueOffset((*examined_to).max(of.offset));
    let mut found = Found {
        records: Vec::new(),
        bytes: 0,
        examined_bytes: 0,
        next: start,
    };
    loop {
        let seen = (found.next.0 - start.0) as usize;
        let messages = READ_BATCH.min(most - found.records.len()).min(scan - seen);
        let batch = Limits {
            messages,
            bytes: limits.bytes - found.bytes,
            scan: messages,
        };
        let read = of.store.read(of.topic, of.queue_id, found.next, batch, &|_| true, source)?;
        if read.cold {
            if found.records.is_empty() {
                *examined_to = found.next.0;
                return Ok(read);
            }
            return Ok(found.result(read));
        }
        let has_begun = found.next.0 > of.offset;
        let from = found.next;
        match read.status {
            ReadStatus::Found => {}
            // The next pull starts at the damaged message and reports it.
            ReadStatus::MessageWasRemoving if has_begun && let Some(damaged) = &read.damaged => {
                found.next = damaged.queue_offset;
                return Ok(found.result(read));
            }
            ReadStatus::MessageWasRemoving if read.damaged.is_none() && read.next > from => {}
            _ if has_begun => return Ok(found.result(read)),
            _ => return Ok(read),
        }
        if !found.take(&read, content, limits.bytes) {
            return Ok(found.result(read));
        }
        let (seen, is_end) = ((found.next.0 - start.0) as usize, found.next >= read.max);
        if is_end || found.records.len() >= most || found.bytes >= limits.bytes {
            return Ok(found.result(read));
        }
        if seen >= scan && source == ReadSource::Memory && found.records.is_empty() {
            *examined_to = found.next.0;
            return Ok(ReadResult {
                cold: true,
                ..found.result(read)
            });
        }
        if seen >= scan || found.examined_bytes >= MAX_EXAMINED_BYTES || begun.elapsed() >= MAX_DURATION {
            return Ok(found.result(read));
        }
    }
}

impl Puller {
    /// Wakes the parked pulls by content of a queue on a catch-up thread.
    pub(super) fn wake_by_content(self: &Arc<Self>, topic: &str, queue_id: i32) {
        let taken = self.hold.take_by_content(topic, queue_id, MAX_WOKEN_INLINE);
        if taken.requests.is_empty() {
            return;
        }
        self.examine_later(taken.requests);
        if taken.more {
            let (puller, topic) = (self.clone(), topic.to_owned());
            let rest = move |most| puller.hold.take_by_content(&topic, queue_id, most);
            let puller = self.clone();
            let examine_rest = move || {
                loop {
                    let taken = rest(BATCH);
                    puller.examine(taken.requests);
                    if !taken.more {
                        return;
                    }
                }
            };
            // If the pool is full, the next message wakes them.
            let _ = self.threads.catch_up.run_own(examine_rest);
        }
    }

    /// Continues pulls on a catch-up thread. If the pool is full, their clients have to repeat them.
    pub(super) fn examine_later(self: &Arc<Self>, pulls: Vec<Pull>) {
        let puller = self.clone();
        self.threads.catch_up.run_own_with(
            pulls,
            move |pulls| puller.examine(pulls),
            |pulls, _| pulls.into_iter().for_each(|pull| self.have_repeated(pull)),
        );
    }

    fn examine(self: &Arc<Self>, pulls: Vec<Pull>) {
        net::together(|| {
            for mut pull in pulls {
                pull.was_woken = true;
                self.resume_within(pull, ReadSource::PageCache);
            }
        });
    }
}

impl Found {
    /// Adds the selected records of a read. Returns false if one more message would exceed the limit of bytes: the result ends before
    /// this read.
    fn take(&mut self, read: &ReadResult, content: &Content, most_bytes: usize) -> bool {
        for record in &read.records {
            self.examined_bytes += record.len();
            if !content.selects(record) {
                continue;
            }
            // The store limits a read to the bytes that are left, but for its first record.
            if !self.records.is_empty() && self.bytes + record.len() > most_bytes {
                return false;
            }
            self.bytes += record.len();
            self.records.push(record.clone());
        }
        self.next = read.next;
        true
    }

    /// The result of the pull; the bounds of the queue are those of the last read.
    fn result(self, last: ReadResult) -> ReadResult {
        ReadResult {
            status: if self.records.is_empty() {
                ReadStatus::NoMatchedMessage
            } else {
                ReadStatus::Found
            },
            next: self.next,
            records: self.records,
            bytes: self.bytes,
            cold: false,
            damaged: None,
            ..last
        }
    }
}
