//! POP: requests, and the acknowledgements of what they are answered with; readers of `bench recv --consume pop`.
//!
//! A reader has one connection and one pop in flight for each of its queues. It acknowledges the messages of an answer and asks for the next
//! ones with the same write, as consumers do whose work costs nothing.

use std::fmt::Write;
use std::sync::Arc;

use protocol::pop::handle::Handle;
use protocol::pop::{AckHeader, BatchAck, BatchAckBody, INIT_MIN, PopHeader};
use protocol::{Frame, RequestCode, json};

use super::arguments::Acknowledge;
use super::closed::Pace;
use super::exchange::Exchange;
use super::totals::CounterGuard;
use super::wire::{Answer, Answers};
use crate::failure::Failure;

/// Set in opaques of acknowledgements; the rest is that of the pop.
const IS_ACK: u32 = 1 << 30;
/// Maximum number of messages of a pop.
pub(super) const POP_MAX: i32 = 32;
/// How long a pop that finds nothing is parked, ms, while a reader expects messages.
const BACKLOG_HOLD_MS: i64 = 1_000;

/// Makes the requests of one group for one topic.
pub(super) struct Pops {
    pub(super) topic: String,
    /// A new group for each run, so that it starts at the first message.
    pub(super) group: String,
    pub(super) acknowledge: Acknowledge,
    pub(super) invisible_ms: i64,
}

/// What an answer said.
pub(super) struct Popped {
    /// Messages in its body.
    pub(super) messages: u64,
    /// Acknowledgements that were written.
    pub(super) acks: usize,
}

impl Pops {
    pub(super) fn new(topic: &str, run: u64, acknowledge: Acknowledge, invisible_seconds: u32) -> Self {
        Self {
            topic: topic.to_owned(),
            group: format!("ApogeeBenchPop_{run:x}"),
            acknowledge,
            invisible_ms: i64::from(invisible_seconds) * 1_000,
        }
    }

    /// Whether an answer is that of an acknowledgement.
    pub(super) fn is_ack(opaque: u32) -> bool {
        opaque & IS_ACK != 0
    }

    /// Appends a pop of a queue. `opaque` comes back with the answer.
    pub(super) fn pop(&self, queue_id: i32, max: i32, hold_ms: i64, opaque: u32, out: &mut Vec<u8>) {
        let mut frame = Frame::request(RequestCode::PopMessage);
        frame.opaque = opaque as i32;
        let header = PopHeader {
            consumer_group: &self.group,
            topic: &self.topic,
            queue_id,
            max_msg_nums: max,
            invisible_time: self.invisible_ms,
            poll_time: hold_ms,
            born_time: super::frames::wall_ms(),
            init_mode: INIT_MIN,
            exp_type: None,
            exp: None,
            order: false,
            attempt_id: None,
            hold_for: None,
            hold_time: None,
        };
        header.encode(&mut frame.ext);
        out.extend_from_slice(&frame.to_bytes());
    }

    /// Appends the acknowledgements of the messages of a successful answer to a pop.
    pub(super) fn acknowledge(&self, queue_id: i32, answer: &Answer<'_>, out: &mut Vec<u8>) -> Result<Popped, Failure> {
        let frame = answer.decode().ok_or_else(|| Failure::new("the answer of a pop is malformed"))?;
        let number = |name: &str| {
            let missing = || Failure::new(format!("the answer of a pop has no {name}"));
            frame.ext.long(name).ok_or_else(missing)
        };
        let starts = frame.ext.text("startOffsetInfo").unwrap_or_default();
        let start = starts.rsplit(' ').next().and_then(|start| start.parse().ok());
        let start = start.ok_or_else(|| Failure::new("the answer of a pop has no start offset of one queue"))?;
        let handle = Handle {
            start,
            pop_time: number("popTime")?,
            invisible_time: number("invisibleTime")?,
            revive_queue: number("reviveQid")? as i32,
            origin: "0",
            broker: "bench",
            queue_id,
            offset: None,
        };
        let offsets = client::records(answer.body).flatten().map(|record| record.queue_offset.0);
        let opaque = answer.opaque() | IS_ACK;
        match self.acknowledge {
            Acknowledge::Nothing => Ok(Popped {
                messages: offsets.count() as u64,
                acks: 0,
            }),
            Acknowledge::Batch => {
                let mut messages = 0;
                let distances = offsets
                    .filter_map(|offset| u32::try_from(offset - start).ok())
                    .inspect(|_| messages += 1);
                let bit_set = BatchAck::bit_set_of(distances);
                self.push_batch(&handle, bit_set, opaque, out);
                Ok(Popped { messages, acks: 1 })
            }
            Acknowledge::Each => {
                let mut acks = 0;
                let mut text = String::new();
                for offset in offsets {
                    text.clear();
                    let of_message = Handle {
                        offset: Some(offset),
                        ..handle
                    };
                    // A String takes every text.
                    let _ = write!(text, "{of_message}");
                    let header = AckHeader {
                        consumer_group: &self.group,
                        topic: &self.topic,
                        queue_id,
                        extra_info: &text,
                        offset,
                        lite_topic: None,
                        in_flight: None,
                    };
                    let mut frame = Frame::request(RequestCode::AckMessage);
                    frame.opaque = opaque as i32;
                    header.encode(&mut frame.ext);
                    out.extend_from_slice(&frame.to_bytes());
                    acks += 1;
                }
                Ok(Popped {
                    messages: acks as u64,
                    acks,
                })
            }
        }
    }

