//! The mapping of a static topic on this broker, which is part of the topic: pure state and rules, without requests and other brokers.
//! [`crate::static_topic`] says what a static topic is, and what requests do with a mapping.

pub mod accept;
mod mapping;

pub use mapping::{Led, Mapping, NotLeader, Sending};
