//! The permission to write of all topics of a broker at once, in constant time: operators take it before maintenance (205) and give it
//! back (327), and a name server takes it from a name that lost its master.
//!
//! A broker may have a hundred thousand topics, so no topic is touched: the change is kept with its version, and applies to every
//! part of a topic that was set before it. What a broker registers afterwards stands as it says.

use protocol::topic::perm;

use super::{Part, Routes};

/// When the permission to write was last taken and last given, as versions; 0: never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changes {
    taken_at: u64,
    given_at: u64,
    /// When the broker last set a part of a topic.
    set_at: u64,
}

impl Changes {
    pub(super) fn set(&mut self, version: u64) {
        self.set_at = version;
    }

    /// The permission a part has after the changes that came later than it.
    pub(super) fn of(&self, part: &Part) -> i32 {
        let mut perm = part.queues.perm;
        if part.set_at < self.given_at {
            perm = perm::READ | perm::WRITE;
        }
        if part.set_at < self.taken_at && self.given_at < self.taken_at {
            perm &= !perm::WRITE;
        }
        perm
    }
}

impl Routes {
    /// Takes the permission to write from all topics of a broker name. How many topics it has.
    pub fn wipe_write_perm(&mut self, broker_name: &str) -> i32 {
        self.change_permission(broker_name, |changes, version| {
            let new = changes.taken_at <= changes.given_at.max(changes.set_at);
            if new {
                changes.taken_at = version;
            }
            new
        })
    }

    /// Gives all topics of a broker name the permissions to read and write. How many topics it has.
    pub fn add_write_perm(&mut self, broker_name: &str) -> i32 {
        self.change_permission(broker_name, |changes, version| {
            let new = changes.given_at <= changes.taken_at.max(changes.set_at);
            if new {
                changes.given_at = version;
            }
            new
        })
    }

    /// `change` says whether anything is different now.
    fn change_permission(&mut self, broker_name: &str, change: impl FnOnce(&mut Changes, u64) -> bool) -> i32 {
        let version = self.last_version + 1;
        let Some(broker) = self.brokers.get_mut(broker_name) else {
            return 0;
        };
        if change(&mut broker.permission, version) {
            self.last_version = version;
            self.brokers_version += 1;
        }
        i32::try_from(broker.topics.len()).unwrap_or(i32::MAX)
    }
}