    fn push_batch(&self, handle: &Handle<'_>, bit_set: String, opaque: u32, out: &mut Vec<u8>) {
        let body = BatchAckBody {
            broker_name: Some(handle.broker.to_owned()),
            acks: vec![BatchAck {
                bit_set,
                consumer_group: self.group.clone(),
                topic: self.topic.clone(),
                retry: handle.origin.to_owned(),
                start_offset: handle.start,
                queue_id: handle.queue_id,
                revive_queue: handle.revive_queue,
                pop_time: handle.pop_time,
                invisible_time: handle.invisible_time,
            }],
        };
        let mut frame = Frame::request(RequestCode::BatchAckMessage).with_body(json::write(&body));
        frame.opaque = opaque as i32;
        out.extend_from_slice(&frame.to_bytes());
    }
}

/// Progress in a queue.
pub(super) struct Backlog {
    pub(super) queue_id: i32,
    /// Messages that the reader did not get yet.
    pub(super) left: u64,
    pub(super) asked_us: u64,
}

/// Reads a backlog.
pub(super) struct Reader {
    pub(super) pops: Arc<Pops>,
    pub(super) backlogs: Vec<Backlog>,
    /// Indexes of queues without a pop in flight.
    pub(super) wanted: Vec<usize>,
    /// Requests without an answer.
    pub(super) in_flight: usize,
    pub(super) batch: i32,
    pub(super) pace: Pace,
    /// Acknowledgements to write with the next pops.
    pub(super) acks: Vec<u8>,
}

impl Exchange for Reader {
    fn write_requests(&mut self, out: &mut Vec<u8>) -> bool {
        let now_us = self.pace.clock.now_us();
        out.append(&mut self.acks);
        for index in std::mem::take(&mut self.wanted) {
            let backlog = &mut self.backlogs[index];
            if backlog.left > 0 && now_us < self.pace.end_us {
                backlog.asked_us = now_us;
                self.pops.pop(backlog.queue_id, self.batch, BACKLOG_HOLD_MS, index as u32, out);
                self.in_flight += 1;
            }
        }
        self.in_flight > 0
    }

    fn read_answers(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let (now_us, counter) = (self.pace.clock.now_us(), Arc::clone(&self.pace.counter));
        let mut counts = counter.open();
        while let Some(answer) = answers.next()? {
            self.in_flight = self.in_flight.saturating_sub(1);
            self.take(&mut counts, &answer, now_us)?;
        }
        Ok(())
    }
}

impl Reader {
    fn take(&mut self, counts: &mut CounterGuard<'_>, answer: &Answer<'_>, now_us: u64) -> Result<(), Failure> {
        let opaque = answer.opaque();
        let index = (opaque & !IS_ACK) as usize;
        let unexpected = || Failure::new("an answer without a request");
        let backlog = self.backlogs.get_mut(index).ok_or_else(unexpected)?;
        if Pops::is_ack(opaque) {
            if answer.code() != 0 {
                counts.failure(now_us, || format!("an acknowledgement was refused: {}", answer.remark()));
            }
            return Ok(());
        }
        match answer.code() {
            0 => {
                let popped = self.pops.acknowledge(backlog.queue_id, answer, &mut self.acks)?;
                counts.success(backlog.asked_us, now_us, popped.messages, answer.body.len() as u64);
                backlog.left = backlog.left.saturating_sub(popped.messages);
                self.in_flight += popped.acks;
            }
            // Nothing was there in time, or another request read the queue.
            209 | 210 => {}
            _ => {
                counts.failure(backlog.asked_us, || format!("queue {}: {}", backlog.queue_id, answer.remark()));
                backlog.left = 0;
            }
        }
        self.wanted.push(index);
        Ok(())
    }
}
