//! Queue assignment: the request mode of a group on a topic (401, 402), and the queues that a member gets (400).
//!
//! The modes are saved in `messageRequestMode.json`, which a Java broker can read. A change is answered after the file is written.
//! A member of a group that pulls gets queues of its own; members of a group that pops share them.

pub mod handler;
mod modes;
mod queues;
mod share;
pub mod table;

use crate::feature::Feature;

pub use modes::{ModeError, Modes};
pub use queues::TopicQueues;

impl Feature for Modes {
    fn topic_deleted(&self, topic: &str) {
        self.forget(|of_topic, _| of_topic == topic);
    }

    fn group_deleted(&self, group: &str, _: bool) {
        self.forget(|_, of_group| of_group == group);
    }
}
