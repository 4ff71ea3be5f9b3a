//! The public operations of the store: append, complete, read, look up, delete, close. Replication's are in `replica`.

mod light;
mod replica;

pub use light::LightEnd;

use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::cleanup::Cleanup;
use crate::compaction::{self, CompactedQueue, Compaction};
use crate::derived::{Derived, Keys};
use crate::disk::Disk;
use crate::dispatch::{Arrivals, Dispatch};
use crate::error::{AppendError, StoreError};
use crate::index::{key_hash, tag_hash};
use crate::log::{CommitLog, Completion, Level, RecordPlace, Ticket};
use crate::options::{FlushMode, StoreOptions};
use crate::queue::{Boundary, ConsumeQueue, Entry, QueueTable, StoreTime};
use crate::read::{self, Limits, ReadResult, ReadSource, ReadStatus};
use crate::retention::{LogNeed, MANUAL_ROUNDS, RetentionOptions};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Broken, JoinHandle, Mutex, RwLock, is_broken};
use bytes::Bytes;
use message::properties::Indexed;
use message::record::{Draft, Placement, Record};
use message::{LogOffset, QueueOffset};
use std::borrow::Borrow;
use std::sync::{Arc, OnceLock};

/// Commit log, consume queues and key index of one directory.
pub struct Store {
    pub(crate) options: StoreOptions,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) log: Arc<CommitLog>,
    pub(crate) queues: Arc<QueueTable>,
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) checkpoint: Mutex<(CheckpointFile, Checkpoint)>,
    pub(crate) retention: RwLock<RetentionOptions>,
    /// Serializes what removes messages: retention, deletion of a topic, truncation. Taken before all other locks.
    pub(crate) shortening: Mutex<()>,
    /// Rounds of deletion that are left of an operator's request.
    pub(crate) manual_rounds: AtomicU32,
    /// Why messages are refused although the log could take them: the disk is nearly full.
    pub(crate) refusing: RwLock<Option<Arc<str>>>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    /// Who else needs old messages.
    pub(crate) needs: OnceLock<Vec<Box<dyn LogNeed>>>,
    /// `None` if topics are not compacted.
    pub(crate) compaction: Option<Compaction>,
    pub(crate) cleanup: Cleanup,
    /// Held until the store is dropped: no other process may use the directory before.
    pub(crate) _lock: Box<dyn crate::disk::Lock>,
}

/// Result of a query by key.
#[derive(Clone, Debug, Default)]
pub struct QueryResult {
    /// The records, newest first.
    pub records: Vec<Bytes>,
    /// Store timestamp of the record indexed last; 0 when there is none.
    pub last_timestamp: i64,
    /// Log offset of the record indexed last.
    pub last_log_offset: LogOffset,
}

/// What a query searches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexedBy<'a> {
    /// A key or the unique key.
    Key(&'a str),
    /// A tag. Messages stored by Apache's brokers before 5.5 are not indexed by their tag.
    Tag(&'a str),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.options.root.display())
    }
}

impl Store {
    /// Registers the listener for new messages. Call once, before the first append.
    pub fn set_arrivals(&self, listener: Box<dyn Arrivals>) {
        self.dispatch.set_listener(listener);
    }

    /// Registers who needs old messages beside the readers of queues. Call once, before the first append.
    pub fn set_needs(&self, needs: Vec<Box<dyn LogNeed>>) {
        let _ = self.needs.set(needs);
    }

    /// The flush mode.
    #[must_use]
    pub fn flush_mode(&self) -> FlushMode {
        self.options.log.flush_mode
    }

    /// The queue, created if it does not exist. It is created in memory; its directory follows with its first entries.
    pub fn queue(&self, topic: &str, queue_id: i32) -> Arc<ConsumeQueue> {
        self.queues.find_or_create(topic, queue_id)
    }

    /// The queue, if a message was ever stored in it.
    #[must_use]
    pub fn find_queue(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        self.queues.find(topic, queue_id)
    }

