//! Which messages were delivered or written again before a crash, though what was saved does not say so.
//!
//! The index is saved about once a second; what was delivered since would be delivered twice after a crash (and is, by Apache). But the
//! log has the deliveries: it is read from where the last save says, and what left the timer topic is counted by what names it. Each of
//! these is then not delivered again. Of two equal messages (a producer that sent again) each needs a delivery of its own.

use super::stored::{Stored, hash_of};
use message::properties;
use message::record::Record;
use message::{LogOffset, names};
use protocol::number::Integer;
use rustc_hash::FxHashMap;
use store::{Store, StoreError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// How often each is there.
    done: FxHashMap<[u64; 2], u32>,
}

impl Recovered {
    /// Reads the log from `from` to its end.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn read(store: &Store, from: LogOffset) -> Result<Self, StoreError> {
        let mut found = Self::default();
        store.scan(from, |record| {
            if let Some(identity) = Identity::of_copy(record) {
                *found.done.entry(identity.hash()).or_default() += 1;
            }
        })?;
        Ok(found)
    }

    /// Whether this message was delivered (or written again, if it was `rolls` times before); each time it was counts once. Returns what
    /// gives it back.
    pub(super) fn take(&mut self, waiting: &Stored<'_>, rolls: Option<i64>) -> Option<[u64; 2]> {
        if self.done.is_empty() {
            return None;
        }
        let identity = Identity::of(&waiting.record, waiting.topic, waiting.queue_id, rolls.map(|before| before + 1))?;
        let hash = identity.hash();
        let count = self.done.get_mut(&hash)?;
        *count -= 1;
        if *count == 0 {
            self.done.remove(&hash);
        }
        Some(hash)
    }

    /// These are to be found again.
    pub(super) fn give_back(&mut self, taken: &[[u64; 2]]) {
        for hash in taken {
            *self.done.entry(*hash).or_default() += 1;
        }
    }
}

/// What a waiting message and its copy have in common.
struct Identity<'a> {
    topic: &'a [u8],
    queue_id: i32,
    uniq_key: &'a [u8],
    value: &'a [u8],
    /// For a copy that waits on: how often it was written again.
    rolls: Option<i64>,
    born_ms: i64,
    body_crc: u32,
}

impl<'a> Identity<'a> {
    /// Of a copy; `None` of any other message.
    fn of_copy(record: &Record<'a>) -> Option<Self> {
        let rolls = || properties::find(record.properties, properties::TIMER_ROLL_TIMES).and_then(i64::parse);
        if record.topic == names::TIMER_TOPIC {
            let topic = std::str::from_utf8(properties::find(record.properties, properties::REAL_TOPIC)?).ok()?;
            let queue_id = i32::parse(properties::find(record.properties, properties::REAL_QID)?)?;
            return Self::of(record, topic, queue_id, Some(rolls()?));
        }
        properties::find(record.properties, properties::TIMER_DEQUEUE_MS)?;
        Self::of(record, record.topic, record.queue_id, None)
    }

    fn of(record: &Record<'a>, topic: &'a str, queue_id: i32, rolls: Option<i64>) -> Option<Self> {
        let value = properties::find(record.properties, properties::TIMER_OUT_MS)?;
        Some(Self {
            topic: topic.as_bytes(),
            queue_id,
            uniq_key: properties::find(record.properties, properties::UNIQ_KEY).unwrap_or_default(),
            value,
            rolls,
            born_ms: record.born_timestamp,
            body_crc: record.body_crc,
        })
    }

    fn hash(&self) -> [u64; 2] {
        hash_of(&[
            self.topic,
            &self.queue_id.to_be_bytes(),
            self.uniq_key,
            self.value,
            &self.rolls.unwrap_or(-1).to_be_bytes(),
            &self.born_ms.to_be_bytes(),
            &self.body_crc.to_be_bytes(),
        ])
    }
}
