//! Deliveries that are appended and not confirmed yet, and what is recorded when they are.

use super::DelayOffsets;
use crate::alarm::Alarm;
use crate::schedule;
use crate::stats::{BrokerStats, GroupCounters, TopicCounters};
use message::names;
use parking_lot::Mutex;
use std::sync::Arc;

/// Apache's name for who reads the schedule topic.
const SCHEDULE_GROUP: &str = "SCHEDULE_CONSUMER";

/// The messages of one append.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// New offset of each level that has messages in it.
    pub(super) moves: Vec<Move>,
    /// By topic: messages and bytes.
    pub(super) topics: Vec<(Arc<TopicCounters>, i64, i64)>,
    /// By level: messages and bytes.
    pub(super) levels: Vec<(i32, i64, i64)>,
    pub(super) messages: i64,
    pub(super) bytes: i64,
}

/// How far a level moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) level: i32,
    pub(super) to: i64,
    pub(super) steps: u64,
}

impl Batch {
    /// Adds a message that waited at `level`, with the bytes of its record.
    pub(super) fn add(&mut self, level: i32, topic: &Arc<TopicCounters>, bytes: i64) {
        self.messages += 1;
        self.bytes += bytes;
        match self.levels.last_mut().filter(|(last, ..)| *last == level) {
            Some((_, messages, sum)) => {
                *messages += 1;
                *sum += bytes;
            }
            None => self.levels.push((level, 1, bytes)),
        }
        match self.topics.last_mut().filter(|(last, ..)| Arc::ptr_eq(last, topic)) {
            Some((_, messages, sum)) => {
                *messages += 1;
                *sum += bytes;
            }
            None => self.topics.push((Arc::clone(topic), 1, bytes)),
        }
    }
}

/// Shared by the delivery thread and the threads that confirm appends.
#[derive(Debug)]
pub(super) struct Progress {
    offsets: Arc<DelayOffsets>,
    alarm: Arc<Alarm>,
    stats: Arc<BrokerStats>,
    /// Counters of the system group that reads the schedule topic.
    counters: Arc<GroupCounters>,
    open: Mutex<Open>,
}

/// Appends that are not confirmed yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    pub(super) batches: usize,
    pub(super) bytes: i64,
    /// One of them failed: neither its messages nor later ones are delivered.
    pub(super) failed: bool,
}

impl Progress {
    pub(super) fn new(offsets: Arc<DelayOffsets>, alarm: Arc<Alarm>, stats: Arc<BrokerStats>) -> Self {
        Self {
            offsets,
            alarm,
            counters: stats.group(names::SCHEDULE_TOPIC, SCHEDULE_GROUP),
            stats,
            open: Mutex::default(),
        }
    }

    pub(super) fn open(&self) -> Open {
        *self.open.lock()
    }

    /// No append is open, and the readers continue at the confirmed offsets.
    pub(super) fn clear_failure(&self) {
        self.open.lock().failed = false;
    }

    pub(super) fn begin(&self, batch: &Batch) {
        let mut open = self.open.lock();
        open.batches += 1;
        open.bytes += batch.bytes;
    }

    /// An append is confirmed, or failed.
    pub(super) fn end(&self, batch: &Batch, is_confirmed: bool, now_ms: i64) {
        // In the order of the log: an append is confirmed after those before it, and none is after one that failed.
        if is_confirmed {
            self.delivered(batch, now_ms);
        }
        let mut open = self.open.lock();
        open.batches -= 1;
        open.bytes -= batch.bytes;
        open.failed |= !is_confirmed;
        drop(open);
        self.alarm.call();
    }

    /// Advances levels: earlier messages are delivered, or need no delivery.
    pub(super) fn advance(&self, moves: &[Move], now_ms: i64) {
        for step in moves {
            self.offsets.advance(step.level, step.to, step.steps, now_ms);
        }
    }

    fn delivered(&self, batch: &Batch, now_ms: i64) {
        self.advance(&batch.moves, now_ms);
        for (topic, messages, bytes) in &batch.topics {
            topic.stored(*messages, *bytes, *messages);
        }
        for (level, messages, bytes) in &batch.levels {
            self.stats.waited(schedule::queue_of(*level), SCHEDULE_GROUP, *messages, *bytes);
        }
        if batch.messages > 0 {
            self.counters.delivered(batch.messages, batch.bytes);
        }
    }
}
