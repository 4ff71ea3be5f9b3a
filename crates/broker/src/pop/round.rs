//! A pop: reads the queues one after the other until it has enough messages.
//!
//! A queue is claimed while it is read, so that no two pops hand out the same messages; a pop passes over a queue that another one reads.
//! Reads go to the log's tail in memory first, on the thread of the connection or of the message that woke the pop. What needs the page
//! cache or the disk continues on the threads for that, with the claim. Every fifth pop reads retried messages first, the others last.

use super::check::{MAX_MESSAGES, Reads};
use super::in_flight::{Begin, Claim, Commit, Full, Popped};
use super::order::{InOrder, Of};
use super::result::PopResult;
use super::wake::GroupOnTopic;
use super::{Pops, revive_log};
use crate::asker::Asker;
use crate::errors::Refusal;
use crate::hold::{ANY_QUEUE, Waiter};
use crate::pull::by_content::{self, ContentRead};
use crate::pull::selection::Selection;
use crate::records;
use crate::settings::BrokerSettings;
use crate::store_options::read_limits;
use crate::topic::Topic;
use bytes::Bytes;
use message::QueueOffset;
use protocol::codes::ResponseCode;
use protocol::pop::handle::{Handle, Origin, push_message_offsets, push_start_offset};
use protocol::pop::{INIT_MIN, ORDER_REVIVE_QUEUE, PopHeader};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use store::{Limits, ReadResult, ReadSource, ReadStatus, StoreError};

/// Compat: a request that is later than its own deadline by more is not served, in ms.
const TOO_LATE_MS: i64 = 500;
/// Reads of one queue without a selected message after which a pop continues on a catch-up thread.
const MAX_LAPS_INLINE: u32 = 2;
/// Memory of a pop that waits for a thread, in bytes.
const POP_BYTES: usize = 1_024;

/// A pop that passed the checks.
pub(super) struct Pop {
    asker: Asker<PopResult>,
    topic: Arc<Topic>,
    pub(super) of: Arc<GroupOnTopic>,
    selection: Arc<Selection>,
    /// Below 0 for any.
    pub(super) queue_id: i32,
    most: usize,
    invisible_ms: i64,
    /// Deadline of parking, in ms since 1970.
    pub(super) until: Option<i64>,
    starts_at_min: bool,
    in_order: bool,
    attempt: Option<Box<str>>,
}

/// What a pop or notification reads.
#[derive(Clone)]
pub(super) struct ReadsOf {
    pub(super) topic: Arc<Topic>,
    pub(super) of: Arc<GroupOnTopic>,
    pub(super) queue_id: i32,
    pub(super) in_order: bool,
    pub(super) attempt: Option<Box<str>>,
}

impl Pop {
    pub(super) fn reads(&self) -> ReadsOf {
        ReadsOf {
            topic: Arc::clone(&self.topic),
            of: Arc::clone(&self.of),
            queue_id: self.queue_id,
            in_order: self.in_order,
            attempt: self.attempt.clone(),
        }
    }
}

impl Waiter for Pop {
    fn queue(&self) -> (&str, i32) {
        (&self.of.key, if self.queue_id < 0 { ANY_QUEUE } else { self.queue_id })
    }

    fn owner(&self) -> u64 {
        self.asker.client()
    }

    fn is_disconnected(&self) -> bool {
        self.asker.is_disconnected()
    }

    fn tags(&self) -> Option<&[i32]> {
        match &*self.selection {
            Selection::Tags(filter) => filter.codes(),
            Selection::Content(_) => None,
        }
    }

    fn is_by_content(&self) -> bool {
        matches!(*self.selection, Selection::Content(_))
    }
}

/// A queue to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) origin: Origin,
    pub(super) queue_id: i32,
}

/// A claim of a queue; ends when dropped.
pub(super) struct Claimed {
    pops: Arc<Pops>,
    of: Arc<GroupOnTopic>,
    step: Step,
    claim: Option<Claim>,
}

impl Claimed {
    /// The caller ends the claim.
    fn take(mut self) -> Option<Claim> {
        self.claim.take()
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.pops.state.lock().release(claim);
            // A pop that passed over the queue may wait for it. Not on this stack, which may be the one of another pop.
            let (pops, of, step) = (Arc::clone(&self.pops), Arc::clone(&self.of), self.step);
            let _ = self.pops.core.threads.catch_up.run_own(move || {
                pops.wake_queue(of.name(step.origin), &of.group, step.queue_id);
            });
        }
    }
}

