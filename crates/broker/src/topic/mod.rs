//! Topics: their queues, permissions and attributes.
//!
//! A topic is created by an operator (17, 18), or by a producer's first message from the template topic that it names (usually
//! `TBW102`). Consumers create the retry topic of their group. Every change raises the data version and the change signal, and the
//! upkeep then writes `topics.json` and registers with the name servers. Code 215 deletes a topic.
//!
//! Invariants:
//! - A [`Topic`] is immutable: a change replaces it. A thread may keep using the one it holds.
//! - Queues of a topic are numbered from 0; `0 <= queues <= apogeeMaxQueuesPerTopic`.
//! - System topics exist from the start and can be neither changed nor deleted (`validateSystemTopicWhenUpdateTopic`).
//! - Table and data version are read together: a name server never gets one without the other.
//! - No topic is created while the queues of its name are deleted ([`Deletion`]), so that a deletion by name never deletes queues
//!   of a new topic. A thread appends to a queue only after it took the queue and then found that its topic is not deleted
//!   ([`Topic::is_deleted`]). The delivery of delayed messages is the exception: it appends to the queue that the message was sent
//!   to even if the topic was deleted.
//!
//! Not here: messages and queues on disk, their compaction and the limits of topics (store; `cleanup` says what topics ask for),
//! what the mappings of static topics mean ([`crate::static_topic`]).

pub mod builtin;
pub(crate) mod cleanup;
pub mod handler;
pub mod table;
#[cfg(test)]
mod tests;
mod topics;
pub(crate) mod unknown;

pub use topics::{CreateOnSend, Deletion, Spec, StaticUpdate, Topic, TopicError, TopicLimits, Topics};

/// Bit of [`Spec::perm`]: consumers may read the topic.
pub const PERM_READ: i32 = 4;
/// Bit of [`Spec::perm`]: producers may write to the topic.
pub const PERM_WRITE: i32 = 2;
/// Bit of [`Spec::perm`]: the topic may be a template of new topics.
pub const PERM_INHERIT: i32 = 1;
/// Queues of a topic if the request does not say how many.
pub const DEFAULT_QUEUES: i32 = 16;

/// Whether consumers may read.
#[must_use]
pub fn is_readable(perm: i32) -> bool {
    perm & PERM_READ != 0
}

/// Whether producers may write.
#[must_use]
pub fn is_writable(perm: i32) -> bool {
    perm & PERM_WRITE != 0
}
