//! The mapping of one topic on this broker: what each logical queue is made of, and how sends keep a change of it waiting.

use protocol::static_topic::{QueueMappingDetail, QueueMappingItem, item_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// A mapping. Immutable: a change replaces it.
#[derive(Debug)]
pub struct Mapping {
    detail: QueueMappingDetail,
    /// Sends that were given a queue and are not appended yet.
    sending: AtomicUsize,
    /// Replaced by another mapping.
    is_replaced: AtomicBool,
    /// Chooses a queue for messages without one, round robin.
    next_queue: AtomicU32,
}

/// The logical queue of a request, on the broker that leads it.
#[derive(Clone, Copy, Debug)]
pub struct Led<'m> {
    /// Id of the logical queue.
    pub queue_id: i32,
    /// Its items, oldest first.
    pub items: &'m [QueueMappingItem],
    /// The last one, which is on this broker.
    pub leader: &'m QueueMappingItem,
}

/// This broker does not lead the logical queue of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{topic}-{queue_id} does not exit in request process of current broker {broker}: {why}")]
pub struct NotLeader {
    topic: String,
    queue_id: i32,
    broker: String,
    why: String,
}

/// While this exists, a change of the mapping waits.
#[derive(Debug)]
pub struct Sending(Arc<Mapping>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, SeqCst);
    }
}

impl Mapping {
    /// Of these queues.
    #[must_use]
    pub fn new(detail: QueueMappingDetail) -> Self {
        Self {
            detail,
            sending: AtomicUsize::new(0),
            is_replaced: AtomicBool::new(false),
            next_queue: AtomicU32::new(0),
        }
    }

    /// The queues.
    #[must_use]
    pub fn detail(&self) -> &QueueMappingDetail {
        &self.detail
    }

    /// A logical queue that this broker leads.
    ///
    /// # Errors
    /// [`NotLeader`] if it does not, which names the leader if it is known.
    pub fn led(&self, queue_id: i32) -> Result<Led<'_>, NotLeader> {
        let items = self.detail.hosted_queues.get(&queue_id).map_or(&[][..], Vec::as_slice);
        match items.last() {
            Some(leader) if leader.bname == self.detail.bname => Ok(Led { queue_id, items, leader }),
            Some(leader) => Err(self.not_leader(queue_id, format!("it was moved to broker {}", leader.bname))),
            None => Err(self.not_leader(
                queue_id,
                format!("the topic has {} logical queues, on several brokers", self.detail.total_queues),
            )),
        }
    }

    /// One of the logical queues that this broker leads, each in turn.
    ///
    /// # Errors
    /// [`NotLeader`] if it leads none.
    pub fn any_led(&self) -> Result<Led<'_>, NotLeader> {
        let led = || self.detail.hosted_queues.keys().filter_map(|id| self.led(*id).ok());
        let count = led().count().max(1);
        let at = self.next_queue.fetch_add(1, Relaxed) as usize % count;
        led()
            .nth(at)
            .ok_or_else(|| self.not_leader(-1, "it leads no logical queue of the topic".to_owned()))
    }

    fn not_leader(&self, queue_id: i32, why: String) -> NotLeader {
        NotLeader {
            topic: self.detail.topic.clone(),
            queue_id,
            broker: self.detail.bname.clone(),
            why,
        }
    }

    /// The refusal of what reads a queue of which no item can be read yet: it is being moved to this broker, and never had another one.
    #[must_use]
    pub fn undecided(&self, queue_id: i32) -> NotLeader {
        self.not_leader(queue_id, "its offsets are not decided yet".to_owned())
    }

    /// Whether an item is stored on this broker.
    #[must_use]
    pub fn is_here(&self, item: &QueueMappingItem) -> bool {
        item.bname == self.detail.bname
    }

    /// Announces a send to a physical queue of the mapping; `None` if the mapping was replaced meanwhile: look the topic up again.
    #[must_use]
    pub fn begin_send(self: &Arc<Self>) -> Option<Sending> {
        self.sending.fetch_add(1, SeqCst);
        let sending = Sending(Arc::clone(self));
        // Either this sees the change, or the change sees the count and waits.
        (!self.is_replaced.load(SeqCst)).then_some(sending)
    }

    /// Another mapping took its place: no send begins any more.
    pub fn replaced(&self) {
        self.is_replaced.store(true, SeqCst);
    }

    /// Whether another mapping took its place.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.is_replaced.load(SeqCst)
    }

    /// Whether sends that had begun before [`Self::replaced`] are not appended yet.
    #[must_use]
    pub fn is_sent_to(&self) -> bool {
        self.sending.load(SeqCst) > 0
    }
}

impl<'m> Led<'m> {
    /// The item that has a logical offset; `None` while no item is decided.
    #[must_use]
    pub fn item_of(&self, logical: i64) -> Option<&'m QueueMappingItem> {
        item_of(self.items, logical)
    }

    /// The item of the highest offsets that can be read.
    #[must_use]
    pub fn newest(&self) -> Option<&'m QueueMappingItem> {
        item_of(self.items, i64::MAX)
    }

    /// The item of the lowest offsets.
    #[must_use]
    pub fn oldest(&self) -> Option<&'m QueueMappingItem> {
        item_of(self.items, 0)
    }

    /// Whether logical and physical offsets are the same, in one queue of this broker.
    #[must_use]
    pub fn is_physical(&self) -> bool {
        self.items.len() == 1 && self.leader.delta() == 0 && !self.leader.has_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> Arc<Mapping> {
        let mut detail = QueueMappingDetail::new("t", 4, "a", 1);
        detail.hosted_queues.insert(0, vec![QueueMappingItem::new(0, "a", 0)]);
        detail
            .hosted_queues
            .insert(1, vec![QueueMappingItem::new(0, "a", 0), QueueMappingItem::new(1, "b", 10_000)]);
        detail
            .hosted_queues
            .insert(2, vec![QueueMappingItem::new(0, "b", 0), QueueMappingItem::new(1, "a", -1)]);
        Arc::new(Mapping::new(detail))
    }

    #[test]
    fn only_the_broker_of_the_last_item_leads_a_queue() {
        let mapping = mapping();
        assert!(mapping.led(0).unwrap().is_physical());
        assert!(mapping.led(1).unwrap_err().to_string().contains("moved to broker b"));
        assert!(mapping.led(3).is_err() && mapping.led(-1).is_err());
        let moving = mapping.led(2).unwrap();
        assert_eq!((moving.leader.generation, moving.newest().unwrap().generation), (1, 0));
        let any: Vec<i32> = (0..4).map(|_| mapping.any_led().unwrap().queue_id).collect();
        assert_eq!(any, [0, 2, 0, 2]);
    }

    #[test]
    fn a_change_waits_for_sends_that_began_before_it() {
        let mapping = mapping();
        let before = mapping.begin_send().unwrap();
        mapping.replaced();
        assert!(mapping.is_sent_to());
        assert!(mapping.begin_send().is_none());
        drop(before);
        assert!(!mapping.is_sent_to());
    }
}
