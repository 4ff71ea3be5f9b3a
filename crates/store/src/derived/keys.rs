//! The key index as something derived from the log.
//!
//! Keys of confirmed messages wait in memory until the keeper or a query adds them to the index. If more wait than
//! `apogeeMaxIndexBacklog`, or the index has no space for its next file, they are dropped and the beginning of their part of the
//! log is kept. The keeper indexes it from the log, a part in each round. Until then checkpoints name no later offset for the
//! index.

use super::{Derived, Restore, Shutdown, WorkLimit};
use crate::checkpoint::SyncedOffsets;
use crate::disk::{Disk, OpenMode};
use crate::error::StoreError;
use crate::index::KeyIndex;
use crate::log::{self, Batch, CommitLog, IndexedRecord, key_hashes_of};
use crate::sync::{Broken, Instant, Mutex, is_broken, linger};
use message::properties::Indexed;
use message::record::Record;
use message::{LogOffset, sys_flag};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of log that one round reads for dropped keys.
const CATCH_UP_BYTES: i64 = 16 << 20;
/// Time between two attempts of an index that has no space.
const INDEX_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The key index, and the keys that wait for it.
pub(crate) struct Keys {
    pub(crate) index: KeyIndex,
    sync_failure: SyncFailureMark,
    /// Maximum keys in the inbox.
    max_keys: usize,
    inbox: Mutex<Inbox>,
    /// Held while keys are indexed, so that they are indexed in log order. When indexing last failed.
    indexing: Mutex<Option<Instant>>,
}

/// Marks for the next start that a sync failed: the page cache may show what is not on the disk.
pub(crate) struct SyncFailureMark {
    disk: Arc<dyn Disk>,
    abort: PathBuf,
}

impl SyncFailureMark {
    /// The mark is an empty `abort` file.
    pub(crate) fn new(disk: Arc<dyn Disk>, abort: PathBuf) -> Self {
        Self { disk, abort }
    }

    /// Sets the mark after a failed write or sync. The next start must not trust the file's content only because the machine was
    /// not restarted.
    pub(crate) fn note(&self) {
        let marked = self
            .disk
            .open(&self.abort, OpenMode::WriteOrCreate)
            .and_then(|file| file.set_len(0));
        if let Err(error) = marked {
            tracing::error!(%error, "cannot mark that a sync failed: empty the file abort by hand before the next start, which otherwise may trust what was not synced");
        }
    }
}

/// Keys that wait to be indexed.
#[derive(Default)]
struct Inbox {
    /// Records whose keys the keeper will index, in log order.
    records: Vec<IndexedRecord>,
    /// Number of their keys.
    keys: usize,
    /// End of the log whose keys were collected or dropped.
    end: LogOffset,
    /// The keys of records from here to `end` were dropped from memory and have to be indexed from the log. While this is set, no
    /// keys are collected here.
    unindexed_from: Option<LogOffset>,
}

impl Inbox {
    /// Drops the keys that wait. They and the keys of records from `from` on are to be indexed from the log.
    fn leave_to_log(&mut self, from: LogOffset) {
        let first = self.records.first().map_or(from, |record| record.log_offset.min(from));
        (self.records, self.keys) = (Vec::new(), 0);
        self.unindexed_from = Some(self.unindexed_from.map_or(first, |unindexed| unindexed.min(first)));
    }

    /// Drops the keys of records from `to` on, where the log is truncated.
    fn truncate(&mut self, to: LogOffset) {
        self.records.retain(|record| record.log_offset < to);
        self.keys = count_keys(&self.records);
        self.end = self.end.min(to);
        self.unindexed_from = self.unindexed_from.filter(|from| *from < self.end);
    }
}

impl Keys {
    /// Keys for an index, with at most `max_keys` of them in memory.
    pub(crate) fn new(index: KeyIndex, max_keys: usize, sync_failure: SyncFailureMark) -> Self {
        Self {
            index,
            sync_failure,
            max_keys,
            inbox: Mutex::default(),
            indexing: Mutex::default(),
        }
    }

    /// Sets the state after a start: the log ends at `end`; the keys of records from `unindexed_from` on are not indexed yet.
    fn begin(&self, end: LogOffset, unindexed_from: Option<LogOffset>) {
        *self.inbox.lock() = Inbox {
            end,
            unindexed_from: unindexed_from.filter(|from| *from < end),
            ..Inbox::default()
        };
    }

    fn failed(action: &'static str) -> impl Fn(io::Error) -> StoreError {
        move |source| StoreError::Io {
            action,
            path: "key index".to_owned(),
            source,
        }
    }

    /// Indexes the keys that wait, in log order. Keys that cannot be indexed now are indexed later from the log.
    pub(crate) fn index_waiting(&self) {
        let _in_order = self.indexing.lock();
        for record in self.take_keys() {
            if let Err(error) = self.index.put_record(&record.hashes, record.log_offset, record.store_timestamp) {
                self.leave_keys_to_log(record.log_offset);
                tracing::warn!(%error, from = %record.log_offset, "keys could not be indexed and are not found by queries until they are indexed from the log");
                return;
            }
        }
    }

