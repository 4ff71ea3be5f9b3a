//! Queries and commits of offsets, for clients of any protocol.

use super::{OffsetError, Offsets, unknown};
use crate::errors::Refusal;
use crate::group::Groups;
use crate::queues::Queues;
use crate::topic::{Topic, Topics};
use protocol::ResponseCode;
use std::sync::Arc;

/// A queue that a group consumes.
#[derive(Clone, Copy, Debug)]
pub struct GroupQueue<'a> {
    /// The group.
    pub group: &'a str,
    /// The queue's topic.
    pub topic: &'a str,
    /// Queue id in the topic.
    pub queue_id: i32,
}

/// Result of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The offset was stored.
    Stored,
    /// The commit was ignored for this reason; the client gets a success response.
    Ignored(&'static str),
}

/// The next offset that a group consumes in a queue. `set_zero` is the client's choice for a group without an offset, see
/// [`unknown`]: 0, an error, or, if the client does not choose, whichever avoids losing messages.
///
/// # Errors
/// `QueryNotFound` if the group has no offset in the queue.
pub fn query(
    queue: GroupQueue<'_>,
    set_zero: Option<bool>,
    offsets: &Offsets,
    topics: &Topics,
    queues: &dyn Queues,
) -> Result<i64, Refusal> {
    let GroupQueue { group, topic, queue_id } = queue;
    let current = topics.find(topic);
    if current.is_some_and(|topic| topic.is_recreated() && check_queue(&topic, queue_id, queues).is_ok()) {
        // The client has no offset of the old topic. If a limit is reached, the commits of the group stay ignored.
        let _ = offsets.mark_started(topic, group, queue_id);
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

/// The topic of a commit, after checking that the group exists.
///
/// # Errors
/// `SubscriptionGroupNotExist` or `TopicNotExist`.
pub fn find_topic(group: &str, topic: &str, groups: &Groups, topics: &Topics) -> Result<Arc<Topic>, Refusal> {
    if !groups.contains(group) {
        let text = format!("Group {group} not exist!");
        return Err(Refusal::new(ResponseCode::SubscriptionGroupNotExist, text));
    }
    let missing = || Refusal::new(ResponseCode::TopicNotExist, format!("Topic {topic} not exist!"));
    topics.find(topic).ok_or_else(missing)
}

/// Commits an offset of a queue of `topic` for the connection `client`. Ignored while a reset is pending.
///
/// A negative offset is refused; Apache stores it and thereby loses the group's offset. A commit is ignored if its client has not
/// noticed that the topic was deleted and created again.
///
/// # Errors
/// `InvalidParameter` if the queue does not exist or the offset is negative, or the refusal of an [`OffsetError`] if a limit is
/// reached.
pub fn commit(
    queue: GroupQueue<'_>,
    topic: &Topic,
    offset: i64,
    client: u64,
    offsets: &Offsets,
    queues: &dyn Queues,
) -> Result<Committed, Refusal> {
    let GroupQueue { group, queue_id, .. } = queue;
    check_queue(topic, queue_id, queues)?;
    let ignored = |why| {
        tracing::info!(topic = queue.topic, group, queue_id, offset, why, "commit ignored");
        Ok(Committed::Ignored(why))
    };
    if topic.may_have_stale_offsets(client) && !offsets.has_started(queue.topic, group, queue_id) {
        return ignored("the topic was deleted and created again after this offset was consumed");
    }
    let before = match offsets.commit(queue.topic, group, queue_id, offset) {
        Err(OffsetError::ResetPending) => return ignored(super::offsets::RESET_PENDING),
        before => before?,
    };
    if before.is_some_and(|before| offset < before) {
        tracing::warn!(
            topic = queue.topic,
            group,
            queue_id,
            ?before,
            offset,
            "group committed an earlier offset"
        );
    }
    Ok(Committed::Stored)
}

/// A queue exists if its id is below the topic's number of queues, or if it has messages from a time when the topic had more
/// queues.
fn check_queue(topic: &Topic, queue_id: i32, queues: &dyn Queues) -> Result<(), Refusal> {
    let count = topic.read_queues.max(topic.write_queues);
    if (0..count).contains(&queue_id) || (queue_id >= 0 && queues.max(&topic.name, queue_id) > 0) {
        return Ok(());
    }
    let text = format!("queue {queue_id} of topic {} does not exist: it has {count} queues", topic.name);
    Err(Refusal::invalid(text))
}
