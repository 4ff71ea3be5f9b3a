//! What a topic is asked to be, and why it is not: part of `topics.rs`.

use crate::attributes::{self, AttributeError, Attributes, CLEANUP_POLICY, COMPACTION, DedupRule};
use crate::topic::{DEFAULT_QUEUES, PERM_READ, PERM_WRITE};
use message::names;
use protocol::static_topic::InvalidMapping;

/// Configuration of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name.
    pub name: Box<str>,
    /// Number of queues that consumers read.
    pub read_queues: i32,
    /// Number of queues that producers write to.
    pub write_queues: i32,
    /// Bits [`PERM_READ`], [`PERM_WRITE`], [`super::PERM_INHERIT`].
    pub perm: i32,
    /// Whether a message may have several tags (Apache's `MULTI_TAG`). Stored and returned, not used.
    pub multi_tag: bool,
    /// Bits of unit topics. Stored and returned, not used.
    pub sys_flag: i32,
    /// Whether the topic's order is configured at the name servers.
    pub order: bool,
    /// See [`attributes`].
    pub attributes: Attributes,
}

impl Spec {
    /// A readable and writable topic with this number of queues.
    #[must_use]
    pub fn new(name: &str, queues: i32) -> Self {
        Self {
            name: name.into(),
            read_queues: queues,
            write_queues: queues,
            perm: PERM_READ | PERM_WRITE,
            multi_tag: false,
            sys_flag: 0,
            order: false,
            attributes: Attributes::new(),
        }
    }

    /// Whether the last message of each key is kept (`cleanup.policy=COMPACTION`).
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.attributes.get(CLEANUP_POLICY).is_some_and(|policy| policy == COMPACTION)
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self::new("", DEFAULT_QUEUES)
    }
}

/// Why a topic is not created or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The queues of this name are being deleted.
    #[error("topic[{0}] is being deleted: try again later")]
    BeingDeleted(String),
    /// The broker has too many topics.
    #[error("the broker already has {0} topics, which is the limit, see apogeeMaxTopics")]
    Full(usize),
    /// Too many queues, or a negative number.
    #[error("topic[{topic}] cannot have {queues} queues: the limits are 0 and {max}, see apogeeMaxQueuesPerTopic")]
    Queues {
        /// The topic.
        topic: String,
        /// The requested number.
        queues: i32,
        /// The limit.
        max: i32,
    },
    /// Unknown permission bits.
    #[error("perm {0} is invalid: it must be a sum of 4 (read), 2 (write) and 1 (inherit)")]
    Perm(i32),
    /// An invalid change of attributes.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The mapping of a static topic is not accepted.
    #[error(transparent)]
    Mapping(#[from] InvalidMapping),
}

/// A send to a topic that does not exist.
#[derive(Clone, Copy, Debug)]
pub struct CreateOnSend<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The template topic that the producer names.
    pub template: &'a str,
    /// The number of queues that the producer asks for.
    pub queues: i32,
    /// The new topic's [`Spec::sys_flag`].
    pub sys_flag: i32,
    /// Type of the new topic's messages (`message.type`); without one, any type of the remoting protocol.
    pub message_type: Option<&'a str>,
}

/// The limits, each a setting.
#[derive(Clone, Copy, Debug)]
pub struct TopicLimits {
    /// `apogeeMaxTopics`.
    pub topics: usize,
    /// `apogeeMaxQueuesPerTopic`.
    pub queues: i32,
}

/// Retries of one message, and its dead letter, have the same UNIQ_KEY and are no repeats.
pub(super) fn check_dedup(spec: &Spec) -> Result<(), AttributeError> {
    if DedupRule::of(&spec.attributes).is_none() || !(names::is_retry(&spec.name) || names::is_dlq(&spec.name)) {
        return Ok(());
    }
    Err(AttributeError::NotOfTopic {
        attribute: attributes::DEDUP_WINDOW,
        topic: spec.name.to_string(),
        why: "a message is stored there once for each retry; set it on the topic that producers send to",
    })
}