/// How a step begins.
enum Started {
    /// There is nothing to read; so many messages are left.
    Nothing(i64),
    Claimed(Claimed, i64),
}

/// A pop that is being served.
struct Round {
    pop: Pop,
    steps: SmallVec<[Step; 16]>,
    at: usize,
    /// The queue of the current step, and where to read it.
    claimed: Option<(Claimed, i64)>,
    /// By content: the first offset of the current queue that was not examined.
    examined_to: i64,
    laps: u32,
    pop_time: i64,
    revive_queue: i32,
    start_offsets: String,
    message_offsets: String,
    order_counts: String,
    records: Vec<Bytes>,
    bytes: usize,
    rest: i64,
    /// The first queue with messages that are left.
    rest_in: Option<Step>,
}

impl Pops {
    /// Handles a pop request.
    pub fn pop(self: &Arc<Self>, asker: Asker<PopResult>, header: &PopHeader<'_>, now_ms: i64) {
        let pop = match self.accept(asker, header, now_ms) {
            Ok(pop) => pop,
            Err((asker, refusal)) => return asker.refuse(refusal),
        };
        let of = Arc::clone(&pop.of);
        if let Some(left) = self.run(pop) {
            self.wake_next(&of, left);
        }
    }

    fn accept(&self, asker: Asker<PopResult>, header: &PopHeader<'_>, now_ms: i64) -> Result<Pop, (Asker<PopResult>, Refusal)> {
        let settings = self.core.settings.current();
        let reads = Reads {
            topic: header.topic,
            group: header.consumer_group,
            queue_id: header.queue_id,
        };
        let born = if header.born_time == 0 { now_ms } else { header.born_time };
        let check = || {
            if now_ms.saturating_sub(born).saturating_sub(header.poll_time) > TOO_LATE_MS {
                let text = format!("the broker[{}] pop message is timeout too much", settings.broker_name);
                return Err(Refusal::new(ResponseCode::PollingTimeout, text));
            }
            if header.max_msg_nums > MAX_MESSAGES {
                let text = format!(
                    "the broker[{}] pop message's num is greater than {MAX_MESSAGES}",
                    settings.broker_name
                );
                return Err(Refusal::invalid(text));
            }
            let (topic, _) = self.allowed(&settings, reads, asker.peer(), now_ms)?;
            let selection = self.selection(&settings, reads, (header.exp_type, header.exp), now_ms)?;
            let of = self
                .waiting
                .of(header.topic, header.consumer_group)
                .map_err(|full| Refusal::new(ResponseCode::SystemBusy, full.to_string()))?;
            Ok((topic, selection, of))
        };
        let (topic, selection, of) = match check() {
            Ok(allowed) => allowed,
            Err(refusal) => return Err((asker, refusal)),
        };
        Ok(Pop {
            asker,
            topic,
            of,
            selection: Arc::new(selection),
            queue_id: header.queue_id,
            most: usize::try_from(header.max_msg_nums).unwrap_or(0).max(1),
            invisible_ms: header.invisible_time.max(0),
            until: super::deadline(born, header.poll_time, now_ms),
            starts_at_min: header.init_mode == INIT_MIN,
            in_order: header.order,
            attempt: header.attempt_id.map(Into::into),
        })
    }

    /// Serves a pop: it is answered, parked, or continues on another thread. Returns a queue in which it left messages for another pop.
    pub(super) fn run(self: &Arc<Self>, pop: Pop) -> Option<Step> {
        let settings = self.core.settings.current();
        let turn = self.turn.fetch_add(1, Relaxed);
        let round = Round {
            steps: self.steps(&pop.reads(), &settings, turn),
            at: 0,
            claimed: None,
            examined_to: 0,
            laps: 0,
            pop_time: self.now().wall_ms,
            revive_queue: if pop.in_order {
                ORDER_REVIVE_QUEUE
            } else {
                (turn % u32::from(self.revive_queues)) as i32
            },
            start_offsets: String::new(),
            message_offsets: String::new(),
            order_counts: String::new(),
            records: Vec::new(),
            bytes: 0,
            rest: 0,
            rest_in: None,
            pop,
        };
        self.advance(round, ReadSource::Memory, &settings)
    }

