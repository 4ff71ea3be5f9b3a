//! Where a message is stored: the topic it was sent to, or a system topic first.

use crate::errors::Refusal;
use crate::schedule::{self, Levels};
use crate::settings::BrokerSettings;
use crate::signal::Signal;
use crate::timer::when::TimerProperties;
use crate::topic::Topic;
use message::names;
use std::sync::Arc;
use store::timer::value_of;

/// Where a message is stored.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    /// In the queue it was sent to.
    Topic,
    /// In the schedule topic until it is due, then in the queue it was sent to.
    Schedule {
        /// The delay level, from 1.
        level: i32,
        /// Due time, epoch milliseconds.
        due_ms: i64,
    },
    /// In the dead letter topic of its consumer group.
    DeadLetter(Arc<Topic>),
    /// In the topic of half messages until its transaction ends.
    Half,
    /// In the timer topic until it is due, then in the queue it was sent to.
    Timer {
        /// TIMER_OUT_MS: about when it is due, epoch milliseconds.
        value_ms: i64,
    },
}

impl Destination {
    /// For a message with this delay level, 0 or less for none, or these timer properties. A level above the highest counts as the highest.
    ///
    /// # Errors
    /// The message asks for a time that is refused.
    pub(crate) fn at(level: i32, timer: &TimerProperties<'_>, settings: &BrokerSettings, now_ms: i64) -> Result<Self, Refusal> {
        if level > 0 {
            return Ok(Self::at_level(level, &settings.message_delay_level, now_ms));
        }
        let due_ms = timer.due_ms(settings, now_ms)?;
        Ok(due_ms.map_or(Self::Topic, |due_ms| Self::Timer {
            value_ms: value_of(due_ms, settings.timer_precision_ms),
        }))
    }

    /// For a message with this delay level, 0 or less for none. A level above the highest counts as the highest.
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

    /// The topic and queue in which a message is stored that was sent to these.
    #[must_use]
    pub(crate) fn place<'a>(&'a self, topic: &'a str, queue_id: i32) -> (&'a str, i32) {
        match self {
            Self::Topic => (topic, queue_id),
            Self::Schedule { level, .. } => (names::SCHEDULE_TOPIC, schedule::queue_of(*level)),
            Self::DeadLetter(dead) => (&dead.name, 0),
            Self::Half => (names::TRANS_HALF_TOPIC, 0),
            Self::Timer { .. } => (names::TIMER_TOPIC, 0),
        }
    }

    /// Whether the topic it is stored in, if it is not the one it was sent to, is saved and known to the name servers.
    #[must_use]
    pub(crate) fn is_settled(&self, changed: &Signal) -> bool {
        match self {
            Self::Topic | Self::Schedule { .. } | Self::Half | Self::Timer { .. } => true,
            Self::DeadLetter(dead) => dead.is_settled(changed),
        }
    }

    /// Whether the topic it is stored in was deleted. `sent_to` is the topic it was sent to.
    pub(crate) fn is_deleted(&self, sent_to: &Topic) -> bool {
        match self {
            Self::Topic => sent_to.is_deleted(),
            Self::Schedule { .. } | Self::Half | Self::Timer { .. } => false,
            Self::DeadLetter(dead) => dead.is_deleted(),
        }
    }
}
