//! Write permission of all topics of a broker, changed in constant time: operators wipe it before maintenance (205) and add it afterwards
//! (327), and the name server wipes it when a name loses its master.
//!
//! A broker may have a hundred thousand topics, so topics are not changed. The change is stored with its version and applies to all queues
//! that were set before it. Queues that the broker registers afterwards have the permission of that registration.

use protocol::topic::perm;

use super::{BrokerQueues, Routes};

/// Versions of the last changes; 0: never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WritePermChanges {
    wiped_at: u64,
    added_at: u64,
    /// When the broker last set the queues of a topic.
    set_at: u64,
}

impl WritePermChanges {
    pub(super) fn set(&mut self, version: u64) {
        self.set_at = version;
    }

    /// The permission of queues after later changes.
    pub(super) fn of(&self, on_broker: &BrokerQueues) -> i32 {
        let mut perm = on_broker.queues.perm;
        if on_broker.set_at < self.added_at {
            perm = perm::READ | perm::WRITE;
        }
        if on_broker.set_at < self.wiped_at && self.added_at < self.wiped_at {
            perm &= !perm::WRITE;
        }
        perm
    }
}

impl Routes {
    /// Removes the write permission from all topics of a broker name. Returns the number of its topics.
    pub fn wipe_write_perm(&mut self, broker_name: &str) -> i32 {
        self.change_permission(broker_name, |changes, version| {
            let new = changes.wiped_at <= changes.added_at.max(changes.set_at);
            if new {
                changes.wiped_at = version;
            }
            new
        })
    }

    /// Gives all topics of a broker name read and write permission. Returns the number of its topics.
    pub fn add_write_perm(&mut self, broker_name: &str) -> i32 {
        self.change_permission(broker_name, |changes, version| {
            let new = changes.added_at <= changes.wiped_at.max(changes.set_at);
            if new {
                changes.added_at = version;
            }
            new
        })
    }

    /// `change` returns whether anything differs.
    fn change_permission(&mut self, broker_name: &str, change: impl FnOnce(&mut WritePermChanges, u64) -> bool) -> i32 {
        let version = self.last_version + 1;
        let Some(broker) = self.brokers.get_mut(broker_name) else {
            return 0;
        };
        if change(&mut broker.permission, version) {
            self.last_version = version;
            self.brokers_version += 1;
            broker.changes += 1;
        }
        i32::try_from(broker.topics.len()).unwrap_or(i32::MAX)
    }
}
