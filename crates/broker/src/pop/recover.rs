//! What the revive topic says that this broker did not write itself: after a start, and records that arrive from elsewhere.

use super::Pops;
use super::in_flight::Recovered;
use super::revive_log::{self, Read};
use super::worker::{Cursor, Worker};
use bytes::Bytes;
use message::record::Record;
use message::{QueueOffset, names};
use protocol::pop::records::{MAX_MESSAGES, REVIVE_GROUP};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{ScopedJoinHandle, available_parallelism};
use store::{Limits, ReadSource, ReadStatus, StoreError};

/// Records of the revive topic in one read.
const READ: usize = 256;
/// Bytes in one read.
const READ_BYTES: usize = 2 << 20;

impl Worker {
    /// Reads what was in flight when the last broker of this directory stopped.
    ///
    /// # Errors
    /// [`io::Error`] if the revive topic cannot be read.
    pub(super) fn recover(pops: &Arc<Pops>) -> io::Result<Self> {
        let mut worker = Self {
            pops: Arc::clone(pops),
            cursors: Vec::new(),
        };
        let (store, offsets) = (&pops.core.store, &pops.core.offsets);
        for queue_id in 0..i32::from(pops.revive_queues) {
            let (min, max) = (
                store.min_offset(&pops.revive_topic, queue_id).0,
                store.max_offset(&pops.revive_topic, queue_id).0,
            );
            let mut done = offsets.committed(&pops.revive_topic, REVIVE_GROUP, queue_id).unwrap_or(-1);
            if done >= max && max > 0 {
                // The crash lost records that were done.
                done = max - 1;
                let _ = offsets.commit(&pops.revive_topic, REVIVE_GROUP, queue_id, done);
            }
            worker.cursors.push(Cursor {
                next: (done + 1).clamp(min, max.max(min)),
                own: BTreeSet::new(),
                done,
            });
        }
        worker.read_all().map_err(io::Error::other)?;
        pops.orders.lock().restore_leases(
            |group, client, until, pop_time| pops.recovered_lease(group, client, until, pop_time),
            pops.now().wall_ms,
        );
        let covered = pops.state.lock().covered();
        for queue in covered {
            let Some(committed) = offsets.committed(&queue.topic, &queue.group, queue.queue_id) else {
                continue;
            };
            let position = pops.state.lock().position(queue.index, committed);
            if position > committed && position <= store.max_offset(&queue.topic, queue.queue_id).0 {
                let _ = offsets.commit(&queue.topic, &queue.group, queue.queue_id, position);
            }
        }
        let in_flight = pops.in_flight();
        if in_flight > 0 {
            tracing::info!(check_points = in_flight, "messages that were popped before the start are in flight");
        }
        Ok(worker)
    }

    /// Reads the records of the revive topic that this thread did not write.
    pub(super) fn read_records(&mut self, grace_ms: i64) -> Result<(), StoreError> {
        let mut begins = Begins::default();
        let mut cursors = self.cursors.iter_mut().zip(0u16..);
        cursors.try_for_each(|(cursor, queue)| read_queue(&self.pops, cursor, queue, &mut begins, grace_ms))
    }

    /// The same at the start, by a thread for each processor: there may be a million records. A message is described by records of one queue of
    /// the revive topic only, so these are read side by side.
    fn read_all(&mut self) -> Result<(), StoreError> {
        let processors = available_parallelism().map_or(1, usize::from);
        let share = self.cursors.len().div_ceil(processors).max(1);
        let (pops, shares) = (&self.pops, self.cursors.chunks_mut(share).zip((0..).step_by(share)));
        std::thread::scope(|scope| {
            let start = |(cursors, first): (_, usize)| scope.spawn(move || read_share(pops, cursors, first));
            let readers: Vec<_> = shares.map(start).collect();
            let ended = |reader: ScopedJoinHandle<'_, _>| reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            readers.into_iter().try_for_each(ended)
        })
    }
}

/// Reads the queues of these cursors, of which the first belongs to queue `first`.
fn read_share(pops: &Pops, cursors: &mut [Cursor], first: usize) -> Result<(), StoreError> {
    let mut begins = Begins::default();
    let mut cursors = cursors.iter_mut().zip(first as u16..);
    cursors.try_for_each(|(cursor, queue)| read_queue(pops, cursor, queue, &mut begins, 0))
}

