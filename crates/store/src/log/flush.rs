//! Group commit: one `fdatasync` serves all that was written before it began.
//!
//! Under SYNC_FLUSH two threads take turns: while one syncs, the other publishes what the last sync covered and runs the
//! completions. So the device always has a sync to do while somebody waits, and answers do not delay the next sync. Under
//! ASYNC_FLUSH one thread syncs `flush_interval` after the first write that is not synced. Without writes both sleep, without a
//! timer.

use super::CommitLog;
use super::append::FailOnPanic;
use crate::error::StoreError;
use crate::options::FlushMode;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Broken, Condvar, Instant, JoinHandle, Mutex, MutexGuard, is_broken, thread};
use message::LogOffset;
use std::sync::Arc;

/// How flushers sleep and are woken. Only `turn` and `syncing` are held over I/O; senders take only `sleep`.
#[derive(Default)]
pub(super) struct FlushSignals {
    /// Held by the flusher whose turn it is, also while it waits for writes.
    turn: Mutex<()>,
    /// Held during a sync, by a flusher or for a checkpoint. Taken after `turn`, never while `sleep` is held.
    syncing: Mutex<()>,
    sleep: Mutex<()>,
    woken: Condvar,
    stop: AtomicBool,
    /// Under ASYNC_FLUSH: a flusher is awake and will sync what is written; later writes need not wake it.
    is_flusher_awake: AtomicBool,
    /// A leader has left writes to the relief thread.
    relief: Mutex<bool>,
    relief_woken: Condvar,
}

impl CommitLog {
    /// Starts the threads that sync the log, and the relief thread.
    ///
    /// # Errors
    /// `StoreError::Layout` if a thread cannot be started.
    pub(crate) fn start_flushers(self: &Arc<Self>) -> Result<Vec<JoinHandle<()>>, StoreError> {
        let count = if self.options.flush_mode == FlushMode::Sync { 2 } else { 1 };
        let mut threads = vec![self.spawn("relief".to_owned(), Self::relieve_until_stopped)?];
        for n in 0..count {
            threads.push(self.spawn(format!("flush-{n}"), Self::flush_until_stopped)?);
        }
        Ok(threads)
    }

    fn spawn(self: &Arc<Self>, name: String, run: fn(&Self)) -> Result<JoinHandle<()>, StoreError> {
        let log = self.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            // Covers completions, too: without its threads the log must not take messages.
            let _guard = FailOnPanic(&log);
            run(&log);
        });
        thread.map_err(|e| StoreError::Layout(format!("cannot start a thread of the store: {e}")))
    }

    /// Writes what leaders leave after their last round.
    fn relieve_until_stopped(&self) {
        loop {
            let mut wanted = self.flush_signals.relief.lock();
            while !std::mem::take(&mut *wanted) {
                if self.flush_signals.stop.load(Ordering::Acquire) {
                    return;
                }
                self.flush_signals.relief_woken.wait(&mut wanted);
            }
            drop(wanted);
            self.lead(usize::MAX);
        }
    }

    pub(super) fn wake_relief(&self) {
        *self.flush_signals.relief.lock() = true;
        self.flush_signals.relief_woken.notify_one();
    }

    /// Stops the flushers after a last sync.
    pub(crate) fn stop_flushers(&self) {
        self.flush_signals.stop.store(true, Ordering::Release);
        drop(self.flush_signals.sleep.lock());
        self.flush_signals.woken.notify_all();
        drop(self.flush_signals.relief.lock());
        self.flush_signals.relief_woken.notify_all();
    }

    /// Tells the flushers that there is something to sync.
    pub(super) fn wake_flusher(&self) {
        if self.options.flush_mode == FlushMode::Async && self.flush_signals.is_flusher_awake.swap(true, Ordering::SeqCst) {
            return;
        }
        // Makes sure that a flusher that has just found nothing to sync is really waiting.
        drop(self.flush_signals.sleep.lock());
        self.flush_signals.woken.notify_one();
    }

    fn flush_until_stopped(&self) {
        loop {
            let turn = self.flush_signals.turn.lock();
            if !self.wait_for_writes() {
                return;
            }
            if self.options.flush_mode == FlushMode::Async {
                self.wait_flush_interval();
                self.flush_signals.is_flusher_awake.store(false, Ordering::SeqCst);
            }
            if self.sync_and_publish(turn).is_err() {
                return;
            }
        }
    }

    /// Syncs what is written and returns its end. The turn ends with the sync; publishing and completions run beside the next one.
    fn sync_and_publish<T>(&self, turn: T) -> Result<LogOffset, StoreError> {
        let syncing = self.flush_signals.syncing.lock();
        // The log fails while this lock is held. A second sync would succeed without what the first one lost.
        if let Some(reason) = self.failure() {
            return Err(StoreError::Failed(reason.to_string()));
        }
        let _broken = is_broken(Broken::SyncUnderWakeLock).then(|| self.flush_signals.sleep.lock());
        let (from, target) = (self.flushed().0, self.written().0);
        let guard = FailOnPanic(self);
        if let Err(error) = self.sync_range(from, target) {
            self.fail(&error.to_string());
            return Err(error);
        }
        self.marks.set_flushed(LogOffset(target));
        drop(syncing);
        drop(turn);
        let published = self.publish_confirmable();
        drop(guard);
        self.run_waiters();
        self.dispatch.announce(&published);
        Ok(LogOffset(target))
    }

    /// Waits for writes; `false` if the flusher has to stop.
    fn wait_for_writes(&self) -> bool {
        let mut asleep = self.flush_signals.sleep.lock();
        loop {
            // Before `written` is read: a later write finds the flag down and wakes this thread.
            self.flush_signals.is_flusher_awake.store(false, Ordering::SeqCst);
            if self.written() > self.flushed() {
                return true;
            }
            if self.flush_signals.stop.load(Ordering::Acquire) || self.failure().is_some() {
                return false;
            }
            self.flush_signals.woken.wait(&mut asleep);
        }
    }

    /// Waits for the flush interval, so that one sync covers more writes. A stop ends the wait.
    fn wait_flush_interval(&self) {
        let until = Instant::now() + self.options.flush_interval;
        let mut asleep = self.flush_signals.sleep.lock();
        while !self.flush_signals.stop.load(Ordering::Acquire) {
            if self.flush_signals.woken.wait_until(&mut asleep, until).timed_out() {
                return;
            }
        }
    }

    fn sync_range(&self, from: i64, to: i64) -> Result<(), StoreError> {
        let mut at = from;
        while at < to {
            let Some(segment) = self.segments.holding(at) else {
                // Retention removes only files below a checkpoint, and a checkpoint covers only what was synced.
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

    /// Keeps all threads from syncing.
    pub(super) fn lock_syncing(&self) -> MutexGuard<'_, ()> {
        self.flush_signals.syncing.lock()
    }

    /// Syncs the file that has an offset.
    pub(super) fn sync_file_of(&self, offset: i64) -> Result<(), StoreError> {
        self.sync_range(
            offset,
            offset.saturating_add(1).min(self.segments.last().map_or(offset, |last| last.end())),
        )
    }

    /// Syncs all that is written, on this thread, and returns its end. For checkpoints and the shutdown.
    ///
    /// # Errors
    /// `StoreError::Io` if the sync fails; the log is then failed for good. `StoreError::Failed` if it failed before.
    pub(crate) fn sync_now(&self) -> Result<LogOffset, StoreError> {
        self.sync_and_publish(())
    }
}