    /// Appends messages. `queues` has the queue of each draft; `placements` gets the place of each. They are written when they are
    /// completed.
    ///
    /// # Errors
    /// [`AppendError`]; none of the messages is appended then.
    pub fn append(
        &self,
        drafts: &[Draft<'_>],
        queues: &[impl Borrow<Arc<ConsumeQueue>>],
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<Ticket, AppendError> {
        if let Some(reason) = &*self.refusing.read() {
            return Err(AppendError::NotWritable(reason.to_string()));
        }
        self.append_to_make_room(drafts, queues, now_ms, placements)
    }

    /// As [`Store::append`], also while messages are refused because the disk is nearly full: for messages that are written again so
    /// that old log files can be deleted.
    ///
    /// # Errors
    /// [`AppendError`]; none of the messages is appended then.
    pub fn append_to_make_room(
        &self,
        drafts: &[Draft<'_>],
        queues: &[impl Borrow<Arc<ConsumeQueue>>],
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<Ticket, AppendError> {
        self.log.append(&self.queues, drafts, queues, now_ms, placements)
    }

    /// A ticket for all that was appended up to now, to wait for what another thread has appended.
    pub fn appended(&self) -> Ticket {
        self.log.appended()
    }

    /// Completes an append: waits until it is confirmed as the flush mode says, so that readers find it. Under [`FlushMode::Sync`]
    /// without `wait_for_flush` it need only be written. Returns the outcome if it is known at once; otherwise the completion made
    /// by `later` gets it, on another thread.
    pub fn complete(&self, ticket: Ticket, wait_for_flush: bool, later: impl FnOnce() -> Completion) -> Option<Result<(), Arc<str>>> {
        let level = if wait_for_flush || self.flush_mode() == FlushMode::Async {
            Level::Published
        } else {
            Level::Written
        };
        self.log.complete(ticket, level, later)
    }

    /// As [`Store::complete`], for a caller that waits for the bound itself: in a store with a bound it is enough that the append is as
    /// durable here as the flush mode says.
    pub fn complete_here(&self, ticket: Ticket, wait_for_flush: bool, later: impl FnOnce() -> Completion) -> Option<Result<(), Arc<str>>> {
        if !self.options.log.is_bounded {
            return self.complete(ticket, wait_for_flush, later);
        }
        let level = if wait_for_flush { Level::Durable } else { Level::Written };
        self.log.complete(ticket, level, later)
    }

    /// In a store with a bound: replicas have everything before `to`, so that readers may see it. A lower bound than before changes nothing.
    /// May run completions and wake readers on this thread.
    pub fn raise_bound(&self, to: LogOffset) {
        self.log.raise_bound(to);
    }

    /// End of what readers may see.
    #[must_use]
    pub fn confirmed(&self) -> LogOffset {
        self.log.confirmed()
    }

    /// As [`Store::complete`] with one callback for both cases: `done` gets the outcome once, on this thread if it is known at
    /// once.
    pub fn complete_then(&self, ticket: Ticket, wait_for_flush: bool, done: impl FnOnce(Result<(), Arc<str>>) + Send + 'static) {
        let mut done = Some(done);
        let at_once = self.complete(ticket, wait_for_flush, || {
            let later = done.take();
            Box::new(move |outcome| {
                if let Some(done) = later {
                    done(outcome);
                }
            })
        });
        if let (Some(outcome), Some(done)) = (at_once, done) {
            done(outcome);
        }
    }

    /// Whether an invariant of the store was violated: a bug, after which nothing in memory can be trusted. The store has taken no
    /// messages since then. Stop the process and start it again; the panic in the log names the invariant.
    #[must_use]
    pub fn has_broken_invariant(&self) -> bool {
        self.log.has_broken_invariant()
    }

    /// Why the store takes no messages, if so.
    #[must_use]
    pub fn not_writable(&self) -> Option<Arc<str>> {
        self.log.failure().or_else(|| self.refusing.read().clone())
    }

    /// Reads messages of a queue from `from` on. The result may be `cold` unless `source` is [`ReadSource::Disk`].
    ///
    /// # Errors
    /// `StoreError::Io` if the queue's files or the log cannot be read.
    pub fn read(
        &self,
        topic: &str,
        queue_id: i32,
        from: QueueOffset,
        limits: Limits,
        takes: &dyn Fn(i64) -> bool,
        source: ReadSource,
    ) -> Result<ReadResult, StoreError> {
        match self.queues.find(topic, queue_id) {
            Some(queue) => match queue.compacted() {
                Some(compacted) => self.read_compacted(&queue, compacted, from, limits, takes, source),
                None => self.read_log(&queue, from, limits, takes, source),
            },
            None => Ok(ReadResult::empty(
                ReadStatus::NoMatchedLogicQueue,
                QueueOffset(0),
                QueueOffset(0),
                QueueOffset(0),
            )),
        }
    }

    fn read_log(
        &self,
        queue: &ConsumeQueue,
        from: QueueOffset,
        limits: Limits,
        takes: &dyn Fn(i64) -> bool,
        source: ReadSource,
    ) -> Result<ReadResult, StoreError> {
        let read = || read::read(&self.log, queue, from, limits, takes, source);
        match source {
            ReadSource::Disk => self.log.read_consistently(read),
            // A truncation is in progress. The caller repeats the read where it may wait.
            ReadSource::Memory | ReadSource::PageCache => self
                .log
                .try_read_consistently(read)
                .unwrap_or_else(|| Ok(ReadResult::empty(ReadStatus::Found, from, queue.min(), queue.max()).cold())),
        }
    }

    /// Reads a queue whose first part is compacted. As in Apache's broker, an offset before the first message that is left reads that
    /// one, and the offsets of what is found have gaps.
    fn read_compacted(
        &self,
        queue: &ConsumeQueue,
        compacted: &CompactedQueue,
        from: QueueOffset,
        limits: Limits,
        takes: &dyn Fn(i64) -> bool,
        source: ReadSource,
    ) -> Result<ReadResult, StoreError> {
        let copied = compacted.copied();
        if from < copied && source != ReadSource::Disk {
            return Ok(ReadResult::empty(ReadStatus::Found, from, queue.min(), queue.max()).cold());
        }
        let found = (from < copied).then(|| compacted.read(from, limits, takes)).transpose()?;
        let min = if copied.0 > 0 {
            compacted.first().unwrap_or(copied)
        } else {
            queue.min()
        };
        let is_last = |found: &ReadResult| {
            let is_empty = found.status != ReadStatus::Found && found.damaged.is_none();
            is_empty && found.next >= copied && copied < queue.max()
        };
        let mut result = match found {
            Some(found) if !is_last(&found) => found,
            _ => {
                let read = self.read_log(queue, from.max(copied), limits, takes, source)?;
                // It was copied and deleted meanwhile. Progress of the copy ends this.
                if read.status != ReadStatus::Found && from < compacted.copied() && copied < compacted.copied() {
                    return self.read_compacted(queue, compacted, from, limits, takes, source);
                }
                read
            }
        };
        (result.min, result.max) = (min, queue.max());
        // Compat: Apache's broker has a reader of a compacted topic that is beyond the end begin at 0, if nothing was dropped there.
        if result.status == ReadStatus::OffsetOverflowBadly && min.0 == 0 {
            result.next = min;
        }
        Ok(result)
    }

    /// The first offset of a queue that is kept; 0 if there is no such queue.
    #[must_use]
    pub fn min_offset(&self, topic: &str, queue_id: i32) -> QueueOffset {
        self.queues.find(topic, queue_id).map_or(QueueOffset(0), |q| self.first_of(&q))
    }

    /// The offset after a queue's last message; 0 if there is no such queue.
    #[must_use]
    pub fn max_offset(&self, topic: &str, queue_id: i32) -> QueueOffset {
        self.queues.find(topic, queue_id).map_or(QueueOffset(0), |q| q.max())
    }

    /// The offset from which a reader finds what was stored from `timestamp` (epoch ms) on, by Apache's rules. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the queue's files or the log cannot be read. `StoreError::Corrupt` if too many records of the queue are
    /// damaged.
    pub fn offset_by_time(&self, topic: &str, queue_id: i32, timestamp: i64, boundary: Boundary) -> Result<QueueOffset, StoreError> {
        let Some(queue) = self.queues.find(topic, queue_id) else {
            return Ok(QueueOffset(0));
        };
        let found = self.search_log(&queue, timestamp, boundary)?;
        match queue.compacted() {
            Some(compacted) if found <= queue.min() => {
                let compacted = compacted.first_from(timestamp)?;
                Ok(compacted.map_or(found, |offset| offset.min(found)))
            }
            _ => Ok(found),
        }
    }

    /// The first message of a queue in the log that was stored at `timestamp` (epoch ms) or later. May block.
    pub(crate) fn first_stored_from(&self, queue: &ConsumeQueue, timestamp: i64) -> Result<QueueOffset, StoreError> {
        self.search_log(queue, timestamp, Boundary::Lower)
    }

    fn search_log(&self, queue: &ConsumeQueue, timestamp: i64, boundary: Boundary) -> Result<QueueOffset, StoreError> {
        let stored = |entry: &Entry| {
            if entry.is_blank() || entry.log_offset < self.log.first_offset().0 {
                return Ok(StoreTime::Removed);
            }
            let stored = self.log.stored_at(entry.place())?;
            Ok(stored.map_or(StoreTime::Unknown, StoreTime::At))
        };
        self.log.read_consistently(|| queue.search_by_time(timestamp, boundary, &stored))
    }

    /// Store timestamp (epoch ms) of the message at a queue's offset; `None` if it does not exist. May block.
    #[must_use]
    pub fn store_time(&self, topic: &str, queue_id: i32, offset: QueueOffset) -> Option<i64> {
        let queue = self.queues.find(topic, queue_id)?;
        if let Some(stored) = queue.compacted().and_then(|compacted| compacted.stored_at(offset).ok()?) {
            return Some(stored);
        }
        self.log.read_consistently(|| {
            let entry = queue.entry_at(offset).ok()??;
            self.log.stored_at(entry.place()).ok()?
        })
    }

    /// Log offset of the message at an offset of a queue; `None` if the queue has no such entry, or it cannot be read. May block.
    #[must_use]
    pub fn log_offset_of(&self, topic: &str, queue_id: i32, offset: QueueOffset) -> Option<LogOffset> {
        let queue = self.queues.find(topic, queue_id)?;
        let entry = self.log.read_consistently(|| queue.entry_at(offset)).ok()??;
        Some(LogOffset(entry.log_offset))
    }

    /// Passes every confirmed record from `from` on, where one begins, to `visit`. May block, and takes long for a large part of the log.
    /// Does not notice a truncation meanwhile.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read.
    pub fn scan(&self, from: LogOffset, mut visit: impl FnMut(&Record<'_>)) -> Result<(), StoreError> {
        let end = self.log.confirmed();
        crate::log::scan_part(&self.log.segments, from.0, end.0, |record| {
            visit(record);
            Ok(())
        })
        .map(drop)
    }

    /// Beginning of the last log file that begins before this store time, epoch ms; of the log if there is none. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read.
    pub fn log_file_at(&self, timestamp: i64) -> Result<LogOffset, StoreError> {
        let begin = crate::log::start_by_time(&self.log.segments, timestamp)?;
        Ok(begin.map_or_else(|| self.log_range().0, LogOffset))
    }

    /// Store timestamp (epoch ms) of the message that a queue entry names; `None` if its record does not exist. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read.
    pub fn stored_at(&self, entry: &Entry) -> Result<Option<i64>, StoreError> {
        self.log.read_consistently(|| self.log.stored_at(entry.place()))
    }

    /// The hash of the tag, or the delivery time, that an entry should have, from its record; `None` if the record does not exist.
    /// For entries without it ([`Entry::has_value`]). May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read.
    pub fn value_of(&self, entry: &Entry) -> Result<Option<i64>, StoreError> {
        let mut read = Vec::with_capacity(1);
        let outcome = self.log.read_consistently(|| {
            read.clear();
            self.log.read_all(&[entry.place()], ReadSource::Disk, &mut read)
        });
        match outcome {
            Ok(_) => {}
            Err(StoreError::Corrupt(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let record = read.first().and_then(|bytes| Record::parse(bytes).ok());
        Ok(record.map(|record| {
            let tags = Indexed::of(record.properties).tags;
            let code = self
                .options
                .due
                .code(record.topic, record.properties, &tags, record.store_timestamp);
            code.value()
        }))
    }

    /// The queues of a topic by queue id.
    #[must_use]
    pub fn queues_of(&self, topic: &str) -> Vec<Arc<ConsumeQueue>> {
        self.queues.of_topic(topic)
    }

    /// Store timestamp (epoch ms) of a queue's first message; `None` for an empty or unknown queue. May block.
    #[must_use]
    pub fn earliest_store_time(&self, topic: &str, queue_id: i32) -> Option<i64> {
        self.store_time(topic, queue_id, self.min_offset(topic, queue_id))
    }

    /// The record that begins at a log offset. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read. `StoreError::Corrupt` if no record begins there.
    pub fn record_at(&self, offset: LogOffset) -> Result<Bytes, StoreError> {
        self.log.read_consistently(|| self.log.record_at(offset))
    }

    /// The message that begins at a log offset that comes from outside. Bytes inside the body of a message can look like a record,
    /// so a queue must have an entry for it. Messages of deleted topics are not found. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log or the queue cannot be read. `StoreError::Corrupt` if no message begins there.
    pub fn message_at(&self, offset: LogOffset) -> Result<Bytes, StoreError> {
        self.log.read_consistently(|| self.try_message_at(offset))
    }

    fn try_message_at(&self, offset: LogOffset) -> Result<Bytes, StoreError> {
        let head = self.log.unverified_head(offset)?;
        let entry = match self.queues.find(&head.topic, head.queue_id) {
            Some(queue) => queue.entry_at(head.queue_offset).map_err(|e| queue_error("read", &queue, e))?,
            None => None,
        };
        if entry.map(|entry| entry.place()) != Some(head.place) {
            return Err(StoreError::Corrupt(format!("no message of a queue begins at log offset {offset}")));
        }
        self.log.record_at(offset)
    }

    /// Appends the records that queue entries name to `out`, in their order. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read. `StoreError::Corrupt` if there is no record of that size; `out` has the records
    /// before it then.
    pub fn records_of(&self, entries: &[Entry], out: &mut Vec<Bytes>) -> Result<(), StoreError> {
        let places: Vec<RecordPlace> = entries.iter().map(Entry::place).collect();
        let before = out.len();
        self.log.read_consistently(|| {
            out.truncate(before);
            self.log.read_all(&places, ReadSource::Disk, out).map(drop)
        })
    }

    /// Syncs everything that is written.
    ///
    /// # Errors
    /// `StoreError::Io` if the sync fails, `StoreError::Failed` if the log failed before. The log takes no messages then until a
    /// restart.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.log.sync_now().map(drop)
    }

    /// Records of a topic that have `key` as a key or unique key, newest first, at most `max`, stored between `begin` and `end`
    /// (epoch ms, both inclusive). Sees all messages confirmed before the call. While the index is behind, the newest keys are
    /// found later, once the keeper has indexed them from the log. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the index cannot be read.
    pub fn query(&self, topic: &str, key: &str, begin: i64, end: i64, max: usize) -> Result<QueryResult, StoreError> {
        self.query_by(topic, IndexedBy::Key(key), begin, end, max)
    }

    /// As [`Store::query`], by key or tag.
    ///
    /// # Errors
    /// `StoreError::Io` if the index cannot be read.
    pub fn query_by(&self, topic: &str, by: IndexedBy<'_>, begin: i64, end: i64, max: usize) -> Result<QueryResult, StoreError> {
        let Some(keys) = &self.keys else {
            return Ok(QueryResult::default());
        };
        keys.index_waiting();
        let hash = match by {
            IndexedBy::Key(key) => key_hash(topic, key),
            IndexedBy::Tag(tag) => tag_hash(topic, tag),
        };
        self.log.read_consistently(|| {
            let found = keys
                .index
                .query_hash(hash, begin, end, max)
                .map_err(|e| StoreError::io("read", &self.options.root.join("index"), e))?;
            let records = found
                .log_offsets
                .iter()
                .filter_map(|at| self.log.record_at(*at).ok())
                .filter(|bytes| is_indexed_by(bytes, topic, by));
            Ok(QueryResult {
                records: records.collect(),
                last_timestamp: found.last_timestamp,
                last_log_offset: found.last_log_offset,
            })
        })
    }

    /// Topics that have queues, or files left by a deletion that failed.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<str>> {
        self.queues.topics()
    }

    /// Whether a topic has queues, or files left by a deletion that failed.
    #[must_use]
    pub fn has_topic(&self, topic: &str) -> bool {
        self.queues.has_topic(topic)
    }

    /// Deletes a topic: its queues are removed; its messages stay in the log until retention deletes them. When this returns, no
    /// restart brings the topic back. A topic of the same name may be created at any time, also meanwhile. Appends to queues of the
    /// deleted one are refused with [`AppendError::QueueRetired`].
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be removed, or no checkpoint can be made that recovery needs to know of the deletion;
    /// `StoreError::Failed` if the log failed. Any of the topic's messages may be there after the next start then, unless the
    /// deletion is repeated and succeeds. Files that could not be removed do not mix with those of a topic of the same name.
    pub fn delete_topic(&self, topic: &str) -> Result<(), StoreError> {
        // A deletion that is interrupted leaves some of the files. The checkpoint keeps what recovery rebuilds beside them small.
        // And recovery can tell the records of the deleted topic from those of its successor only behind a checkpoint of ours.
        let _alone = self.shortening.lock();
        self.checkpoint_now()?;
        let pause = self.compaction.as_ref().map(Compaction::pause);
        let mut deletion = self.queues.begin_deletion(topic);
        let end = self.log.between_appends(|| deletion.retire());
        self.log.wait_published(end)?;
        deletion.remove_files().map_err(|e| StoreError::Io {
            action: "delete",
            path: format!("consume queues of {topic}"),
            source: e,
        })?;
        match self.compaction.as_ref().zip(pause.as_ref()) {
            Some((compaction, pause)) => compaction.delete(topic, pause)?,
            None => compaction::remove_files(&*self.disk, &self.options.root, topic)?,
        }
        if is_broken(Broken::DeletedWithoutCheckpoint) {
            return Ok(());
        }
        // Recovery rebuilds queues from the log: it must begin behind the deleted topic's last message.
        self.checkpoint_now()
    }

    /// Maximum bytes of records in one append.
    #[must_use]
    pub fn max_append_bytes(&self) -> usize {
        const MOST: u64 = 8 << 20;
        self.options.log.segment_bytes.min(MOST) as usize / 2
    }

    /// Changes the retention settings, from the next round on.
    pub fn set_retention(&self, options: RetentionOptions) {
        *self.retention.write() = options;
    }

    /// Makes the next rounds of retention delete expired files at any hour.
    pub fn delete_expired(&self) {
        self.manual_rounds.store(MANUAL_ROUNDS, Ordering::Relaxed);
        self.dispatch.wake_keeper();
    }

    /// Removes files of queues whose messages are no longer in the log. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if a queue's files cannot be looked at or removed; the other queues were cleaned.
    pub fn clean_queues(&self) -> Result<(), StoreError> {
        Derived::raise_min(&*self.queues, self.log.first_offset())
    }

    /// The first log offset that is kept, and the end of the confirmed log.
    #[must_use]
    pub fn log_range(&self) -> (LogOffset, LogOffset) {
        (self.log.first_offset(), self.log.confirmed())
    }

    /// The name of the log file that a log offset is in.
    #[must_use]
    pub fn log_file_of(&self, offset: LogOffset) -> String {
        self.log.segments.file_of(offset.0)
    }

    /// End of the synced log.
    #[must_use]
    pub fn flushed(&self) -> LogOffset {
        self.log.flushed()
    }
}

pub(crate) fn queue_error(action: &'static str, queue: &ConsumeQueue, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: format!("consume queue {}/{}", queue.topic(), queue.queue_id()),
        source,
    }
}

/// A slot's chain has other keys with the same hash, too.
fn is_indexed_by(bytes: &[u8], topic: &str, by: IndexedBy<'_>) -> bool {
    let Ok(record) = Record::parse(bytes) else { return false };
    let indexed = Indexed::of(record.properties);
    let is_it = match by {
        IndexedBy::Key(key) => indexed.has_key(key),
        IndexedBy::Tag(tag) => indexed.tags == tag,
    };
    record.topic == topic && is_it
}