/// Reads what a queue of the revive topic has from its cursor on.
fn read_queue(pops: &Pops, cursor: &mut Cursor, queue: u16, begins: &mut Begins, grace_ms: i64) -> Result<(), StoreError> {
    let store = &pops.core.store;
    loop {
        while cursor.own.remove(&cursor.next) {
            cursor.next += 1;
        }
        if cursor.next >= store.max_offset(&pops.revive_topic, queue.into()).0 {
            return Ok(());
        }
        let limits = Limits {
            messages: READ,
            bytes: READ_BYTES,
            scan: READ,
        };
        let from = QueueOffset(cursor.next);
        let read = store.read(&pops.revive_topic, queue.into(), from, limits, &|_| true, ReadSource::Disk)?;
        for bytes in &read.records {
            let offset = revive_log::queue_offset(bytes);
            if !cursor.own.remove(&offset) {
                take_record(pops, begins, bytes, (queue, offset), grace_ms);
            }
        }
        if read.next <= from && read.status != ReadStatus::Found {
            return Ok(());
        }
        cursor.next = read.next.0.max(cursor.next);
    }
}

/// When the first message of each queue was stored, of those that records named.
#[derive(Default)]
struct Begins(FxHashMap<Box<str>, FxHashMap<i32, Option<i64>>>);

impl Begins {
    /// Whether all messages of the queue are younger than a pop: then the topic was deleted after it and created again, or what it read is gone.
    fn is_after(&mut self, pops: &Pops, topic: &str, queue_id: i32, pop_time: i64) -> bool {
        if !self.0.contains_key(topic) {
            self.0.insert(topic.into(), FxHashMap::default());
        }
        let of_topic = self.0.get_mut(topic);
        let first = of_topic.and_then(|queues| {
            *queues
                .entry(queue_id)
                .or_insert_with(|| pops.core.store.earliest_store_time(topic, queue_id))
        });
        first.is_some_and(|stored| stored > pop_time)
    }
}

/// Takes what a record of the revive topic says into the state.
fn take_record(pops: &Pops, begins: &mut Begins, bytes: &Bytes, (revive_queue, record_offset): (u16, i64), grace_ms: i64) {
    let ignored = |why: &str| tracing::warn!(revive_queue, offset = record_offset, why, "a record of the revive topic is ignored");
    let record = match Record::parse(bytes) {
        Ok(record) => record,
        Err(error) => return ignored(&error.to_string()),
    };
    let now = pops.now();
    match revive_log::parse(&record) {
        Ok(Read::Point(point)) => {
            let offsets = point.offsets();
            let (Some(topic), Some(group)) = (&point.topic, &point.group) else {
                return ignored("it does not name topic and group");
            };
            let core = &pops.core;
            let is_known = core.groups.contains(group) && core.topics.contains(names::popped_topic(topic, group));
            let is_ascending = offsets.is_sorted_by(|before, after| before < after);
            if offsets.is_empty() || offsets.len() > MAX_MESSAGES || !is_ascending || point.queue_id < 0 || !is_known {
                return;
            }
            let read_queues = core.topics.find(topic).map_or(0, |topic| topic.read_queues);
            if point.queue_id >= read_queues.max(core.settings.current().max_queues_per_topic as i32) {
                return ignored("it names a queue that cannot exist");
            }
            if begins.is_after(pops, topic, point.queue_id, point.pop_time) {
                return;
            }
            let lease = point.holder.as_deref().zip(point.held_until);
            let lease = lease.map(|(client, until)| pops.recovered_lease(group, client, until, point.pop_time));
            let of = Recovered {
                lease,
                start: point.start,
                offsets: &offsets,
                pop_time: point.pop_time,
                invisible_ms: point.invisible_time,
                acked: point.bit_map as u32,
                suspend: point.suspend,
                revive_queue,
                record: record_offset,
                grace_ms,
            };
            pops.state.lock().recover_point(topic, group, point.queue_id, of, now);
        }
        Ok(Read::Acks(acks)) => {
            let (Some(topic), Some(group)) = (&acks.topic, &acks.group) else {
                return ignored("it does not name topic and group");
            };
            let mut state = pops.state.lock();
            for offset in acks.acknowledged().take(MAX_MESSAGES) {
                state.recover_ack(topic, group, acks.queue_id, acks.start, acks.pop_time, offset);
            }
        }
        Err(why) => ignored(&why),
    }
}
