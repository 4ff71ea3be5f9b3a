//! The store's background thread: work that must not delay a send.
//!
//! It prepares the next log file, writes queues and indexes keys, makes checkpoints and deletes old files. While messages arrive it
//! does a round every [`ROUND`]; when all is done it sleeps until the next message.
//!
//! Invariant: a checkpoint says `dispatched = D` only after the log up to D and all queue entries below D are synced, and
//! `indexed = I` only after all keys below I are. If one of these syncs fails, there is no further checkpoint until a restart:
//! recovery then starts from the last one that is known to be true.

use crate::checkpoint::{Checkpoint, CheckpointFile, SyncedOffsets};
use crate::derived::WorkLimit;
use crate::error::StoreError;
use crate::log::FailOnPanic;
use crate::retention::{self, Decision, Observed, SegmentAge};
use crate::store::Store;
use crate::sync::atomic::Ordering;
use crate::sync::{Broken, Instant, JoinHandle, is_broken, thread};
use message::LogOffset;
use std::sync::Arc;
use std::time::Duration;

/// Time between two rounds while there is work.
const ROUND: Duration = Duration::from_millis(100);
/// Bytes of log for each byte that a checkpoint writes of the queues.
const LOG_TO_CHECKPOINT: i64 = 32;

/// What the keeper remembers between rounds.
struct KeeperState {
    last_checkpoint: Instant,
    /// What was published at the last checkpoint.
    covered: LogOffset,
    last_retention: Option<Instant>,
    last_warning: Option<Instant>,
}