    /// Indexes dropped keys from the log, unless that has just failed and only a round's work is wanted.
    fn index_from_log(&self, log: &CommitLog, limit: WorkLimit) -> Result<(), StoreError> {
        let mut stopped = self.indexing.lock();
        if limit == WorkLimit::Round && stopped.is_some_and(|at| at.elapsed() < INDEX_RETRY_INTERVAL) {
            return Ok(());
        }
        *stopped = None;
        let Some(unindexed) = self.unindexed() else { return Ok(()) };
        let most = if limit == WorkLimit::Round { CATCH_UP_BYTES } else { i64::MAX };
        let from = unindexed.start.max(log.first_offset());
        let to = unindexed.end.min(LogOffset(from.0.saturating_add(most)));
        let mut done = from;
        let indexed = log::scan_part(&log.segments, from.0, to.0, |record| {
            let put = put_keys(&self.index, record);
            if put.is_ok() {
                done = record.log_offset.plus(record.size);
            }
            put.map_err(Self::failed("write"))
        });
        match indexed {
            Ok(end) => self.set_indexed(LogOffset(end)),
            Err(_) => {
                self.set_indexed(done);
                *stopped = Some(Instant::now());
            }
        }
        indexed.map(drop)
    }

    /// Log offset of the first record before `published` whose keys are not indexed; `published` if all are.
    fn indexed_before(&self, published: LogOffset) -> LogOffset {
        self.unindexed().map_or(published, |unindexed| unindexed.start.min(published))
    }

    fn collect_keys(&self, batches: &[Batch], end: LogOffset) {
        let mut inbox = self.inbox.lock();
        inbox.end = end;
        if inbox.unindexed_from.is_some() {
            return;
        }
        let before = inbox.records.len();
        batches.iter().for_each(|batch| inbox.records.extend_from_slice(&batch.keys));
        inbox.keys += count_keys(&inbox.records[before..]);
        if inbox.keys > self.max_keys {
            inbox.leave_to_log(end);
            drop(inbox);
            tracing::warn!(
                max = self.max_keys,
                "more keys wait for the index than apogeeMaxIndexBacklog: they are indexed later from the log, and not found by queries until then"
            );
        }
    }

    /// Takes the keys that wait, in log order.
    fn take_keys(&self) -> Vec<IndexedRecord> {
        let mut inbox = self.inbox.lock();
        inbox.keys = 0;
        std::mem::take(&mut inbox.records)
    }

    /// Leaves the keys of records from `from` on to be indexed from the log.
    fn leave_keys_to_log(&self, from: LogOffset) {
        self.inbox.lock().leave_to_log(from);
    }

    /// The part of the log whose keys are to be indexed from the log.
    fn unindexed(&self) -> Option<Range<LogOffset>> {
        let inbox = self.inbox.lock();
        inbox.unindexed_from.map(|from| from..inbox.end)
    }

    /// Notes that keys are indexed from the log up to `to`. When all are, keys are collected in memory again.
    fn set_indexed(&self, to: LogOffset) {
        let mut inbox = self.inbox.lock();
        let from = inbox.unindexed_from.map(|from| from.max(to));
        inbox.unindexed_from = from.filter(|from| *from < inbox.end);
    }
}

impl Derived for Keys {
    fn publish(&self, batches: &[Batch]) {
        if let Some(last) = batches.last() {
            self.collect_keys(batches, last.end);
        }
    }

    /// The index may have been behind the queues: it continues there, later and from the log. Keys are added in log order, so those
    /// that it has are without a gap.
    fn recover<'a>(&'a self, stop: &Shutdown) -> Result<Box<dyn Restore + 'a>, StoreError> {
        if !stop.is_clean {
            let from = stop.progress.map_or(stop.from, |progress| progress.indexed.min(stop.from));
            self.index.cut(from, stop.is_all_readable).map_err(Self::failed("cut"))?;
        }
        let indexed = stop.progress.map(|progress| progress.indexed.max(self.index.last().0));
        Ok(Box::new(Indexing {
            keys: self,
            unindexed_from: indexed.filter(|at| *at < stop.from),
        }))
    }

    fn work(&self, log: &CommitLog, limit: WorkLimit) -> Result<bool, StoreError> {
        self.index_waiting();
        self.index_from_log(log, limit)?;
        Ok(self.unindexed().is_some())
    }

    fn sync(&self, before: SyncedOffsets, progress: &mut SyncedOffsets) -> Result<(), StoreError> {
        let published = progress.dispatched;
        self.index_waiting();
        // Before the index is written and synced: keys that are indexed after this are not covered.
        progress.indexed = self.indexed_before(published);
        if let Err(error) = self.index.write() {
            if error.kind() != io::ErrorKind::StorageFull {
                // Any part of it may have been written: the next start checks every item.
                self.sync_failure.note();
            }
            // Recovery indexes the keys again. The queues' part of the checkpoint does not wait for the index to have space.
            tracing::warn!(%error, "the key index could not be written; the next checkpoint tries again");
            progress.indexed = before.indexed;
        }
        let synced = self.index.sync().map_err(Self::failed("sync"));
        synced.inspect_err(|_| self.sync_failure.note())?;
        if is_broken(Broken::AskedForKeysAfterSync) {
            linger();
            progress.indexed = self.indexed_before(published);
        }
        Ok(())
    }

    fn has_failed(&self) -> bool {
        self.index.has_failed_sync()
    }

    fn raise_min(&self, log_min: LogOffset) -> Result<(), StoreError> {
        self.index.remove_below(log_min).map(drop).map_err(Self::failed("shorten"))
    }

    fn truncate(&self, to: LogOffset) -> Result<(), StoreError> {
        let _alone = self.indexing.lock();
        self.inbox.lock().truncate(to);
        // The truncation sees only what is in files.
        let cut = self.index.write().and_then(|()| self.index.cut(to, true));
        cut.map_err(Self::failed("truncate"))
    }

    fn is_written(&self) -> bool {
        self.index.is_written()
    }
}

