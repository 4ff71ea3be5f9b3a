//! The key index as something derived from the log.
//!
//! Keys of confirmed messages wait in memory until the keeper, or a query, puts them into the index. When more wait than
//! `apogeeMaxIndexBacklog`, or the index has no room for its next file, they are dropped and their part of the log is remembered: the
//! keeper indexes it from the log, a part in each round, and checkpoints name no offset of the index behind it until that is done.

use super::{Derived, Effort, Restore, Stop};
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

/// Bytes of log that one round reads for keys that were dropped.
const CATCH_UP_BYTES: i64 = 16 << 20;
/// Time between two attempts to go on with an index that has no room.
const INDEX_AGAIN: Duration = Duration::from_secs(1);

/// The key index, and the keys on their way to it.
pub(crate) struct Keys {
    pub(crate) index: KeyIndex,
    distrust: Distrust,
    /// Most keys in the inbox.
    max_keys: usize,
    inbox: Mutex<Inbox>,
    /// Held by whoever indexes, so that keys are indexed in log order. When the index last could not go on.
    indexing: Mutex<Option<Instant>>,
}

/// Notes for the next start that it must not believe what the page cache shows of a file after a sync of it failed.
pub(crate) struct Distrust {
    disk: Arc<dyn Disk>,
    abort: PathBuf,
}

impl Distrust {
    /// Whose note is the file `abort`, emptied.
    pub(crate) fn new(disk: Arc<dyn Disk>, abort: PathBuf) -> Self {
        Self { disk, abort }
    }

    /// A write or sync failed: what the page cache shows of the file may not be on the disk, ever. The next start must not take it
    /// for whole because the machine went on.
    pub(crate) fn note(&self) {
        let marked = self
            .disk
            .open(&self.abort, OpenMode::WriteOrCreate)
            .and_then(|file| file.set_len(0));
        if let Err(error) = marked {
            tracing::error!(%error, "the next start may trust what was not synced; empty the file abort before it");
        }
    }
}

/// Keys on their way to the index.
#[derive(Default)]
struct Inbox {
    /// Keys that the keeper will index, in log order.
    records: Vec<IndexedRecord>,
    /// How many keys stand in them.
    keys: usize,
    /// End of the log that was looked through for keys.
    end: LogOffset,
    /// The keys of records from here to `end` were dropped from memory and have to be indexed from the log. While this is set, no
    /// keys are collected here.
    missed_from: Option<LogOffset>,
}

impl Inbox {
    /// Drops the keys that wait; they and those from `from` on are for the log to give.
    fn miss(&mut self, from: LogOffset) {
        let first = self.records.first().map_or(from, |record| record.log_offset.min(from));
        (self.records, self.keys) = (Vec::new(), 0);
        self.missed_from = Some(self.missed_from.map_or(first, |missed| missed.min(first)));
    }

    /// Drops the keys of records from `to` on, which the log does not have any more.
    fn truncate(&mut self, to: LogOffset) {
        self.records.retain(|record| record.log_offset < to);
        self.keys = count_keys(&self.records);
        self.end = self.end.min(to);
        self.missed_from = self.missed_from.filter(|from| *from < self.end);
    }
}

impl Keys {
    /// Keys for an index. At most `max_keys` of them wait in memory.
    pub(crate) fn new(index: KeyIndex, max_keys: usize, distrust: Distrust) -> Self {
        Self {
            index,
            distrust,
            max_keys,
            inbox: Mutex::default(),
            indexing: Mutex::default(),
        }
    }

