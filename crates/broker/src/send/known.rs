//! What the requests of one read have in common, looked up once: most of them go to the same topic.

use crate::dedup::KnownKeys;
use crate::topic::Topic;
use std::sync::Arc;
use store::ConsumeQueue;

/// Queues of the last topic that are remembered: those with an id below this.
const QUEUES: usize = 16;

/// The topic of the last request, its queues, and its keys.
#[derive(Default)]
pub(super) struct Known {
    topic: Option<Arc<Topic>>,
    queues: [Option<Arc<ConsumeQueue>>; QUEUES],
    /// Those by which the last topic recognises repeats.
    pub(super) keys: KnownKeys,
}

impl Known {
    /// The topic of this name: that of the last request, or the one that `find` finds.
    pub(super) fn topic<E>(&mut self, name: &str, find: impl FnOnce() -> Result<Arc<Topic>, E>) -> Result<Arc<Topic>, E> {
        if let Some(topic) = self.topic.as_ref().filter(|topic| *topic.name == *name) {
            return Ok(Arc::clone(topic));
        }
        let topic = find()?;
        *self = Self {
            topic: Some(Arc::clone(&topic)),
            ..Self::default()
        };
        Ok(topic)
    }

    /// A queue of the last topic: a remembered one, or the one that `find` finds.
    pub(super) fn queue(&mut self, queue_id: i32, find: impl FnOnce() -> Arc<ConsumeQueue>) -> Arc<ConsumeQueue> {
        let slot = usize::try_from(queue_id).ok().and_then(|id| self.queues.get_mut(id));
        match slot {
            Some(slot) => Arc::clone(slot.get_or_insert_with(find)),
            None => find(),
        }
    }
}
