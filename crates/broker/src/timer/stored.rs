//! A message of the timer topic, as it was stored.

use crate::keyed_hash::KeyedHash;
use message::properties;
use message::record::Record;
use message::{hash, names};
use protocol::number::Integer;
use std::hash::Hash;
use std::sync::LazyLock;

/// A record of the timer topic.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) record: Record<'a>,
    /// TIMER_OUT_MS.
    pub(super) value_ms: i64,
    /// Where it goes.
    pub(super) topic: &'a str,
    pub(super) queue_id: i32,
    /// How often it was written again.
    pub(super) rolls: i64,
    pub(super) uniq_key: &'a [u8],
    /// The unique key of the message that it recalls.
    pub(super) recalls: Option<&'a [u8]>,
}

impl<'a> Stored<'a> {
    /// From its record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let record = Record::parse(bytes).map_err(|error| error.to_string())?;
        if record.topic != names::TIMER_TOPIC {
            return Err(format!("it is a message of topic {}", record.topic));
        }
        Self::of(record)
    }

    fn of(record: Record<'a>) -> Result<Self, String> {
        let mut stored = Self {
            value_ms: -1,
            topic: "",
            queue_id: -1,
            rolls: 0,
            uniq_key: &[],
            recalls: None,
            record,
        };
        for (name, value) in properties::iter(stored.record.properties) {
            match std::str::from_utf8(name).unwrap_or_default() {
                properties::TIMER_OUT_MS => stored.value_ms = i64::parse(value).unwrap_or(-1),
                properties::REAL_TOPIC => stored.topic = std::str::from_utf8(value).unwrap_or_default(),
                properties::REAL_QID => stored.queue_id = i32::parse(value).unwrap_or(-1),
                properties::TIMER_ROLL_TIMES => stored.rolls = i64::parse(value).unwrap_or(0),
                properties::UNIQ_KEY => stored.uniq_key = value,
                properties::TIMER_DEL_UNIQKEY => stored.recalls = Some(value),
                _ => {}
            }
        }
        let is_allowed = names::check_topic(stored.topic).is_ok() && names::is_sendable(stored.topic);
        if stored.value_ms < 0 || !is_allowed || stored.queue_id < 0 {
            return Err("it has no valid TIMER_OUT_MS, REAL_TOPIC and REAL_QID".to_owned());
        }
        // Compat: with `appendTopicForTimerDeleteKey` the topic stands before the key.
        if let Some(key) = stored.recalls {
            let own = key.strip_prefix(stored.topic.as_bytes()).and_then(|rest| rest.strip_prefix(b"+"));
            stored.recalls = Some(own.unwrap_or(key));
        }
        Ok(stored)
    }

    /// Java's hash of the topic it is for.
    pub(super) fn topic_hash(&self) -> i32 {
        hash::java_string_hash(self.topic)
    }

    /// Names the message among those of its slot; of a recall, the message that it recalls.
    pub(super) fn key(&self) -> [u64; 2] {
        hash_of(&[self.topic.as_bytes(), self.recalls.unwrap_or(self.uniq_key)])
    }
}

/// Of these texts, one after the other.
pub(super) fn hash_of(parts: &[&[u8]]) -> [u64; 2] {
    static SECRET: LazyLock<KeyedHash> = LazyLock::new(KeyedHash::new);
    SECRET.of(|hasher| parts.hash(hasher))
}
