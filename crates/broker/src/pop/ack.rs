//! Acknowledgements (200051, 200151), and more time for a message (200053).

use super::Pops;
use super::in_flight::{Acked, Commit};
use super::order::{Next, Of};
use super::point::Key;
use crate::clients::Holder;
use crate::errors::Refusal;
use protocol::codes::ResponseCode;
use protocol::pop::handle::{Handle, HandleError, Origin};
use protocol::pop::{BatchAckBody, ORDER_REVIVE_QUEUE};
use std::sync::Arc;

/// Acknowledges a message.
#[derive(Clone, Copy, Debug)]
pub struct AckRequest<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic that the message is in; of a retried message, its retry topic.
    pub topic: &'a str,
    /// The queue.
    pub queue_id: i32,
    /// The message's queue offset.
    pub offset: i64,
    /// The handle.
    pub handle: &'a str,
    /// Whether a message that is not in flight any more is refused. Otherwise, as in Apache, its acknowledgement is no error.
    pub is_in_flight: bool,
}

/// Asks for more time for a message.
#[derive(Clone, Copy, Debug)]
pub struct ChangeInvisible<'a> {
    /// The message.
    pub of: AckRequest<'a>,
    /// The new time from now on, ms.
    pub invisible_ms: i64,
    /// Whether the next delivery does not count as a retry.
    pub suspend: bool,
}

/// The message's new handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Its pop time, epoch ms.
    pub pop_time: i64,
    /// Its invisible time, ms.
    pub invisible_ms: i64,
    /// Its queue of the revive topic.
    pub revive_queue: i32,
}

impl From<HandleError> for Refusal {
    fn from(error: HandleError) -> Self {
        Self::system(format!("extraInfo is not a handle of a popped message: {error}"))
    }
}

/// A message, and the pop that handed it out.
#[derive(Clone, Copy, Debug)]
struct PoppedMessage<'a> {
    topic: &'a str,
    group: &'a str,
    queue_id: i32,
    start: i64,
    pop_time: i64,
    offset: i64,
    is_in_flight: bool,
}

impl<'a> PoppedMessage<'a> {
    fn of(request: &AckRequest<'a>, handle: &Handle<'_>) -> Self {
        Self {
            topic: request.topic,
            group: request.group,
            queue_id: request.queue_id,
            start: handle.start,
            pop_time: handle.pop_time,
            offset: request.offset,
            is_in_flight: request.is_in_flight,
        }
    }

    /// It is not in flight any more.
    fn expired(&self) -> Refusal {
        let Self {
            topic, queue_id, offset, ..
        } = self;
        let text = format!(
            "the message at offset {offset} of {topic}/{queue_id} is not in flight any more: its invisible time has passed, it was acknowledged, or its handle was changed"
        );
        Refusal::new(ResponseCode::NoMessage, text)
    }
}

impl Pops {
    /// Acknowledges a message. One that is not in flight any more is an error only with [`AckRequest::is_in_flight`].
    ///
    /// # Errors
    /// Topic, queue, offset or handle are wrong; `NoMessage` if the message is not in flight any more.
    pub fn ack(self: &Arc<Self>, request: &AckRequest<'_>) -> Result<(), Refusal> {
        self.check_message(request, 1)?;
        let handle = Handle::parse(request.handle)?;
        let message = PoppedMessage::of(request, &handle);
        if handle.is_in_order() {
            return self.ack_in_order(&message);
        }
        match self.ack_one(&message) {
            Acked::Unknown if message.is_in_flight => Err(message.expired()),
            Acked::Unknown | Acked::Done(_) => Ok(()),
        }
    }

