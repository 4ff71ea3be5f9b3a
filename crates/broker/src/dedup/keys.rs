//! The keys of one topic, which all connections share: claimed before an append, placed after it.
//!
//! No lock is held while a message is appended. A send whose key another send has claimed waits until that one is appended or refused: no
//! longer than its own append could take. It must hold no claims meanwhile, so nobody waits in a circle.

use super::window::{Claimed, Key, Place, Window};
use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, wait};
use std::sync::Arc;

/// Locks of a topic; a power of two.
const SHARDS: usize = 16;

/// The keys of a topic.
#[derive(Debug)]
pub(super) struct TopicKeys {
    shards: Box<[Shard]>,
    /// Entries of all topics.
    total: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Shard {
    window: Mutex<Window>,
    /// A claim ended.
    ended: Condvar,
}

/// A send to a topic that recognises repeats.
pub(super) enum Found {
    /// The key is new: its message is to be stored now.
    New(Claim),
    /// Its message is stored there.
    Repeat(Place),
    /// Another send is about to store it.
    Busy,
}

/// A key whose message is about to be appended. It ends with [`TopicKeys::placed`] or [`TopicKeys::release`].
#[must_use = "others wait for the key until this ends"]
#[derive(Debug)]
pub(super) struct Claim {
    key: Key,
    /// Its sequence number in its shard.
    seq: u32,
}

impl Claim {
    pub(super) fn key(&self) -> Key {
        self.key
    }
}

impl TopicKeys {
    /// Counts its entries in `total`.
    pub(super) fn new(total: Arc<AtomicUsize>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            total,
        }
    }

    /// Claims a key. `now_ms` is on a clock that never steps back.
    pub(super) fn claim(&self, key: Key, now_ms: i64, window_ms: i64) -> Found {
        let claimed = self.change(key, |window| window.claim(key, now_ms, window_ms));
        match claimed {
            Claimed::New(seq) => Found::New(Claim { key, seq }),
            Claimed::Repeat(place) => Found::Repeat(place),
            Claimed::Busy => Found::Busy,
        }
    }

    /// The message of a claimed key was appended there.
    pub(super) fn placed(&self, claim: Claim, place: Place) {
        self.end(claim, |window, seq| window.place(seq, place));
    }

    /// The message of a claimed key was not appended: others may claim the key.
    pub(super) fn release(&self, claim: Claim) {
        self.end(claim, Window::release);
    }

    fn end(&self, claim: Claim, act: impl FnOnce(&mut Window, u32)) {
        let shard = self.shard(claim.key);
        act(&mut shard.window.lock(), claim.seq);
        shard.ended.notify_all();
    }

    /// Waits until no other send is about to store the message of this key. The caller must hold no claims.
    pub(super) fn wait_for(&self, key: Key) {
        let shard = self.shard(key);
        let mut window = shard.window.lock();
        while window.is_claimed(key) {
            window = wait(&shard.ended, window);
        }
    }

    /// As [`Window::forget`].
    pub(super) fn forget(&self, key: Key, queue_offset: i64, until: i64) {
        self.change(key, |window| window.forget(key, queue_offset, until));
    }

    /// Adds a message that was found in the log. Call it in the order in which they were stored.
    pub(super) fn restore(&self, key: Key, place: Place, since_ms: i64, window_ms: i64) {
        self.change(key, |window| window.restore(key, place, since_ms, window_ms));
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.window.lock().len()).sum()
    }

    /// Drops what is older than the window, and returns memory.
    pub(super) fn expire(&self, now_ms: i64, window_ms: i64) {
        for shard in &self.shards {
            self.change_shard(shard, |window| {
                window.expire(now_ms, window_ms, usize::MAX);
                window.tidy();
            });
        }
    }

    /// Drops about `most` of the oldest entries before their time. Returns how many were valid, and the age of the youngest of them.
    pub(super) fn evict(&self, most: usize, now_ms: i64) -> (usize, Option<i64>) {
        let each = most.div_ceil(SHARDS);
        let shards = self.shards.iter();
        let evicted = shards.map(|shard| self.change_shard(shard, |window| window.evict(each, now_ms)));
        evicted.fold((0, None), |(sum, youngest), (count, age)| {
            (sum + count, youngest.into_iter().chain(age).min())
        })
    }

    fn shard(&self, key: Key) -> &Shard {
        &self.shards[key.0[1] as usize & (SHARDS - 1)]
    }

    fn change<T>(&self, key: Key, act: impl FnOnce(&mut Window) -> T) -> T {
        self.change_shard(self.shard(key), act)
    }

    fn change_shard<T>(&self, shard: &Shard, act: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = shard.window.lock();
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
}

impl Drop for TopicKeys {
    fn drop(&mut self) {
        self.total.fetch_sub(self.len(), Ordering::Relaxed);
    }
}
