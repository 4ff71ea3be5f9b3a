//! Holder and expiry of each locked queue. Pure state: the caller passes the time. The broker name is part of a queue's key, as
//! clients send it.

use parking_lot::Mutex;
use protocol::MessageQueue;
use rustc_hash::FxHashMap;

/// Duration of a lock that is not renewed, in ms. Java clients renew every 20 s and rely on 60 s.
pub const LEASE_MS: i64 = 60_000;

#[derive(Debug)]
struct Lease {
    client_id: Box<str>,
    renewed_ms: i64,
}

impl Lease {
    fn expired(&self, now_ms: i64) -> bool {
        now_ms - self.renewed_ms > LEASE_MS
    }
}

/// Memory of a lease besides its strings, in bytes, with the overhead of allocator and table.
const LEASE_BYTES: usize = 256;

fn bytes(group: &str, queue: &MessageQueue, client_id: &str) -> usize {
    LEASE_BYTES + group.len() + queue.topic.len() + queue.broker_name.len() + client_id.len()
}

#[derive(Debug, Default)]
struct LeaseTable {
    groups: FxHashMap<Box<str>, FxHashMap<MessageQueue, Lease>>,
    count: usize,
    bytes: usize,
}

/// The queue locks of all groups.
#[derive(Debug)]
pub struct OrderLocks {
    state: Mutex<LeaseTable>,
    max: usize,
    max_bytes: usize,
}

impl OrderLocks {
    /// Creates a table of at most `max` leases (`apogeeMaxQueueLocks`) of `max_bytes` in all (`apogeeMaxQueueLockBytes`). Expired
    /// leases count until [`OrderLocks::expire`].
    #[must_use]
    pub fn new(max: usize, max_bytes: usize) -> Self {
        Self {
            state: Mutex::new(LeaseTable::default()),
            max,
            max_bytes,
        }
    }

    /// Locks the queues that are free, expired or held by this client, and returns them. A queue over the limit is not locked: the
    /// client treats it as locked by another one and asks again.
    pub fn lock(&self, group: &str, client_id: &str, queues: Vec<MessageQueue>, now_ms: i64) -> Vec<MessageQueue> {
        let mut state = self.state.lock();
        let LeaseTable {
            groups,
            count,
            bytes: used,
        } = &mut *state;
        let leases = match groups.get_mut(group) {
            Some(leases) => leases,
            None => groups.entry(group.into()).or_default(),
        };
        let mut held = Vec::with_capacity(queues.len());
        for queue in queues {
            if let Some(lease) = leases.get_mut(&queue) {
                if &*lease.client_id != client_id {
                    if !lease.expired(now_ms) {
                        continue;
                    }
                    *used = *used - lease.client_id.len() + client_id.len();
                    lease.client_id = client_id.into();
                }
                lease.renewed_ms = now_ms;
            } else if *count < self.max && *used + bytes(group, &queue, client_id) <= self.max_bytes {
                *count += 1;
                *used += bytes(group, &queue, client_id);
                let lease = Lease {
                    client_id: client_id.into(),
                    renewed_ms: now_ms,
                };
                leases.insert(queue.clone(), lease);
            } else {
                tracing::warn!(group, "queue not locked: apogeeMaxQueueLocks or apogeeMaxQueueLockBytes reached");
                continue;
            }
            held.push(queue);
        }
        if leases.is_empty() {
            groups.remove(group);
        }
        held
    }

    /// Unlocks queues. Those that another client holds stay locked.
    pub fn unlock(&self, group: &str, client_id: &str, queues: &[MessageQueue]) {
        let mut state = self.state.lock();
        let LeaseTable {
            groups,
            count,
            bytes: used,
        } = &mut *state;
        let Some(leases) = groups.get_mut(group) else { return };
        for queue in queues {
            if leases.get(queue).is_some_and(|lease| &*lease.client_id == client_id) {
                leases.remove(queue);
                *count -= 1;
                *used -= bytes(group, queue, client_id);
            }
        }
        if leases.is_empty() {
            groups.remove(group);
        }
    }

    /// Whether another client of the group holds a queue now.
    #[must_use]
    pub fn held_by_other(&self, group: &str, client_id: &str, queue: &MessageQueue, now_ms: i64) -> bool {
        self.state
            .lock()
            .groups
            .get(group)
            .and_then(|leases| leases.get(queue))
            .is_some_and(|lease| &*lease.client_id != client_id && !lease.expired(now_ms))
    }

    /// Whether a group holds any lock now, which means that it consumes orderly.
    #[must_use]
    pub fn holds_any(&self, group: &str, now_ms: i64) -> bool {
        let state = self.state.lock();
        let leases = state.groups.get(group);
        leases.is_some_and(|leases| leases.values().any(|lease| !lease.expired(now_ms)))
    }