    /// The queues to read, in their order.
    pub(super) fn steps(&self, reads: &ReadsOf, settings: &BrokerSettings, turn: u32) -> SmallVec<[Step; 16]> {
        let mut steps = SmallVec::new();
        let of_topic = |steps: &mut SmallVec<[Step; 16]>, origin, queues: i32| {
            let first = (turn % queues.max(1) as u32) as i32;
            steps.extend((0..queues).map(|n| Step {
                origin,
                queue_id: (first + n) % queues,
            }));
        };
        let retry = (!reads.in_order).then(|| self.retry_topic(&reads.of, settings, turn)).flatten();
        // 37 and 100 have no common divisor: the pops that read retries first are spread.
        let is_first = turn.wrapping_mul(37) % 100 < settings.pop_from_retry_probability;
        if let Some((origin, queues)) = retry.filter(|_| is_first) {
            of_topic(&mut steps, origin, queues);
        }
        if reads.queue_id < 0 {
            of_topic(&mut steps, Origin::Topic, reads.topic.read_queues);
        } else {
            steps.push(Step {
                origin: Origin::Topic,
                queue_id: reads.queue_id,
            });
        }
        if let Some((origin, queues)) = retry.filter(|_| !is_first) {
            of_topic(&mut steps, origin, queues);
        }
        steps
    }

    /// The retry topic that a pop reads, with its number of queues. Compat: of both versions, one in turn.
    fn retry_topic(&self, of: &GroupOnTopic, settings: &BrokerSettings, turn: u32) -> Option<(Origin, i32)> {
        let queues = |origin| {
            let topic = self.core.topics.find(of.name(origin))?;
            Some((origin, topic.read_queues))
        };
        let reads_v1 = !settings.retry_topic_v2 || settings.retrieve_retry_topic_v1;
        let (v1, v2) = (reads_v1.then(|| queues(Origin::RetryV1)).flatten(), queues(Origin::RetryV2));
        if turn.is_multiple_of(2) { v1.or(v2) } else { v2.or(v1) }
    }

    /// Whether a pop would find messages now, if they are selected.
    pub(super) fn has_messages(&self, reads: &ReadsOf) -> bool {
        let settings = self.core.settings.current();
        let most = Self::most_messages(&settings);
        // Both versions of the retry topic.
        let mut steps = self.steps(reads, &settings, 0);
        steps.extend(self.steps(reads, &settings, 1));
        steps.iter().any(|step| {
            let (name, group, queue_id) = (reads.of.name(step.origin), &reads.of.group, step.queue_id);
            let max = self.core.store.max_offset(name, queue_id).0;
            let Some(committed) = self.core.offsets.committed(name, group, queue_id) else {
                return max > 0;
            };
            if self.core.offsets.reset_pending(name, group, queue_id) {
                return committed < max;
            }
            let position = {
                let state = self.state.lock();
                match state.find_queue(name, group, queue_id) {
                    Some(queue) if !state.is_free(queue, most) => return false,
                    Some(queue) => state.position(queue, committed),
                    None => committed,
                }
            };
            position < max && !(reads.in_order && self.is_blocked(reads, *step))
        })
    }

    fn is_blocked(&self, reads: &ReadsOf, step: Step) -> bool {
        let of = Of {
            topic: reads.of.name(step.origin),
            group: &reads.of.group,
            queue_id: step.queue_id,
        };
        let now_ms = self.now().wall_ms;
        self.orders.lock().is_blocked(of, reads.attempt.as_deref(), now_ms)
    }

