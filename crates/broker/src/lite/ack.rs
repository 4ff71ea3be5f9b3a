//! Acknowledgements of messages of lite topics (200051 with `liteTopic`), and more time for them (200053).

use super::state::Acked;
use super::{Lites, rules};
use crate::clients::Holder;
use crate::errors::Refusal;
use crate::pop::Renewed;
use protocol::codes::ResponseCode;
use protocol::pop::ORDER_REVIVE_QUEUE;
use protocol::pop::handle::Handle;
use std::sync::Arc;

/// Acknowledges a message of a lite topic.
#[derive(Clone, Copy, Debug)]
pub struct LiteAck<'a> {
    /// The group.
    pub group: &'a str,
    /// The parent topic.
    pub topic: &'a str,
    /// The lite topic.
    pub lite_topic: &'a str,
    /// Always 0.
    pub queue_id: i32,
    /// The message's offset in the queue of the lite topic.
    pub offset: i64,
    /// The handle.
    pub handle: &'a str,
    /// Whether a message that is not in flight any more is refused. Otherwise its acknowledgement is no error.
    pub is_in_flight: bool,
}

/// Asks for more time for a message of a lite topic.
#[derive(Clone, Copy, Debug)]
pub struct LiteChange<'a> {
    /// The message.
    pub of: LiteAck<'a>,
    /// The new time from now on, ms.
    pub invisible_ms: i64,
    /// All messages of its pop that are left get this time, and the next delivery does not count as a retry.
    pub suspend: bool,
}

/// The message is not in flight any more.
fn expired(of: &LiteAck<'_>) -> Refusal {
    let text = format!(
        "the message at offset {} of lite topic {} is not in flight any more: its invisible time has passed, or it was acknowledged",
        of.offset, of.lite_topic
    );
    Refusal::new(ResponseCode::NoMessage, text)
}

impl Lites {
    /// A client said goodbye: what is held for it is visible after this time.
    pub(super) fn give_back(&self, holder: &Holder, after_ms: i64) {
        let (before, after) = {
            let mut state = self.state.lock();
            let before = state.next_wake();
            state.give_back(holder.id(), self.now().saturating_add(after_ms));
            (before, state.next_wake())
        };
        self.plan(before, after);
    }

    fn checked<'a>(&self, request: &LiteAck<'a>) -> Result<(String, Handle<'a>), Refusal> {
        rules::group(&self.core, request.group, request.topic)?;
        let queue = rules::queue_of(request.topic, request.lite_topic)?;
        let max = self.core.store.max_offset(&queue, 0).0;
        if request.offset > max || request.offset < 0 {
            let text = format!(
                "offset {} of lite topic {} is illegal: its end is {max}",
                request.offset, request.lite_topic
            );
            return Err(Refusal::new(ResponseCode::NoMessage, text));
        }
        let handle = Handle::parse(request.handle)?;
        if request.queue_id != 0 || !handle.is_in_order() {
            let text = "the handle is not one of a message of a lite topic: those have queue 0 and revive queue 999";
            return Err(Refusal::invalid(text));
        }
        Ok((queue, handle))
    }

    /// Acknowledges a message. One that is not in flight any more is an error only with [`LiteAck::is_in_flight`].
    ///
    /// # Errors
    /// Group, topic, lite topic, offset or handle are wrong; `NoMessage` if the message is not in flight any more.
    pub fn ack(self: &Arc<Self>, request: &LiteAck<'_>) -> Result<(), Refusal> {
        let (queue, handle) = self.checked(request)?;
        let (group, offset, now) = (request.group, request.offset, self.now());
        let offsets = &self.core.offsets;
        let (is_free, before, after) = {
            let mut state = self.state.lock();
            let before = state.next_wake();
            let is_free = match state.ack(group, &queue, offset, handle.pop_time, now) {
                Acked::Done { next, is_free } => {
                    if offsets.committed(&queue, group, 0).is_none_or(|committed| committed < next) {
                        // Under the lock: offsets are committed in their order. A reset that waits for the next pop stays.
                        let _ = offsets.commit(&queue, group, 0, next);
                    }
                    is_free
                }
                // Popped before this start, which forgot what was in flight: the next message of the group, and nobody else has it.
                Acked::Unknown
                    if handle.pop_time < self.core.started_ms
                        && !state.has_flight(group, &queue)
                        && offsets.committed(&queue, group, 0) == Some(offset)
                        && offset < self.core.store.max_offset(&queue, 0).0 =>
                {
                    let _ = offsets.commit(&queue, group, 0, offset + 1);
                    false
                }
                Acked::Unknown if request.is_in_flight => return Err(expired(request)),
                Acked::Unknown => false,
            };
            (is_free, before, state.next_wake())
        };
        self.plan(before, after);
        if is_free && self.has_more(group, &queue) {
            self.ready_later(group, &queue);
        }
        Ok(())
    }

    /// Whether the group has not consumed all of a lite topic.
    pub(super) fn has_more(&self, group: &str, queue: &str) -> bool {
        let committed = self.core.offsets.committed(queue, group, 0);
        committed.unwrap_or(0) < self.core.store.max_offset(queue, 0).0
    }

    /// Changes how long a message stays invisible.
    ///
    /// # Errors
    /// Group, topic, lite topic, offset or handle are wrong, or the message is not in flight any more (`NoMessage`).
    pub fn change_invisible(self: &Arc<Self>, request: &LiteChange<'_>) -> Result<Renewed, Refusal> {
        let (queue, handle) = self.checked(&request.of)?;
        let invisible_ms = request.invisible_ms.max(0);
        let (is_renewed, before, after) = {
            let mut state = self.state.lock();
            let before = state.next_wake();
            let message = (request.of.offset, handle.pop_time);
            let visible_at = self.now().saturating_add(invisible_ms);
            let is_renewed = state.renew(request.of.group, &queue, message, visible_at, request.suspend);
            (is_renewed, before, state.next_wake())
        };
        self.plan(before, after);
        if !is_renewed {
            return Err(expired(&request.of));
        }
        let visible_ms = crate::clock::now_ms().saturating_add(invisible_ms);
        Ok(Renewed {
            pop_time: handle.pop_time,
            invisible_ms: visible_ms.saturating_sub(handle.pop_time),
            revive_queue: ORDER_REVIVE_QUEUE,
        })
    }
}
