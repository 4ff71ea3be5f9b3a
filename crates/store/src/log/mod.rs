//! The commit log: the messages of all topics, in the order in which they were appended.
//!
//! # Life of an append
//!
//! 1. **Encode.** Under one short lock, which is never held over I/O, the messages of one network read get their offsets and are
//!    encoded into memory as a [`Batch`].
//! 2. **Write.** A thread that finds no leader becomes the leader: it writes all pending batches, its own and those of other
//!    threads, usually with one call. The other threads do not wait: they leave a callback.
//! 3. **Sync**, if the caller wants it: one `fdatasync` at a time serves all that was written before it began ([`flush`]).
//! 4. **Confirm.** Confirmed means written under ASYNC_FLUSH and synced under SYNC_FLUSH: nobody reads what could still be lost.
//!    The watermark rises first, then the batches enter the consume queues, in log order ([`confirm`]).
//! 5. **Complete.** Callbacks of what is now written (or readable) run, then readers are woken.
//!
//! # Invariants
//!
//! - `flushed <= written <= end` and `published <= confirmed <= written`; each only grows, but for a truncation ([`truncate`]).
//!   Under SYNC_FLUSH `confirmed <= flushed`.
//! - Queues and index never name bytes beyond the confirmed offset, so a reader that finds an entry can read its record.
//! - After a failed write or sync nothing is written until a restart. Recovery then finds out what the disk has
//!   ([`CommitLog::failure`]).
//!
//! Not here: queues, readers, sockets.

mod append;
mod blocks;
mod confirm;
mod flush;
mod light;
mod raw;
mod read;
mod recover;
pub(crate) mod segment;
mod tail;
mod transfer;
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

/// Called once with the outcome of an append. After an error none of its messages may be treated as stored.
pub type Completion = Box<dyn FnOnce(Result<(), Arc<str>>) + Send>;

/// The state that an append must reach before its completion runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// In the page cache: survives a crash of this process.
    Written,
    /// As durable as the flush mode says. In a log without a bound it is then also published.
    Durable,
    /// Confirmed, and in its queue: readers find it.
    Published,
}

/// An encoded append, which must be completed to be written.
#[must_use = "an append is written by completing it"]
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    end: LogOffset,
    /// Number of truncations of the log before it, see [`truncate`].
    truncations: u64,
}

impl Ticket {
    /// Log offset after the last byte of the append.
    #[must_use]
    pub fn end(&self) -> LogOffset {
        self.end
    }
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
    blocks: blocks::Blocks,
    dispatch: Arc<Dispatch>,
    flush_signals: flush::FlushSignals,
    /// Whether a thread of the store panicked.
    has_broken_invariant: AtomicBool,
    /// Called when the log fails.
    on_failure: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Called after a leader has written, outside of all locks.
    on_written: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl CommitLog {
    /// A log over opened files that ends at `end`; what is before `synced` is on the device.
    pub(crate) fn new(options: LogOptions, segments: Segments, end: LogOffset, synced: LogOffset, dispatch: Arc<Dispatch>) -> Self {
        Self {
            state: Mutex::new(append::AppendState::new(end, &segments)),
            tail: RwLock::new(Tail::new(options.tail_bytes)),
            blocks: blocks::Blocks::new(options.block_bytes),
            segments,
            marks: confirm::Watermarks::new(options.flush_mode, options.is_bounded, end, synced),
            unconfirmed: confirm::Unconfirmed::default(),
            truncations: truncate::Truncations::default(),
            waiters: Mutex::default(),
            dispatch,
            flush_signals: flush::FlushSignals::default(),
            has_broken_invariant: AtomicBool::new(false),
            on_failure: OnceLock::new(),
            on_written: OnceLock::new(),
            options,
        }
    }

    /// Registers what is called when the log fails. Call once.
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

    /// Offset of the first byte that is kept.
    pub(crate) fn first_offset(&self) -> LogOffset {
        LogOffset(self.segments.first_offset().unwrap_or(0))
    }

    /// End of the confirmed log, which readers may see.
    pub(crate) fn confirmed(&self) -> LogOffset {
        self.marks.confirmed()
    }

    /// End of the written log.
    pub(crate) fn written(&self) -> LogOffset {
        self.marks.written()
    }

    /// End of the synced log.
    pub(crate) fn flushed(&self) -> LogOffset {
        self.marks.flushed()
    }

    /// Whether the log failed because an invariant was violated.
    pub(crate) fn has_broken_invariant(&self) -> bool {
        self.has_broken_invariant.load(Ordering::Acquire)
    }

    /// Why the log failed, if it did.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.state.lock().failed.clone()
    }
}
