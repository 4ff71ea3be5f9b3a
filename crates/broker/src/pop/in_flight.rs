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
//! | a start reads the revive topic | [`InFlight::recover_point`], [`InFlight::recover_ack`] |
//!
//! Invariants
//! - A queue is read by one pop at a time, and offsets are handed out once.
//! - What is written, or stored again, counts only when it is on the device: then the offset passes it, or the record is done.
//! - All times are of the monotonic clock: a wall clock that is set neither hurries nor delays anything.

use super::point::{Key, NO_POINT, NONE, Point, PointId, QueueIndex};
use crate::delay::clock::Moment;
use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Popped<'a> {
    /// Their offsets, ascending.
    pub(super) offsets: &'a [i64],
    /// The offset after all that were looked at.
    pub(super) next: i64,
    /// Epoch ms.
    pub(super) pop_time: i64,
    pub(super) invisible_ms: i64,
    pub(super) revive_queue: u16,
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
#[derive(Clone, Copy, Debug)]
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
    /// First check point by the hash of its key.
    by_key: FxHashMap<u64, PointId>,
    /// When to look at which check point.
    agenda: BTreeSet<(i64, PointId)>,
    /// Check points in memory that were made for a message of another one, with that one and the message's bit.
    moves: FxHashMap<PointId, (PointId, Key, u32)>,
    /// Ascending log offsets.
    settling: VecDeque<(i64, Settling)>,
    /// Records of the revive topic that are not done.
    records: BTreeSet<(u16, i64)>,
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
            by_key: FxHashMap::default(),
            agenda: BTreeSet::new(),
            moves: FxHashMap::default(),
            settling: VecDeque::new(),
            records: BTreeSet::new(),
        }
    }

    /// Check points in flight.
    pub(super) fn points(&self) -> usize {
        self.points.len() - self.free_points.len()
    }

    /// Messages of a queue in flight.
    #[cfg(test)]
    pub(super) fn messages(&self, queue: QueueIndex) -> u64 {
        self.queues[queue as usize].messages
    }

    pub(super) fn find_queue(&self, topic: &str, group: &str, queue_id: i32) -> Option<QueueIndex> {
        let at = usize::try_from(queue_id).ok()?;
        let queue = *self.index.get(topic)?.get(group)?.get(at)?;
        (queue != NO_QUEUE).then_some(queue)
    }

    /// The queue of a group, made if it is not known.
    ///
    /// # Errors
    /// [`Full::Queues`]. `queue_id` must not be negative.
    pub(super) fn open_queue(&mut self, topic: &str, group: &str, queue_id: i32) -> Result<QueueIndex, Full> {
        if let Some(queue) = self.find_queue(topic, group, queue_id) {
            return Ok(queue);
        }
        if self.queues.len() - self.free_queues.len() >= self.limits.queues {
            self.close_idle_queues();
        }
        if self.queues.len() - self.free_queues.len() >= self.limits.queues {
            return Err(Full::Queues(self.limits.queues));
        }
        Ok(self.add_queue(topic, group, queue_id))
    }

    fn add_queue(&mut self, topic: &str, group: &str, queue_id: i32) -> QueueIndex {
        assert!(queue_id >= 0, "a queue has an id");
        let topic = self
            .index
            .get_key_value(topic)
            .map_or_else(|| topic.into(), |(known, _)| known.clone());
        let groups = self.index.entry(Arc::clone(&topic)).or_default();
        let group = groups.get_key_value(group).map_or_else(|| group.into(), |(known, _)| known.clone());
        let by_id = groups.entry(Arc::clone(&group)).or_default();
        self.epochs = self.epochs.wrapping_add(1);
        let queue = Queue {
            topic,
            group,
            queue_id,
            is_claimed: false,
            is_used: true,
            epoch: self.epochs,
            messages: 0,
            points: 0,
            spans: VecDeque::new(),
            covered: Vec::new(),
        };
        let index = match self.free_queues.pop() {
            Some(free) => {
                self.queues[free as usize] = queue;
                free
            }
            None => {
                self.queues.push(queue);
                (self.queues.len() - 1) as QueueIndex
            }
        };
        let at = queue_id as usize;
        if by_id.len() <= at {
            by_id.resize(at + 1, NO_QUEUE);
        }
        by_id[at] = index;
        index
    }

    fn close_idle_queues(&mut self) {
        for index in 0..self.queues.len() {
            let queue = &self.queues[index];
            if queue.is_used && !queue.is_claimed && queue.points == 0 && queue.spans.is_empty() && queue.covered.is_empty() {
                self.close_queue(index as QueueIndex);
            }
        }
    }

    fn close_queue(&mut self, index: QueueIndex) {
        let queue = &mut self.queues[index as usize];
        queue.is_used = false;
        queue.spans = VecDeque::new();
        queue.covered = Vec::new();
        let (topic, group, at) = (Arc::clone(&queue.topic), Arc::clone(&queue.group), queue.queue_id as usize);
        self.free_queues.push(index);
        if let Some(groups) = self.index.get_mut(&topic) {
            if let Some(by_id) = groups.get_mut(&group) {
                by_id[at] = NO_QUEUE;
                if by_id.iter().all(|queue| *queue == NO_QUEUE) {
                    groups.remove(&group);
                }
            }
            if groups.is_empty() {
                self.index.remove(&topic);
            }
        }
    }

    /// The offset at which the next pop of a queue begins, whether or not one may begin.
    pub(super) fn position(&self, queue: QueueIndex, committed: i64) -> i64 {
        let queue = &self.queues[queue as usize];
        queue.covered_to(queue.spans.back().map_or(committed, |span| span.next.max(committed)))
    }

    /// Whether a pop could read the queue now.
    pub(super) fn is_free(&self, queue: QueueIndex, most_messages: Option<u64>) -> bool {
        let queue = &self.queues[queue as usize];
        !queue.is_claimed && most_messages.is_none_or(|most| queue.messages <= most)
    }

    /// A pop begins to read a queue whose committed offset is this one.
    pub(super) fn begin(&mut self, index: QueueIndex, committed: i64, most_messages: Option<u64>) -> Begin {
        let position = self.position(index, committed);
        let queue = &mut self.queues[index as usize];
        if queue.is_claimed {
            return Begin::Busy;
        }
        if most_messages.is_some_and(|most| queue.messages > most) {
            return Begin::Limited;
        }
        queue.covered.retain(|(_, to)| *to > committed);
        queue.is_claimed = true;
        Begin::At(Claim {
            queue: index,
            epoch: queue.epoch,
            from: position,
            is_covered: queue.spans.is_empty() && position > committed,
        })
    }

    /// The pop ends without a message. Every claim ends once.
    pub(super) fn release(&mut self, claim: Claim) {
        let queue = &mut self.queues[claim.queue as usize];
        assert!(queue.is_claimed, "a claim ends once");
        queue.is_claimed = false;
    }

    /// Ends a claim. False if an operator moved the offset or deleted the topic since it began.
    fn end(&mut self, claim: Claim) -> bool {
        self.release(claim);
        self.queues[claim.queue as usize].epoch == claim.epoch
    }

    /// The pop ends: none of the messages before `next` is selected. Returns the offset to commit.
    pub(super) fn passed(&mut self, claim: Claim, next: i64) -> Option<i64> {
        if !self.end(claim) || next <= claim.from {
            return None;
        }
        self.queues[claim.queue as usize].push(next, 0)
    }

    /// The pop ends: these messages are in flight from now on. False if they must not be handed out, because an operator moved the offset
    /// or deleted the topic meanwhile.
    ///
    /// # Errors
    /// [`Full::Points`]; nothing is in flight then, and the queue is free again.
    pub(super) fn popped(&mut self, claim: Claim, popped: Popped<'_>, now: Moment) -> Result<bool, Full> {
        let key = Key {
            queue: claim.queue,
            start: claim.from,
            pop_time: popped.pop_time,
        };
        // The same offset was popped in the same millisecond, before an operator moved back the offset.
        if !self.end(claim) || self.find(key).is_some() {
            return Ok(false);
        }
        if self.points() >= self.limits.points {
            return Err(Full::Points(self.limits.points));
        }
        let queue = &mut self.queues[claim.queue as usize];
        let committed = queue.push(popped.next, 1);
        debug_assert_eq!(committed, None, "a span that is held back is not committed");
        let mut point = Point::new(key, popped.offsets);
        point.epoch = queue.epoch;
        point.span = popped.next;
        point.revive_queue = popped.revive_queue;
        self.insert_new(point, popped.invisible_ms, now);
        Ok(true)
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
        let queue = &mut self.queues[point.key.queue as usize];
        queue.points += 1;
        queue.messages += u64::from(point.left());
        let hash = hash(point.key);
        point.at = at;
        point.chain = self.by_key.get(&hash).copied().unwrap_or(NO_POINT);
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
        self.by_key.insert(hash, id);
        self.agenda.insert((at, id));
        id
    }

    fn remove(&mut self, id: PointId) {
        let (hash, chain) = {
            let point = &self.points[id as usize];
            (hash(point.key), point.chain)
        };
        match self.by_key.get(&hash).copied() {
            Some(first) if first == id && chain == NO_POINT => {
                self.by_key.remove(&hash);
            }
            Some(first) if first == id => {
                self.by_key.insert(hash, chain);
            }
            Some(mut at) => {
                while self.points[at as usize].chain != id {
                    at = self.points[at as usize].chain;
                }
                self.points[at as usize].chain = chain;
            }
            None => unreachable!("every check point is found by its key"),
        }
        let point = &mut self.points[id as usize];
        point.is_used = false;
        if point.at != NONE {
            self.agenda.remove(&(point.at, id));
        }
        let queue = &mut self.queues[point.key.queue as usize];
        queue.points -= 1;
        queue.messages -= u64::from(point.left());
        self.free_points.push(id);
    }

    fn find(&self, key: Key) -> Option<PointId> {
        let mut id = *self.by_key.get(&hash(key))?;
        while self.points[id as usize].key != key {
            id = self.points[id as usize].chain;
            if id == NO_POINT {
                return None;
            }
        }
        Some(id)
    }

    /// Plans the next look at a check point.
    fn plan(&mut self, id: PointId, at: i64) {
        let point = &mut self.points[id as usize];
        if point.at != NONE {
            self.agenda.remove(&(point.at, id));
        }
        point.at = at;
        self.agenda.insert((at, id));
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
            let (queue, epoch, span) = (point.key.queue, point.epoch, point.span);
            self.remove(id);
            commit = self.let_go(queue, epoch, span).or(commit);
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
            .filter(|point| point.is_used && point.key == key)?;
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
        let is_held = point.at != NONE && point.due > now.steady_ms;
        let is_in_flight = |bit: &u32| (point.acked | point.moved) & bit == 0 && is_held;
        let Some(bit) = point.bit_of(offset).filter(is_in_flight) else {
            return Ok(None);
        };
        if self.points() >= self.limits.points {
            return Err(Full::Points(self.limits.points));
        }
        let (epoch, span, revive_queue) = (point.epoch, point.span, point.revive_queue);
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
        if self.hold(key.queue, epoch, span) {
            point.span = span;
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

    /// When the thread has to look, by the monotonic clock.
    pub(super) fn next_look(&self) -> Option<i64> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Whether something waits for the log to be synced.
    pub(super) fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// Takes up to `most` check points that need the thread now. Each is reported afterwards; until then its clients cannot change more
    /// than its acknowledgements.
    pub(super) fn take_due(&mut self, most: usize, now: Moment) -> Vec<Job> {
        let mut jobs = Vec::new();
        while jobs.len() < most
            && let Some((at, id)) = self.agenda.first().copied()
            && at <= now.steady_ms
        {
            if self.points[id as usize].moved != 0 {
                // After the check points that were made for its messages.
                self.plan(id, now.steady_ms + SAVE_COMPLETE_AFTER_MS);
                continue;
            }
            self.agenda.pop_first();
            self.points[id as usize].at = NONE;
            jobs.push(self.job(id, now));
        }
        jobs
    }

    /// The thread looks at all check points of these queues now.
    pub(super) fn hurry(&mut self, is_wanted: impl Fn(&str, &str) -> bool, now: Moment) {
        for id in 0..self.points.len() {
            let point = &self.points[id];
            let queue = &self.queues[point.key.queue as usize];
            if point.is_used && point.at != NONE && !point.is_written() && is_wanted(&queue.topic, &queue.group) {
                self.plan(id as PointId, now.steady_ms);
            }
        }
    }

    /// As [`Self::take_due`] for all that is in memory only, or has acknowledgements that the log does not have: the broker stops.
    pub(super) fn take_unwritten(&mut self, most: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        for id in 0..self.points.len() {
            let point = &self.points[id];
            let is_ready = point.is_used && point.at != NONE && point.moved == 0;
            if jobs.len() < most && is_ready && (!point.is_written() || point.acked != point.saved) {
                self.agenda.remove(&(point.at, id as PointId));
                self.points[id].at = NONE;
                let mut job = self.job(
                    id as PointId,
                    Moment {
                        wall_ms: 0,
                        steady_ms: NONE,
                    },
                );
                job.task = if job.is_written { Task::SaveAcks } else { Task::Write };
                jobs.push(job);
            }
        }
        jobs
    }

    fn job(&self, id: PointId, now: Moment) -> Job {
        let point = &self.points[id as usize];
        let queue = &self.queues[point.key.queue as usize];
        let task = if point.is_complete() {
            Task::SaveAcks
        } else if point.due <= now.steady_ms {
            Task::Revive
        } else if point.is_written() {
            Task::SaveAcks
        } else {
            Task::Write
        };
        debug_assert!(
            !point.is_complete() || point.is_written(),
            "a complete check point in memory is removed at once"
        );
        Job {
            id,
            task,
            key: point.key,
            topic: Arc::clone(&queue.topic),
            group: Arc::clone(&queue.group),
            queue_id: queue.queue_id,
            revive_queue: point.revive_queue,
            invisible_ms: point.invisible_ms.into(),
            offsets: point.offsets().collect(),
            acked: point.acked,
            saved: point.saved,
            is_written: point.is_written(),
            suspend: point.suspend,
        }
    }

    /// The check point of a job, if it was not removed meanwhile.
    fn point_of(&mut self, job: &Job) -> Option<&mut Point> {
        let point = self.points.get_mut(job.id as usize)?;
        (point.is_used && point.key == job.key && point.at == NONE).then_some(point)
    }

    /// A record was appended at this offset of the revive topic; the log ends behind it at `log_end`.
    pub(super) fn written(&mut self, job: &Job, record: i64, log_end: i64, now: Moment) {
        self.records.insert((job.revive_queue, record));
        let Some(point) = self.point_of(job) else {
            // Its topic or group was deleted.
            let revive_queue = job.revive_queue;
            self.settling.push_back((log_end, Settling::Record { revive_queue, record }));
            return;
        };
        point.record = record;
        point.saved = job.acked;
        if point.span != NONE {
            let (queue, epoch, next) = (job.key.queue, point.epoch, point.span);
            point.span = NONE;
            self.settling.push_back((log_end, Settling::Span { queue, epoch, next }));
        }
        self.plan_written(job.id, now);
        self.settle_moved_from(job.id, log_end, now);
    }

    /// A check point that was made for a message of another one is in the log up to `log_end`.
    fn settle_moved_from(&mut self, id: PointId, log_end: i64, now: Moment) {
        let Some(from) = self.moved_from(id) else { return };
        if let Some(offset) = self.acked(from, now) {
            unreachable!("the other check point holds back {offset} until the log is on the device up to {log_end}");
        }
    }

    /// Acknowledgements of these messages were appended.
    pub(super) fn saved(&mut self, job: &Job, bits: u32, log_end: i64, now: Moment) {
        let Some(point) = self.point_of(job) else { return };
        point.saved |= bits;
        if point.saved != point.all() {
            return self.plan_written(job.id, now);
        }
        let (revive_queue, record) = (point.revive_queue, point.record);
        self.remove(job.id);
        self.settling.push_back((log_end, Settling::Record { revive_queue, record }));
    }

    fn plan_written(&mut self, id: PointId, now: Moment) {
        let point = &self.points[id as usize];
        let at = if point.is_complete() {
            now.steady_ms + SAVE_COMPLETE_AFTER_MS
        } else if point.acked == point.saved {
            point.due
        } else {
            point.due.min(now.steady_ms + SAVE_AFTER_MS)
        };
        self.plan(id, at);
    }

    /// The messages are stored again, or are gone: the check point is done when the log is synced up to `log_end`.
    pub(super) fn revived(&mut self, job: &Job, log_end: i64, now: Moment) {
        let Some(point) = self.point_of(job) else { return };
        let (queue, epoch, next) = (job.key.queue, point.epoch, point.span);
        let (revive_queue, record) = (point.revive_queue, point.record);
        self.remove(job.id);
        if next != NONE {
            self.settling.push_back((log_end, Settling::Span { queue, epoch, next }));
        }
        if record != NONE {
            self.settling.push_back((log_end, Settling::Record { revive_queue, record }));
        }
        self.settle_moved_from(job.id, log_end, now);
    }

    /// The job could not be done; it is due again in a second.
    pub(super) fn failed(&mut self, job: &Job, now: Moment) {
        let Some(point) = self.point_of(job) else { return };
        if point.is_complete() && !point.is_written() {
            // Acknowledged meanwhile: nothing is left to do.
            return self.revived(job, 0, now);
        }
        self.plan(job.id, now.steady_ms + RETRY_AFTER_MS);
    }

    /// The log is on the device up to this offset. Passes what may be committed now to `commit`.
    pub(super) fn settle(&mut self, flushed: i64, mut commit: impl FnMut(Commit)) {
        while let Some((log_end, settling)) = self.settling.front().copied()
            && log_end <= flushed
        {
            self.settling.pop_front();
            match settling {
                Settling::Record { revive_queue, record } => {
                    self.records.remove(&(revive_queue, record));
                }
                Settling::Span { queue, epoch, next } => {
                    if let Some(offset) = self.let_go(queue, epoch, next) {
                        commit(self.commit(queue, offset));
                    }
                }
            }
        }
    }

    fn commit(&self, queue: QueueIndex, offset: i64) -> Commit {
        let queue = &self.queues[queue as usize];
        Commit {
            topic: Arc::clone(&queue.topic),
            group: Arc::clone(&queue.group),
            queue_id: queue.queue_id,
            offset,
        }
    }

    /// The first record of a revive queue that is not done.
    pub(super) fn first_record(&self, revive_queue: u16) -> Option<i64> {
        let mut records = self.records.range((revive_queue, i64::MIN)..=(revive_queue, i64::MAX));
        records.next().map(|(_, record)| *record)
    }

    /// An operator moved the offset of a queue: what was passed before does not move it any more.
    pub(super) fn reset(&mut self, index: QueueIndex) {
        self.epochs = self.epochs.wrapping_add(1);
        let queue = &mut self.queues[index as usize];
        queue.epoch = self.epochs;
        queue.spans.clear();
        queue.covered.clear();
    }

    /// A check point was read from the revive topic.
    pub(super) fn recover_point(&mut self, topic: &str, group: &str, queue_id: i32, of: Recovered<'_>, now: Moment) {
        let queue = match self.find_queue(topic, group, queue_id) {
            Some(queue) => queue,
            None => self.add_queue(topic, group, queue_id),
        };
        let key = Key {
            queue,
            start: of.start,
            pop_time: of.pop_time,
        };
        if self.find(key).is_some() {
            return;
        }
        let mut point = Point::new(key, of.offsets);
        point.acked = of.acked & point.all();
        point.saved = point.acked;
        if point.is_complete() {
            return;
        }
        let invisible_ms = of.invisible_ms.clamp(0, MAX_INVISIBLE_MS);
        let left = of.pop_time.saturating_add(invisible_ms).saturating_sub(now.wall_ms);
        point.invisible_ms = invisible_ms as u32;
        // By a clock that was set back it would be invisible for longer than it was popped for.
        point.due = now.steady_ms + left.clamp(0, invisible_ms) + of.grace_ms;
        point.record = of.record;
        point.revive_queue = of.revive_queue;
        point.suspend = of.suspend;
        self.records.insert((of.revive_queue, of.record));
        let end = of.offsets.last().map_or(of.start, |last| last + 1);
        let covered = &mut self.queues[queue as usize].covered;
        let at = covered.partition_point(|(from, _)| *from <= of.start);
        match covered[..at].last_mut().filter(|(_, to)| *to >= of.start) {
            Some((_, to)) => *to = end.max(*to),
            None => covered.insert(at, (of.start, end)),
        }
        let due = point.due;
        self.insert(point, due);
    }

    /// The queues that check points of the revive topic describe, after a start has read all of them: their committed offset may move to
    /// [`Self::position`].
    pub(super) fn covered(&self) -> Vec<Covered> {
        let queues = self.queues.iter().zip(0..).filter(|(queue, _)| !queue.covered.is_empty());
        let covered = queues.map(|(queue, index)| Covered {
            index,
            topic: Arc::clone(&queue.topic),
            group: Arc::clone(&queue.group),
            queue_id: queue.queue_id,
        });
        covered.collect()
    }

    /// An acknowledgement was read from the revive topic.
    pub(super) fn recover_ack(&mut self, topic: &str, group: &str, queue_id: i32, start: i64, pop_time: i64, offset: i64) {
        let Some(queue) = self.find_queue(topic, group, queue_id) else {
            return;
        };
        let Some(id) = self.find(Key { queue, start, pop_time }) else {
            return;
        };
        let point = &mut self.points[id as usize];
        let Some(bit) = point.bit_of(offset) else { return };
        if point.acked & bit == 0 {
            point.acked |= bit;
            self.queues[queue as usize].messages -= 1;
        }
        point.saved |= bit;
        // The thread that works on it removes it.
        if point.saved == point.all() && point.at != NONE {
            let (revive_queue, record, epoch, span) = (point.revive_queue, point.record, point.epoch, point.span);
            self.remove(id);
            if record != NONE {
                self.records.remove(&(revive_queue, record));
            }
            if span != NONE {
                self.let_go(queue, epoch, span);
            }
            self.moves.remove(&id);
        }
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
            if point.is_used && deleted.binary_search(&point.key.queue).is_ok() {
                let (revive_queue, record) = (point.revive_queue, point.record);
                self.remove(id as PointId);
                self.moves.remove(&(id as PointId));
                if record != NONE {
                    self.records.remove(&(revive_queue, record));
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
    pub(super) fn is_empty(&self) -> bool {
        self.points() == 0 && self.agenda.is_empty() && self.by_key.is_empty() && self.queues.iter().all(|queue| queue.messages == 0)
    }
}

impl Queue {
    /// Adds a span that was passed, and returns the offset to commit.
    fn push(&mut self, next: i64, holders: u32) -> Option<i64> {
        debug_assert!(self.spans.back().is_none_or(|last| last.next < next), "spans are passed in order");
        self.spans.push_back(Span { next, holders });
        self.drain()
    }

    /// Removes the spans that nothing holds back, and returns the end of the last one.
    fn drain(&mut self) -> Option<i64> {
        let mut end = None;
        while let Some(span) = self.spans.front()
            && span.holders == 0
        {
            end = Some(span.next);
            self.spans.pop_front();
        }
        let end = end?;
        Some(if self.spans.is_empty() { self.covered_to(end) } else { end })
    }

    /// The end of what records of an earlier run describe from this position on without a gap.
    fn covered_to(&self, mut position: i64) -> i64 {
        // Sorted when they were added.
        for (from, to) in &self.covered {
            if *from <= position {
                position = position.max(*to);
            }
        }
        position
    }

    fn span_mut(&mut self, epoch: u32, next: i64) -> Option<&mut Span> {
        if epoch != self.epoch || !self.is_used {
            return None;
        }
        let at = self.spans.binary_search_by_key(&next, |span| span.next).ok()?;
        self.spans.get_mut(at)
    }
}

fn hash(key: Key) -> u64 {
    let mut hasher = FxHasher::default();
    (key.queue, key.start, key.pop_time).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
