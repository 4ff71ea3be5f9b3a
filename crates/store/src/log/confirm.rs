//! The log's watermarks, and the one place where messages become visible.
//!
//! A message is confirmed when it is as durable as the flush mode promises: written under ASYNC_FLUSH, synced under SYNC_FLUSH.
//! In a log with a bound ([`LogOptions::is_bounded`](crate::LogOptions)) it must be on replicas, too: who knows what they have raises the bound
//! with [`CommitLog::raise_bound`], which publishes as a sync does. Only [`Watermarks::confirmable`] decides.
//!
//! Invariants: `flushed <= written` and `confirmed <= confirmable <= written`; each only grows, except in a truncation. Batches are
//! published in log order, after the watermark has risen: a reader that finds an entry can read its record.

use super::CommitLog;
use super::append::{Batch, FailOnPanic};
use crate::options::FlushMode;
use crate::sync::atomic::{AtomicI64, Ordering};
use crate::sync::{Broken, Mutex, MutexGuard, is_broken};
use message::LogOffset;
use std::collections::VecDeque;

/// The log's watermarks.
pub(super) struct Watermarks {
    flush_mode: FlushMode,
    written: AtomicI64,
    flushed: AtomicI64,
    confirmed: AtomicI64,
    /// Nothing from here on is confirmed; `i64::MAX` without a bound.
    bound: AtomicI64,
    is_bounded: bool,
}

impl Watermarks {
    /// Watermarks of a log that ends at `end`, all of it confirmed; what is before `flushed` is on the device. With `is_bounded` nothing
    /// after it is confirmed before the bound is raised.
    pub(super) fn new(flush_mode: FlushMode, is_bounded: bool, end: LogOffset, flushed: LogOffset) -> Self {
        assert!(flushed <= end, "flushed up to {flushed}, with {end} written");
        Self {
            flush_mode,
            bound: AtomicI64::new(if is_bounded { end.0 } else { i64::MAX }),
            is_bounded,
            written: AtomicI64::new(end.0),
            flushed: AtomicI64::new(flushed.0),
            confirmed: AtomicI64::new(end.0),
        }
    }

    /// End of the written log.
    pub(super) fn written(&self) -> LogOffset {
        LogOffset(self.written.load(Ordering::Acquire))
    }

    /// End of the synced log.
    pub(super) fn flushed(&self) -> LogOffset {
        LogOffset(self.flushed.load(Ordering::Acquire))
    }

    /// End of the confirmed log.
    pub(super) fn confirmed(&self) -> LogOffset {
        LogOffset(self.confirmed.load(Ordering::Acquire))
    }

    /// End of what is as durable here as the flush mode promises.
    pub(super) fn durable(&self) -> LogOffset {
        match self.flush_mode {
            FlushMode::Async => self.written(),
            FlushMode::Sync => self.flushed(),
        }
    }

    /// End of what may be confirmed.
    pub(super) fn confirmable(&self) -> LogOffset {
        if is_broken(Broken::PublishedBeforeReplicated) {
            return self.durable();
        }
        self.durable().min(LogOffset(self.bound.load(Ordering::Acquire)))
    }

    /// Whether batches are confirmed by being written.
    fn is_confirmed_by_write(&self) -> bool {
        self.flush_mode == FlushMode::Async && !self.is_bounded
    }

    /// Raises `written`. Only the leader calls this, and there is one.
    pub(super) fn set_written(&self, end: LogOffset) {
        let written = self.written();
        assert!(written <= end, "written would go back from {written} to {end}");
        self.written.store(end.0, Ordering::Release);
    }

    /// Raises `flushed`. Only the thread that syncs calls this, and there is one at a time.
    pub(super) fn set_flushed(&self, end: LogOffset) {
        let (flushed, written) = (self.flushed(), self.written());
        assert!(
            flushed <= end && end <= written,
            "flushed would go from {flushed} to {end}, with {written} written"
        );
        self.flushed.store(end.0, Ordering::Release);
    }

    /// Raises `confirmed`. Only the thread that publishes calls this, one at a time.
    fn set_confirmed(&self, end: LogOffset) {
        let (confirmed, confirmable) = (self.confirmed(), self.confirmable());
        assert!(
            confirmed <= end && end <= confirmable,
            "confirmed would go from {confirmed} to {end}, with {confirmable} confirmable"
        );
        self.confirmed.store(end.0, Ordering::Release);
    }
}

impl Watermarks {
    /// Lowers all watermarks to `to`. Only a truncation calls this, while no thread moves them.
    pub(super) fn truncate(&self, to: LogOffset) {
        for mark in [&self.confirmed, &self.flushed, &self.written] {
            mark.fetch_min(to.0, Ordering::AcqRel);
        }
        if self.is_bounded {
            self.bound.fetch_min(to.0, Ordering::AcqRel);
        }
    }
}

impl Watermarks {
    /// Sets the watermarks of an empty log. Only as [`Watermarks::truncate`].
    pub(super) fn begin_at(&self, at: LogOffset) {
        for mark in [&self.written, &self.flushed, &self.confirmed] {
            mark.store(at.0, Ordering::Release);
        }
        if self.is_bounded {
            self.bound.store(at.0, Ordering::Release);
        }
    }
}

