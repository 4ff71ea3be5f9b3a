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

pub use item::{Item, Snapshot};
pub use registry::{BrokerStats, GroupCounters, Name, TopicCounters};
pub use runtime::{Runtime, Totals};
