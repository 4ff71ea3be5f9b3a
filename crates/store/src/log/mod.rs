//! The commit log: every message of every topic, one after the other, in the order they were taken.
//!
//! # Life of an append
//!
//! 1. **Encode.** Under one short lock the messages of one network read get their offsets and are encoded into memory,
//!    as a [`Batch`]. The lock is never held over I/O.
//! 2. **Write.** Whoever finds nobody writing becomes the leader: it takes all batches that wait, its own and those of
//!    other threads, and writes them with one call. The others do not wait in line: they leave a callback.
//! 3. **Sync**, when asked for: one `fdatasync` at a time serves all that was written before it began ([`flush`]).
//! 4. **Confirm.** Confirmed means written under ASYNC_FLUSH and synced under SYNC_FLUSH: nobody reads what could still be
//!    lost. The watermark rises first, then the batches enter the consume queues, in log order ([`confirm`]).
//! 5. **Complete.** Callbacks for what is now written (or readable) run, then readers are woken.
//!
//! # Invariants
//!
//! - `flushed <= written <= end` and `published <= confirmed <= written`; each only grows, but for a truncation ([`truncate`]).
//!   Under SYNC_FLUSH `confirmed <= flushed`.
//! - Queues and index never name bytes beyond the confirmed offset, so that whoever finds an entry can read its record.
//! - After a failed write or sync nothing is written any more until a restart: what the disk holds is then found out by
//!   recovery, not guessed ([`CommitLog::failure`]).
//!
//! Not here: what a queue is, who reads, sockets.

mod append;
mod confirm;
mod flush;
mod raw;
mod read;
mod recover;
pub(crate) mod segment;
mod tail;
mod truncate;
pub(crate) mod window;

pub use raw::RawAppendError;

pub(crate) use append::{Batch, FailOnPanic, IndexedRecord, key_hashes_of};
pub(crate) use read::RecordPlace;
pub(crate) use recover::{begins_before, erase_after, is_record, scan, scan_part, start_by_time, write_again};

use crate::disk::Disk;
use crate::dispatch::Dispatch;
use crate::error::StoreError;
use crate::options::LogOptions;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, RwLock};
use message::LogOffset;
use segment::Segments;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tail::Tail;

/// Called once with the outcome of an append; an error's text says why nothing may be taken as stored.
pub type Completion = Box<dyn FnOnce(Result<(), Arc<str>>) + Send>;

/// How far an append must have come before its completion runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// In the page cache: survives the death of this process.
    Written,
    /// Confirmed as the flush mode says, and in its queue: readers find it.
    Published,
}

/// Names an append that is encoded, and must be completed.
#[must_use = "an append is written by completing it"]
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    end: LogOffset,
    /// How often the log had been truncated, see [`truncate`].
    truncations: u64,
}

struct Waiter {
    end: LogOffset,
    level: Level,
    done: Completion,
}

/// The log.
pub(crate) struct CommitLog {
    options: LogOptions,
    pub(crate) segments: Segments,
    state: Mutex<append::AppendState>,
    marks: confirm::Watermarks,
    unconfirmed: confirm::Unconfirmed,
    truncations: truncate::Truncations,
    waiters: Mutex<Vec<Waiter>>,
    tail: RwLock<Tail>,
    dispatch: Arc<Dispatch>,
    flush_signals: flush::FlushSignals,
    /// Whether a thread panicked within the store.
    has_broken_invariant: AtomicBool,
    /// Called when writing ends for good.
    on_failure: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl CommitLog {
    /// A log over opened files that ends at `end`; what is before `synced` is on the disk for sure.
    pub(crate) fn new(options: LogOptions, segments: Segments, (end, synced): (LogOffset, LogOffset), dispatch: Arc<Dispatch>) -> Self {
        Self {
            state: Mutex::new(append::AppendState::new(end, &segments)),
            tail: RwLock::new(Tail::new(options.tail_bytes)),
            segments,
            marks: confirm::Watermarks::new(options.flush_mode, end, synced),
            unconfirmed: confirm::Unconfirmed::default(),
            truncations: truncate::Truncations::default(),
            waiters: Mutex::default(),
            dispatch,
            flush_signals: flush::FlushSignals::default(),
            has_broken_invariant: AtomicBool::new(false),
            on_failure: OnceLock::new(),
            options,
        }
    }

    /// Names what is to be done when writing ends for good; once.
    pub(crate) fn set_on_failure(&self, act: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_failure.set(Box::new(act));
    }

    /// Opens the files below `dir`.
    ///
    /// # Errors
    /// As [`Segments::open`].
    pub(crate) fn open_segments(disk: Arc<dyn Disk>, dir: &Path, options: &LogOptions) -> Result<Segments, StoreError> {
        Segments::open(disk, dir, options.segment_bytes)
    }

    /// Offset of the first byte kept.
    pub(crate) fn first_offset(&self) -> LogOffset {
        LogOffset(self.segments.first_offset().unwrap_or(0))
    }

    /// End of what readers may see.
    pub(crate) fn confirmed(&self) -> LogOffset {
        self.marks.confirmed()
    }

    /// End of what is in the page cache.
    pub(crate) fn written(&self) -> LogOffset {
        self.marks.written()
    }

    /// End of what is on the disk.
    pub(crate) fn flushed(&self) -> LogOffset {
        self.marks.flushed()
    }

    /// Whether the log failed because an invariant of the store does not hold.
    pub(crate) fn has_broken_invariant(&self) -> bool {
        self.has_broken_invariant.load(Ordering::Acquire)
    }

    /// Why nothing is written any more, if so.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.state.lock().failed.clone()
    }
}
