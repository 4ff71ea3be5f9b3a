//! The store's background thread: everything that must not be on the way of a send.
//!
//! It prepares the next log file, writes queues behind, indexes keys, makes checkpoints and deletes what is too old. While
//! messages arrive it does a round every [`ROUND`]; when all is done it sleeps until the next message.
//!
//! Keys that were dropped, because too many waited or the index has no room for its next file, are indexed from the log, a
//! part in each round; until that is done checkpoints name no place of the index behind the first of them.
//!
//! Invariant: a checkpoint says `dispatched = D` only after the log up to D and all queue entries below D are synced, and
//! `indexed = I` only after all keys below I are. If one of these syncs fails, there is no further checkpoint until a restart:
//! recovery then starts from the last one that is known to be true.

use crate::checkpoint::Derived;
use crate::error::StoreError;
use crate::log;
use crate::open::put_keys;
use crate::retention::{self, Decision, Observed, SegmentAge};
use crate::store::Store;
use crate::sync::atomic::Ordering;
use crate::sync::{Broken, Instant, JoinHandle, is_broken, thread};
use message::LogOffset;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time between two rounds while there is work.
const ROUND: Duration = Duration::from_millis(100);

/// Bytes of log that one round reads for keys that were dropped.
const CATCH_UP_BYTES: i64 = 16 << 20;
/// Time between two attempts to go on with an index that has no room.
const INDEX_AGAIN: Duration = Duration::from_secs(1);

/// What the keeper remembers between rounds.
struct Memory {
    last_checkpoint: Instant,
    /// What was published at the last checkpoint.
    covered: i64,
    /// The index could not go on then.
    index_stopped: Option<Instant>,
    last_retention: Option<Instant>,
    last_complaint: Option<Instant>,
}