    /// Topic, queue and offset of a message; the offset may be up to `over` beyond the last one. Compat: Apache's codes.
    fn check_message(&self, request: &AckRequest<'_>, over: i64) -> Result<(), Refusal> {
        let topic = self.topic(request.topic)?;
        let AckRequest { queue_id, offset, .. } = *request;
        if queue_id < 0 || queue_id >= topic.read_queues {
            let text = format!(
                "queueId[{queue_id}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}]",
                topic.name, topic.read_queues
            );
            return Err(Refusal::new(ResponseCode::MessageIllegal, text));
        }
        let (min, max) = (
            self.core.store.min_offset(&topic.name, queue_id).0,
            self.core.store.max_offset(&topic.name, queue_id).0,
        );
        if offset < min || offset >= max + over {
            let text = format!(
                "offset is illegal, key:{}@{queue_id}, commit:{offset}, store:{min}~{max}",
                topic.name
            );
            return Err(Refusal::new(ResponseCode::NoMessage, text));
        }
        Ok(())
    }

    fn ack_one(self: &Arc<Self>, message: &PoppedMessage<'_>) -> Acked {
        let PoppedMessage {
            topic,
            group,
            queue_id,
            start,
            pop_time,
            offset,
            ..
        } = *message;
        let now = self.now();
        let (acked, next_look) = {
            let mut state = self.state.lock();
            let Some(queue) = state.find_queue(topic, group, queue_id) else {
                return Acked::Unknown;
            };
            let acked = state.ack(Key { queue, start, pop_time }, offset, now);
            if let Acked::Done(Some(offset)) = acked {
                // Under the lock: offsets are committed in their order.
                self.commit(&Commit {
                    topic: topic.into(),
                    group: group.into(),
                    queue_id,
                    offset,
                });
            }
            (acked, state.next_look())
        };
        if acked == Acked::Unknown {
            return acked;
        }
        self.call_worker_by(next_look);
        if self.core.settings.current().pop_threshold_enable {
            self.wake_queue(topic, group, queue_id);
        }
        acked
    }

    fn ack_in_order(self: &Arc<Self>, message: &PoppedMessage<'_>) -> Result<(), Refusal> {
        let PoppedMessage {
            topic,
            group,
            queue_id,
            pop_time,
            offset,
            ..
        } = *message;
        let committed = self.core.offsets.committed(topic, group, queue_id);
        let is_done = |offset: i64| committed.is_some_and(|committed| offset < committed);
        let of = Of { topic, group, queue_id };
        let now = self.now();
        let (is_free, next_wake) = {
            let mut orders = self.orders.lock();
            let is_free = match orders.ack(of, offset, pop_time, now.wall_ms) {
                Next::Commit(next) => {
                    if !is_done(next) {
                        self.commit(&Commit {
                            topic: topic.into(),
                            group: group.into(),
                            queue_id,
                            offset: next,
                        });
                    }
                    !orders.is_blocked(of, None, committed.unwrap_or(0), now)
                }
                Next::Old | Next::Unknown if is_done(offset) => return Ok(()),
                Next::Old if message.is_in_flight => return Err(message.expired()),
                Next::Old => false,
                Next::Unknown => {
                    let text = format!("offset is illegal, key:{topic}@{group}@{queue_id}, old:{committed:?}, commit:{offset}, next:-1");
                    return Err(Refusal::new(ResponseCode::MessageIllegal, text));
                }
            };
            (is_free, orders.next_wake())
        };
        if is_free {
            self.wake_queue(topic, group, queue_id);
        } else if let Some(at_ms) = next_wake {
            // What is left may be visible sooner than what was acknowledged.
            self.call_worker_by_wall(at_ms);
        }
        Ok(())
    }

