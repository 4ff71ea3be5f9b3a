//! Queue assignment: the request mode of a group on a topic (401, 402).
//!
//! The modes are saved in `messageRequestMode.json`, which a Java broker can read. A change is answered after the file is written.
//!
//! Not here: POP, so that mode is refused; and assignment of queues by the broker (400). A client whose request 400 is refused
//! rebalances by itself, as all clients before RocketMQ 5.

pub mod handler;
mod modes;
pub mod table;

use crate::feature::Feature;

pub use modes::{ModeError, Modes};

impl Feature for Modes {
    fn topic_deleted(&self, topic: &str) {
        self.forget(|of_topic, _| of_topic == topic);
    }

    fn group_deleted(&self, group: &str, _: bool) {
        self.forget(|_, of_group| of_group == group);
    }
}
