//! What is in flight: messages that were handed out and not acknowledged. Pure state; the caller gives the time and does the I/O.
//!
//! A pop from a queue makes a *check point* of up to 32 messages, in memory. Most are acknowledged within seconds, and then nothing was
//! ever written. One that is older than the stay time is written to the revive topic, and so are its acknowledgements from then on. When
//! a check point is due, the messages that nobody acknowledged are stored again in the group's retry topic.
//!
//! A queue's offset is committed up to the first *span* (the offsets that one pop passed) that has a check point which is in memory only.
//! So after a crash a message is in a record of the revive topic, in the retry topic, or behind the committed offset.
//!
//! | event | call |
//! |---|---|
//! | a pop reads a queue | [`InFlight::begin`], then one of [`InFlight::popped`], [`InFlight::passed`], [`InFlight::release`] |
//! | a client acknowledges, or wants more time | [`InFlight::ack`], [`InFlight::renew`] |
//! | the thread writes what is due | [`InFlight::take_due`], then for each one of [`InFlight::written`], [`InFlight::saved`], [`InFlight::revived`], [`InFlight::failed`] |
//! | the log was synced | [`InFlight::settle`] |
//! | a consumer says goodbye | [`InFlight::give_back`] |
//! | a start reads the revive topic | [`InFlight::recover_point`], [`InFlight::recover_ack`] |
//!
//! A check point may be *held* for a consumer ([`held`]): when it is due, and its consumer is online or may still come back, it is due again
//! later, and nothing is written for that. Its clients keep their handles.
//!
//! Invariants
//! - A queue is read by one pop at a time, and offsets are handed out once.
//! - What is written, or stored again, counts only when it is on the device: then the offset passes it, or the record is done.
//! - All times are of the monotonic clock: a wall clock that is set neither hurries nor delays anything.

mod agenda;
mod held;
mod jobs;
mod queues;
mod records;
mod recovery;

use super::point::{Key, NONE, Point, PointId, QueueIndex};
use crate::clients::Lease;
use crate::delay::clock::Moment;
use agenda::Agenda;
use hashbrown::HashTable;
use held::Held;
use records::Records;
use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// How long acknowledgements of a written check point wait for more of them, ms.
const SAVE_AFTER_MS: i64 = 1_000;
/// The same when all of its messages are acknowledged: they share writes.
const SAVE_COMPLETE_AFTER_MS: i64 = 100;
/// When to try again what failed, ms.
const RETRY_AFTER_MS: i64 = 1_000;
/// Longest invisible time, ms.
pub(super) const MAX_INVISIBLE_MS: i64 = u32::MAX as i64;

/// The limits, each a setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Check points: `apogeeMaxPopCheckPoints`.
    pub(super) points: usize,
    /// Queues of groups: `apogeeMaxPopQueues`.
    pub(super) queues: usize,
    /// How long a check point is in memory only: `popCkStayBufferTime`.
    pub(super) stay_ms: i64,
}

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("{0} check points of popped messages are in flight, which is the limit, see apogeeMaxPopCheckPoints")]
    Points(usize),
    #[error("{0} queues of consumer groups have popped messages in flight, which is the limit, see apogeeMaxPopQueues")]
    Queues(usize),
}

/// A queue that a pop reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) queue: QueueIndex,
    epoch: u32,
    /// The offset to read from.
    pub(super) from: i64,
    /// The committed offset may move to `from`: records of an earlier run describe all before it.
    pub(super) is_covered: bool,
}

/// Answer of [`InFlight::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Read, and say how it ended.
    At(Claim),
    /// Another pop reads the queue.
    Busy,
    /// As many messages of the queue are in flight as may be.
    Limited,
}

/// Messages that were read and are about to be handed out.
#[derive(Clone, Debug)]
pub(super) struct Popped<'a> {
    /// Their offsets, ascending.
    pub(super) offsets: &'a [i64],
    /// The offset after all that were looked at.
    pub(super) next: i64,
    /// Epoch ms.
    pub(super) pop_time: i64,
    pub(super) invisible_ms: i64,
    pub(super) revive_queue: u16,
    /// For whom they are held.
    pub(super) lease: Option<Lease>,
}

/// Answer of [`InFlight::ack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acked {
    /// Acknowledged, now or before. An offset may be committed now.
    Done(Option<i64>),
    /// No such message is in flight.
    Unknown,
}

/// What the thread has to do with a check point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Write its record.
    Write,
    /// Write its acknowledgements.
    SaveAcks,
    /// Store the messages again that nobody acknowledged, and write acknowledgements of them if it is written.
    Revive,
}

