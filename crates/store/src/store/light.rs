//! What the store does with light queues (`%LMQ%…`), of which there may be a million.

use super::Store;
use crate::error::StoreError;
use crate::queue::ConsumeQueue;
use std::sync::Arc;

/// A light queue, and where it ended when it was looked at.
#[derive(Clone, Debug)]
pub struct LightEnd {
    queue: Arc<ConsumeQueue>,
    /// The queue offset after its last message.
    max: i64,
}

impl LightEnd {
    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.queue.topic()
    }
}

impl Store {
    /// Whether messages can be in light queues (`%LMQ%…`) beside their own queue.
    #[must_use]
    pub fn has_light_queues(&self) -> bool {
        self.queues.has_light_queues()
    }

    /// How many light queues there are.
    #[must_use]
    pub fn light_queue_count(&self) -> usize {
        self.queues.light_count()
    }

    /// All light queues, in no particular order.
    #[must_use]
    pub fn light_queues(&self) -> Vec<Arc<ConsumeQueue>> {
        self.queues.all_light()
    }

    /// Closes the store and writes each light queue as a consume queue of its own, as Java brokers keep them. The next start of this
    /// store takes them over by reading the log. Returns how many light queues there are.
    ///
    /// # Errors
    /// As [`Store::close`], and `StoreError::Io` if files cannot be written: the light queues are as before then.
    pub fn export_light_queues(&self) -> Result<usize, StoreError> {
        self.close()?;
        let exported = self.queues.export_light();
        exported.map_err(|e| StoreError::io("export", &self.options.root.join("lightqueue"), e))
    }

    /// The light queues that are chosen by their name and the log offset after their last message. A queue that never had one has 0.
    #[must_use]
    pub fn light_ends(&self, wanted: &dyn Fn(&str, i64) -> bool) -> Vec<LightEnd> {
        let end = |queue: Arc<ConsumeQueue>| {
            let max = queue.max().0;
            wanted(queue.topic(), queue.max_log_end().0).then_some(LightEnd { queue, max })
        };
        self.queues.all_light().into_iter().filter_map(end).collect()
    }

    /// Deletes light queues, but those that got a message since they were looked at. Returns how many. `deleted` is called for each before
    /// any message enters a new queue of its name; it must not use the store.
    ///
    /// # Errors
    /// `StoreError::Io` if the light log cannot be written, or no checkpoint can be made that recovery needs to know of the deletion;
    /// `StoreError::Failed` if the log failed. Any of the queues may be there after the next start then.
    pub fn delete_light_queues(&self, ends: &[LightEnd], deleted: &dyn Fn(&str)) -> Result<usize, StoreError> {
        let _alone = self.shortening.lock();
        // As for a topic: recovery begins behind the last messages of what is deleted.
        self.checkpoint_now()?;
        let mut deletion = self.queues.begin_light_deletion();
        let end = self.log.between_appends(|| {
            for end in ends {
                if deletion.retire(&end.queue, end.max) {
                    deleted(end.name());
                }
            }
        });
        self.log.wait_published(end)?;
        let count = deletion
            .end()
            .map_err(|e| StoreError::io("write", &self.options.root.join("lightqueue"), e))?;
        self.checkpoint_now()?;
        Ok(count)
    }
}