/// Indexes the records that recovery reads, until the index fails, or not at all if it was behind before.
struct Indexing<'a> {
    keys: &'a Keys,
    /// The keys of records from there on are not in the index.
    unindexed_from: Option<LogOffset>,
}

impl Restore for Indexing<'_> {
    fn put(&mut self, record: &Record<'_>) -> Result<(), StoreError> {
        if self.unindexed_from.is_none()
            && let Err(error) = put_keys(&self.keys.index, record)
        {
            tracing::warn!(%error, from = %record.log_offset, "keys could not be indexed and are not found by queries until they are indexed from the log");
            self.unindexed_from = Some(record.log_offset);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, end: LogOffset) {
        self.keys.begin(end, self.unindexed_from);
    }
}

/// Adds a message of the log to the index, unless it is there already.
///
/// # Errors
/// [`io::Error`] if the index cannot be written; no key of the message was added then.
fn put_keys(index: &KeyIndex, record: &Record<'_>) -> io::Result<()> {
    if !sys_flag::is_in_queue(record.sys_flag) {
        return Ok(());
    }
    let hashes = key_hashes_of(record.topic, &Indexed::of(record.properties));
    index.put_record(&hashes, record.log_offset, record.store_timestamp)
}

fn count_keys(records: &[IndexedRecord]) -> usize {
    records.iter().map(|record| record.hashes.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::SimulatedDisk;
    use crate::index::IndexOptions;
    use std::path::Path;

    fn keys(end: i64, unindexed_from: Option<i64>) -> Keys {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let index = KeyIndex::open(disk.clone(), Path::new("/index"), IndexOptions { slots: 16, items: 64 }).unwrap();
        let keys = Keys::new(index, 5, SyncFailureMark::new(disk, PathBuf::from("/abort")));
        keys.begin(LogOffset(end), unindexed_from.map(LogOffset));
        keys
    }

    fn unindexed(from: i64, to: i64) -> Range<LogOffset> {
        LogOffset(from)..LogOffset(to)
    }

    fn batch(at: i64, keys: usize) -> Batch {
        Batch {
            end: LogOffset(at + 100),
            keys: vec![IndexedRecord {
                hashes: (0..keys as i32).collect(),
                log_offset: LogOffset(at),
                store_timestamp: 1,
            }],
            ..Batch::default()
        }
    }

    #[test]
    fn keys_over_the_bound_are_dropped_and_their_part_of_the_log_is_remembered_to_its_end() {
        let keys = keys(0, None);
        keys.publish(&[batch(0, 3)]);
        assert_eq!((keys.unindexed(), keys.take_keys().len()), (None, 1));
        keys.publish(&[batch(100, 3)]);
        keys.publish(&[batch(200, 3)]);
        assert_eq!(keys.unindexed(), Some(unindexed(100, 300)));
        keys.publish(&[batch(300, 1)]);
        assert_eq!((keys.unindexed(), keys.take_keys().len()), (Some(unindexed(100, 400)), 0));
        keys.set_indexed(LogOffset(300));
        assert_eq!(keys.unindexed(), Some(unindexed(300, 400)));
        keys.set_indexed(LogOffset(400));
        keys.publish(&[batch(400, 1)]);
        assert_eq!((keys.unindexed(), keys.take_keys().len()), (None, 1));
    }

    #[test]
    fn keys_that_could_not_be_indexed_come_before_those_that_waited() {
        let keys = keys(0, None);
        keys.publish(&[batch(0, 1), batch(100, 1)]);
        assert_eq!(keys.take_keys().len(), 2);
        keys.publish(&[batch(200, 1)]);
        keys.leave_keys_to_log(LogOffset(100));
        assert_eq!(keys.unindexed(), Some(unindexed(100, 300)));
        assert!(keys.take_keys().is_empty());
        let after_a_start = self::keys(500, Some(300));
        assert_eq!(after_a_start.unindexed(), Some(unindexed(300, 500)));
        assert_eq!(self::keys(500, Some(500)).unindexed(), None);
    }
}
