//! From the log to what is derived from it, and to whoever waits for messages.
//!
//! Invariant: only confirmed messages come here, in log order, so nothing derived is ever ahead of the log.

use crate::derived::DerivedList;
use crate::log::Batch;
use crate::queue::ConsumeQueue;
use crate::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use crate::sync::{Condvar, Instant, Mutex};
use message::LogOffset;
use std::sync::OnceLock;
use std::time::Duration;

/// Told of messages that readers can now see. Called on the thread that confirmed them: it must not block.
pub trait Arrivals: Send + Sync {
    /// Messages have arrived, in log order.
    fn arrived(&self, messages: &mut dyn Iterator<Item = Arrival<'_>>);

    /// The end of the log was dropped, and with it messages that had arrived: queues may end earlier than whoever waits believes.
    fn truncated(&self) {}
}

/// A message that readers can now see.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its queue.
    pub queue: &'a ConsumeQueue,
    /// Hash of its tag, as in the consume queue.
    pub tags_code: i64,
    /// When it was stored, epoch milliseconds.
    pub store_timestamp: i64,
}

/// Hands confirmed batches on.
pub(crate) struct Dispatch {
    /// What is derived from the log.
    derived: DerivedList,
    /// End of what has been published.
    published: AtomicI64,
    /// Store time of the last message published.
    last_timestamp: AtomicI64,
    listener: OnceLock<Box<dyn Arrivals>>,
    keeper: KeeperSignal,
}

#[derive(Default)]
struct KeeperSignal {
    sleep: Mutex<()>,
    woken: Condvar,
    /// There is work since the keeper last looked.
    called: AtomicBool,
    stop: AtomicBool,
}

impl Dispatch {
    /// To these, after a start: the log ends at `published`.
    pub(crate) fn new(derived: DerivedList, published: LogOffset) -> Self {
        Self {
            derived,
            published: AtomicI64::new(published.0),
            last_timestamp: AtomicI64::new(0),
            listener: OnceLock::new(),
            keeper: KeeperSignal::default(),
        }
    }

    /// What is derived from the log.
    pub(crate) fn derived(&self) -> &DerivedList {
        &self.derived
    }

    /// Names who is told of arrivals; once.
    pub(crate) fn set_listener(&self, listener: Box<dyn Arrivals>) {
        let _ = self.listener.set(listener);
    }

    /// Hands batches to all that is derived from the log.
    pub(crate) fn publish(&self, batches: &[Batch]) {
        let Some(last) = batches.last() else { return };
        let published = self.published();
        assert!(
            published <= last.end && batches.is_sorted_by_key(|batch| batch.end),
            "published would go from {published} to {}",
            last.end
        );
        self.derived.iter().for_each(|derived| derived.publish(batches));
        self.last_timestamp.store(last.store_timestamp, Ordering::Relaxed);
        self.published.store(last.end.0, Ordering::Release);
        self.wake_keeper();
    }

    /// Tells the listener of batches that are published.
    pub(crate) fn announce(&self, batches: &[Batch]) {
        let Some(listener) = self.listener.get().filter(|_| !batches.is_empty()) else {
            return;
        };
        let arrivals = batches.iter().flat_map(|batch| {
            batch.entries.iter().map(|dispatched| Arrival {
                queue: &dispatched.queue,
                tags_code: dispatched.entry.tags_code,
                store_timestamp: batch.store_timestamp,
            })
        });
        listener.arrived(&mut { arrivals });
    }

    /// The log ends at `to` now.
    pub(crate) fn truncate(&self, to: LogOffset) {
        self.published.fetch_min(to.0, Ordering::AcqRel);
    }

    /// A log without records begins at `at` now.
    pub(crate) fn begin_at(&self, at: LogOffset) {
        self.published.store(at.0, Ordering::Release);
    }

    /// Tells the listener that the log ends earlier now.
    pub(crate) fn announce_truncation(&self) {
        if let Some(listener) = self.listener.get() {
            listener.truncated();
        }
    }

    /// End of what is in the queues.
    pub(crate) fn published(&self) -> LogOffset {
        LogOffset(self.published.load(Ordering::Acquire))
    }

    /// Store time of the newest message in the queues; 0 when none came since the start.
    pub(crate) fn last_timestamp(&self) -> i64 {
        self.last_timestamp.load(Ordering::Relaxed)
    }

    /// There is work for the keeper.
    pub(crate) fn wake_keeper(&self) {
        if !self.keeper.called.load(Ordering::Relaxed) && !self.keeper.called.swap(true, Ordering::SeqCst) {
            drop(self.keeper.sleep.lock());
            self.keeper.woken.notify_one();
        }
    }

    /// The keeper looks for work: whoever calls from now on calls for another round.
    pub(crate) fn keeper_begins(&self) {
        self.keeper.called.store(false, Ordering::SeqCst);
    }

    /// Ends the keeper.
    pub(crate) fn stop_keeper(&self) {
        self.keeper.stop.store(true, Ordering::Release);
        drop(self.keeper.sleep.lock());
        self.keeper.woken.notify_one();
    }

    /// The keeper's rest between two rounds of work: not cut short by more work, only by the end. `false` at the end.
    pub(crate) fn keeper_pauses(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut asleep = self.keeper.sleep.lock();
        let ended = |signal: &KeeperSignal| signal.stop.load(Ordering::Acquire) || Instant::now() >= until;
        while !ended(&self.keeper) {
            self.keeper.woken.wait_until(&mut asleep, until);
        }
        !self.keeper.stop.load(Ordering::Acquire)
    }

    /// The keeper's sleep when there is nothing to do, until there is or `at_most` has passed. `false` at the end.
    pub(crate) fn keeper_sleeps(&self, at_most: Duration) -> bool {
        let mut asleep = self.keeper.sleep.lock();
        if !self.keeper.called.load(Ordering::SeqCst) && !self.keeper.stop.load(Ordering::Acquire) {
            self.keeper.woken.wait_for(&mut asleep, at_most);
        }
        !self.keeper.stop.load(Ordering::Acquire)
    }
}
