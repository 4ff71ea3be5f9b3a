//! Order locks: a consumer of a group that consumes in order first locks the queues it was assigned.
//!
//! Life of a lock: a client asks (41) and holds the queue for [`LEASE_MS`]; it asks again every 20 s, which renews the
//! lease; it gives the queue back (42), or dies and the lease runs out, after which the next client that asks gets it.
//!
//! Invariants: a queue has at most one holder in a group; a closed connection does not free a lock, because the client
//! may still be busy with the message it holds while it connects anew.
//! Never on disk: after a restart every client asks again within 20 s, and whoever is first gets the queue.

pub mod handler;
pub mod leases;

use crate::feature::{self, Feature, Work};
use std::sync::Arc;
use std::time::Duration;

pub use leases::{LEASE_MS, OrderLocks};

/// How often leases that ran out are looked for.
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
