//! Queue locks: before an orderly consumer consumes its assigned queues, it locks them.
//!
//! A client locks a queue (41) and holds it for [`LEASE_MS`]. It repeats the request every 20 s, which renews the lease. It unlocks
//! the queue (42), or its lease expires; then the next client that asks gets the lock.
//!
//! Invariants: a queue has at most one holder per group; a closed connection does not release a lock, because the client may still
//! process a message while it reconnects.
//! Locks are not on disk: after a restart every client asks again within 20 s, and the first one gets the queue.

pub mod handler;
pub mod leases;

use crate::feature::{self, Feature, Work};
use std::sync::Arc;
use std::time::Duration;

pub use leases::{LEASE_MS, OrderLocks};

/// How often expired leases are removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

impl Feature for OrderLocks {
    fn run(self: Arc<Self>) -> Work {
        Box::pin(feature::every(EXPIRE_EVERY, move |now_ms| self.expire(now_ms)))
    }

    fn topic_deleted(&self, topic: &str) {
        self.forget_topic(topic);
    }

    fn group_deleted(&self, group: &str, _: bool) {
        self.forget_group(group);
    }
}
