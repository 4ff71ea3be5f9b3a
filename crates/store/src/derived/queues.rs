//! Consume queues as something derived from the log.

use super::{Derived, Restore, Shutdown, WorkLimit};
use crate::checkpoint::SyncedOffsets;
use crate::error::StoreError;
use crate::log::{Batch, CommitLog};
use crate::queue::{Code, ConsumeQueue, Entry, QueueTable};
use crate::store::queue_error;
use message::properties::Indexed;
use message::record::Record;
use message::{LogOffset, sys_flag};
use std::collections::BTreeMap;
use std::io;

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

    fn sync(&self, _: SyncedOffsets, _: &mut SyncedOffsets) -> Result<(), StoreError> {
        self.write_pending().map_err(failed("write"))?;
        Self::sync(self).map_err(failed("sync"))
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
        let failed = |e| queue_error("move", &queue, e);
        if record.queue_offset < queue.max() {
            if !self.strict || is_known(&queue, record).map_err(|e| queue_error("read", &queue, e))? {
                return Ok(());
            }
            tracing::warn!(
                topic = record.topic,
                queue = record.queue_id,
                from = %queue.max(),
                to = %record.queue_offset,
                at = %record.log_offset,
                "a queue of a topic that was deleted and created again starts again"
            );
            queue.rewind(record.queue_offset).map_err(failed)?;
        }
        if record.queue_offset > queue.max() {
            queue.skip_to(record.queue_offset).map_err(failed)?;
        }
        queue.publish(self.entry(&queue, record));
        queue.reset_assigned_to_published();
        Ok(())
    }

    fn finish(self: Box<Self>, _: LogOffset) {
        self.report();
    }
}

impl Rebuild<'_> {
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

/// Whether the queue already has this record at its offset.
fn is_known(queue: &ConsumeQueue, record: &Record<'_>) -> io::Result<bool> {
    let entry = queue.entry_at(record.queue_offset)?;
    Ok(entry.is_some_and(|entry| entry.log_offset == record.log_offset.0))
}
