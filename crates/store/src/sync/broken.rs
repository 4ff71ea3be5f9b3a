//! Wrong orders of steps, each of which was or would be a bug. A test restores one of them and must notice.

/// A wrong order.
#[cfg_attr(not(feature = "explore"), expect(unreachable_pub, reason = "public for tests that explore"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A leader publishes before it raises `written`: a checkpoint in between names log that its sync does not cover.
    PublishedBeforeWritten,
    /// Entries are in their queues before their records may be read.
    PublishedBeforeConfirmed,
    /// An append is answered when it is written, before its entries are in their queues.
    AnsweredBeforePublished,
    /// Under SYNC_FLUSH messages are published when they are written.
    PublishedBeforeSynced,
    /// In a log with a bound messages are published before replicas have them.
    PublishedBeforeReplicated,
    /// The lock that wakes the flushers is held over a sync.
    SyncUnderWakeLock,
    /// Store timestamps are taken before the append lock.
    StampedBeforeLocked,
    /// An append does not check whether its queue's topic was deleted.
    AppendedToRetired,
    /// A topic deletion is answered without a checkpoint behind it.
    DeletedWithoutCheckpoint,
    /// A checkpoint determines which keys are not indexed after it has synced the index.
    AskedForKeysAfterSync,
    /// Appends are taken while the store is being closed.
    AppendedWhileClosing,
    /// A reader does not check whether the log was truncated meanwhile.
    ReadAcrossTruncation,
    /// A roll waits under the append lock for the file that the keeper creates.
    WaitedForFileInAppend,
    /// Retention deletes log files whose messages of compacted topics are not copied.
    LogDeletedBeforeCopied,
}

#[cfg(feature = "explore")]
mod switch {
    use super::Broken;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// 0 for none, otherwise the order's number plus one.
    static BROKEN: AtomicU8 = AtomicU8::new(0);

    /// Restores a wrong order in this process, until the next call.
    pub fn break_order(broken: Option<Broken>) {
        BROKEN.store(broken.map_or(0, |broken| broken as u8 + 1), Ordering::SeqCst);
    }

    pub(crate) fn is_broken(broken: Broken) -> bool {
        BROKEN.load(Ordering::SeqCst) == broken as u8 + 1
    }
}

#[cfg(feature = "explore")]
pub use switch::break_order;
#[cfg(feature = "explore")]
pub(crate) use switch::is_broken;

/// Yields to other threads many times within a wrong order, so that few runs are needed to meet its fault.
pub(crate) fn linger() {
    (0..20).for_each(|_| super::thread::yield_now());
}

/// Whether a test has restored a wrong order.
#[cfg(not(feature = "explore"))]
pub(crate) const fn is_broken(_: Broken) -> bool {
    false
}
