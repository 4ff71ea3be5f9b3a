//! What is known of a topic or a group beside its definition. It goes with it: a topic or group that is made again under the
//! name finds nothing of the one before.
//!
//! Parked pulls and queues are the business of [`crate::pull`] and the store.

use crate::assignment::Modes;
use crate::lock::OrderLocks;
use crate::offset::Offsets;
use crate::stats::BrokerStats;

/// Everything that is kept by topic or by group.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Where groups are in queues.
    pub offsets: &'a Offsets,
    /// Who consumes which queue in order.
    pub locks: &'a OrderLocks,
    /// How groups ask for messages of a topic.
    pub modes: &'a Modes,
    /// Counters.
    pub stats: &'a BrokerStats,
}

impl Known<'_> {
    /// Forgets a topic that is being deleted.
    pub fn forget_topic(&self, topic: &str) {
        self.offsets.forget_topic(topic);
        self.locks.forget_topic(topic);
        self.modes.forget(|of_topic, _| of_topic == topic);
        self.stats.forget_topic(topic);
    }

    /// Forgets a group that is being deleted. Its offsets stay when an operator wants that (`with_offsets`), for a group that is
    /// to go on under the name.
    pub fn forget_group(&self, group: &str, with_offsets: bool) {
        if with_offsets {
            self.offsets.forget_group(group);
        }
        self.locks.forget_group(group);
        self.modes.forget(|_, of_group| of_group == group);
        self.stats.forget_group(group);
    }
}
