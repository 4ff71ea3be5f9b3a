//! Where each consumer group is in each queue.
//!
//! Life of an offset: a client commits it (15, or inside a pull), it is answered to the next client of the group that
//! asks (14), and every 5 s what changed is written to `consumerOffset.json`. An operator moves it by a reset (222): the
//! new value is *pending* until the next pull of that queue takes it (the pull is answered 21 with it); until then commits
//! are ignored, because they come from a client that does not know of the reset yet.
//!
//! Invariants:
//! - What a client commits is taken as it is, lower values too: seeking back is a consumer's right, and so does Apache.
//!   What must not move an offset back are repeats of old requests: a pull that was parked and woken does not commit
//!   again, and a commit does not overrule a pending reset.
//! - Offsets of a deleted topic or group are gone with it.
//! - The number of (topic, group) pairs is bounded (`apogeeMaxCommittedOffsets`), and so are the bytes they take
//!   (`apogeeMaxOffsetBytes`). What was saved is kept whatever the bounds are.
//! - Only queues that exist get an offset.
//!
//! Not here: reading messages, subscriptions, broadcast consumers (their offsets are kept by the client).

mod after_crash;
pub mod handler;
pub mod operations;
pub mod places;
pub mod reset;
mod slots;
pub mod table;
pub mod unknown;

use crate::feature::Feature;
pub use after_crash::fit;
pub use places::{OffsetError, OffsetLimits, Offsets};

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
