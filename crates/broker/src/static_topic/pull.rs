//! A pull from a logical queue: which physical queue it reads, and what its answer becomes.
//!
//! Compat: code and offsets of the answer are those of Apache's broker. Its clients add `offsetDelta` to the offset in each record.

use crate::logical_queue::{Led, Mapping, NotLeader};
use crate::pull::Pulled;
use message::QueueOffset;
use protocol::codes::ResponseCode;
use protocol::pull::{PullHeader, sys_flag};
use protocol::static_topic::{QueueMappingItem, item_after};
use std::sync::Arc;

/// A pull from an item of a logical queue.
#[derive(Clone, Debug)]
pub struct LogicalPull {
    mapping: Arc<Mapping>,
    queue_id: i32,
    /// Generation of the item.
    generation: i32,
}

/// Where a pull reads.
#[derive(Debug)]
pub struct Source<'a> {
    /// The pull from the physical queue.
    pub header: PullHeader<'a>,
    /// What its answer becomes.
    pub pull: LogicalPull,
    /// The other broker that has the physical queue; `None` if this one has it.
    pub broker: Option<String>,
}

/// The physical queue that a pull of a logical queue reads.
///
/// # Errors
/// [`NotLeader`] if this broker does not lead it, or no item of it can be read yet.
pub fn source<'a>(mapping: &Arc<Mapping>, header: &PullHeader<'a>) -> Result<Source<'a>, NotLeader> {
    let led = mapping.led(header.queue_id)?;
    let Some(item) = led.item_of(header.queue_offset) else {
        return Err(mapping.undecided(header.queue_id));
    };
    let mut physical = PullHeader {
        queue_id: item.queue_id,
        queue_offset: item.physical(header.queue_offset),
        is_logical: Some(false),
        ..*header
    };
    if item.has_end() {
        let left = item.end_offset.saturating_sub(physical.queue_offset).max(1);
        physical.max_msg_nums = header.max_msg_nums.min(i32::try_from(left).unwrap_or(i32::MAX));
    }
    let here = mapping.is_here(item);
    commit(&mut physical, led, item, here);
    if !here {
        physical.sys_flag &= !sys_flag::SUSPEND;
    }
    Ok(Source {
        header: physical,
        pull: LogicalPull {
            mapping: Arc::clone(mapping),
            queue_id: header.queue_id,
            generation: item.generation,
        },
        broker: (!here).then(|| item.bname.clone()),
    })
}

/// The commit of a pull goes to the queue that the pull reads; one of another item is left to the consumer's own commits.
fn commit(physical: &mut PullHeader<'_>, led: Led<'_>, item: &QueueMappingItem, here: bool) {
    let is_of_item = led
        .item_of(physical.commit_offset)
        .is_some_and(|of| of.generation == item.generation);
    if here && is_of_item && physical.commit_offset >= item.logic_offset {
        physical.commit_offset = item.physical(physical.commit_offset);
    } else {
        physical.sys_flag &= !sys_flag::COMMIT_OFFSET;
    }
}

impl LogicalPull {
    fn led(&self) -> Option<(Led<'_>, &QueueMappingItem)> {
        let led = self.mapping.led(self.queue_id).ok()?;
        let item = led.items.iter().find(|item| item.generation == self.generation)?;
        Some((led, item))
    }

    /// Whether the mapping has changed since.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.mapping.is_replaced()
    }

    /// Whether a pull at the end of its physical queue may wait for messages: they can come, or it is not known yet where the queue
    /// continues.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.led().is_some_and(|(led, _)| item_after(led.items, self.generation).is_none())
    }

    /// Makes the answer of the physical queue one of the logical queue. `requested` is the physical offset of the pull; `None` if the
    /// answer moves the consumer elsewhere whatever was requested.
    pub fn translate(&self, requested: Option<i64>, pulled: &mut Pulled) {
        let Some((led, mut item)) = self.led() else { return };
        let (mut next, mut min, mut max) = (pulled.next.0, pulled.min.0, pulled.max.0);
        if let Some(requested) = requested
            && pulled.code != ResponseCode::Success
        {
            let is_newest = item.generation == led.leader.generation;
            let is_oldest = led.oldest().is_some_and(|oldest| oldest.generation == item.generation);
            if requested < min {
                next = min;
                pulled.code = if is_oldest {
                    ResponseCode::PullOffsetMoved
                } else {
                    ResponseCode::PullRetryImmediately
                };
            } else if is_newest {
                if requested > max && pulled.code == ResponseCode::PullOffsetMoved {
                    next = max;
                }
            } else if requested >= max {
                match item_after(led.items, item.generation) {
                    Some(following) => {
                        item = following;
                        (next, min, max) = (item.start_offset, item.start_offset, item.start_offset);
                        pulled.code = ResponseCode::PullRetryImmediately;
                    }
                    None => pulled.code = ResponseCode::PullNotFound,
                }
            }
        }
        if item.has_end() {
            next = next.min(item.end_offset);
        }
        pulled.next = QueueOffset(item.logical(next));
        pulled.min = QueueOffset(item.logical(min));
        pulled.max = QueueOffset(item.logical(max).max(led.leader.known_max()));
        pulled.offset_delta = Some(item.delta());
    }
}

#[cfg(test)]
mod tests;