    /// Reads the steps that are left.
    fn advance(self: &Arc<Self>, mut round: Round, mut source: ReadSource, settings: &BrokerSettings) -> Option<Step> {
        let begun = Instant::now();
        while let Some(step) = round.steps.get(round.at).copied() {
            let (claimed, from) = match round.claimed.take() {
                Some(claimed) => claimed,
                None => match self.begin(&round, step, settings) {
                    Ok(Started::Claimed(claimed, from)) => (claimed, from),
                    Ok(Started::Nothing(rest)) => {
                        round.leave(step, rest);
                        continue;
                    }
                    Err(refusal) if round.records.is_empty() => {
                        round.pop.asker.refuse(refusal);
                        return None;
                    }
                    Err(_) => break,
                },
            };
            let read = match self.read(&mut round, step, from, source, settings) {
                Ok(read) => read,
                Err(error) if round.records.is_empty() => {
                    drop(claimed);
                    round.pop.asker.refuse(error.into());
                    return None;
                }
                Err(_) => break,
            };
            let is_slow = read.records.is_empty() && round.laps >= MAX_LAPS_INLINE && source == ReadSource::Memory;
            if read.cold || is_slow {
                let next_source = match source {
                    ReadSource::Memory => ReadSource::PageCache,
                    ReadSource::PageCache | ReadSource::Disk => ReadSource::Disk,
                };
                round.claimed = Some((claimed, from));
                self.hand_over(round, next_source);
                return None;
            }
            if source == ReadSource::Disk {
                // The next queue may be in memory; its read says so.
                source = ReadSource::PageCache;
            }
            match self.take(&mut round, step, claimed, &read, settings) {
                Ok(()) => {}
                Err(refusal) if round.records.is_empty() => {
                    round.pop.asker.refuse(refusal);
                    return None;
                }
                Err(_) => break,
            }
        }
        let counters = self.core.stats.group(&round.pop.topic.name, &round.pop.of.group);
        if round.records.is_empty() {
            counters.missed();
            self.park(round.pop, round.rest);
            return None;
        }
        counters.took(round.pop.queue_id, begun.elapsed().as_millis() as i64);
        self.answer(round)
    }

    /// Continues on a thread that may use slower storage.
    fn hand_over(self: &Arc<Self>, round: Round, source: ReadSource) {
        let threads = &self.core.threads;
        let pool = if source == ReadSource::Disk {
            &threads.reader
        } else {
            &threads.catch_up
        };
        let reply = round.pop.asker.reply();
        let owed = reply.as_ref().map(|reply| {
            reply
                .connection()
                .owe(self.core.settings.current().max_transfer_bytes_on_message_in_memory as usize)
        });
        let pops = Arc::clone(self);
        let job = move || {
            let of = Arc::clone(&round.pop.of);
            let settings = pops.core.settings.current();
            if let Some(left) = pops.advance(round, source, &settings) {
                pops.wake_next(&of, left);
            }
            drop(owed);
        };
        let queued = match &reply {
            Some(reply) => pool.run(reply.connection(), POP_BYTES, job),
            None => pool.run_own(job),
        };
        if let (Err(busy), Some(reply)) = (queued, reply) {
            reply.send(Err(busy.into()));
        }
    }

    /// Claims the queue of a step.
    fn begin(self: &Arc<Self>, round: &Round, step: Step, settings: &BrokerSettings) -> Result<Started, Refusal> {
        let pop = &round.pop;
        let (name, group, queue_id) = (pop.of.name(step.origin), &*pop.of.group, step.queue_id);
        let (store, offsets) = (&self.core.store, &self.core.offsets);
        let busy = |error: &dyn std::fmt::Display| Refusal::new(ResponseCode::SystemBusy, error.to_string());
        let max = store.max_offset(name, queue_id).0;
        let reset = offsets.take_reset(name, group, queue_id);
        let committed = match offsets.committed(name, group, queue_id) {
            Some(committed) => committed,
            None => {
                let start = self.start_offset(name, step, pop.starts_at_min, settings);
                offsets.commit(name, group, queue_id, start).map_err(|error| busy(&error))?;
                start
            }
        };
        let mut state = self.state.lock();
        let queue = state.open_queue(name, group, queue_id).map_err(|full| busy(&full))?;
        if reset.is_some() || committed > max {
            // Over the end after a crash that lost messages, as for a pull.
            state.reset(queue);
            if !self.orders.lock().is_empty() {
                self.orders.lock().clear(Of {
                    topic: name,
                    group,
                    queue_id,
                });
            }
        }
        if committed > max {
            let _ = offsets.commit(name, group, queue_id, max);
            return Ok(Started::Nothing(0));
        }
        if pop.in_order
            && !self.orders.lock().has_room(
                Of {
                    topic: name,
                    group,
                    queue_id,
                },
                settings.max_pop_queues,
            )
        {
            return Err(busy(&Full::Queues(settings.max_pop_queues)));
        }
        let position = state.position(queue, committed);
        if position >= max || (pop.in_order && self.is_blocked(&pop.reads(), step)) {
            return Ok(Started::Nothing(0));
        }
        if round.records.len() >= pop.most {
            return Ok(Started::Nothing(max - position));
        }
        Ok(match state.begin(queue, committed, Self::most_messages(settings)) {
            // Compat: what an order blocks is not counted.
            Begin::Busy | Begin::Limited => Started::Nothing(if pop.in_order { 0 } else { max - position }),
            Begin::At(claim) => {
                drop(state);
                if claim.is_covered {
                    let _ = offsets.commit(name, group, queue_id, claim.from);
                }
                let claimed = Claimed {
                    pops: Arc::clone(self),
                    of: Arc::clone(&pop.of),
                    step,
                    claim: Some(claim),
                };
                Started::Claimed(claimed, claim.from)
            }
        })
    }

