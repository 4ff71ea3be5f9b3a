//! The keys of one topic, which all connections share: claimed before an append, placed after it.
//!
//! No lock is held while a message is appended. A send whose key another send has claimed waits until that one is appended or refused: no
//! longer than its own append could take. It must hold no claims meanwhile, so nobody waits in a circle.

use super::window::{Key, Place, Window};
use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, wait};
use std::sync::Arc;

/// Locks of a topic; a power of two. Few, because the sends of one read lock each of them once; several, because a shard that grows copies
/// its entries.
pub(super) const SHARDS: usize = 4;

/// The keys of a topic.
#[derive(Debug)]
pub(super) struct TopicKeys {
    shards: [Shard; SHARDS],
    /// Entries of all topics.
    total: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Shard {
    window: Mutex<Window>,
    /// Claims ended.
    ended: Condvar,
}

/// The shard of a key.
pub(super) fn shard_of(key: Key) -> usize {
    key.0[1] as usize & (SHARDS - 1)
}

impl TopicKeys {
    /// Counts its entries in `total`.
    pub(super) fn new(total: Arc<AtomicUsize>) -> Self {
        Self {
            shards: Default::default(),
            total,
        }
    }

    /// Calls `act` with a shard. It must not block.
    pub(super) fn change<T>(&self, shard: usize, act: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = self.shards[shard].window.lock();
        let before = window.len();
        let result = act(&mut window);
        let after = window.len();
        drop(window);
        match after.cmp(&before) {
            std::cmp::Ordering::Greater => drop(self.total.fetch_add(after - before, Ordering::Relaxed)),
            std::cmp::Ordering::Less => drop(self.total.fetch_sub(before - after, Ordering::Relaxed)),
            std::cmp::Ordering::Equal => {}
        }
        result
    }

    /// As [`Self::change`], to end claims: places or releases them.
    pub(super) fn end_claims(&self, shard: usize, act: impl FnOnce(&mut Window)) {
        self.change(shard, act);
        self.shards[shard].ended.notify_all();
    }

    /// Waits until no other send is about to store the message of this key. The caller must hold no claims.
    pub(super) fn wait_for(&self, key: Key) {
        let shard = &self.shards[shard_of(key)];
        let mut window = shard.window.lock();
        while window.is_claimed(key) {
            window = wait(&shard.ended, window);
        }
    }

    /// As [`Window::forget`].
    pub(super) fn forget(&self, key: Key, queue_offset: i64, until: i64) {
        self.change(shard_of(key), |window| window.forget(key, queue_offset, until));
    }

    /// Adds a message that was found in the log. Call it in the order in which they were stored.
    pub(super) fn restore(&self, key: Key, place: Place, since_ms: i64, window_ms: i64) {
        self.change(shard_of(key), |window| window.restore(key, place, since_ms, window_ms));
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.window.lock().len()).sum()
    }

    /// Drops what is older than the window, and returns memory.
    pub(super) fn expire(&self, now_ms: i64, window_ms: i64) {
        for shard in 0..SHARDS {
            self.change(shard, |window| {
                window.expire(now_ms, window_ms, usize::MAX);
                window.tidy();
            });
        }
    }

    /// Drops about `most` of the oldest entries before their time. Returns how many were valid, and the age of the youngest of them.
    pub(super) fn evict(&self, most: usize, now_ms: i64) -> (usize, Option<i64>) {
        let each = most.div_ceil(SHARDS);
        let evicted = (0..SHARDS).map(|shard| self.change(shard, |window| window.evict(each, now_ms)));
        evicted.fold((0, None), |(sum, youngest), (count, age)| {
            (sum + count, youngest.into_iter().chain(age).min())
        })
    }
}

impl Drop for TopicKeys {
    fn drop(&mut self) {
        self.total.fetch_sub(self.len(), Ordering::Relaxed);
    }
}
