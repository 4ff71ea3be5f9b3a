//! From the log to what is derived of it: consume queues, key index, and whoever waits for messages.
//!
//! Invariant: only confirmed messages come here, in log order, so nothing derived is ever ahead of the log.

use crate::log::{Batch, IndexedRecord};
use crate::queue::ConsumeQueue;
use crate::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use crate::sync::{Condvar, Instant, Mutex};
use std::sync::OnceLock;
use std::time::Duration;

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
    /// Most keys in the inbox.
    max_keys: usize,
    inbox: Mutex<Inbox>,
    /// End of what has been published.
    published: AtomicI64,
    /// Store time of the last message published.
    last_timestamp: AtomicI64,
    listener: OnceLock<Box<dyn Arrivals>>,
    keeper: KeeperSignal,
}

/// Keys on their way to the index.
#[derive(Default)]
struct Inbox {
    /// Keys that the keeper will index, in log order.
    records: Vec<IndexedRecord>,
    /// How many keys stand in them.
    keys: usize,
    /// End of the log that was looked through for keys.
    end: i64,
    /// A part of the log whose keys are not in memory any more: they are indexed from the log, and until that has come to
    /// its end no keys are gathered here.
    missed: Option<Missed>,
}

/// A part of the log whose keys are not indexed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    /// Where its first record begins.
    pub(crate) from: i64,
    /// Where it ends.
    pub(crate) to: i64,
}

impl Inbox {
    /// Drops the keys that wait; they and those from `from` on are for the log to give.
    fn miss(&mut self, from: i64) {
        let first = self.records.first().map_or(from, |record| record.log_offset.min(from));
        (self.records, self.keys) = (Vec::new(), 0);
        let from = self.missed.map_or(first, |missed| missed.from.min(first));
        self.missed = Some(Missed { from, to: self.end });
    }
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
    /// After a start: the log ends at `published`. At most `max_keys` keys wait in memory; with `missed_from` those of the
    /// records from there on are not indexed yet.
    pub(crate) fn new(index_enabled: bool, max_keys: usize, published: i64, missed_from: Option<i64>) -> Self {
        let missed = missed_from.filter(|from| *from < published && index_enabled);
        Self {
            index_enabled,
            max_keys,
            inbox: Mutex::new(Inbox {
                end: published,
                missed: missed.map(|from| Missed { from, to: published }),
                ..Inbox::default()
            }),
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
        let published = self.published();
        assert!(
            published <= last.end && batches.is_sorted_by_key(|batch| batch.end),
            "published would go from {published} to {}",
            last.end
        );
        for dispatched in batches.iter().flat_map(|b| &b.entries) {
            dispatched.queue.publish_at(dispatched.queue_offset, dispatched.entry);
        }
        if self.index_enabled {
            self.gather_keys(batches, last.end);
        }
        self.last_timestamp.store(last.store_timestamp, Ordering::Relaxed);
        self.published.store(last.end, Ordering::Release);
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

    /// End of what is in the queues.
    pub(crate) fn published(&self) -> i64 {
        self.published.load(Ordering::Acquire)
    }

    /// Store time of the newest message in the queues; 0 when none came since the start.
    pub(crate) fn last_timestamp(&self) -> i64 {
        self.last_timestamp.load(Ordering::Relaxed)
    }

    fn gather_keys(&self, batches: &[Batch], end: i64) {
        let mut inbox = self.inbox.lock();
        inbox.end = end;
        if let Some(missed) = &mut inbox.missed {
            missed.to = end;
            return;
        }
        let before = inbox.records.len();
        inbox.records.extend(batches.iter().flat_map(|b| b.keys.iter().cloned()));
        inbox.keys += count_keys(&inbox.records[before..]);
        if inbox.keys > self.max_keys {
            inbox.miss(end);
            drop(inbox);
            tracing::warn!(
                max = self.max_keys,
                "more keys wait for the index than apogeeMaxIndexBacklog; they are indexed from the log, and found by key later"
            );
        }
    }

    /// Takes the keys that wait, in log order.
    pub(crate) fn take_keys(&self) -> Vec<IndexedRecord> {
        let mut inbox = self.inbox.lock();
        inbox.keys = 0;
        std::mem::take(&mut inbox.records)
    }

    /// The keys of the records from `from` on could not be indexed: they are read from the log again, later.
    pub(crate) fn miss_keys(&self, from: i64) {
        self.inbox.lock().miss(from);
    }

    /// The part of the log whose keys are to be indexed from the log.
    pub(crate) fn missed(&self) -> Option<Missed> {
        self.inbox.lock().missed
    }

    /// Keys were indexed from the log up to `to`. When no more were missed meanwhile, keys are gathered in memory again.
    pub(crate) fn caught_up(&self, to: i64) {
        let mut inbox = self.inbox.lock();
        inbox.missed = inbox
            .missed
            .map(|missed| Missed {
                from: missed.from.max(to),
                ..missed
            })
            .filter(|missed| missed.from < missed.to);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(at: i64, keys: usize) -> Batch {
        Batch {
            end: at + 100,
            keys: vec![IndexedRecord {
                hashes: (0..keys as i32).collect(),
                log_offset: at,
                store_timestamp: 1,
            }],
            ..Batch::default()
        }
    }

    #[test]
    fn keys_over_the_bound_are_dropped_and_their_part_of_the_log_is_remembered_to_its_end() {
        let dispatch = Dispatch::new(true, 5, 0, None);
        dispatch.publish(&[batch(0, 3)]);
        assert_eq!((dispatch.missed(), dispatch.take_keys().len()), (None, 1));
        dispatch.publish(&[batch(100, 3)]);
        dispatch.publish(&[batch(200, 3)]);
        assert_eq!(dispatch.missed(), Some(Missed { from: 100, to: 300 }));
        dispatch.publish(&[batch(300, 1)]);
        assert_eq!(
            (dispatch.missed(), dispatch.take_keys().len()),
            (Some(Missed { from: 100, to: 400 }), 0)
        );
        dispatch.caught_up(300);
        assert_eq!(dispatch.missed(), Some(Missed { from: 300, to: 400 }));
        dispatch.caught_up(400);
        dispatch.publish(&[batch(400, 1)]);
        assert_eq!((dispatch.missed(), dispatch.take_keys().len()), (None, 1));
    }

    #[test]
    fn keys_that_could_not_be_indexed_come_before_those_that_waited() {
        let dispatch = Dispatch::new(true, 5, 0, None);
        dispatch.publish(&[batch(0, 1), batch(100, 1)]);
        assert_eq!(dispatch.take_keys().len(), 2);
        dispatch.publish(&[batch(200, 1)]);
        dispatch.miss_keys(100);
        assert_eq!(dispatch.missed(), Some(Missed { from: 100, to: 300 }));
        assert!(dispatch.take_keys().is_empty());
        let after_a_start = Dispatch::new(true, 5, 500, Some(300));
        assert_eq!(after_a_start.missed(), Some(Missed { from: 300, to: 500 }));
        assert_eq!(Dispatch::new(true, 5, 500, Some(500)).missed(), None);
    }
}