    /// Where a group begins that never committed an offset.
    pub(super) fn start_offset(&self, name: &str, step: Step, at_min: bool, settings: &BrokerSettings) -> i64 {
        let store = &self.core.store;
        let min = store.min_offset(name, step.queue_id).0;
        if at_min || step.origin != Origin::Topic {
            return min.max(0);
        }
        let is_cached = || {
            let queues: &dyn crate::queues::Queues = &**store;
            queues.is_cached(name, step.queue_id, 0)
        };
        if settings.init_pop_offset_by_check_msg_in_mem && min <= 0 && is_cached() {
            return 0;
        }
        // Compat: with the last message.
        (store.max_offset(name, step.queue_id).0 - 1).max(0)
    }

    fn read(
        &self,
        round: &mut Round,
        step: Step,
        from: i64,
        source: ReadSource,
        settings: &BrokerSettings,
    ) -> Result<ReadResult, StoreError> {
        let limits = read_limits(settings, source, round.pop.most - round.records.len());
        let limits = Limits {
            bytes: limits.bytes.saturating_sub(round.bytes),
            ..limits
        };
        let (topic, queue_id) = (round.pop.of.name(step.origin), step.queue_id);
        match &*round.pop.selection {
            Selection::Tags(filter) => {
                let matches = |code| filter.matches(code);
                self.core.store.read(topic, queue_id, QueueOffset(from), limits, &matches, source)
            }
            Selection::Content(content) => {
                let of = ContentRead {
                    store: &self.core.store,
                    topic,
                    queue_id,
                    offset: from,
                    limits,
                };
                by_content::read(&of, content, source, &mut round.examined_to)
            }
        }
    }

    /// Takes what was read from a queue, or passes what is not selected; the step is repeated if more of the queue may be.
    fn take(
        self: &Arc<Self>,
        round: &mut Round,
        step: Step,
        claimed: Claimed,
        read: &ReadResult,
        settings: &BrokerSettings,
    ) -> Result<(), Refusal> {
        let of = Arc::clone(&round.pop.of);
        let (name, group, queue_id) = (of.name(step.origin), &*of.group, step.queue_id);
        let Some(claim) = claimed.take() else { return Ok(()) };
        if !read.records.is_empty() {
            self.hand_out(round, step, claim, read, settings)?;
            round.leave(step, read.max.0 - read.next.0);
            return Ok(());
        }
        if let Some(damaged) = &read.damaged {
            let text = records::damage(&self.core.store, name, queue_id, damaged);
            if !settings.skip_damaged_messages {
                self.state.lock().release(claim);
                return Err(Refusal::system(format!(
                    "{text}; apogeeSkipDamagedMessages=true has groups skip it"
                )));
            }
            tracing::error!(group, "{text}; the group skips it");
        }
        let passes = matches!(
            read.status,
            ReadStatus::NoMatchedMessage | ReadStatus::MessageWasRemoving | ReadStatus::OffsetTooSmall | ReadStatus::OffsetFoundNull
        );
        if !passes || read.next.0 <= claim.from {
            self.state.lock().release(claim);
            round.leave(step, 0);
            return Ok(());
        }
        let commit = if round.pop.in_order {
            self.state.lock().release(claim);
            Some(read.next.0)
        } else {
            self.state.lock().passed(claim, read.next.0)
        };
        if let Some(offset) = commit {
            self.commit(&Commit {
                topic: name.into(),
                group: group.into(),
                queue_id,
                offset,
            });
        }
        round.laps += 1;
        if read.next >= read.max {
            round.leave(step, 0);
        }
        Ok(())
    }