    /// After a start: the log ends at `end`; with `missed_from` the keys of the records from there on are not indexed yet.
    fn begin(&self, end: LogOffset, missed_from: Option<LogOffset>) {
        *self.inbox.lock() = Inbox {
            end,
            missed_from: missed_from.filter(|from| *from < end),
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

    /// Indexes the keys that wait, in log order. What cannot be indexed now is read from the log again, later.
    pub(crate) fn index_waiting(&self) {
        let _in_order = self.indexing.lock();
        for record in self.take_keys() {
            if let Err(error) = self.index.put_record(&record.hashes, record.log_offset, record.store_timestamp) {
                self.miss_keys(record.log_offset);
                tracing::warn!(%error, from = %record.log_offset, "keys are indexed later, from the log; until then they are not found");
                return;
            }
        }
    }

    /// Indexes keys that were dropped, unless that failed just now and only a round's work is wanted.
    fn index_from_log(&self, log: &CommitLog, effort: Effort) -> Result<(), StoreError> {
        let mut stopped = self.indexing.lock();
        if effort == Effort::Round && stopped.is_some_and(|at| at.elapsed() < INDEX_AGAIN) {
            return Ok(());
        }
        *stopped = None;
        let Some(missed) = self.missed() else { return Ok(()) };
        let most = if effort == Effort::Round { CATCH_UP_BYTES } else { i64::MAX };
        let from = missed.start.max(log.first_offset());
        let to = missed.end.min(LogOffset(from.0.saturating_add(most)));
        let mut done = from;
        let indexed = log::scan_part(&log.segments, from.0, to.0, |record| {
            let put = put_keys(&self.index, record);
            if put.is_ok() {
                done = record.log_offset.plus(record.size);
            }
            put.map_err(Self::failed("write"))
        });
        match indexed {
            Ok(end) => self.caught_up(LogOffset(end)),
            Err(_) => {
                self.caught_up(done);
                *stopped = Some(Instant::now());
            }
        }
        indexed.map(drop)
    }

    /// Where the first key is missing of what was published before an offset.
    fn indexed_before(&self, published: LogOffset) -> LogOffset {
        self.missed().map_or(published, |missed| missed.start.min(published))
    }

    fn gather_keys(&self, batches: &[Batch], end: LogOffset) {
        let mut inbox = self.inbox.lock();
        inbox.end = end;
        if inbox.missed_from.is_some() {
            return;
        }
        let before = inbox.records.len();
        inbox.records.extend(batches.iter().flat_map(|b| b.keys.iter().cloned()));
        inbox.keys += count_keys(&inbox.records[before..]);
        if inbox.keys > self.max_keys {
            inbox.miss(end);
            drop(inbox);
            tracing::warn!(
                max = self.max_keys,
                "more keys wait for the index than apogeeMaxIndexBacklog; they are indexed from the log, and found by key later"
            );
        }
    }

    /// Takes the keys that wait, in log order.
    fn take_keys(&self) -> Vec<IndexedRecord> {
        let mut inbox = self.inbox.lock();
        inbox.keys = 0;
        std::mem::take(&mut inbox.records)
    }

    /// The keys of the records from `from` on could not be indexed: they are read from the log again, later.
    fn miss_keys(&self, from: LogOffset) {
        self.inbox.lock().miss(from);
    }

    /// The part of the log whose keys are to be indexed from the log.
    fn missed(&self) -> Option<Range<LogOffset>> {
        let inbox = self.inbox.lock();
        inbox.missed_from.map(|from| from..inbox.end)
    }

    /// Keys were indexed from the log up to `to`. When no more were missed meanwhile, keys are gathered in memory again.
    fn caught_up(&self, to: LogOffset) {
        let mut inbox = self.inbox.lock();
        let from = inbox.missed_from.map(|from| from.max(to));
        inbox.missed_from = from.filter(|from| *from < inbox.end);
    }
}

impl Derived for Keys {
    fn publish(&self, batches: &[Batch]) {
        if let Some(last) = batches.last() {
            self.gather_keys(batches, last.end);
        }
    }

    /// The index may have been behind the queues: it goes on where it is, later and from the log. Keys are put in log order, so what
    /// it has already it has without a gap.
    fn recover<'a>(&'a self, stop: &Stop) -> Result<Box<dyn Restore + 'a>, StoreError> {
        if !stop.is_clean {
            let from = stop.progress.map_or(stop.from, |progress| progress.indexed.min(stop.from));
            self.index.cut(from, stop.is_all_readable).map_err(Self::failed("cut"))?;
        }
        let indexed = stop.progress.map(|progress| progress.indexed.max(self.index.last().0));
        Ok(Box::new(Indexing {
            keys: self,
            missed_from: indexed.filter(|at| *at < stop.from),
        }))
    }