impl Store {
    pub(crate) fn start_keeper(self: &Arc<Self>) -> Result<JoinHandle<()>, StoreError> {
        let store = Arc::downgrade(self);
        let dispatch = self.dispatch.clone();
        let interval = self.options.retention.interval;
        let run = move || {
            let mut state = KeeperState {
                last_checkpoint: Instant::now(),
                covered: LogOffset(0),
                last_retention: None,
                last_warning: None,
            };
            loop {
                let Some(store) = store.upgrade() else { return };
                dispatch.keeper_begins();
                let busy = {
                    let _guard = FailOnPanic(&store.log);
                    store.round(&mut state)
                };
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

    /// Does the work that is due. True if there is more to do soon.
    fn round(self: &Arc<Self>, state: &mut KeeperState) -> bool {
        self.log.write_pending();
        let mut outcome = self.prepare_next_file();
        let mut is_behind = false;
        for derived in self.dispatch.derived() {
            let kept = derived.work(&self.log, WorkLimit::Round);
            is_behind |= *kept.as_ref().unwrap_or(&true);
            outcome = outcome.and(kept.map(drop));
        }
        let published = self.dispatch.published();
        let dispatched = self.checkpointed();
        let behind = published.0 - dispatched.max(state.covered).0;
        let due = behind >= self.bytes_between_checkpoints()
            || (behind > 0 && state.last_checkpoint.elapsed() >= self.options.checkpoint_interval);
        if due && !self.has_failed_sync() {
            outcome = outcome.and(self.checkpoint_now());
            (state.last_checkpoint, state.covered) = (Instant::now(), published);
        }
        if state
            .last_retention
            .is_none_or(|at| at.elapsed() >= self.options.retention.interval)
        {
            outcome = outcome.and(self.start_cleanup_if_needed()).and(self.retain());
            state.last_retention = Some(Instant::now());
        }
        if let Err(error) = outcome {
            warn_once_a_minute(state, &error);
            return true;
        }
        is_behind || (behind > 0 && !due)
    }

    /// A checkpoint writes the end of every queue, so that of a million queues writes 40 MB. It stays below 3 % of the log.
    fn bytes_between_checkpoints(&self) -> i64 {
        self.options.checkpoint_bytes.max(LOG_TO_CHECKPOINT * self.queues.synced_bytes())
    }

    /// Does the keeper's work on this thread, without waiting for it to be due: for tests, which control time.
    ///
    /// # Errors
    /// The first [`StoreError`]; the rest of the work was done nevertheless.
    #[doc(hidden)]
    pub fn run_background_work(&self) -> Result<(), StoreError> {
        let mut outcome = self.prepare_next_file();
        for derived in self.dispatch.derived() {
            outcome = outcome.and(derived.work(&self.log, WorkLimit::All).map(drop));
        }
        self.clean_now();
        outcome.and(self.retain())
    }

    fn prepare_next_file(&self) -> Result<(), StoreError> {
        let segments = &self.log.segments;
        let room = segments.last().map_or(0, |last| last.end() - self.log.written().0);
        if room < segments.segment_len() / 2 && !segments.is_next_ready() {
            segments.prepare_next()?;
        }
        Ok(())
    }

    /// Deletes expired log files, and decides whether the disk has space for more messages.
    fn retain(&self) -> Result<(), StoreError> {
        self.log.forget_unused_blocks();
        let ages = self.log.segments.ages()?;
        let segments: Vec<SegmentAge> = ages
            .iter()
            .map(|(_, modified_ms)| SegmentAge { modified_ms: *modified_ms })
            .collect();
        let now_ms = self.disk.now_ms();
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
        // A request that came meanwhile gets all its rounds.
        let (before, after) = (observed.manual_rounds, decision.manual_rounds);
        let _ = self
            .manual_rounds
            .compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed);
        self.refuse(&decision);
        if decision.delete == 0 {
            return Ok(());
        }
        let _alone = self.shortening.lock();
        // Recovery must not need what is deleted: a queue that it finds nowhere begins at 0 again. A full disk may refuse a new
        // checkpoint; then only what the last one covers is deleted, which makes space for the next. Keys of deleted messages need
        // no index, so the index does not prevent deletion.
        let checkpointed = self.checkpoint_now();
        let mut count = self.files_not_needed(decision.delete.min(self.files_before(self.checkpointed())));
        if count == 0 {
            return checkpointed;
        }
        let copied = self.files_before(self.deletable_to()?);
        if copied < count && !is_broken(Broken::LogDeletedBeforeCopied) {
            tracing::info!(
                files = count - copied,
                "log files have messages of compacted topics that are copied first"
            );
            self.copy_soon();
            count = copied;
        }
        if count > 0 {
            tracing::info!(files = count, reason = decision.reason, "deleting log files");
        }
        for _ in 0..count {
            self.log.segments.remove_oldest()?;
            // Deleting a large file takes some tenths of a second, and appends may need the next file before the last old one is
            // gone. The next round meets an error again, and reports it.
            let _ = self.prepare_next_file();
        }
        let log_min = self.log.first_offset();
        self.dispatch.derived().iter().try_for_each(|derived| derived.raise_min(log_min))
    }

    /// How many of the oldest log files end at a log offset or before it.
    fn files_before(&self, offset: LogOffset) -> usize {
        self.log
            .segments
            .all()
            .iter()
            .take_while(|segment| segment.end() <= offset.0)
            .count()
    }

    /// How many of the `count` oldest log files nobody needs any more.
    fn files_not_needed(&self, count: usize) -> usize {
        let segments = self.log.segments.all();
        let Some(last) = count.checked_sub(1).and_then(|last| segments.get(last)) else {
            return 0;
        };
        let wanted = LogOffset(last.end());
        let needs = self.needs.get().map_or(&[][..], Vec::as_slice);
        let needed = needs.iter().map(|need| need.needed_from(wanted)).min().unwrap_or(wanted);
        segments[..count].iter().take_while(|segment| segment.end() <= needed.0).count()
    }

    /// Stops or resumes taking messages.
    fn refuse(&self, decision: &Decision) {
        let mut refusing = self.refusing.write();
        match (decision.is_writable, refusing.is_some()) {
            (false, was) => {
                if !was {
                    tracing::error!(reason = decision.reason, "the disk is nearly full: the store refuses messages");
                }
                *refusing = Some(format!("service not available now: {}", decision.reason).into());
            }
            (true, true) => {
                tracing::warn!("the disk has space again: the store takes messages");
                *refusing = None;
            }
            (true, false) => {}
        }
    }

    /// Syncs everything that is derived so far, and writes a checkpoint.
    ///
    /// # Errors
    /// `StoreError::Io` if something cannot be written or synced. After a failed sync there are no more checkpoints until a
    /// restart.
    pub(crate) fn checkpoint_now(&self) -> Result<(), StoreError> {
        if self.has_failed_sync() {
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
            published <= synced,
            "published {published} beyond what the log's sync covered, {synced}"
        );
        let before = checkpoint.progress.unwrap_or_default();
        let mut progress = SyncedOffsets {
            dispatched: published,
            indexed: published,
        };
        for derived in self.dispatch.derived() {
            derived.sync(before, &mut progress)?;
        }
        checkpoint.advance(progress, timestamp);
        self.write_checkpoint(file, checkpoint)
    }

    pub(crate) fn write_checkpoint(&self, file: &CheckpointFile, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        file.write(checkpoint)
            .map_err(|e| StoreError::io("write", &self.options.root.join("checkpoint"), e))
    }

    /// Whether a sync of derived files failed: there are no checkpoints until a restart.
    fn has_failed_sync(&self) -> bool {
        self.dispatch.derived().iter().any(|derived| derived.has_failed())
    }

    /// The log offset below which the last checkpoint covers log and queues.
    fn checkpointed(&self) -> LogOffset {
        self.checkpoint.lock().1.dispatched().unwrap_or_default()
    }
}

/// Repeats a warning once a minute at most.
fn warn_once_a_minute(state: &mut KeeperState, error: &StoreError) {
    if state.last_warning.is_none_or(|at| at.elapsed() >= Duration::from_secs(60)) {
        tracing::error!(%error, "background work of the store failed; the next round tries again");
        state.last_warning = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, simulated::SimulatedDisk};
    use crate::options::{FlushMode, StoreOptions};
    use message::record::Draft;
    use std::path::Path;

    #[test]
    fn what_checkpoints_write_of_many_queues_stays_small_beside_the_log() {
        let disk = SimulatedDisk::new(1);
        let mut options = StoreOptions::small("/store", FlushMode::Async);
        options.checkpoint_bytes = 1_000;
        let (store, _) = Store::open(Arc::new(disk.clone()), options).unwrap();
        assert_eq!(store.bytes_between_checkpoints(), 1_000);
        for (queue, expected) in [(0, 1_000), (50, 32 * 1_000)] {
            for queue_id in 0..=queue {
                let queues = [store.queue("t", queue_id)];
                let ticket = store.append(&[Draft::new("t", queue_id, b"x")], &queues, 1_700_000_000_000, &mut Vec::new());
                store.complete_then(ticket.unwrap(), true, |outcome| outcome.unwrap());
            }
            store.run_background_work().unwrap();
            store.checkpoint_now().unwrap();
            let written = disk.read(Path::new("/store/consumequeue.synced")).unwrap().len() as i64;
            assert_eq!(store.bytes_between_checkpoints(), 1_000.max(32 * written));
            assert!(store.bytes_between_checkpoints() >= expected, "{written}");
        }
        store.close().unwrap();
    }
}