    /// Acknowledges messages of several pops.
    ///
    /// # Errors
    /// `NoMessage` without any, `SystemError` for bits that are none; those before it are acknowledged.
    pub fn ack_batch(self: &Arc<Self>, body: &BatchAckBody) -> Result<(), Refusal> {
        if body.acks.is_empty() {
            return Err(Refusal::new(ResponseCode::NoMessage, "there is nothing to acknowledge"));
        }
        let mut outcome = Ok(());
        for acks in &body.acks {
            let origin = Origin::parse(&acks.retry)
                .ok_or_else(|| Refusal::system(format!("'{}' is not a kind of retry topic", message::text::brief(&acks.retry))))?;
            let name = match origin {
                Origin::Topic => acks.topic.clone(),
                Origin::RetryV1 => message::names::pop_retry_topic(&acks.topic, &acks.consumer_group),
                Origin::RetryV2 => message::names::pop_retry_topic_v2(&acks.topic, &acks.consumer_group),
            };
            let (min, max) = (
                self.core.store.min_offset(&name, acks.queue_id).0,
                self.core.store.max_offset(&name, acks.queue_id).0,
            );
            for distance in acks.distances()? {
                let offset = acks.start_offset.saturating_add(i64::from(distance));
                if offset < min || offset > max {
                    continue;
                }
                let message = PoppedMessage {
                    topic: &name,
                    group: &acks.consumer_group,
                    queue_id: acks.queue_id,
                    start: acks.start_offset,
                    pop_time: acks.pop_time,
                    offset,
                    is_in_flight: false,
                };
                if acks.revive_queue == ORDER_REVIVE_QUEUE {
                    outcome = outcome.and(self.ack_in_order(&message));
                } else {
                    self.ack_one(&message);
                }
            }
        }
        outcome
    }

    /// Changes how long a message stays invisible; its old handle is void.
    ///
    /// # Errors
    /// Topic, queue, offset or handle are wrong, or the message is not in flight any more (`NoMessage`).
    pub fn change_invisible(self: &Arc<Self>, request: &ChangeInvisible<'_>) -> Result<Renewed, Refusal> {
        let ChangeInvisible { of, invisible_ms, suspend } = request;
        self.check_message(of, 0)?;
        let handle = Handle::parse(of.handle)?;
        let message = PoppedMessage::of(of, &handle);
        let AckRequest {
            group,
            topic,
            queue_id,
            offset,
            is_in_flight,
            ..
        } = *of;
        let now = self.now();
        let invisible_ms = (*invisible_ms).max(0);
        if handle.is_in_order() {
            let visible_at = now.wall_ms.saturating_add(invisible_ms);
            let of = Of { topic, group, queue_id };
            let is_renewed = self.orders.lock().renew(of, offset, handle.pop_time, visible_at, now.wall_ms);
            if !is_renewed && is_in_flight {
                return Err(message.expired());
            }
            self.call_worker_by_wall(visible_at);
            return Ok(Renewed {
                pop_time: handle.pop_time,
                invisible_ms: visible_at - handle.pop_time,
                revive_queue: handle.revive_queue,
            });
        }
        let expired = || message.expired();
        let (renewed, next_look) = {
            let mut state = self.state.lock();
            let queue = state.find_queue(topic, group, queue_id).ok_or_else(expired)?;
            let key = Key {
                queue,
                start: handle.start,
                pop_time: handle.pop_time,
            };
            (state.renew(key, offset, invisible_ms, *suspend, now), state.next_look())
        };
        let renewed = renewed.map_err(|full| Refusal::new(ResponseCode::SystemBusy, full.to_string()))?;
        self.call_worker_by(next_look);
        Ok(Renewed {
            pop_time: renewed.ok_or_else(expired)?,
            invisible_ms,
            revive_queue: handle.revive_queue,
        })
    }

    /// A consumer said goodbye: what is held for it is visible after this time.
    pub(super) fn give_back(&self, holder: &Holder, after_ms: i64) {
        let now = self.now();
        let next_look = {
            let mut state = self.state.lock();
            state.give_back(holder, after_ms, now);
            state.next_look()
        };
        self.call_worker_by(next_look);
        let next_wake = {
            let mut orders = self.orders.lock();
            orders.give_back(holder, now.wall_ms.saturating_add(after_ms), now.wall_ms);
            orders.next_wake()
        };
        if let Some(at_ms) = next_wake {
            self.call_worker_by_wall(at_ms);
        }
    }

    /// The group pulls from now on: what is in flight is written at once, so that its offset moves on.
    pub fn hand_over_to_pulls(&self, topic: &str, group: &str) {
        let now = self.now();
        let next_look = {
            let mut state = self.state.lock();
            state.hurry(
                |of_topic, of_group| of_group == group && message::names::popped_topic(of_topic, group) == topic,
                now,
            );
            state.next_look()
        };
        self.call_worker_by(next_look);
    }
}
