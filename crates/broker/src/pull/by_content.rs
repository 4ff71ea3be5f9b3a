//! Pulls whose messages are selected by what their records hold, not by their queue entries: SQL filters.
//!
//! Such a pull reads some records at a time and keeps those that are selected. The thread that serves its connection looks at
//! [`MAX_EXAMINED_INLINE`] records of the log's tail; what is more is looked at by the catch-up threads. A pull that selects nothing within its
//! limits is answered with PULL_RETRY_IMMEDIATELY and the offset to go on from, as one by tags.
//!
//! A parked one is taken out by every message of its queue and looks at that message on a catch-up thread: the sender pays for handing
//! it over, whatever the expression costs. One that selects nothing is parked again behind what it looked at, until its time is up.

use super::selection::Content;
use super::{BATCH, MAX_WOKEN_INLINE, Pull, Puller};
use message::QueueOffset;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Limits, ReadResult, ReadSource, ReadStatus, StoreError};

/// Records that a pull looks at on the thread that serves its connection, which also serves senders.
const MAX_EXAMINED_INLINE: usize = 64;
/// Records that are read together.
const READ_BATCH: usize = 32;
/// Bytes of records after which a pull is answered, whatever it has found.
const MAX_EXAMINED_BYTES: usize = 16 << 20;
/// Time after which a pull is answered, whatever it has found: reads of a slow disk add up.
const MAX_DURATION: Duration = Duration::from_millis(50);

/// What a pull has found so far.
struct Found {
    records: Vec<bytes::Bytes>,
    bytes: usize,
    /// Bytes of all records that were looked at.
    examined_bytes: usize,
    next: QueueOffset,
}

impl Puller {
    /// Reads records from where the pull is and keeps those that `content` selects.
    pub(super) fn read_by_content(
        &self,
        pull: &Pull,
        content: &Content,
        source: ReadSource,
        examined_to: &mut i64,
    ) -> Result<ReadResult, StoreError> {
        let limits = self.limits(pull, source);
        let most = limits.messages.max(1);
        let scan = if source == ReadSource::Memory {
            MAX_EXAMINED_INLINE
        } else {
            limits.scan.max(most)
        };
        let begun = Instant::now();
        let start = QueueOffset((*examined_to).max(pull.offset));
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
            let read = self
                .store
                .read(&pull.topic.name, pull.queue_id, found.next, batch, &|_| true, source)?;
            if read.cold {
                if found.records.is_empty() {
                    *examined_to = found.next.0;
                    return Ok(read);
                }
                return Ok(found.result(read));
            }
            let has_begun = found.next.0 > pull.offset;
            let from = found.next;
            match read.status {
                ReadStatus::Found => {}
                // The next pull begins there and is told.
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

    /// A message has arrived: parked pulls that wait for the content of its queue look at it on a catch-up thread.
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
            // Too much waits: the next message takes them out.
            let _ = self.threads.catch_up.run_own(examine_rest);
        }
    }

    /// Has pulls looked at on a catch-up thread. If too much waits there, they are sent back, for their clients to ask again.
    pub(super) fn examine_later(self: &Arc<Self>, pulls: Vec<Pull>) {
        let pulls = Arc::new(Mutex::new(pulls));
        let (puller, later) = (self.clone(), pulls.clone());
        let job = move || puller.examine(std::mem::take(&mut *later.lock()));
        if self.threads.catch_up.run_own(job).is_err() {
            let pulls = std::mem::take(&mut *pulls.lock());
            pulls.into_iter().for_each(|pull| self.have_repeated(pull));
        }
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
    /// Takes what is selected of a read. False: one more message would be over the limit of bytes, the result ends before this read.
    fn take(&mut self, read: &ReadResult, content: &Content, most_bytes: usize) -> bool {
        for record in &read.records {
            self.examined_bytes += record.len();
            if !content.selects(record) {
                continue;
            }
            // Only the first record of a read may be over the limit that the read had.
            if !self.records.is_empty() && self.bytes + record.len() > most_bytes {
                return false;
            }
            self.bytes += record.len();
            self.records.push(record.clone());
        }
        self.next = read.next;
        true
    }

    /// The result of the pull, with the bounds of the queue that the last read saw.
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
