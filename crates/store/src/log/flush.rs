//! Group commit: one `fdatasync` serves all that was written before it began.
//!
//! Under SYNC_FLUSH two threads take turns. One syncs while the other publishes what the sync before it covered and runs
//! the completions, so that the device always has a sync to do while somebody waits, and the answers to one sync do not
//! delay the next. Under ASYNC_FLUSH one thread syncs `flush_interval` after the first write that is not synced. With
//! nothing to sync both sleep without a timer.

use super::CommitLog;
use crate::error::StoreError;
use crate::options::FlushMode;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// How the flushers sleep and are woken.
pub(super) struct Wake {
    /// End of what is synced, held by the thread that syncs.
    turn: Mutex<i64>,
    sleep: Mutex<()>,
    woken: Condvar,
    stop: AtomicBool,
    /// Under ASYNC_FLUSH: a flusher is awake and will sync what is written; later writes need not wake it.
    gathering: AtomicBool,
}

impl Wake {
    pub(super) fn new(end: i64) -> Self {
        Self {
            turn: Mutex::new(end),
            sleep: Mutex::new(()),
            woken: Condvar::new(),
            stop: AtomicBool::new(false),
            gathering: AtomicBool::new(false),
        }
    }
}

impl CommitLog {
    /// Starts the threads that sync this log.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn start_flushers(self: &Arc<Self>) -> Result<Vec<JoinHandle<()>>, StoreError> {
        let count = if self.options.flush_mode == FlushMode::Sync { 2 } else { 1 };
        (0..count)
            .map(|n| {
                let log = self.clone();
                let thread = std::thread::Builder::new().name(format!("flush-{n}"));
                thread
                    .spawn(move || log.flush_until_stopped())
                    .map_err(|e| StoreError::Layout(format!("cannot start a flush thread: {e}")))
            })
            .collect()
    }

    /// Lets the flushers end after a last sync of what is written.
    pub(crate) fn stop_flushers(&self) {
        self.flush_wake.stop.store(true, Ordering::Release);
        let _asleep = self.flush_wake.sleep.lock();
        self.flush_wake.woken.notify_all();
    }

    /// There is something to sync.
    pub(super) fn wake_flusher(&self) {
        if self.options.flush_mode == FlushMode::Async && self.flush_wake.gathering.swap(true, Ordering::AcqRel) {
            return;
        }
        // Taking the lock makes sure that a flusher that just found nothing to do is really waiting.
        drop(self.flush_wake.sleep.lock());
        self.flush_wake.woken.notify_one();
    }

    fn flush_until_stopped(&self) {
        loop {
            let mut synced = self.flush_wake.turn.lock();
            if !self.wait_for_writes(*synced) {
                return;
            }
            if self.options.flush_mode == FlushMode::Async {
                self.gather();
                self.flush_wake.gathering.store(false, Ordering::Release);
            }
            let target = self.written().0;
            if let Err(error) = self.sync_range(*synced, target) {
                self.fail(&error.to_string());
                return;
            }
            *synced = target;
            let publishing = self.publishing.lock();
            drop(synced);
            let batches = self.confirm_flushed(target);
            drop(publishing);
            self.run_waiters();
            self.dispatch.announce(&batches);
        }
    }

    /// Waits for something to sync; `false` when there is nothing left to do for ever.
    fn wait_for_writes(&self, synced: i64) -> bool {
        let mut asleep = self.flush_wake.sleep.lock();
        while self.written().0 <= synced {
            if self.flush_wake.stop.load(Ordering::Acquire) || self.failure().is_some() {
                return false;
            }
            self.flush_wake.woken.wait(&mut asleep);
        }
        true
    }

    /// Lets writes gather for the flush interval, less when the log is being closed.
    fn gather(&self) {
        let until = Instant::now() + self.options.flush_interval;
        let mut asleep = self.flush_wake.sleep.lock();
        while !self.flush_wake.stop.load(Ordering::Acquire) {
            if self.flush_wake.woken.wait_until(&mut asleep, until).timed_out() {
                return;
            }
        }
    }

    fn sync_range(&self, from: i64, to: i64) -> Result<(), StoreError> {
        let mut at = from;
        while at < to {
            let Some(segment) = self.segments.holding(at) else {
                // Retention may have taken the oldest file; it was synced before.
                return Err(StoreError::Corrupt(format!("no log file for offset {at} to sync")));
            };
            segment.file.sync_data().map_err(|e| StoreError::Io {
                action: "sync",
                path: format!("commit log at {at}"),
                source: e,
            })?;
            at = segment.end();
        }
        Ok(())
    }

    /// Publishes what is synced and was not published yet; returns it for its readers to be woken.
    fn confirm_flushed(&self, target: i64) -> Vec<super::Batch> {
        let batches: Vec<super::Batch> = {
            let mut unsynced = self.unsynced.lock();
            let ready = unsynced.iter().take_while(|b| b.end <= target).count();
            unsynced.drain(..ready).collect()
        };
        self.dispatch.publish(&batches);
        self.flushed.store(target, Ordering::Release);
        batches
    }

    /// Syncs all that is written, on the caller's thread. For checkpoints and the end.
    ///
    /// # Errors
    /// The disk's; the log is then failed for good.
    pub(crate) fn sync_now(&self) -> Result<(), StoreError> {
        let mut synced = self.flush_wake.turn.lock();
        let target = self.written().0;
        if let Err(error) = self.sync_range(*synced, target) {
            self.fail(&error.to_string());
            return Err(error);
        }
        *synced = target;
        let publishing = self.publishing.lock();
        drop(synced);
        let batches = self.confirm_flushed(target);
        drop(publishing);
        self.run_waiters();
        self.dispatch.announce(&batches);
        Ok(())
    }
}
