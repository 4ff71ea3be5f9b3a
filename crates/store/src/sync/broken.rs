//! Orders of steps that were wrong once, or would be. A test puts one of them back and must notice.

/// One such order.
#[cfg_attr(not(feature = "explore"), expect(unreachable_pub, reason = "public for tests that explore"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A leader publishes before it says how far it has written: a checkpoint in between names log that its sync does not cover.
    PublishedBeforeWritten,
    /// Entries are in their queues before the watermark allows to read their records.
    PublishedBeforeConfirmed,
    /// An append is answered when it is written, before its entries are in their queues.
    AnsweredBeforePublished,
    /// Under SYNC_FLUSH messages are published when they are written.
    PublishedBeforeSynced,
    /// The lock that wakes the flushers is held over a sync.
    SyncUnderWakeLock,
    /// Store timestamps are taken before the append lock.
    StampedBeforeLocked,
    /// An append does not look whether its queue's topic was deleted.
    AppendedToRetired,
    /// A deletion is answered without a checkpoint behind it.
    DeletedWithoutCheckpoint,
    /// A checkpoint asks which keys are missing after it synced the index.
    AskedForKeysAfterSync,
    /// Appends are taken while the store is being closed.
    AppendedWhileClosing,
    /// A reader does not look whether the log was truncated while it read.
    ReadAcrossTruncation,
    /// A roll waits under the append lock for the file that the keeper creates.
    WaitedForFileInAppend,
}

#[cfg(feature = "explore")]
mod switch {
    use super::Broken;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// 0 for none, else the order's number plus one.
    static BROKEN: AtomicU8 = AtomicU8::new(0);

    /// Puts an order back for this process, until the next call.
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

/// Gives other threads many turns, inside of an order that was put back: what is wrong with it is met in few runs.
pub(crate) fn linger() {
    (0..20).for_each(|_| super::thread::yield_now());
}

/// Whether a test has put an order back.
#[cfg(not(feature = "explore"))]
pub(crate) const fn is_broken(_: Broken) -> bool {
    false
}
