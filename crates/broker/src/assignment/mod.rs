//! How groups get a topic's messages where the broker has a say: the request mode of a group on a topic (401, 402).
//!
//! Modes are kept in `messageRequestMode.json`, which a Java broker reads too. A mode is on the disk before its setting is
//! answered.
//!
//! Not here: POP, so that mode is refused; and the assignment of queues by the broker (400). A client that asks for it and is
//! refused shares the queues out by itself, as all did before RocketMQ 5.

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
