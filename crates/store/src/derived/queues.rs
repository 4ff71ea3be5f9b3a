//! Consume queues as something derived from the log.

use super::{Derived, Restore, Shutdown, WorkLimit};
use crate::checkpoint::SyncedOffsets;
use crate::error::StoreError;
use crate::log::{Batch, CommitLog};
use crate::queue::{self, Code, ConsumeQueue, Entry, QueueTable};
use crate::store::queue_error;
use message::properties::Indexed;
use message::record::Record;
use message::{LogOffset, QueueOffset, names, sys_flag};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Entries in memory above which a part of the log that is read for light queues is written.
const LIGHT_ENTRIES_KEPT: u64 = 1 << 20;

fn failed(action: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io {
        action,
        path: "consume queues".to_owned(),
        source,
    }
}

impl Derived for QueueTable {
    fn publish(&self, batches: &[Batch]) {
        for dispatched in batches.iter().flat_map(|batch| &batch.entries) {
            dispatched.queue.publish_at(dispatched.queue_offset, dispatched.entry);
        }
    }

    fn recover<'a>(&'a self, stop: &Shutdown) -> Result<Box<dyn Restore + 'a>, StoreError> {
        if !stop.is_clean {
            self.truncate_to_log(stop.from).map_err(failed("cut"))?;
        } else if self.is_light_ahead(stop.from) {
            self.truncate_light(stop.from).map_err(failed("cut"))?;
        }
        Ok(Box::new(Rebuild {
            queues: self,
            strict: !stop.is_clean && stop.progress.is_some(),
            computed: BTreeMap::new(),
        }))
    }

    fn work(&self, _: &CommitLog, _: WorkLimit) -> Result<bool, StoreError> {
        Ok(self.write_pending().map_err(failed("write"))? > 0)
    }

    fn sync(&self, _: SyncedOffsets, progress: &mut SyncedOffsets) -> Result<(), StoreError> {
        self.write_pending().map_err(failed("write"))?;
        self.cover_light(progress.dispatched).map_err(failed("write"))?;
        Self::sync(self).map_err(failed("sync"))?;
        self.replace_foreign_light().map_err(failed("remove"))
    }

    fn has_failed(&self) -> bool {
        self.has_failed_sync()
    }

    fn raise_min(&self, log_min: LogOffset) -> Result<(), StoreError> {
        Self::raise_min(self, log_min).map(drop).map_err(failed("shorten"))
    }

    fn truncate(&self, to: LogOffset) -> Result<(), StoreError> {
        self.truncate_to_log(to).map_err(failed("truncate"))
    }

    fn is_written(&self) -> bool {
        self.pending_entries() == 0
    }
}

/// Rebuilds queues from the log.
struct Rebuild<'a> {
    queues: &'a QueueTable,
    /// Only ApogeeMQ wrote since the checkpoint, so the offsets of each queue are consecutive. If one goes back, the topic was
    /// deleted and created again, and the queue's later entries belong to the deleted one.
    strict: bool,
    /// Messages whose delivery time was computed from the current delay levels, by level.
    computed: BTreeMap<i32, u64>,
}

impl Restore for Rebuild<'_> {
    fn put(&mut self, record: &Record<'_>) -> Result<(), StoreError> {
        if !sys_flag::is_in_queue(record.sys_flag) {
            return Ok(());
        }
        let queue = self.queues.find_or_create(record.topic, record.queue_id);
        self.enter(&queue, record.queue_offset, record)?;
        self.enter_light(record)
    }

    fn finish(self: Box<Self>, _: LogOffset) {
        self.report();
    }
}

/// Enters the records of a part of the log into light queues, which may not have them: the light log was removed or damaged, or light
/// queues were disabled, or a Java broker used the directory.
pub(crate) struct LightRebuild<'a>(Rebuild<'a>);

impl<'a> LightRebuild<'a> {
    pub(crate) fn new(queues: &'a QueueTable) -> Self {
        Self(Rebuild {
            queues,
            strict: false,
            computed: BTreeMap::new(),
        })
    }

    /// Takes a record, in log order.
    ///
    /// # Errors
    /// `StoreError::Io` if the light log cannot be read or written.
    pub(crate) fn put(&mut self, record: &Record<'_>) -> Result<(), StoreError> {
        if !sys_flag::is_in_queue(record.sys_flag) {
            return Ok(());
        }
        if names::is_light_queue(record.topic) && record.queue_id == 0 {
            let queue = self.0.queues.find_or_create(record.topic, record.queue_id);
            self.0.enter(&queue, record.queue_offset, record)?;
        }
        self.0.enter_light(record)?;
        if self.0.queues.pending_entries() > LIGHT_ENTRIES_KEPT {
            self.0.queues.write_pending().map_err(failed("write"))?;
        }
        Ok(())
    }
}

impl Rebuild<'_> {
    /// Publishes a record in its queue, or in a light one, unless it is there.
    fn enter(&mut self, queue: &Arc<ConsumeQueue>, offset: QueueOffset, record: &Record<'_>) -> Result<(), StoreError> {
        let failed = |e| queue_error("move", queue, e);
        if offset < queue.max() {
            if !self.strict || queue.holds(offset, record.log_offset).map_err(|e| queue_error("read", queue, e))? {
                return Ok(());
            }
            tracing::warn!(
                topic = queue.topic(),
                queue = queue.queue_id(),
                from = %queue.max(),
                to = %offset,
                at = %record.log_offset,
                "a queue of a topic that was deleted and created again starts again"
            );
            queue.rewind(offset).map_err(failed)?;
        }
        if offset > queue.max() {
            queue.skip_to(offset).map_err(failed)?;
        }
        queue.publish(self.entry(queue, record));
        queue.reset_assigned_to_published();
        Ok(())
    }

    /// Publishes a record in its light queues.
    fn enter_light(&mut self, record: &Record<'_>) -> Result<(), StoreError> {
        if !self.queues.has_light_queues() {
            return Ok(());
        }
        let indexed = Indexed::of(record.properties);
        for (name, offset) in queue::places(record.topic, &indexed) {
            let queue = self.queues.find_or_create(name, 0);
            self.enter(&queue, QueueOffset(offset), record)?;
        }
        Ok(())
    }

    fn entry(&mut self, queue: &ConsumeQueue, record: &Record<'_>) -> Entry {
        let tags = Indexed::of(record.properties).tags;
        let code = queue.code_of(record.properties, &tags, record.store_timestamp);
        if let Code::Computed { level, .. } = code {
            *self.computed.entry(level).or_default() += 1;
        }
        Entry {
            log_offset: record.log_offset.0,
            size: record.size as i32,
            tags_code: code.value(),
        }
    }

    /// Warns of delivery times that had to be computed.
    fn report(&self) {
        for (level, messages) in &self.computed {
            tracing::warn!(
                level,
                messages,
                "delayed messages without a delivery time (stored by another broker): it is computed from the current messageDelayLevel"
            );
        }
    }
}