/// Batches that are written and not confirmed, in log order. Empty if writes confirm.
#[derive(Default)]
pub(super) struct Unconfirmed {
    batches: Mutex<VecDeque<Batch>>,
    /// Held while batches are published, so that they are published in log order.
    publishing: Mutex<()>,
}

impl Unconfirmed {
    /// Keeps all threads from publishing.
    pub(super) fn lock_publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock()
    }

    /// Drops messages from `to` on. Those that still wait have their queue offsets already, which the truncated queues do not know.
    pub(super) fn truncate(&self, to: LogOffset) {
        let mut batches = self.batches.lock();
        batches.retain_mut(|batch| batch.truncate(to));
        for waiting in batches.iter().flat_map(|batch| &batch.entries) {
            waiting.queue.assigned_before(waiting.queue_offset.plus(1));
        }
    }
}

impl CommitLog {
    /// Publishes batches that the leader has written, and returns them, if they need no more than that. Otherwise they wait for
    /// [`CommitLog::publish_confirmable`]. No lock is needed for the order: there is one leader, and either all of its batches wait
    /// or none.
    pub(super) fn batches_written(&self, batches: Vec<Batch>) -> Vec<Batch> {
        let end = end_of(&batches);
        if is_broken(Broken::PublishedBeforeWritten) {
            self.dispatch.publish(&batches);
            self.marks.set_written(end);
            self.marks.set_confirmed(end);
            return batches;
        }
        if self.marks.is_confirmed_by_write() || is_broken(Broken::PublishedBeforeSynced) {
            self.marks.set_written(end);
            self.publish(&batches, end);
            return batches;
        }
        // Before the watermark rises: a sync that covers the batches must find them.
        self.unconfirmed.batches.lock().extend(batches);
        self.marks.set_written(end);
        // Replicas may have acknowledged more than was written here; a raised bound may also have missed these batches.
        if self.marks.is_bounded && self.marks.flush_mode == FlushMode::Async {
            return self.publish_confirmable();
        }
        Vec::new()
    }

    /// Publishes the waiting batches that may be confirmed now, and returns them, so that their readers are woken.
    pub(super) fn publish_confirmable(&self) -> Vec<Batch> {
        let _in_order = self.unconfirmed.publishing.lock();
        let confirmable = self.marks.confirmable();
        let batches: Vec<Batch> = {
            let mut waiting = self.unconfirmed.batches.lock();
            let ready = waiting.iter().take_while(|batch| batch.end <= confirmable).count();
            waiting.drain(..ready).collect()
        };
        if !batches.is_empty() {
            self.publish(&batches, end_of(&batches));
        }
        batches
    }

    /// Lets what is before `to` be confirmed, and publishes what that allows. A lower bound than before changes nothing.
    pub(crate) fn raise_bound(&self, to: LogOffset) {
        if self.marks.bound.fetch_max(to.0, Ordering::AcqRel) >= to.0 {
            return;
        }
        let guard = FailOnPanic(self);
        let published = self.publish_confirmable();
        drop(guard);
        if published.is_empty() {
            return;
        }
        self.run_waiters();
        self.dispatch.announce(&published);
    }

    /// Makes batches visible to readers. Nothing else does. In log order, by one thread at a time.
    fn publish(&self, batches: &[Batch], end: LogOffset) {
        if is_broken(Broken::PublishedBeforeConfirmed) {
            self.dispatch.publish(batches);
            self.marks.set_confirmed(end);
            return;
        }
        self.marks.set_confirmed(end);
        self.dispatch.publish(batches);
        debug_assert!(
            self.dispatch.published() <= self.marks.confirmed(),
            "queues are ahead of the confirmed log"
        );
    }
}

/// End of the last batch.
fn end_of(batches: &[Batch]) -> LogOffset {
    assert!(!batches.is_empty(), "there are no batches");
    batches[batches.len() - 1].end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flush_mode_decides_what_may_be_confirmed() {
        for (mode, confirmable) in [(FlushMode::Async, [30, 30]), (FlushMode::Sync, [10, 20])] {
            let marks = Watermarks::new(mode, false, LogOffset(10), LogOffset(5));
            marks.set_flushed(LogOffset(10));
            marks.set_written(LogOffset(30));
            assert_eq!(marks.confirmable().0, confirmable[0], "{mode:?}");
            marks.set_flushed(LogOffset(20));
            assert_eq!(marks.confirmable().0, confirmable[1], "{mode:?}");
            marks.set_confirmed(marks.confirmable());
            assert_eq!(marks.confirmed(), marks.confirmable());
        }
    }

    #[test]
    #[should_panic(expected = "confirmed would go from 10 to 20, with 10 confirmable")]
    fn under_sync_flush_nothing_is_confirmed_that_is_only_written() {
        let marks = Watermarks::new(FlushMode::Sync, false, LogOffset(10), LogOffset(10));
        marks.set_written(LogOffset(20));
        marks.set_confirmed(LogOffset(20));
    }
}