    /// Puts messages in flight and into the answer; nothing if an operator moved the offset meanwhile.
    fn hand_out(&self, round: &mut Round, step: Step, claim: Claim, read: &ReadResult, settings: &BrokerSettings) -> Result<(), Refusal> {
        let of = Arc::clone(&round.pop.of);
        let (name, group, queue_id) = (of.name(step.origin), &*of.group, step.queue_id);
        let offsets: SmallVec<[i64; 32]> = read.records.iter().map(|record| revive_log::queue_offset(record)).collect();
        if round.pop.in_order {
            let popped = InOrder {
                attempt: round.pop.attempt.as_deref(),
                offsets: &offsets,
                pop_time: round.pop_time,
                invisible_ms: round.pop.invisible_ms,
            };
            let of = Of {
                topic: name,
                group,
                queue_id,
            };
            self.orders.lock().popped(of, step.origin, &popped, &mut round.order_counts);
            self.state.lock().release(claim);
            self.call_worker_by_wall(round.pop_time + round.pop.invisible_ms);
        } else {
            let popped = Popped {
                offsets: &offsets,
                next: read.next.0,
                pop_time: round.pop_time,
                invisible_ms: round.pop.invisible_ms,
                revive_queue: round.revive_queue as u16,
            };
            let now = self.now();
            let (outcome, next_look) = {
                let mut state = self.state.lock();
                (state.popped(claim, popped, now), state.next_look())
            };
            if !outcome.map_err(|full| Refusal::new(ResponseCode::SystemBusy, full.to_string()))? {
                return Ok(());
            }
            self.call_worker_by(next_look);
        }
        // A full offset table must not stop consumption.
        let _ = self.core.offsets.pulled_to(name, group, queue_id, read.next.0);
        push_start_offset(&mut round.start_offsets, step.origin, queue_id, claim.from);
        push_message_offsets(&mut round.message_offsets, step.origin, queue_id, &offsets);
        self.core
            .stats
            .group(name, group)
            .pulled(read.records.len() as i64, read.bytes as i64);
        for (record, offset) in read.records.iter().zip(offsets) {
            let record = if step.origin == Origin::Topic || settings.pop_returns_retry_topic {
                record.clone()
            } else {
                let handle = Handle {
                    start: claim.from,
                    pop_time: round.pop_time,
                    invisible_time: round.pop.invisible_ms,
                    revive_queue: round.revive_queue,
                    origin: step.origin.text(),
                    broker: &settings.broker_name,
                    queue_id,
                    offset: Some(offset),
                };
                revive_log::as_of_topic(record, &round.pop.topic.name, &handle.to_string())
            };
            round.bytes += record.len();
            round.records.push(record);
        }
        Ok(())
    }

    fn answer(&self, round: Round) -> Option<Step> {
        let Round { pop, rest, .. } = round;
        pop.asker.answer(PopResult {
            code: ResponseCode::Success,
            pop_time: round.pop_time,
            invisible_ms: pop.invisible_ms,
            revive_queue: round.revive_queue,
            rest,
            start_offsets: round.start_offsets,
            message_offsets: round.message_offsets,
            order_counts: pop.in_order.then_some(round.order_counts),
            records: round.records,
            bytes: round.bytes,
        });
        round.rest_in
    }

    /// Answers a pop without messages.
    pub(super) fn answer_empty(&self, pop: Pop, code: ResponseCode, rest: i64) {
        pop.asker.answer(PopResult {
            code,
            pop_time: self.now().wall_ms,
            invisible_ms: pop.invisible_ms,
            revive_queue: if pop.in_order { ORDER_REVIVE_QUEUE } else { 0 },
            rest,
            start_offsets: String::new(),
            message_offsets: String::new(),
            order_counts: pop.in_order.then(String::new),
            records: Vec::new(),
            bytes: 0,
        });
    }
}

impl Round {
    /// The current step is done; so many messages of its queue are left.
    fn leave(&mut self, step: Step, rest: i64) {
        self.at += 1;
        self.examined_to = 0;
        self.laps = 0;
        self.rest += rest.max(0);
        if rest > 0 {
            self.rest_in.get_or_insert(step);
        }
    }
}
