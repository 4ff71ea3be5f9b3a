//! Group commit: one `fdatasync` serves all that was written before it began.
//!
//! Under SYNC_FLUSH two threads take turns. One syncs while the other publishes what the sync before it covered and runs
//! the completions, so that the device always has a sync to do while somebody waits, and the answers to one sync do not
//! delay the next. Under ASYNC_FLUSH one thread syncs `flush_interval` after the first write that is not synced. With
//! nothing to sync both sleep without a timer.

use super::CommitLog;
use super::append::FailOnPanic;
use crate::error::StoreError;
use crate::options::FlushMode;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Broken, Condvar, Instant, JoinHandle, Mutex, MutexGuard, is_broken, thread};
use message::LogOffset;
use std::sync::Arc;

/// How the flushers sleep and are woken. Of these locks only `turn` and `syncing` are held over I/O; senders take `sleep` alone.
#[derive(Default)]
pub(super) struct FlushSignals {
    /// Held by the flusher whose turn it is, also while it waits for something to sync.
    turn: Mutex<()>,
    /// Held by whoever syncs, a flusher or a checkpoint. AppendOutcome after `turn`, never while `sleep` is held.
    syncing: Mutex<()>,
    sleep: Mutex<()>,
    woken: Condvar,
    stop: AtomicBool,
    /// Under ASYNC_FLUSH: a flusher is awake and will sync what is written; later writes need not wake it.
    is_flusher_awake: AtomicBool,
    /// A leader has left writes behind for the relief thread.
    relief: Mutex<bool>,
    relief_woken: Condvar,
}

impl CommitLog {
    /// Starts the threads that sync this log, and the one that relieves leaders.
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
            // Also while completions run: without its threads the log must not take messages.
            let _guard = FailOnPanic(&log);
            run(&log);
        });
        thread.map_err(|e| StoreError::Layout(format!("cannot start a thread of the store: {e}")))
    }

    /// Writes what leaders leave behind who have led long enough.
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

    /// Lets the flushers end after a last sync of what is written.
    pub(crate) fn stop_flushers(&self) {
        self.flush_signals.stop.store(true, Ordering::Release);
        drop(self.flush_signals.sleep.lock());
        self.flush_signals.woken.notify_all();
        drop(self.flush_signals.relief.lock());
        self.flush_signals.relief_woken.notify_all();
    }

    /// There is something to sync.
    pub(super) fn wake_flusher(&self) {
        if self.options.flush_mode == FlushMode::Async && self.flush_signals.is_flusher_awake.swap(true, Ordering::SeqCst) {
            return;
        }
        // Taking the lock makes sure that a flusher that just found nothing to do is really waiting.
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

    /// Syncs what is written; returns its end. The turn ends with the sync; publishing and completions are for the time of the
    /// next one.
    fn sync_and_publish<T>(&self, turn: T) -> Result<LogOffset, StoreError> {
        let syncing = self.flush_signals.syncing.lock();
        // Whoever failed told so while holding this lock. A second sync would succeed without what the first one lost.
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

    /// Waits for something to sync; `false` when there is nothing left to do for ever.
    fn wait_for_writes(&self) -> bool {
        let mut asleep = self.flush_signals.sleep.lock();
        loop {
            // Before the look: a write after it finds the flag down and wakes us.
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

    /// Lets writes gather for the flush interval, less when the log is being closed.
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
                // Retention takes only files below a checkpoint, and a checkpoint names only what was synced.
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

    /// Keeps everyone from syncing.
    pub(super) fn lock_syncing(&self) -> MutexGuard<'_, ()> {
        self.flush_signals.syncing.lock()
    }

    /// Syncs the file that an offset is in.
    pub(super) fn sync_file_of(&self, offset: i64) -> Result<(), StoreError> {
        self.sync_range(
            offset,
            offset.saturating_add(1).min(self.segments.last().map_or(offset, |last| last.end())),
        )
    }

    /// Syncs all that is written, on the caller's thread; returns how far that is. For checkpoints and the end.
    ///
    /// # Errors
    /// `StoreError::Io` if the sync fails; the log is then failed for good. `StoreError::Failed` if it failed before.
    pub(crate) fn sync_now(&self) -> Result<LogOffset, StoreError> {
        self.sync_and_publish(())
    }
}