    fn keep(&self, log: &CommitLog, effort: Effort) -> Result<bool, StoreError> {
        self.index_waiting();
        self.index_from_log(log, effort)?;
        Ok(self.missed().is_some())
    }

    fn sync(&self, before: SyncedOffsets, progress: &mut SyncedOffsets) -> Result<(), StoreError> {
        let published = progress.dispatched;
        self.index_waiting();
        // Before the index is written and synced: what is caught up with after this is not covered.
        progress.indexed = self.indexed_before(published);
        if let Err(error) = self.index.write() {
            if error.kind() != io::ErrorKind::StorageFull {
                // Any part of it may have been written: the next start looks at every item.
                self.distrust.note();
            }
            // Recovery puts the keys again. The queues' part of the checkpoint does not wait for the index to have room.
            tracing::warn!(%error, "the key index is not written; the next checkpoint tries again");
            progress.indexed = before.indexed;
        }
        let synced = self.index.sync().map_err(Self::failed("sync"));
        synced.inspect_err(|_| self.distrust.note())?;
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
        // The cut looks at files only.
        let cut = self.index.write().and_then(|()| self.index.cut(to, true));
        cut.map_err(Self::failed("truncate"))
    }

    fn is_written(&self) -> bool {
        self.index.is_written()
    }
}

/// Indexes what recovery reads, until the index cannot go on or when it was behind before.
struct Indexing<'a> {
    keys: &'a Keys,
    /// Keys from there on are not in the index.
    missed_from: Option<LogOffset>,
}

impl Restore for Indexing<'_> {
    fn put(&mut self, record: &Record<'_>) -> Result<(), StoreError> {
        if self.missed_from.is_none()
            && let Err(error) = put_keys(&self.keys.index, record)
        {
            tracing::warn!(%error, from = %record.log_offset, "keys are indexed later, from the log; until then they are not found");
            self.missed_from = Some(record.log_offset);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, end: LogOffset) {
        self.keys.begin(end, self.missed_from);
    }
}

/// Puts a message of the log into the index; one that is there already stays as it is.
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

    fn keys(end: i64, missed_from: Option<i64>) -> Keys {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let index = KeyIndex::open(disk.clone(), Path::new("/index"), IndexOptions { slots: 16, items: 64 }).unwrap();
        let keys = Keys::new(index, 5, Distrust::new(disk, PathBuf::from("/abort")));
        keys.begin(LogOffset(end), missed_from.map(LogOffset));
        keys
    }

    fn missed(from: i64, to: i64) -> Range<LogOffset> {
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
        assert_eq!((keys.missed(), keys.take_keys().len()), (None, 1));
        keys.publish(&[batch(100, 3)]);
        keys.publish(&[batch(200, 3)]);
        assert_eq!(keys.missed(), Some(missed(100, 300)));
        keys.publish(&[batch(300, 1)]);
        assert_eq!((keys.missed(), keys.take_keys().len()), (Some(missed(100, 400)), 0));
        keys.caught_up(LogOffset(300));
        assert_eq!(keys.missed(), Some(missed(300, 400)));
        keys.caught_up(LogOffset(400));
        keys.publish(&[batch(400, 1)]);
        assert_eq!((keys.missed(), keys.take_keys().len()), (None, 1));
    }

    #[test]
    fn keys_that_could_not_be_indexed_come_before_those_that_waited() {
        let keys = keys(0, None);
        keys.publish(&[batch(0, 1), batch(100, 1)]);
        assert_eq!(keys.take_keys().len(), 2);
        keys.publish(&[batch(200, 1)]);
        keys.miss_keys(LogOffset(100));
        assert_eq!(keys.missed(), Some(missed(100, 300)));
        assert!(keys.take_keys().is_empty());
        let after_a_start = self::keys(500, Some(300));
        assert_eq!(after_a_start.missed(), Some(missed(300, 500)));
        assert_eq!(self::keys(500, Some(500)).missed(), None);
    }
}
