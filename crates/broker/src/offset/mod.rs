//! Committed offsets of consumer groups.
//!
//! A client commits an offset (15, or with a pull). The next client of the group queries it (14). Every 5 s changed offsets are
//! written to `consumerOffset.json`. An operator resets an offset (222): the new offset is *pending* until the next pull of that
//! queue applies it (the pull is answered with 21 and the offset). Until then commits are ignored, because their client does not
//! know of the reset yet.
//!
//! Invariants:
//! - A committed offset is stored as it is, even if it is lower: consumers may seek back, and Apache does the same. Repeated old
//!   requests must not move an offset back: a parked pull does not commit again when it is woken, and a commit does not override a
//!   pending reset.
//! - The offsets of a deleted topic or group are deleted.
//! - The number of pairs of topic and group is bounded (`apogeeMaxCommittedOffsets`), and so is their memory
//!   (`apogeeMaxOffsetBytes`). Offsets from the file are loaded even if they exceed the limits.
//! - Only existing queues get an offset.
//!
//! Not here: reading messages, subscriptions, broadcast consumers (the client stores their offsets).

mod after_crash;
pub mod handler;
mod index;
pub mod offsets;
pub mod operations;
pub mod reset;
pub mod table;
pub mod unknown;

use crate::feature::Feature;
pub use after_crash::fit;
pub use offsets::{OffsetError, OffsetLimits, Offsets};

impl Feature for Offsets {
    fn topic_deleted(&self, topic: &str) {
        self.forget_topic(topic);
    }

    fn group_deleted(&self, group: &str, with_offsets: bool) {
        if with_offsets {
            self.forget_group(group);
        }
    }
}