impl Store {
    pub(crate) fn start_keeper(self: &Arc<Self>) -> Result<JoinHandle<()>, StoreError> {
        let store = Arc::downgrade(self);
        let dispatch = self.dispatch.clone();
        let interval = self.options.retention.interval;
        let run = move || {
            let mut memory = Memory {
                last_checkpoint: Instant::now(),
                covered: 0,
                index_stopped: None,
                last_retention: None,
                last_complaint: None,
            };
            loop {
                let Some(store) = store.upgrade() else { return };
                dispatch.keeper_begins();
                let busy = store.round(&mut memory);
                drop(store);
                let goes_on = if busy {
                    dispatch.keeper_pauses(ROUND)
                } else {
                    dispatch.keeper_sleeps(interval)
                };
                if !goes_on {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(run)
            .map_err(|e| StoreError::Layout(format!("cannot start the keeper thread: {e}")))
    }

    /// Does what is due. Whether there is more to do soon.
    fn round(&self, memory: &mut Memory) -> bool {
        self.log.write_pending();
        let mut outcome = self.prepare_next_file();
        self.index_inbox();
        outcome = outcome.and(self.catch_up(memory));
        let pending = self.write_queues();
        let left = *pending.as_ref().unwrap_or(&1);
        outcome = outcome.and(pending.map(|_| ()));
        let published = self.dispatch.published();
        let dispatched = self.checkpointed();
        let behind = published - dispatched.max(memory.covered);
        let due =
            behind >= self.options.checkpoint_bytes || (behind > 0 && memory.last_checkpoint.elapsed() >= self.options.checkpoint_interval);
        if due && !self.derived_failed.load(Ordering::Relaxed) {
            outcome = outcome.and(self.checkpoint_now());
            (memory.last_checkpoint, memory.covered) = (Instant::now(), published);
        }
        if memory
            .last_retention
            .is_none_or(|at| at.elapsed() >= self.options.retention.interval)
        {
            outcome = outcome.and(self.retain());
            memory.last_retention = Some(Instant::now());
        }
        if let Err(error) = outcome {
            complain(memory, &error);
            return true;
        }
        left > 0 || (behind > 0 && !due) || self.dispatch.missed().is_some()
    }

    /// Indexes a part of what was dropped, unless that failed just now.
    fn catch_up(&self, memory: &mut Memory) -> Result<(), StoreError> {
        if memory.index_stopped.is_some_and(|at| at.elapsed() < INDEX_AGAIN) {
            return Ok(());
        }
        let outcome = self.index_from_log(CATCH_UP_BYTES);
        memory.index_stopped = outcome.is_err().then(Instant::now);
        outcome
    }

    /// Does on the caller's thread what the keeper would do in its next rounds: for tests, which own the time.
    ///
    /// # Errors
    /// The first of the machine's; all of the work was tried.
    #[doc(hidden)]
    pub fn keep_now(&self) -> Result<(), StoreError> {
        let outcomes = [
            self.prepare_next_file(),
            {
                self.index_inbox();
                self.index_from_log(i64::MAX)
            },
            self.write_queues().map(drop),
            self.retain(),
        ];
        outcomes.into_iter().collect()
    }

    fn prepare_next_file(&self) -> Result<(), StoreError> {
        let segments = &self.log.segments;
        let room = segments.last().map_or(0, |last| last.end() - self.log.written().0);
        if room < segments.segment_len() / 2 && !segments.is_next_ready() {
            segments.prepare_next()?;
        }
        Ok(())
    }

    /// Indexes the keys that wait, in log order. What cannot be indexed now is read from the log again, later.
    pub(crate) fn index_inbox(&self) {
        let Some(index) = &self.index else { return };
        let _in_order = self.indexing.lock();
        for record in self.dispatch.take_keys() {
            if let Err(error) = index.put_record(&record.hashes, LogOffset(record.log_offset), record.store_timestamp) {
                self.dispatch.miss_keys(record.log_offset);
                tracing::warn!(%error, from = record.log_offset, "keys are indexed later, from the log; until then they are not found");
                return;
            }
        }
    }

    /// Indexes keys that were dropped, from `most` bytes of log.
    fn index_from_log(&self, most: i64) -> Result<(), StoreError> {
        let Some(index) = &self.index else { return Ok(()) };
        let _in_order = self.indexing.lock();
        let Some(missed) = self.dispatch.missed() else { return Ok(()) };
        let from = missed.from.max(self.log.first_offset().0);
        let to = missed.to.min(from.saturating_add(most));
        let mut done = from;
        let indexed = log::scan_part(&self.log.segments, from, to, |record| {
            let put = put_keys(index, record);
            if put.is_ok() {
                done = record.log_offset.0 + record.size as i64;
            }
            put.map_err(|e| StoreError::io("write", &self.options.root.join("index"), e))
        });
        match indexed {
            Ok(end) => self.dispatch.caught_up(end),
            Err(_) => self.dispatch.caught_up(done),
        }
        indexed.map(drop)
    }

    /// Deletes what retention does not keep, and decides whether the disk has room for more.
    fn retain(&self) -> Result<(), StoreError> {
        let ages = self.log.segments.ages()?;
        let segments: Vec<SegmentAge> = ages
            .iter()
            .map(|(_, modified_ms)| SegmentAge { modified_ms: *modified_ms })
            .collect();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let used = |path| self.disk.space(path).ok().map(|space| space.used_ratio());
        let observed = Observed {
            now_ms,
            hour: crate::disk::local_hour(now_ms),
            segments: &segments,
            log_used: used(&self.options.log_dir),
            queue_used: used(&self.options.root),
            manual_rounds: self.manual_rounds.load(Ordering::Relaxed),
        };
        let decision = retention::decide(&self.retention.read(), &observed);
        // A request that came meanwhile has all its rounds.
        let (before, after) = (observed.manual_rounds, decision.manual_rounds);
        let _ = self
            .manual_rounds
            .compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed);
        self.refuse(&decision);
        if decision.delete == 0 {
            return Ok(());
        }
        // Whatever is deleted must not be what a recovery would read: a queue that it finds nowhere begins at 0 again. A full
        // disk may refuse the checkpoint that would allow more; then what the last one covers goes, which makes room for the
        // next. Keys of messages that go need no index any more, so the index does not hold them.
        let checkpointed = self.checkpoint_now();
        let count = decision.delete.min(self.files_before_checkpoint());
        if count == 0 {
            return checkpointed;
        }
        tracing::info!(files = count, reason = decision.reason, "deleting log files");
        for _ in 0..count {
            self.log.segments.remove_oldest()?;
            // A large file takes the disk some tenths of a second, and appends may need the next one before the last of the old ones
            // is gone. An error is met again, and told, by the next round.
            let _ = self.prepare_next_file();
        }
        let log_min = self.log.first_offset();
        self.clean_queues()?;
        if let Some(index) = &self.index {
            index
                .remove_below(log_min)
                .map_err(|e| StoreError::io("shorten", &self.options.root.join("index"), e))?;
        }
        Ok(())
    }

    /// How many of the oldest log files no recovery would read.
    fn files_before_checkpoint(&self) -> usize {
        let dispatched = self.checkpointed();
        self.log
            .segments
            .all()
            .iter()
            .take_while(|segment| segment.end() <= dispatched)
            .count()
    }

    /// Stops or resumes taking messages.
    fn refuse(&self, decision: &Decision) {
        let mut refusing = self.refusing.write();
        match (decision.is_writable, refusing.is_some()) {
            (false, was) => {
                if !was {
                    tracing::error!(reason = decision.reason, "the disk is nearly full: messages are refused");
                }
                *refusing = Some(format!("service not available now: {}", decision.reason).into());
            }
            (true, true) => {
                tracing::warn!("the disk has room again: messages are taken");
                *refusing = None;
            }
            (true, false) => {}
        }
    }

    fn write_queues(&self) -> Result<usize, StoreError> {
        self.queues.write_pending().map_err(|e| StoreError::Io {
            action: "write",
            path: "consume queues".to_owned(),
            source: e,
        })
    }

    /// Makes everything derived so far durable, and says so in the checkpoint.
    ///
    /// # Errors
    /// The machine's. After a failed sync there are no more checkpoints until a restart.
    pub(crate) fn checkpoint_now(&self) -> Result<(), StoreError> {
        let failed = |action, path: &str, e| {
            self.derived_failed.store(true, Ordering::Relaxed);
            StoreError::Io {
                action,
                path: path.to_owned(),
                source: e,
            }
        };
        if self.derived_failed.load(Ordering::Relaxed) {
            return Err(StoreError::Layout(
                "no checkpoint: an earlier sync of queues or index failed; the next start recovers from the last one".to_owned(),
            ));
        }
        let mut guard = self.checkpoint.lock();
        let (file, checkpoint) = &mut *guard;
        let published = self.dispatch.published();
        let timestamp = self.dispatch.last_timestamp();
        let synced = self.log.sync_now()?;
        assert!(
            published <= synced.0,
            "published {published} beyond what the log's sync covered, {synced}"
        );
        self.index_inbox();
        // Before the index is written and synced: what is caught up with after this is not covered.
        let missed = self.dispatch.missed().map_or(published, |missed| missed.from.min(published));
        let mut indexed = LogOffset(missed);
        if let Some(index) = &self.index {
            if let Err(error) = index.write() {
                if error.kind() != io::ErrorKind::StorageFull {
                    // Any part of it may have been written: the next start looks at every item.
                    self.distrust_page_cache();
                }
                // Recovery puts the keys again. The queues' part of the checkpoint does not wait for the index to have room.
                tracing::warn!(%error, "the key index is not written; the next checkpoint tries again");
                indexed = checkpoint.derived.map_or(LogOffset(0), |derived| derived.indexed);
            }
            index.sync().map_err(|e| {
                self.distrust_page_cache();
                failed("sync", "key index", e)
            })?;
            if is_broken(Broken::AskedForKeysAfterSync) {
                indexed = LogOffset(self.dispatch.missed().map_or(published, |missed| missed.from.min(published)));
            }
        }
        self.write_queues()?;
        self.queues.sync().map_err(|e| failed("sync", "consume queues", e))?;
        let derived = Derived {
            dispatched: LogOffset(published),
            indexed,
        };
        checkpoint.advance(derived, timestamp);
        file.write(checkpoint)
            .map_err(|e| StoreError::io("write", &self.options.root.join("checkpoint"), e))
    }

    /// The log offset below which log and queues are in the last checkpoint.
    fn checkpointed(&self) -> i64 {
        self.checkpoint.lock().1.dispatched().map_or(0, |at| at.0)
    }
}

/// The same trouble every round is told once a minute.
fn complain(memory: &mut Memory, error: &StoreError) {
    if memory.last_complaint.is_none_or(|at| at.elapsed() >= Duration::from_secs(60)) {
        tracing::error!(%error, "background work of the store failed; it is tried again");
        memory.last_complaint = Some(Instant::now());
    }
}
