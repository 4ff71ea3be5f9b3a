//! Where a group is in a queue: asked and told by its members, whatever face they come through.

use super::{OffsetError, Offsets, unknown};
use crate::errors::Refusal;
use crate::group::Groups;
use crate::queues::Queues;
use crate::topic::{Topic, Topics};
use protocol::ResponseCode;
use std::sync::Arc;

/// A queue as a group consumes it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The group.
    pub group: &'a str,
    /// The queue's topic.
    pub topic: &'a str,
    /// The queue's number in the topic.
    pub queue_id: i32,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The group is there now.
    Taken,
    /// The group stays where it is, for this reason; for the client it is done.
    PassedOver(&'static str),
}

/// Where a group goes on in a queue. For one that was never there `set_zero` says what is wanted, see [`unknown`]: 0, an error, or, when
/// the client says nothing, what is best.
///
/// # Errors
/// `QueryNotFound`: nothing is known of the group there.
pub fn position(place: Place<'_>, set_zero: Option<bool>, offsets: &Offsets, topics: &Topics, queues: &dyn Queues) -> Result<i64, Refusal> {
    let Place { group, topic, queue_id } = place;
    let known = topics.find(topic);
    if known.is_some_and(|topic| topic.is_reborn() && check_queue(&topic, queue_id, queues).is_ok()) {
        // Whoever asks has no offset of the topic before. Without room for the note the group begins anew.
        let _ = offsets.begin(topic, group, queue_id);
    }
    if let Some(offset) = offsets.committed(topic, group, queue_id) {
        return Ok(offset);
    }
    let queue = unknown::Queue {
        min: queues.min(topic, queue_id),
        max: queues.max(topic, queue_id),
    };
    let first_is_cached = || queues.is_cached(topic, queue_id, queue.min);
    unknown::start(set_zero, queue, first_is_cached).ok_or_else(|| {
        let text = match set_zero {
            Some(false) => "Not found, do not set to zero, maybe this group boot first",
            _ => "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
        };
        Refusal::new(ResponseCode::QueryNotFound, text)
    })
}

/// The topic of a commit, for a group that exists.
///
/// # Errors
/// `SubscriptionGroupNotExist` or `TopicNotExist`.
pub fn existing(group: &str, topic: &str, groups: &Groups, topics: &Topics) -> Result<Arc<Topic>, Refusal> {
    if !groups.contains(group) {
        let text = format!("Group {group} not exist!");
        return Err(Refusal::new(ResponseCode::SubscriptionGroupNotExist, text));
    }
    let missing = || Refusal::new(ResponseCode::TopicNotExist, format!("Topic {topic} not exist!"));
    topics.find(topic).ok_or_else(missing)
}

/// A group is at this offset of a queue of `topic` now, says `client`. While a reset is pending this is passed over.
///
/// An offset below zero is refused, where Apache takes it and forgets by it where the group is. One of a client that has not
/// noticed that the topic was deleted and made again is passed over.
///
/// # Errors
/// There is no such queue, the offset is below zero, or there is no room.
pub fn commit(
    place: Place<'_>,
    topic: &Topic,
    offset: i64,
    client: u64,
    offsets: &Offsets,
    queues: &dyn Queues,
) -> Result<Committed, Refusal> {
    let Place { group, queue_id, .. } = place;
    check_queue(topic, queue_id, queues)?;
    let passed_over = |why| {
        tracing::info!(topic = place.topic, group, queue_id, offset, why, "commit passed over");
        Ok(Committed::PassedOver(why))
    };
    if topic.may_be_mistaken(client) && !offsets.has_begun(place.topic, group, queue_id) {
        return passed_over("the topic was deleted and made again since this offset was consumed");
    }
    let before = match offsets.commit(place.topic, group, queue_id, offset) {
        Err(OffsetError::ResetPending) => return passed_over(super::places::RESET_PENDING),
        before => before?,
    };
    if before.is_some_and(|before| offset < before) {
        tracing::warn!(
            topic = place.topic,
            group,
            queue_id,
            ?before,
            offset,
            "group commits an earlier offset"
        );
    }
    Ok(Committed::Taken)
}

/// A queue exists when its topic has that many, or when there are messages in it from when it had.
fn check_queue(topic: &Topic, queue_id: i32, queues: &dyn Queues) -> Result<(), Refusal> {
    let count = topic.read_queues.max(topic.write_queues);
    if (0..count).contains(&queue_id) || (queue_id >= 0 && queues.max(&topic.name, queue_id) > 0) {
        return Ok(());
    }
    let text = format!("queue {queue_id} of topic {} does not exist: it has {count} queues", topic.name);
    Err(Refusal::invalid(text))
}
