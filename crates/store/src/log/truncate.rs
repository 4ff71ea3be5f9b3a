//! Dropping the end of the log while the store runs: for a replica whose end another log does not have. Nothing calls this outside
//! tests yet; `Store::truncate` does the rest of it, for what is derived.
//!
//! Readers take no lock for this. The log counts its truncations; whoever reads looks at the count before and after, and reads
//! again when it is another one ([`CommitLog::read_consistently`]).

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

/// What is told of an append that was dropped, or may have been.
pub(super) const TRUNCATED: &str = "the log was truncated before the message was confirmed";

/// The truncations of a log.
#[derive(Default)]
pub(super) struct Truncations {
    /// Odd while one is at work.
    count: AtomicU64,
    /// Held while one is at work, for readers who wait for its end.
    in_progress: Mutex<()>,
}

/// A log that takes nothing and writes nothing, until this is dropped.
pub(crate) struct Truncation<'a> {
    log: &'a CommitLog,
    to: LogOffset,
    /// No sync, nothing published.
    _syncing: MutexGuard<'a, ()>,
    _publishing: MutexGuard<'a, ()>,
    _in_progress: MutexGuard<'a, ()>,
}

impl CommitLog {
    /// Begins to drop what is from `to` on. Appends are refused from now on, and those before are written and synced. Readers that
    /// read meanwhile will read again.
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

    /// Names what was appended up to now. While the append lock is held and nothing is refused no truncation is at work.
    pub(super) fn ticket(&self, state: &AppendState) -> Ticket {
        self.ticket_for(state.end)
    }

    pub(super) fn ticket_for(&self, end: LogOffset) -> Ticket {
        Ticket {
            end,
            truncations: self.truncations.count.load(Ordering::Acquire),
        }
    }

    /// Whether what the ticket names may be gone, and other messages be in its place.
    pub(super) fn was_truncated_since(&self, ticket: &Ticket) -> bool {
        self.truncations.count.load(Ordering::Acquire) != ticket.truncations
    }

    fn refuse_while_truncating(&self, refuse: bool) {
        self.state.lock().truncating = refuse;
    }

    /// Waits until all that was appended is written, and its leader has done.
    fn wait_written(&self) -> Result<(), StoreError> {
        let ticket = self.ticket(&self.state.lock());
        self.wait_for(ticket, Level::Written)?;
        // Between its write and its end a leader publishes, in memory.
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

    /// Reads, again when the log was truncated meanwhile: then what was read may be half of one log and half of the other.
    /// `read` may be called several times. Waits for the end of a truncation.
    pub(crate) fn read_consistently<T>(&self, mut read: impl FnMut() -> T) -> T {
        loop {
            if let Some(read) = self.try_read_consistently(&mut read) {
                return read;
            }
            drop(self.truncations.in_progress.lock());
        }
    }

    /// As [`CommitLog::read_consistently`], for who must not wait: `None` when the log is being truncated, or was meanwhile.
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
    /// Hides what is dropped and erases it. What is derived must not name it any more, nor a checkpoint on the disk.
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
    /// Moves a log without records to another beginning.
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
    /// Whoever waits for an append that is dropped is told so.
    fn refuse_waiters_after(&self, to: LogOffset) {
        let dropped: Vec<_> = self.waiters.lock().extract_if(.., |waiter| waiter.end > to).collect();
        let reason: Arc<str> = TRUNCATED.into();
        for waiter in dropped {
            (waiter.done)(Err(reason.clone()));
        }
    }
}

impl Found<'_> {
    /// Whether the log has something here: a record, or the rest of a file.
    fn is_whole(&self) -> bool {
        matches!(self, Self::Record(_) | Self::NextFile)
    }
}

impl Batch {
    /// Drops its messages from `to` on. Whether some are left.
    pub(super) fn truncate(&mut self, to: LogOffset) -> bool {
        self.entries.retain(|dispatched| dispatched.entry.log_offset < to.0);
        self.keys.retain(|record| record.log_offset < to);
        self.chunks.retain(|(start, _)| *start < to);
        self.end = self.end.min(to);
        !self.chunks.is_empty()
    }
}
