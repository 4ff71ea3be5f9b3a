//! A pop: reads the queues one after the other until it has enough messages.
//!
//! A queue is claimed while it is read, so that no two pops hand out the same messages; a pop passes over a queue that another one reads.
//! Reads go to the log's tail in memory first, on the thread of the connection or of the message that woke the pop. What needs the page
//! cache or the disk continues on the threads for that, with the claim. The order of the queues: [`super::steps`].

use super::claim::{Claimed, Started};
use super::in_flight::{Claim, Commit, Popped};
use super::order::{InOrder, Of};
use super::request::Pop;
use super::result::{PopResult, Taken};
use super::steps::Step;
use super::{Pops, revive_log};
use crate::clients::Lease;
use crate::errors::Refusal;
use crate::pull::by_content::{self, ContentRead};
use crate::pull::selection::Selection;
use crate::readers::Continued;
use crate::records;
use crate::settings::BrokerSettings;
use crate::store_options::read_limits;
use bytes::Bytes;
use message::QueueOffset;
use protocol::codes::ResponseCode;
use protocol::pop::ORDER_REVIVE_QUEUE;
use protocol::pop::handle::{Handle, Origin, push_message_offsets, push_start_offset};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use store::{Limits, ReadResult, ReadSource, ReadStatus, StoreError};

/// Reads of one queue without a selected message after which a pop continues on a catch-up thread.
const MAX_LAPS_INLINE: u32 = 2;
/// Memory of a pop that waits for a thread, in bytes.
const POP_BYTES: usize = 1_024;

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
    taken: SmallVec<[Taken; 2]>,
    records: Vec<Bytes>,
    bytes: usize,
    rest: i64,
    /// The first queue with messages that are left.
    rest_in: Option<Step>,
}

impl Pops {
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
            taken: SmallVec::new(),
            records: Vec::new(),
            bytes: 0,
            rest: 0,
            rest_in: None,
            pop,
        };
        self.advance(round, ReadSource::Memory, &settings)
    }

    /// Reads the steps that are left.
    fn advance(self: &Arc<Self>, mut round: Round, mut source: ReadSource, settings: &BrokerSettings) -> Option<Step> {
        let begun = Instant::now();
        while let Some(step) = round.steps.get(round.at).copied() {
            let (claimed, from) = match round.claimed.take() {
                Some(claimed) => claimed,
                None => match self.begin(&round.pop, round.records.len(), step, settings) {
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
        let continued = Continued {
            source,
            reply: round.pop.asker.reply(),
            waiting_bytes: POP_BYTES,
            read_bytes: self.core.settings.current().max_transfer_bytes_on_message_in_memory as usize,
        };
        let pops = Arc::clone(self);
        self.core.threads.continue_read(continued, move || {
            let of = Arc::clone(&round.pop.of);
            let settings = pops.core.settings.current();
            if let Some(left) = pops.advance(round, source, &settings) {
                pops.wake_next(&of, left);
            }
        });
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
        let lease = round.pop.held_for.as_ref().map(|(client, most_ms)| Lease {
            holder: self.consumers.holder(group, client),
            until: self.now().steady_ms.saturating_add(*most_ms),
        });
        let offsets: SmallVec<[i64; 32]> = read.records.iter().map(|record| revive_log::queue_offset(record)).collect();
        if round.pop.in_order {
            let popped = InOrder {
                attempt: round.pop.attempt.as_deref(),
                offsets: &offsets,
                pop_time: round.pop_time,
                invisible_ms: round.pop.invisible_ms,
                lease: lease.zip(
                    round
                        .pop
                        .held_for
                        .as_ref()
                        .map(|(_, most_ms)| round.pop_time.saturating_add(*most_ms)),
                ),
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
                lease,
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
        round.taken.push(Taken {
            origin: step.origin,
            queue_id,
            start: claim.from,
            count: read.records.len(),
        });
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
            is_held: pop.held_for.is_some(),
            taken: round.taken,
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
            is_held: false,
            taken: SmallVec::new(),
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
