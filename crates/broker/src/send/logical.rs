//! Sends to logical queues of static topics.

use crate::errors::Refusal;
use crate::logical_queue::Sending;
use crate::topic::{Topic, Topics};
use message::record::Placement;
use protocol::ResponseCode;
use protocol::static_topic::QueueMappingItem;
use std::sync::Arc;

/// How often a topic is looked up again because its mapping was replaced meanwhile.
const MAX_TRIES: usize = 10;

/// A logical queue, and the physical one that takes its messages.
pub(super) struct LogicalQueue {
    pub(super) queue_id: i32,
    /// Id of the physical queue.
    pub(super) physical: i32,
    item: QueueMappingItem,
    /// Until the message is appended.
    _sending: Sending,
}

impl LogicalQueue {
    /// The logical offset of a physical one; -1 if it is not decided yet.
    pub(super) fn offset(&self, physical: i64) -> i64 {
        self.item.logical_or_unknown(physical)
    }
}

/// The logical queue of a send; `None` if the topic is not static. For a negative id one of those that this broker leads.
pub(super) fn queue(topics: &Topics, topic: &mut Arc<Topic>, queue_id: i32) -> Result<Option<LogicalQueue>, Refusal> {
    for _ in 0..MAX_TRIES {
        let Some(mapping) = topic.mapping() else { return Ok(None) };
        let led = if queue_id < 0 { mapping.any_led() } else { mapping.led(queue_id) };
        let led = led?;
        if let Some(sending) = mapping.begin_send() {
            return Ok(Some(LogicalQueue {
                queue_id: led.queue_id,
                physical: led.leader.queue_id,
                item: led.leader.clone(),
                _sending: sending,
            }));
        }
        let deleted = || {
            Refusal::new(
                ResponseCode::TopicNotExist,
                format!("topic[{}] not exist, it was deleted", topic.name),
            )
        };
        *topic = topics.find(&topic.name).ok_or_else(deleted)?;
    }
    let text = format!("the mapping of topic {} changes all the time: try again later", topic.name);
    Err(Refusal::new(ResponseCode::ServiceNotAvailable, text))
}

/// Queue and offset of messages that were stored before, as clients know them. `queue_id` is the physical queue.
pub(super) fn known_place(topic: &Topic, queue_id: i32, places: &[Placement]) -> (i32, i64) {
    let offset = places.first().map_or(0, |place| place.queue_offset.0);
    let Some(mapping) = topic.mapping() else {
        return (queue_id, offset);
    };
    let items = mapping
        .detail()
        .hosted_queues
        .iter()
        .flat_map(|(id, items)| items.iter().map(move |item| (*id, item)));
    let item = items
        .into_iter()
        .find(|(_, item)| mapping.is_here(item) && item.queue_id == queue_id);
    item.map_or((queue_id, -1), |(id, item)| (id, item.logical_or_unknown(offset)))
}
