//! Appends of the delivering thread that are not confirmed yet, and what is to be noted when they are.

use super::{Alarm, DelayOffsets};
use crate::schedule;
use crate::stats::{BrokerStats, GroupCounters, TopicCounters};
use message::names;
use parking_lot::Mutex;
use std::sync::Arc;

/// Apache's name for who reads the schedule topic.
const SCHEDULE_GROUP: &str = "SCHEDULE_CONSUMER";

/// What one append delivers.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Where each level stands afterwards.
    pub(super) moves: Vec<Move>,
    /// What its topics count: messages and bytes.
    pub(super) topics: Vec<(Arc<TopicCounters>, i64, i64)>,
    /// What its levels count.
    pub(super) levels: Vec<(i32, i64, i64)>,
    pub(super) messages: i64,
    pub(super) bytes: i64,
}

/// A level's step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) level: i32,
    pub(super) to: i64,
    pub(super) steps: u64,
}

impl Flight {
    /// Adds a message of so many bytes that waited at a level.
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

/// Shared with whoever confirms appends.
#[derive(Debug)]
pub(super) struct Progress {
    offsets: Arc<DelayOffsets>,
    alarm: Arc<Alarm>,
    stats: Arc<BrokerStats>,
    /// Those of the system group that reads the schedule topic.
    counters: Arc<GroupCounters>,
    open: Mutex<Open>,
}

/// What is not confirmed yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    pub(super) flights: usize,
    pub(super) bytes: i64,
    /// One of them failed: its messages are not delivered, nor are those after it.
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

    /// Nothing is open any more, and what failed was taken back.
    pub(super) fn forgive(&self) {
        self.open.lock().failed = false;
    }

    pub(super) fn begin(&self, flight: &Flight) {
        let mut open = self.open.lock();
        open.flights += 1;
        open.bytes += flight.bytes;
    }

    /// An append that was begun has come to its end.
    pub(super) fn end(&self, flight: &Flight, is_confirmed: bool, now_ms: i64) {
        // In the order of the log: an append is confirmed after those before it, and none is after one that failed.
        if is_confirmed {
            self.delivered(flight, now_ms);
        }
        let mut open = self.open.lock();
        open.flights -= 1;
        open.bytes -= flight.bytes;
        open.failed |= !is_confirmed;
        drop(open);
        self.alarm.call();
    }

    /// Levels have come so far: what was before is delivered, or needs no delivery.
    pub(super) fn advance(&self, moves: &[Move], now_ms: i64) {
        for step in moves {
            self.offsets.advance(step.level, step.to, step.steps, now_ms);
        }
    }

    fn delivered(&self, flight: &Flight, now_ms: i64) {
        self.advance(&flight.moves, now_ms);
        for (topic, messages, bytes) in &flight.topics {
            topic.stored(*messages, *bytes, *messages);
        }
        for (level, messages, bytes) in &flight.levels {
            self.stats.waited(schedule::queue_of(*level), SCHEDULE_GROUP, *messages, *bytes);
        }
        if flight.messages > 0 {
            self.counters.delivered(flight.messages, flight.bytes);
        }
    }
}
