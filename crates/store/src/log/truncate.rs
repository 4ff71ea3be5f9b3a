//! Truncates the log while the store runs, for a replica whose last records its master does not have. `Store::truncate` truncates what is
//! derived.
//!
//! Readers take no lock. The log counts its truncations: a reader compares the count before and after, and repeats the read if it
//! changed ([`CommitLog::read_consistently`]).

use super::append::{AppendState, Batch};
use super::recover::erase_after;
use super::window::{Found, Window};
use super::{CommitLog, Level, Ticket};
use crate::error::StoreError;
use crate::queue::QueueTable;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Broken, Mutex, MutexGuard, is_broken, thread};
use message::LogOffset;
use std::sync::Arc;

/// The error of an append that was dropped, or may have been.
pub(super) const TRUNCATED: &str = "the log was truncated before the message was confirmed";

/// The count of a log's truncations.
#[derive(Default)]
pub(super) struct Truncations {
    /// Odd while one is in progress.
    count: AtomicU64,
    /// Held while one is in progress; readers wait for it.
    in_progress: Mutex<()>,
}

/// A truncation in progress: the log takes and writes nothing until this is dropped.
pub(crate) struct Truncation<'a> {
    log: &'a CommitLog,
    to: LogOffset,
    /// Held so that nothing is synced or published.
    _syncing: MutexGuard<'a, ()>,
    _publishing: MutexGuard<'a, ()>,
    _in_progress: MutexGuard<'a, ()>,
}

impl CommitLog {
    /// Begins a truncation to `to`. From now on appends are refused; earlier ones are written and synced. Reads that are in
    /// progress will be repeated.
    ///
    /// # Errors
    /// `StoreError::Layout` if no record begins at `to`; `StoreError::Failed` or `StoreError::Io` if the log fails. Nothing is
    /// changed then.
    pub(crate) fn begin_truncation(&self, to: LogOffset) -> Result<Truncation<'_>, StoreError> {
        self.refuse_while_truncating(true);
        self.quiesce(to).inspect_err(|_| self.refuse_while_truncating(false))
    }

    fn quiesce(&self, to: LogOffset) -> Result<Truncation<'_>, StoreError> {
        self.wait_written()?;
        self.sync_now()?;
        if !self.begins_record(to)? {
            return Err(StoreError::Layout(format!(
                "cannot truncate the log to {to}: no record of it begins there"
            )));
        }
        let truncation = Truncation {
            log: self,
            to,
            _syncing: self.lock_syncing(),
            _publishing: self.unconfirmed.lock_publishing(),
            _in_progress: self.truncations.in_progress.lock(),
        };
        self.truncations.count.fetch_add(1, Ordering::SeqCst);
        Ok(truncation)
    }

    /// The ticket of the last append. No truncation is in progress while the append lock is held and appends are not refused.
    pub(super) fn ticket(&self, state: &AppendState) -> Ticket {
        self.ticket_for(state.end)
    }

    pub(super) fn ticket_for(&self, end: LogOffset) -> Ticket {
        Ticket {
            end,
            truncations: self.truncations.count.load(Ordering::Acquire),
        }
    }

    /// Whether the log was truncated since the ticket was made: its messages may be gone, with others in their place.
    pub(super) fn was_truncated_since(&self, ticket: &Ticket) -> bool {
        self.truncations.count.load(Ordering::Acquire) != ticket.truncations
    }

    fn refuse_while_truncating(&self, refuse: bool) {
        self.state.lock().truncating = refuse;
    }

    /// Waits until all appends are written and the leader is done.
    fn wait_written(&self) -> Result<(), StoreError> {
        let ticket = self.ticket(&self.state.lock());
        self.wait_for(ticket, Level::Written)?;
        // After its write a leader still publishes, in memory.
        while self.state.lock().leading {
            thread::yield_now();
        }
        Ok(())
    }

    fn begins_record(&self, at: LogOffset) -> Result<bool, StoreError> {
        if at == self.written() {
            return Ok(true);
        }
        let Some(segment) = self.segments.holding(at.0).filter(|_| at < self.written()) else {
            return Ok(false);
        };
        let found = Window::new(&segment, at.0).look(at.0, true)?.is_whole();
        Ok(found)
    }

    /// Calls `read`, again if the log was truncated meanwhile, when the result may mix two logs. `read` may be called several
    /// times. Waits for a truncation that is in progress.
    pub(crate) fn read_consistently<T>(&self, mut read: impl FnMut() -> T) -> T {
        loop {
            if let Some(read) = self.try_read_consistently(&mut read) {
                return read;
            }
            drop(self.truncations.in_progress.lock());
        }
    }

    /// As [`CommitLog::read_consistently`] without waiting: `None` if the log is being truncated, or was meanwhile.
    pub(crate) fn try_read_consistently<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        if is_broken(Broken::ReadAcrossTruncation) {
            return Some(read());
        }
        let count = self.truncations.count.load(Ordering::Acquire);
        if count % 2 == 1 {
            return None;
        }
        let read = read();
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        (self.truncations.count.load(Ordering::Acquire) == count).then_some(read)
    }
}