    /// Removes the locks of a deleted topic.
    pub fn forget_topic(&self, topic: &str) {
        self.retain(|_, queue, _| *queue.topic != *topic);
    }

    /// Removes the locks of a deleted group.
    pub fn forget_group(&self, group: &str) {
        self.retain(|of_group, _, _| of_group != group);
    }

    /// Removes expired leases. This only frees memory: expired leases are ignored anyway.
    pub fn expire(&self, now_ms: i64) {
        self.retain(|_, _, lease| !lease.expired(now_ms));
    }

    fn retain(&self, is_kept: impl Fn(&str, &MessageQueue, &Lease) -> bool) {
        let mut state = self.state.lock();
        let LeaseTable {
            groups,
            count,
            bytes: used,
        } = &mut *state;
        groups.retain(|group, leases| {
            leases.retain(|queue, lease| {
                let keep = is_kept(group, queue, lease);
                if !keep {
                    *count -= 1;
                    *used -= bytes(group, queue, &lease.client_id);
                }
                keep
            });
            !leases.is_empty()
        });
    }

    /// Number of leases in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().count
    }

    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.state.lock();
        state.groups.is_empty() && state.count == 0 && state.bytes == 0
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(queue_id: i32) -> MessageQueue {
        MessageQueue::new("orders", "broker-a", queue_id)
    }

    #[test]
    fn a_queue_has_one_holder_until_its_lease_expires() {
        let locks = OrderLocks::new(100, 1 << 20);
        assert_eq!(locks.lock("g", "a", vec![queue(0), queue(1)], 0), [queue(0), queue(1)]);
        assert_eq!(locks.lock("g", "b", vec![queue(1), queue(2)], LEASE_MS), [queue(2)]);
        assert!(locks.held_by_other("g", "b", &queue(1), LEASE_MS));
        assert_eq!(locks.lock("g", "b", vec![queue(1)], LEASE_MS + 1), [queue(1)]);
        assert!(locks.lock("g", "a", vec![queue(1)], LEASE_MS + 2).is_empty());
    }

    #[test]
    fn renewing_keeps_the_lease() {
        let locks = OrderLocks::new(100, 1 << 20);
        for now in [0, 20_000, 40_000, 80_000] {
            assert_eq!(locks.lock("g", "a", vec![queue(0)], now).len(), 1);
        }
        assert!(locks.lock("g", "b", vec![queue(0)], 80_000 + LEASE_MS).is_empty());
    }

    #[test]
    fn a_group_that_holds_a_lock_consumes_orderly() {
        let locks = OrderLocks::new(100, 1 << 20);
        locks.lock("g", "a", vec![queue(0)], 0);
        assert!(locks.holds_any("g", LEASE_MS) && !locks.holds_any("h", 0));
        assert!(!locks.holds_any("g", LEASE_MS + 1));
    }

    #[test]
    fn locks_of_groups_are_independent() {
        let locks = OrderLocks::new(100, 1 << 20);
        assert_eq!(locks.lock("g1", "a", vec![queue(0)], 0).len(), 1);
        assert_eq!(locks.lock("g2", "b", vec![queue(0)], 0).len(), 1);
    }

    #[test]
    fn only_the_holder_unlocks_a_queue() {
        let locks = OrderLocks::new(100, 1 << 20);
        locks.lock("g", "a", vec![queue(0)], 0);
        locks.unlock("g", "b", &[queue(0)]);
        assert!(locks.lock("g", "b", vec![queue(0)], 1).is_empty());
        locks.unlock("g", "a", &[queue(0)]);
        assert!(locks.is_clean());
        assert_eq!(locks.lock("g", "b", vec![queue(0)], 1).len(), 1);
    }

    #[test]
    fn locks_are_bounded_in_bytes() {
        let locks = OrderLocks::new(100, 2 * bytes("g", &queue(0), "a"));
        assert_eq!(locks.lock("g", "a", vec![queue(0), queue(1), queue(2)], 0), [queue(0), queue(1)]);
        assert_eq!(
            locks.lock("g", "b-longer", vec![queue(0)], LEASE_MS + 1),
            [queue(0)],
            "the old lease was expired"
        );
        assert!(locks.lock("g", "a", vec![queue(2)], LEASE_MS + 1).is_empty());
        locks.forget_topic("orders");
        assert!(locks.is_clean());
    }

    #[test]
    fn a_full_table_only_renews_locks() {
        let locks = OrderLocks::new(1, 1 << 20);
        assert_eq!(locks.lock("g", "a", vec![queue(0), queue(1)], 0), [queue(0)]);
        assert_eq!(locks.lock("g", "a", vec![queue(0)], 5), [queue(0)]);
        assert!(locks.lock("h", "a", vec![queue(0)], 5).is_empty());
        locks.expire(5 + LEASE_MS + 1);
        assert!(locks.is_clean());
        assert_eq!(locks.lock("h", "a", vec![queue(0)], 70_000), [queue(0)]);
    }
}