/// A check point that needs the thread.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: PointId,
    pub(super) task: Task,
    pub(super) key: Key,
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) queue_id: i32,
    pub(super) revive_queue: u16,
    pub(super) invisible_ms: i64,
    pub(super) offsets: SmallVec<[i64; 32]>,
    /// Bits of the acknowledged messages.
    pub(super) acked: u32,
    /// Those of them that the log has.
    pub(super) saved: u32,
    pub(super) is_written: bool,
    pub(super) suspend: bool,
    /// For whom the messages are held.
    pub(super) lease: Option<Lease>,
}

impl Job {
    /// The messages whose bit is set.
    pub(super) fn of(&self, bits: u32) -> impl Iterator<Item = i64> + '_ {
        let offsets = self.offsets.iter().enumerate();
        offsets.filter(move |(n, _)| bits & (1 << n) != 0).map(|(_, offset)| *offset)
    }

    /// The bits of all messages.
    pub(super) fn all(&self) -> u32 {
        u32::MAX >> (32 - self.offsets.len())
    }
}

/// An offset of a group that may be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) queue_id: i32,
    pub(super) offset: i64,
}

/// A queue that a start has found in the revive topic.
#[derive(Clone, Debug)]
pub(super) struct Covered {
    pub(super) index: QueueIndex,
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) queue_id: i32,
}

/// A check point of the revive topic.
#[derive(Clone, Debug)]
pub(super) struct Recovered<'a> {
    pub(super) start: i64,
    pub(super) offsets: &'a [i64],
    pub(super) pop_time: i64,
    pub(super) invisible_ms: i64,
    pub(super) acked: u32,
    pub(super) suspend: bool,
    pub(super) revive_queue: u16,
    pub(super) record: i64,
    /// How long its acknowledgements may arrive after it, ms.
    pub(super) grace_ms: i64,
    /// For whom its messages are held.
    pub(super) lease: Option<Lease>,
}

/// Offsets that one pop passed.
#[derive(Clone, Copy, Debug)]
struct Span {
    next: i64,
    /// Check points that are in memory only.
    holders: u32,
}

#[derive(Debug)]
struct Queue {
    topic: Arc<str>,
    group: Arc<str>,
    queue_id: i32,
    is_claimed: bool,
    is_used: bool,
    /// Differs between two lives of the spans.
    epoch: u32,
    /// Messages in flight.
    messages: u64,
    points: u32,
    /// Passed and not committed, oldest first.
    spans: VecDeque<Span>,
    /// Offsets from and to that records of an earlier run describe: the committed offset may be before them.
    covered: Vec<(i64, i64)>,
}

/// What becomes true when the log is on the device up to an offset.
#[derive(Clone, Copy, Debug)]
enum Settling {
    /// A check point does not hold back this span any more.
    Span { queue: QueueIndex, epoch: u32, next: i64 },
    /// A record of the revive topic is done.
    Record { revive_queue: u16, record: i64 },
}

type ByQueueId = SmallVec<[QueueIndex; 8]>;
const NO_QUEUE: QueueIndex = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct InFlight {
    limits: Limits,
    queues: Vec<Queue>,
    free_queues: Vec<QueueIndex>,
    /// By topic and group.
    index: FxHashMap<Arc<str>, FxHashMap<Arc<str>, ByQueueId>>,
    epochs: u32,
    points: Vec<Point>,
    free_points: Vec<PointId>,
    /// Those in use.
    by_key: HashTable<PointId>,
    agenda: Agenda,
    held: Held,
    /// Check points in memory that were made for a message of another one, with that one and the message's bit.
    moves: FxHashMap<PointId, (PointId, Key, u32)>,
    /// Ascending log offsets.
    settling: VecDeque<(i64, Settling)>,
    records: Records,
}

