//! The limit of unread bytes over all connections of a server.
//!
//! Only bytes that a socket did not take are counted. They are rare, so a server whose peers read does not access the counter when it
//! serves requests.
//!
//! Each connection may have an eighth of what is free, up to its own limit. So the first peers that do not read get much and the last ones
//! little, and the limit is approached but not reached. A peer that reads its responses has no unread bytes and is not affected. If the
//! limit is exceeded anyway (by responses in progress or notifications), the connection with the most unread bytes is closed, see `relief::close_slow_readers`.

use tokio::sync::Notify;

use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// A connection gets one of so many parts of what is free.
const PART: usize = 8;
/// Above one of so many parts of the limit, unread bytes are much, ...
const MUCH: usize = 8;
/// ... and below one of so many parts they are little again.
const LITTLE: usize = 64;

pub(crate) struct Budget {
    bound_bytes: usize,
    charged_bytes: AtomicUsize,
    /// Unread bytes have been much since they were little the last time.
    was_much: AtomicBool,
    is_relieved: AtomicBool,
    changed: Notify,
}

impl Budget {
    pub(crate) fn new(bound_bytes: usize) -> Self {
        Self {
            bound_bytes,
            charged_bytes: AtomicUsize::new(0),
            was_much: AtomicBool::new(false),
            is_relieved: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Changes what a connection is charged from `before` to `after` bytes.
    pub(crate) fn settle(&self, before: usize, after: usize) {
        if after >= before {
            let charged = self.charged_bytes.fetch_add(after - before, Ordering::Relaxed) + after - before;
            if charged > self.bound_bytes / MUCH {
                self.was_much.store(true, Ordering::Relaxed);
            }
            if charged > self.bound_bytes {
                self.changed.notify_one();
            }
            return;
        }
        let charged = self.charged_bytes.fetch_sub(before - after, Ordering::Relaxed) + after - before;
        if charged <= self.bound_bytes / LITTLE && self.was_much.swap(false, Ordering::Relaxed) {
            self.is_relieved.store(true, Ordering::Relaxed);
            self.changed.notify_one();
        }
    }

    /// Waits until unread bytes exceed the limit, or are little again. One task waits; a change is never missed, but may be seen late.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns true once after unread bytes were much and have become little.
    pub(crate) fn take_relief(&self) -> bool {
        self.is_relieved.swap(false, Ordering::Relaxed)
    }

    /// Returns above how many queued bytes a connection with this limit of its own is paused now.
    pub(crate) fn allowance(&self, limit_bytes: usize) -> usize {
        (self.bound_bytes.saturating_sub(self.charged_bytes()) / PART).min(limit_bytes)
    }

    pub(crate) fn charged_bytes(&self) -> usize {
        self.charged_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn bound_bytes(&self) -> usize {
        self.bound_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_connection_may_have_an_eighth_of_what_is_free_and_no_more_than_its_limit() {
        let budget = Budget::new(100 * MIB);
        let allowance = || budget.allowance(4 * MIB);
        assert_eq!(allowance(), 4 * MIB);
        budget.settle(0, 92 * MIB);
        assert_eq!(allowance(), MIB);
        budget.settle(92 * MIB, 101 * MIB);
        assert_eq!(allowance(), 0);
        budget.settle(101 * MIB, 0);
        assert_eq!((allowance(), budget.charged_bytes()), (4 * MIB, 0));
    }

    #[test]
    fn a_thousand_connections_do_not_reach_the_bound() {
        let budget = Budget::new(100 * MIB);
        for _ in 0..1_000 {
            budget.settle(0, budget.allowance(4 * MIB));
        }
        assert!((90 * MIB..=100 * MIB).contains(&budget.charged_bytes()));
    }

    #[test]
    fn relief_is_reported_once_after_much_and_never_after_little() {
        let budget = Budget::new(100 * MIB);
        budget.settle(0, 10 * MIB);
        budget.settle(10 * MIB, 0);
        assert!(!budget.take_relief());
        budget.settle(0, 50 * MIB);
        budget.settle(50 * MIB, 5 * MIB);
        assert!(!budget.take_relief());
        budget.settle(5 * MIB, MIB);
        assert!(budget.take_relief());
        budget.settle(MIB, 0);
        assert!(!budget.take_relief());
    }
}