impl Truncation<'_> {
    /// Hides what is dropped and erases it. Neither what is derived nor a checkpoint on the disk may name it any more.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be removed, erased or synced; the log has failed then, and a restart recovers a log that ends at
    /// `to` or behind it.
    pub(crate) fn erase(&self) -> Result<(), StoreError> {
        let (log, to) = (self.log, self.to);
        log.marks.truncate(to);
        log.dispatch.truncate(to);
        log.unconfirmed.truncate(to);
        log.tail.write().truncate(to);
        log.blocks.forget_all();
        let erased = erase_after(&log.segments, to.0).and_then(|()| log.sync_file_of(to.0));
        if let Err(error) = erased {
            log.fail(&error.to_string());
            return Err(error);
        }
        let mut state = log.state.lock();
        assert!(
            state.pending.is_empty() && !state.leading,
            "something is being written to a log that is truncated"
        );
        state.end = to;
        state.segment_end = log.segments.last().map_or(to, |last| LogOffset(last.end()));
        drop(state);
        log.refuse_waiters_after(to);
        Ok(())
    }
}

impl Truncation<'_> {
    /// Moves the beginning of an empty log.
    ///
    /// # Errors
    /// `StoreError::Layout` if the log or a queue has messages. `StoreError::Io` or `StoreError::DiskFull` if files cannot be changed; the
    /// log has failed then.
    pub(crate) fn begin_at(&self, at: LogOffset, queues: &QueueTable) -> Result<(), StoreError> {
        let log = self.log;
        if log.written() != log.first_offset() || !queues.is_empty() {
            return Err(StoreError::Layout(format!(
                "the log cannot begin at {at}: the store has messages up to log offset {}",
                log.written()
            )));
        }
        if let Err(error) = log.segments.begin_at(at.0) {
            log.fail(&error.to_string());
            return Err(error);
        }
        let mut state = log.state.lock();
        assert!(
            state.pending.is_empty() && !state.leading,
            "something is being written to a log that is moved"
        );
        log.marks.begin_at(at);
        log.dispatch.begin_at(at);
        state.end = at;
        state.segment_end = log.segments.last().map_or(at, |last| LogOffset(last.end()));
        Ok(())
    }
}

impl Drop for Truncation<'_> {
    fn drop(&mut self) {
        self.log.truncations.count.fetch_add(1, Ordering::SeqCst);
        self.log.refuse_while_truncating(false);
    }
}

impl CommitLog {
    /// Fails the completions of dropped appends.
    fn refuse_waiters_after(&self, to: LogOffset) {
        let dropped: Vec<_> = self.waiters.lock().extract_if(.., |waiter| waiter.end > to).collect();
        let reason: Arc<str> = TRUNCATED.into();
        for waiter in dropped {
            (waiter.done)(Err(reason.clone()));
        }
    }
}

impl Found<'_> {
    /// Whether a record or the end of a file is here.
    fn is_whole(&self) -> bool {
        matches!(self, Self::Record(_) | Self::NextFile)
    }
}

impl Batch {
    /// Drops the batch's messages from `to` on. Whether some are left.
    pub(super) fn truncate(&mut self, to: LogOffset) -> bool {
        self.entries.retain(|dispatched| dispatched.entry.log_offset < to.0);
        self.keys.retain(|record| record.log_offset < to);
        self.chunks.retain(|(start, _)| *start < to);
        self.end = self.end.min(to);
        !self.chunks.is_empty()
    }
}
