//! What a replica does with its log, and what a master reads of its own for replicas: raw append, begin elsewhere, truncate.

use super::{Store, queue_error};
use crate::compaction::Compaction;
use crate::error::{AppendError, StoreError};
use crate::log::{RawAppendError, Ticket};
use crate::queue::ConsumeQueue;
use bytes::{Bytes, BytesMut};
use message::{LogOffset, QueueOffset};
use std::sync::Arc;

impl Store {
    /// Appends whole records of another log as they are, for a replica, which appends nothing else. `at` is their log offset and must be
    /// this log's end. They may go on in the next log file, with the filler of this one between them, but not in the one after it. They
    /// must be completed. One thread at a time.
    ///
    /// # Errors
    /// [`RawAppendError`]; none of them is appended then.
    pub fn append_raw(&self, at: LogOffset, bytes: &Bytes) -> Result<Ticket, RawAppendError> {
        if let Some(reason) = &*self.refusing.read() {
            return Err(AppendError::NotWritable(reason.to_string()).into());
        }
        let raw = self.log.check_raw(&self.queues, at, bytes)?;
        if !raw.moves_queues() {
            return self.log.append_raw(&self.queues, &raw);
        }
        // Truncation and topic deletion also move queues.
        let _alone = self.shortening.lock();
        let raw = self.log.check_raw(&self.queues, at, bytes)?;
        for queue in raw.begin_again(&self.queues)? {
            self.begin_again(&queue, at)?;
        }
        self.log.append_raw(&self.queues, &raw)
    }

    /// A queue of a replica begins again, as that of the master did when its topic was deleted and created again. The messages of the deleted
    /// topic are in the queue no more.
    fn begin_again(&self, queue: &Arc<ConsumeQueue>, at: LogOffset) -> Result<(), StoreError> {
        tracing::warn!(
            topic = queue.topic(),
            queue = queue.queue_id(),
            from = %queue.max(),
            %at,
            "the master has deleted this topic and created it again: its queue begins again"
        );
        // As in a deletion: recovery tells the records of the deleted topic from those of its successor only behind a checkpoint of ours.
        self.checkpoint_now()?;
        let pause = self.compaction.as_ref().map(Compaction::pause);
        queue.rewind(QueueOffset(0)).map_err(|e| queue_error("move", queue, e))?;
        match self.compaction.as_ref().zip(pause.as_ref()) {
            Some((compaction, pause)) => compaction.truncate(queue, pause),
            None => Ok(()),
        }
    }

    /// On a replica, the log offset up to which the master had flushed, as the checkpoint keeps it. May wait for a checkpoint.
    #[must_use]
    pub fn master_flushed(&self) -> LogOffset {
        self.checkpoint.lock().1.master_flushed
    }

    /// Keeps another such offset, and writes it. Recovery does not use it. May wait for the device.
    ///
    /// # Errors
    /// `StoreError::Io` if the checkpoint cannot be written.
    pub fn set_master_flushed(&self, offset: LogOffset) -> Result<(), StoreError> {
        let mut guard = self.checkpoint.lock();
        let (file, checkpoint) = &mut *guard;
        checkpoint.master_flushed = offset;
        self.write_checkpoint(file, checkpoint)
    }

    /// Registers what is called after records were written, for a master that sends them to replicas. It runs on the thread that has
    /// written, and must not block. Call once.
    pub fn set_on_written(&self, act: impl Fn() + Send + Sync + 'static) {
        self.log.set_on_written(act);
    }

    /// End of the written log, which replicas may get although readers may not see all of it yet.
    #[must_use]
    pub fn written(&self) -> LogOffset {
        self.log.written()
    }

    /// As [`Store::written`]. A write after this calls the function of [`Store::set_on_written`] when everything that this thread has
    /// stored before is in its sight: a thread that notes that it waits, and then finds nothing new here, is called.
    #[must_use]
    pub fn written_in_order(&self) -> LogOffset {
        self.log.written_in_order()
    }

    /// Appends the written bytes of the log from `from` on to `out`, at most `max`, and not beyond their log file's end; without a copy
    /// where they are in memory, otherwise read into `buffer`. Returns their number, 0 at the log's end. May block.
    ///
    /// # Errors
    /// `StoreError::Corrupt` if `from` is outside the log. `StoreError::Io` if it cannot be read.
    pub fn read_log_bytes(&self, from: LogOffset, max: usize, buffer: &mut BytesMut, out: &mut Vec<Bytes>) -> Result<usize, StoreError> {
        let before = out.len();
        self.log.read_consistently(|| {
            out.truncate(before);
            self.log.read_bytes(from, max, buffer, out)
        })
    }

    /// Bytes of a log file.
    #[must_use]
    pub fn log_file_bytes(&self) -> i64 {
        self.log.segments.segment_len()
    }

    /// Lets an empty store begin at a log offset, for a replica whose master no longer has older records. `at` is the beginning of a log
    /// file: a multiple of the length of log files.
    ///
    /// # Errors
    /// `StoreError::Layout` if the store has messages, or no log file can begin at `at`; nothing is changed then. `StoreError::Io`,
    /// `StoreError::DiskFull` or `StoreError::Failed` if files cannot be changed: the log takes nothing then, and the next start finds a
    /// store that begins at its old beginning, at 0 or at `at`.
    pub fn begin_at(&self, at: LogOffset) -> Result<(), StoreError> {
        let _alone = self.shortening.lock();
        let _no_checkpoint = self.checkpoint.lock();
        if at.0 < 0 || at.0 % self.log.segments.segment_len() != 0 {
            return Err(StoreError::Layout(format!(
                "the log cannot begin at {at}: that is no multiple of the {} bytes of a log file",
                self.log.segments.segment_len()
            )));
        }
        self.log.begin_truncation(self.log.written())?.begin_at(at, &self.queues)
    }

    /// Truncates the log at `to`, where a record begins, with its queues and index. Appends continue there. Waiting completions of
    /// dropped messages get an error. Must not be called while the store is being closed.
    ///
    /// # Errors
    /// `StoreError::Layout` if no record begins at `to`, and nothing is changed. `StoreError::Io` or `StoreError::Failed` if files
    /// cannot be changed: the log takes nothing then, and the next start recovers one that ends at `to` or behind it.
    pub fn truncate(&self, to: LogOffset) -> Result<(), StoreError> {
        let _alone = self.shortening.lock();
        let pause = self.compaction.as_ref().map(Compaction::pause);
        let mut guard = self.checkpoint.lock();
        let truncation = self.log.begin_truncation(to)?;
        let (file, checkpoint) = &mut *guard;
        // Before anything is dropped: the next start must not take dropped bytes for synced ones.
        checkpoint.truncate(to);
        self.write_checkpoint(file, checkpoint)?;
        let mut derived = self.dispatch.derived().iter().try_for_each(|derived| derived.truncate(to));
        if let Some((compaction, pause)) = self.compaction.as_ref().zip(pause.as_ref()) {
            // Before the log: a start must not find compacted messages whose offsets new ones get.
            derived = derived.and_then(|()| self.queues.all().iter().try_for_each(|queue| compaction.truncate(queue, pause)));
        }
        if let Err(error) = derived {
            self.log.fail(&error.to_string());
            return Err(error);
        }
        truncation.erase()?;
        drop(guard);
        drop(truncation);
        self.dispatch.announce_truncation();
        Ok(())
    }
}
