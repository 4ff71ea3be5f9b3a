//! Topics: which there are, how many queues they have and what may be done with them.
//!
//! Life of a topic: an operator makes it (17, 18), or a producer's first message does, after the template it names
//! (usually `TBW102`); consumers make the retry topic of their group. Every change raises the data version, and the change
//! signal, upon which the upkeep writes `topics.json` and registers with the name servers. It ends with 215.
//!
//! Invariants:
//! - A [`Topic`] never changes: a change replaces it. Whoever holds one may go on with it.
//! - Queues of a topic are numbered from 0; `0 <= queues <= apogeeMaxQueuesPerTopic`.
//! - System topics exist from the start and can be neither changed nor deleted (`validateSystemTopicWhenUpdateTopic`).
//! - Table and data version are read together: a name server never gets the one without the other.
//! - No topic is made while queues of its name are deleted ([`Deletion`]): what is deleted by name is never a new topic's. A queue
//!   is appended to only by whoever found its topic not deleted after taking the queue ([`Topic::is_deleted`]), and by the delivery of
//!   delayed messages, which go where they were sent whether there still is a topic or not.
//!
//! Not here: messages and queues on disk (store), static topics, compaction.

pub mod builtin;
pub mod handler;
pub mod table;
#[cfg(test)]
mod tests;
mod topics;
pub(crate) mod unknown;

pub use topics::{CreateOnSend, Deletion, Spec, Topic, TopicError, TopicLimits, Topics};

/// Bit of [`Spec::perm`]: consumers may read.
pub const PERM_READ: i32 = 4;
/// Bit of [`Spec::perm`]: producers may write.
pub const PERM_WRITE: i32 = 2;
/// Bit of [`Spec::perm`]: topics may be made after this one.
pub const PERM_INHERIT: i32 = 1;
/// Queues of a topic when nobody says how many.
pub const DEFAULT_QUEUES: i32 = 16;

/// Whether a permission lets consumers read.
#[must_use]
pub fn is_readable(perm: i32) -> bool {
    perm & PERM_READ != 0
}

/// Whether a permission lets producers write.
#[must_use]
pub fn is_writable(perm: i32) -> bool {
    perm & PERM_WRITE != 0
}
