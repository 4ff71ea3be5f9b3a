//! Counters that operators read by 28 (runtime information), 315 (one counter) and 208 (rates of a group).
//!
//! The send and pull paths keep handles ([`TopicCounters`], [`GroupCounters`]): counting is a few relaxed atomics, without a lock,
//! a lookup or a string. Once a second the upkeep calls [`BrokerStats::sample`], which adds the totals to the histories every 10 s,
//! 10 min and hour.
//!
//! Invariants: totals never decrease; names are those of Apache's BrokerStatsManager; the number of items is bounded
//! (`apogeeMaxStatsSeries`), and further items share one that cannot be queried.

pub mod handler;
pub mod item;
pub mod registry;
pub mod runtime;

use crate::feature::{self, Feature, Work};
use std::sync::Arc;
use std::time::Duration;
use store::disk::local_day;

pub use item::{Item, Snapshot};
pub use registry::{BrokerStats, GroupCounters, Name, TopicCounters};
pub use runtime::{Runtime, Totals};

/// How often totals are sampled for the histories.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

impl Feature for BrokerStats {
    fn run(self: Arc<Self>) -> Work {
        let sample = move |now_ms| {
            self.sample(now_ms);
            let (put, get) = (self.put_total_without_system(), self.get_total_without_system());
            self.totals().day(local_day(now_ms), put, get);
        };
        Box::pin(feature::every(SAMPLE_EVERY, sample))
    }

    fn topic_deleted(&self, topic: &str) {
        self.forget_topic(topic);
    }

    fn group_deleted(&self, group: &str, _: bool) {
        self.forget_group(group);
    }
}