impl InFlight {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queues: Vec::new(),
            free_queues: Vec::new(),
            index: FxHashMap::default(),
            epochs: 0,
            points: Vec::new(),
            free_points: Vec::new(),
            by_key: HashTable::new(),
            agenda: Agenda::default(),
            held: Held::default(),
            moves: FxHashMap::default(),
            settling: VecDeque::new(),
            records: Records::default(),
        }
    }

    /// Check points in flight.
    pub(super) fn points(&self) -> usize {
        self.points.len() - self.free_points.len()
    }

    /// Adds a check point that is in memory only.
    fn insert_new(&mut self, mut point: Point, invisible_ms: i64, now: Moment) -> PointId {
        let invisible_ms = invisible_ms.clamp(0, MAX_INVISIBLE_MS);
        point.invisible_ms = invisible_ms as u32;
        point.due = now.steady_ms.saturating_add(invisible_ms);
        let at = point.due.min(now.steady_ms + self.limits.stay_ms);
        self.insert(point, at)
    }

    fn insert(&mut self, mut point: Point, at: i64) -> PointId {
        let key = point.key();
        let queue = &mut self.queues[key.queue as usize];
        queue.points += 1;
        queue.messages += u64::from(point.left());
        point.at = at;
        let id = match self.free_points.pop() {
            Some(free) => {
                self.points[free as usize] = point;
                free
            }
            None => {
                self.points.push(point);
                (self.points.len() - 1) as PointId
            }
        };
        let points = &self.points;
        self.by_key.insert_unique(hash(key), id, |id| hash(points[*id as usize].key()));
        self.agenda.add(at, id);
        id
    }

    fn remove(&mut self, id: PointId) {
        self.unplan(id);
        self.let_go_of(id);
        let point = &mut self.points[id as usize];
        point.is_used = false;
        let key = point.key();
        let queue = &mut self.queues[key.queue as usize];
        queue.points -= 1;
        queue.messages -= u64::from(point.left());
        let Ok(entry) = self.by_key.find_entry(hash(key), |other| *other == id) else {
            unreachable!("every check point is found by its key");
        };
        entry.remove();
        self.free_points.push(id);
    }

    fn find(&self, key: Key) -> Option<PointId> {
        self.by_key.find(hash(key), |id| self.points[*id as usize].key() == key).copied()
    }

    /// Plans the next look at a check point.
    fn plan(&mut self, id: PointId, at: i64) {
        self.unplan(id);
        self.points[id as usize].at = at;
        self.agenda.add(at, id);
    }

    /// The next look at a check point is not planned any more.
    fn unplan(&mut self, id: PointId) {
        let at = std::mem::replace(&mut self.points[id as usize].at, NONE);
        if at != NONE {
            let points = &self.points;
            self.agenda.cancel(|at, id| is_planned(points, at, id));
        }
    }

    /// The first look that is planned.
    fn first_plan(&mut self) -> Option<(i64, PointId)> {
        let points = &self.points;
        self.agenda.first(|at, id| is_planned(points, at, id))
    }

    /// A client acknowledges the message at this offset.
    pub(super) fn ack(&mut self, key: Key, offset: i64, now: Moment) -> Acked {
        let Some(id) = self.find(key) else { return Acked::Unknown };
        let point = &mut self.points[id as usize];
        let Some(bit) = point.bit_of(offset).filter(|bit| point.moved & bit == 0) else {
            return Acked::Unknown;
        };
        if point.acked & bit != 0 {
            return Acked::Done(None);
        }
        point.acked |= bit;
        self.queues[key.queue as usize].messages -= 1;
        Acked::Done(self.acked(id, now))
    }

    /// A message of this check point was acknowledged. Returns the offset to commit.
    fn acked(&mut self, mut id: PointId, now: Moment) -> Option<i64> {
        let mut commit = None;
        loop {
            let point = &self.points[id as usize];
            let (is_complete, is_written, at) = (point.is_complete(), point.is_written(), point.at);
            if at == NONE {
                return commit;
            }
            if !is_complete || is_written {
                let wait = if is_complete { SAVE_COMPLETE_AFTER_MS } else { SAVE_AFTER_MS };
                let save_at = now.steady_ms + wait;
                if is_written && (is_complete || save_at < at) {
                    self.plan(id, save_at);
                }
                return commit;
            }
            let (queue, epoch, span) = (point.key().queue, point.epoch, point.span());
            self.remove(id);
            commit = span.and_then(|span| self.let_go(queue, epoch, span)).or(commit);
            match self.moved_from(id) {
                Some(from) => id = from,
                None => return commit,
            }
        }
    }

    /// The check point that this one was made from now counts the message as acknowledged.
    fn moved_from(&mut self, id: PointId) -> Option<PointId> {
        let (from, key, bit) = self.moves.remove(&id)?;
        let point = self
            .points
            .get_mut(from as usize)
            .filter(|point| point.is_used && point.key() == key)?;
        point.moved &= !bit;
        point.acked |= bit;
        Some(from)
    }

    /// A client wants the message at this offset to stay invisible for another time from now on: it gets a check point of its own, which
    /// is written soon. Returns the new pop time, or `None` if no such message is in flight.
    ///
    /// # Errors
    /// [`Full::Points`].
    pub(super) fn renew(&mut self, key: Key, offset: i64, invisible_ms: i64, suspend: bool, now: Moment) -> Result<Option<i64>, Full> {
        let Some(id) = self.find(key) else { return Ok(None) };
        let point = &self.points[id as usize];
        // While the thread stores it again, it is too late.
        let is_invisible = !point.is_reviving && (point.due > now.steady_ms || point.is_held);
        let is_in_flight = |bit: &u32| (point.acked | point.moved) & bit == 0 && is_invisible;
        let Some(bit) = point.bit_of(offset).filter(is_in_flight) else {
            return Ok(None);
        };
        if self.points() >= self.limits.points {
            return Err(Full::Points(self.limits.points));
        }
        let (epoch, span, revive_queue) = (point.epoch, point.span(), point.revive_queue);
        let mut renewed = Key {
            start: offset,
            pop_time: now.wall_ms,
            ..key
        };
        while self.find(renewed).is_some() {
            renewed.pop_time += 1;
        }
        let mut point = Point::new(renewed, &[offset]);
        point.revive_queue = revive_queue;
        point.suspend = suspend;
        point.epoch = epoch;
        if let Some(span) = span
            && self.hold(key.queue, epoch, span)
        {
            point.hold(span);
        }
        let new = self.insert_new(point, invisible_ms, now);
        let old = &mut self.points[id as usize];
        old.moved |= bit;
        self.queues[key.queue as usize].messages -= 1;
        self.moves.insert(new, (id, key, bit));
        self.plan(new, now.steady_ms);
        Ok(Some(renewed.pop_time))
    }

    /// One more check point holds back a span. False if the span is committed.
    fn hold(&mut self, queue: QueueIndex, epoch: u32, next: i64) -> bool {
        let span = self.queues[queue as usize].span_mut(epoch, next);
        span.is_some_and(|span| {
            span.holders += 1;
            true
        })
    }

    /// A check point does not hold back its span any more. Returns the offset to commit.
    fn let_go(&mut self, queue: QueueIndex, epoch: u32, next: i64) -> Option<i64> {
        let queue = &mut self.queues[queue as usize];
        let span = queue.span_mut(epoch, next)?;
        assert!(span.holders > 0, "a check point holds back its span once");
        span.holders -= 1;
        queue.drain()
    }

    /// An operator moved the offset of a queue: what was passed before does not move it any more.
    pub(super) fn reset(&mut self, index: QueueIndex) {
        self.epochs = self.epochs.wrapping_add(1);
        let queue = &mut self.queues[index as usize];
        queue.epoch = self.epochs;
        queue.spans.clear();
        queue.covered.clear();
    }

    /// A topic, or a group of it if one is given, was deleted.
    pub(super) fn forget(&mut self, is_deleted: impl Fn(&str, &str) -> bool) {
        let deleted: Vec<QueueIndex> = (0..self.queues.len() as QueueIndex)
            .filter(|index| {
                let queue = &self.queues[*index as usize];
                queue.is_used && is_deleted(&queue.topic, &queue.group)
            })
            .collect();
        if deleted.is_empty() {
            return;
        }
        for id in 0..self.points.len() {
            let point = &self.points[id];
            if point.is_used && deleted.binary_search(&point.key().queue).is_ok() {
                let (revive_queue, record) = (point.revive_queue, point.record());
                self.remove(id as PointId);
                self.moves.remove(&(id as PointId));
                if let Some(record) = record {
                    self.records.remove(revive_queue, record);
                }
            }
        }
        deleted.into_iter().for_each(|queue| {
            // A pop that reads it releases it later; by then it may be another one's, which is why it stays out of use.
            if !self.queues[queue as usize].is_claimed {
                self.close_queue(queue);
            } else {
                self.reset(queue);
            }
        });
    }

    #[cfg(test)]
    pub(super) fn is_empty(&mut self) -> bool {
        self.points() == 0 && self.first_plan().is_none() && self.by_key.is_empty() && self.queues.iter().all(|queue| queue.messages == 0)
    }
}

/// Whether a look at this check point is planned for then.
fn is_planned(points: &[Point], at: i64, id: PointId) -> bool {
    points[id as usize].at == at
}

fn hash(key: Key) -> u64 {
    let mut hasher = FxHasher::default();
    (key.queue, key.start, key.pop_time).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
