//! Dispatch: passes confirmed batches to what is derived from the log, and tells the arrival listener.
//!
//! Invariant: only confirmed batches are dispatched, in log order, so nothing derived is ever ahead of the log.

use crate::derived::DerivedList;
use crate::log::Batch;
use crate::queue::ConsumeQueue;
use crate::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use crate::sync::{Condvar, Instant, Mutex};
use message::LogOffset;
use std::sync::OnceLock;
use std::time::Duration;

/// Listens for messages that became visible to readers. Called on the thread that confirmed them: it must not block.
pub trait Arrivals: Send + Sync {
    /// Messages became visible, in log order.
    fn arrived(&self, messages: &mut dyn Iterator<Item = Arrival<'_>>);

    /// The log was truncated: queues may end before messages that had arrived.
    fn truncated(&self) {}
}

/// A message that became visible to readers.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its queue.
    pub queue: &'a ConsumeQueue,
    /// The tag hash of its queue entry.
    pub tags_code: i64,
    /// Its store timestamp, epoch ms.
    pub store_timestamp: i64,
}

/// Dispatches confirmed batches.
pub(crate) struct Dispatch {
    /// What is derived from the log.
    derived: DerivedList,
    /// End of what has been published.
    published: AtomicI64,
    /// Store timestamp of the last published message, epoch ms.
    last_timestamp: AtomicI64,
    listener: OnceLock<Box<dyn Arrivals>>,
    keeper: KeeperSignal,
}

#[derive(Default)]
struct KeeperSignal {
    sleep: Mutex<()>,
    woken: Condvar,
    /// Work came since the keeper's last round began.
    called: AtomicBool,
    stop: AtomicBool,
}

impl Dispatch {
    /// A dispatcher to `derived`, of a log that ends at `published`.
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

    /// Registers the arrival listener. Call once.
    pub(crate) fn set_listener(&self, listener: Box<dyn Arrivals>) {
        let _ = self.listener.set(listener);
    }

    /// Passes batches to all that is derived from the log.
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

    /// Tells the listener of published batches.
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

    /// Lowers the published offset to `to`, where the log is truncated.
    pub(crate) fn truncate(&self, to: LogOffset) {
        self.published.fetch_min(to.0, Ordering::AcqRel);
    }

    /// Sets the published offset of an empty log.
    pub(crate) fn begin_at(&self, at: LogOffset) {
        self.published.store(at.0, Ordering::Release);
    }

    /// Tells the listener of a truncation.
    pub(crate) fn announce_truncation(&self) {
        if let Some(listener) = self.listener.get() {
            listener.truncated();
        }
    }

    /// End of the published log.
    pub(crate) fn published(&self) -> LogOffset {
        LogOffset(self.published.load(Ordering::Acquire))
    }

    /// Store timestamp of the newest published message, epoch ms; 0 if none was published since the start.
    pub(crate) fn last_timestamp(&self) -> i64 {
        self.last_timestamp.load(Ordering::Relaxed)
    }

    /// Wakes the keeper, or makes it do another round.
    pub(crate) fn wake_keeper(&self) {
        if !self.keeper.called.load(Ordering::Relaxed) && !self.keeper.called.swap(true, Ordering::SeqCst) {
            drop(self.keeper.sleep.lock());
            self.keeper.woken.notify_one();
        }
    }

    /// A keeper's round begins: [`Dispatch::wake_keeper`] asks for another round from now on.
    pub(crate) fn keeper_begins(&self) {
        self.keeper.called.store(false, Ordering::SeqCst);
    }

    /// Stops the keeper.
    pub(crate) fn stop_keeper(&self) {
        self.keeper.stop.store(true, Ordering::Release);
        drop(self.keeper.sleep.lock());
        self.keeper.woken.notify_one();
    }

    /// Pauses the keeper between two rounds. More work does not end the pause, only a stop does. `false` if the keeper has to stop.
    pub(crate) fn keeper_pauses(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut asleep = self.keeper.sleep.lock();
        let ended = |signal: &KeeperSignal| signal.stop.load(Ordering::Acquire) || Instant::now() >= until;
        while !ended(&self.keeper) {
            self.keeper.woken.wait_until(&mut asleep, until);
        }
        !self.keeper.stop.load(Ordering::Acquire)
    }

    /// Lets the keeper sleep until it is woken or `at_most` has passed. `false` if the keeper has to stop.
    pub(crate) fn keeper_sleeps(&self, at_most: Duration) -> bool {
        let mut asleep = self.keeper.sleep.lock();
        if !self.keeper.called.load(Ordering::SeqCst) && !self.keeper.stop.load(Ordering::Acquire) {
            self.keeper.woken.wait_for(&mut asleep, at_most);
        }
        !self.keeper.stop.load(Ordering::Acquire)
    }
}
