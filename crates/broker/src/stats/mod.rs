//! Counters an operator sees through 28 (runtime), 315 (one counter) and 208 (rates of a group).
//!
//! Life of a count: the send and pull paths hold handles ([`TopicCounters`], [`GroupCounters`]) that were looked up once;
//! adding is a few relaxed atomics, with no lock, no lookup and no string. The upkeep thread calls [`BrokerStats::sample`]
//! once a second, which every 10 s, 10 min and hour puts the totals into the short histories that rates are computed from.
//!
//! Invariants: totals only grow; names are those of Apache's BrokerStatsManager; the number of items is bounded
//! (`apogeeMaxStatsSeries`), what comes after shares one item that nobody can ask for.

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

/// How often totals are put into the histories that rates are computed from.
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
