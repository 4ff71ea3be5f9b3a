//! Where a message is stored: decided once for each, whether it is sent or sent back.

use crate::schedule::{self, Levels};
use crate::signal::Signal;
use crate::topic::Topic;
use message::names;
use std::sync::Arc;

/// Where a message is stored.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    /// The queue it was sent to.
    Topic,
    /// The schedule topic, until it is due; from there it goes to the queue it was sent to.
    Schedule {
        /// Its delay level, from 1 on.
        level: i32,
        /// When it is due, epoch milliseconds.
        due_ms: i64,
    },
    /// The dead letter topic of its consumer group.
    DeadLetter(Arc<Topic>),
    /// The topic of half messages, until its transaction ends.
    Half,
}

impl Destination {
    /// For a message that asks for a delay level at this time: levels above the highest count as that, 0 and below as none.
    #[must_use]
    pub(crate) fn at_level(level: i32, levels: &Levels, now_ms: i64) -> Self {
        if level <= 0 {
            return Self::Topic;
        }
        let level = level.min(levels.max());
        Self::Schedule {
            level,
            due_ms: now_ms + levels.delay_ms(level),
        }
    }

    /// Topic and queue, for a message that was sent to these.
    #[must_use]
    pub(crate) fn place<'a>(&'a self, topic: &'a str, queue_id: i32) -> (&'a str, i32) {
        match self {
            Self::Topic => (topic, queue_id),
            Self::Schedule { level, .. } => (names::SCHEDULE_TOPIC, schedule::queue_of(*level)),
            Self::DeadLetter(dead) => (&dead.name, 0),
            Self::Half => (names::TRANS_HALF_TOPIC, 0),
        }
    }

    /// Whether its topic is saved and known to the name servers, as far as it is another one than the message was sent to.
    #[must_use]
    pub(crate) fn is_settled(&self, changed: &Signal) -> bool {
        match self {
            Self::Topic | Self::Schedule { .. } | Self::Half => true,
            Self::DeadLetter(dead) => dead.is_settled(changed),
        }
    }

    /// Whether the topic in whose queue the message is stored was deleted. `sent_to` is the one it was sent to.
    pub(crate) fn is_deleted(&self, sent_to: &Topic) -> bool {
        match self {
            Self::Topic => sent_to.is_deleted(),
            Self::Schedule { .. } | Self::Half => false,
            Self::DeadLetter(dead) => dead.is_deleted(),
        }
    }
}
