//! What is derived from the log: consume queues and key index, each one [`Derived`].
//!
//! [`of`] makes the list, in the order in which the parts get a message. Dispatch passes confirmed batches to each, opening
//! recovers each, the keeper does the background work of each, checkpoint and retention visit each. A new part (timer, filters) is
//! a file here and a line in [`of`]. If it can be behind the queues, it also has an offset in [`SyncedOffsets`], which is on disk.
//!
//! Invariants
//! - Nothing derived is ahead of the confirmed log, so all of it can be derived again from the log.
//! - A checkpoint names an offset only after each part has synced what it has below it.
//!
//! Not here: when this is done (`keeper`, `open`), and the files (`queue`, `index`).

mod keys;
mod queues;

pub(crate) use keys::{Keys, SyncFailureMark};
pub(crate) use queues::LightRebuild;

use crate::checkpoint::SyncedOffsets;
use crate::error::StoreError;
use crate::log::{Batch, CommitLog};
use crate::queue::QueueTable;
use message::LogOffset;
use message::record::Record;
use std::sync::Arc;

/// All that is derived from a log, in the order in which it gets messages.
pub(crate) type DerivedList = Vec<Arc<dyn Derived>>;

/// The list of a store.
pub(crate) fn of(queues: &Arc<QueueTable>, keys: Option<&Arc<Keys>>) -> DerivedList {
    let keys = keys.map(|keys| Arc::clone(keys) as Arc<dyn Derived>);
    let queues: Arc<dyn Derived> = Arc::clone(queues) as Arc<dyn Derived>;
    std::iter::once(queues).chain(keys).collect()
}

/// Something that is derived from the log.
pub(crate) trait Derived: Send + Sync {
    /// Takes confirmed batches, in log order, from one thread at a time. This delays a send: memory only, without waiting.
    fn publish(&self, batches: &[Batch]);

    /// Begins a recovery: after an unclean stop, truncates to where the log is read from. Returns what takes the records from there
    /// on.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be truncated; the files must not be used then.
    fn recover<'a>(&'a self, stop: &Shutdown) -> Result<Box<dyn Restore + 'a>, StoreError>;

    /// Does background work: writes what was published to files, and indexes dropped keys within `limit`. True if there is more to
    /// do soon.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be written; the next call tries again.
    fn work(&self, log: &CommitLog, limit: WorkLimit) -> Result<bool, StoreError>;

    /// Syncs what was published before `progress`, which has the same offset for all parts at first. A part that is behind lowers
    /// its offset: to where it is, or to the one in `before`, the last checkpoint.
    ///
    /// # Errors
    /// `StoreError::Io` if something cannot be written or synced. After a failed sync [`Derived::has_failed`] holds.
    fn sync(&self, before: SyncedOffsets, progress: &mut SyncedOffsets) -> Result<(), StoreError>;

    /// Whether a sync failed. The content of the disk is unknown then, so there is no checkpoint until the next start.
    fn has_failed(&self) -> bool;

    /// Removes files that name only messages below the log's first offset.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be removed; the next call tries again.
    fn raise_min(&self, log_min: LogOffset) -> Result<(), StoreError>;

    /// Drops the messages from `to` on, where the log is being truncated. Nothing is published meanwhile.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be changed. The next start recovers them.
    fn truncate(&self, to: LogOffset) -> Result<(), StoreError>;

    /// Whether everything is in files, so that after a checkpoint the next start has nothing to recover here.
    fn is_written(&self) -> bool;
}

/// Takes the records that recovery reads, in log order.
pub(crate) trait Restore {
    /// Takes a record. One that is there already stays unchanged.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be read or written.
    fn put(&mut self, record: &Record<'_>) -> Result<(), StoreError>;

    /// Ends the recovery: all records are read; the log ends at `end`.
    fn finish(self: Box<Self>, end: LogOffset);
}

/// How the last process ended, as far as derived files are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shutdown {
    /// It shut down cleanly: nothing has to be truncated.
    pub(crate) is_clean: bool,
    /// All that was written can be read: the process was killed, but the machine was not.
    pub(crate) is_all_readable: bool,
    /// Log offset from which recovery reads the log.
    pub(crate) from: LogOffset,
    /// Progress in the last checkpoint.
    pub(crate) progress: Option<SyncedOffsets>,
}

/// How much of the backlog one call of [`Derived::work`] catches up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkLimit {
    /// As much as fits into a round of the keeper.
    Round,
    /// All of it: for tests.
    All,
}
