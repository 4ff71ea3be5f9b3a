//! From the log to what is derived of it: consume queues, key index, and whoever waits for messages.
//!
//! Invariant: only confirmed messages come here, in log order, so nothing derived is ever ahead of the log.

use crate::log::{Batch, IndexedRecord};
use crate::queue::ConsumeQueue;
use parking_lot::{Condvar, Mutex};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Told of messages that readers can now see. Called on the thread that confirmed them: it must not block.
pub trait Arrivals: Send + Sync {
    /// Messages have arrived, in log order.
    fn arrived(&self, messages: &mut dyn Iterator<Item = Arrival<'_>>);
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
    index_enabled: bool,
    /// Keys that the keeper will index.
    inbox: Mutex<Vec<IndexedRecord>>,
    /// How many keys stand in it.
    inbox_keys: AtomicUsize,
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
    pub(crate) fn new(index_enabled: bool, published: i64) -> Self {
        Self {
            index_enabled,
            inbox: Mutex::default(),
            inbox_keys: AtomicUsize::new(0),
            published: AtomicI64::new(published),
            last_timestamp: AtomicI64::new(0),
            listener: OnceLock::new(),
            keeper: KeeperSignal::default(),
        }
    }

    /// Names who is told of arrivals; once.
    pub(crate) fn set_listener(&self, listener: Box<dyn Arrivals>) {
        let _ = self.listener.set(listener);
    }

    /// Puts batches into their queues and in line for the index.
    pub(crate) fn publish(&self, batches: &[Batch]) {
        let Some(last) = batches.last() else { return };
        for dispatched in batches.iter().flat_map(|b| &b.entries) {
            dispatched.queue.publish(dispatched.entry);
        }
        if self.index_enabled {
            let mut inbox = self.inbox.lock();
            let before = inbox.len();
            inbox.extend(batches.iter().flat_map(|b| b.keys.iter().cloned()));
            self.inbox_keys.fetch_add(count_keys(&inbox[before..]), Ordering::Relaxed);
        }
        if let Some(entry) = last.entries.last() {
            self.last_timestamp.store(entry.store_timestamp, Ordering::Relaxed);
        }
        self.published.store(last.end, Ordering::Release);
        self.wake_keeper();
    }

    /// Tells the listener of batches that are published.
    pub(crate) fn announce(&self, batches: &[Batch]) {
        let Some(listener) = self.listener.get() else { return };
        let mut arrivals = batches.iter().flat_map(|b| &b.entries).map(|d| Arrival {
            queue: &d.queue,
            tags_code: d.entry.tags_code,
            store_timestamp: d.store_timestamp,
        });
        listener.arrived(&mut arrivals);
    }

    /// End of what is in the queues.
    pub(crate) fn published(&self) -> i64 {
        self.published.load(Ordering::Acquire)
    }

    /// Store time of the newest message in the queues; 0 when none came since the start.
    pub(crate) fn last_timestamp(&self) -> i64 {
        self.last_timestamp.load(Ordering::Relaxed)
    }

    /// How many keys wait for the index.
    pub(crate) fn index_backlog(&self) -> usize {
        self.inbox_keys.load(Ordering::Relaxed)
    }

    /// Takes the keys that wait, in log order.
    pub(crate) fn take_keys(&self) -> Vec<IndexedRecord> {
        let mut inbox = self.inbox.lock();
        self.inbox_keys.store(0, Ordering::Relaxed);
        std::mem::take(&mut *inbox)
    }

    /// Puts back keys that could not be indexed, before those that came since.
    pub(crate) fn return_keys(&self, mut keys: Vec<IndexedRecord>) {
        let mut inbox = self.inbox.lock();
        keys.append(&mut inbox);
        self.inbox_keys.store(count_keys(&keys), Ordering::Relaxed);
        *inbox = keys;
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

fn count_keys(records: &[IndexedRecord]) -> usize {
    records.iter().map(|record| record.hashes.len()).sum()
}
