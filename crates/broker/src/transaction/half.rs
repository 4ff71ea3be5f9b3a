//! Half messages: what is stored of a message until its transaction ends.

use crate::errors::Refusal;
use crate::timer::when::TimerProperties;
use message::properties::{self, Builder};
use message::record::{Draft, Record};
use message::{names, sys_flag};
use protocol::number::Integer;
use std::borrow::Cow;

/// What the properties of a half message grow by when it is written again: kept free when it is sent.
pub(crate) const GROWTH_BYTES: usize = 128;

/// The properties with which a message waits in the topic of half messages.
#[must_use]
pub(crate) fn half_properties(own: &[u8], topic: &str, queue_id: i32, uniq_key: &str) -> Vec<u8> {
    const REPLACED: [&str; 5] = [
        properties::REAL_TOPIC,
        properties::REAL_QID,
        properties::TRANSACTION_ID,
        properties::TRANSACTION_CHECK_TIMES,
        properties::TRANSACTION_FIRST_QUEUE_OFFSET,
    ];
    Builder::from_bytes_without(own, &REPLACED)
        .with(properties::TRANSACTION_ID, uniq_key)
        .with(properties::REAL_TOPIC, topic)
        .with(properties::REAL_QID, &queue_id.to_string())
        .build()
}

/// A half message that was read.
#[derive(Debug)]
pub(super) struct Half<'a> {
    pub(super) record: Record<'a>,
    /// Queue offset of the transaction's first half message.
    pub(super) first: i64,
    /// It repeats the half message at this queue offset, by Apache's broker.
    pub(super) repeats: Option<i64>,
    pub(super) producer_group: Cow<'a, str>,
    /// Where the message goes when the transaction commits.
    pub(super) topic: Cow<'a, str>,
    pub(super) queue_id: i32,
    /// How often its producer was asked.
    checks: i32,
    /// From its creation on it is not checked for so long, in seconds; `None` when it does not say so.
    immunity_seconds: Option<i64>,
    pub(super) uniq_key: Cow<'a, str>,
    pub(super) delay: Option<&'a [u8]>,
    pub(super) timer: TimerProperties<'a>,
}

impl<'a> Half<'a> {
    /// From its record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let record = Record::parse(bytes).map_err(|error| error.to_string())?;
        if record.topic != names::TRANS_HALF_TOPIC {
            return Err(format!("it is a message of topic {}", record.topic));
        }
        let mut half = Self {
            first: record.queue_offset.0,
            repeats: None,
            producer_group: Cow::default(),
            topic: Cow::default(),
            queue_id: -1,
            checks: 0,
            immunity_seconds: None,
            uniq_key: Cow::default(),
            delay: None,
            timer: TimerProperties::default(),
            record,
        };
        for (name, value) in properties::iter(half.record.properties) {
            let text = || String::from_utf8_lossy(value);
            match std::str::from_utf8(name).unwrap_or_default() {
                properties::PRODUCER_GROUP => half.producer_group = text(),
                properties::REAL_TOPIC => half.topic = text(),
                properties::REAL_QID => half.queue_id = i32::parse(value).unwrap_or(-1),
                properties::UNIQ_KEY => half.uniq_key = text(),
                properties::DELAY => half.delay = Some(value),
                // Compat: what is no number counts as Apache counts it.
                properties::TRANSACTION_CHECK_TIMES => half.checks = i32::parse(value).unwrap_or(-1),
                properties::CHECK_IMMUNITY_SECONDS => half.immunity_seconds = Some(i64::parse(value).unwrap_or(-1)),
                properties::TRANSACTION_FIRST_QUEUE_OFFSET => half.first = i64::parse(value).unwrap_or(half.first),
                properties::TRANSACTION_PREPARED_QUEUE_OFFSET => half.repeats = i64::parse(value),
                name => half.timer.see(name, value),
            }
        }
        if half.topic.is_empty() || half.queue_id < 0 {
            return Err("it does not say which topic and queue it is for".to_owned());
        }
        if half.first == half.record.queue_offset.0
            && let Some(repeated) = half.repeats
        {
            half.first = repeated;
        }
        Ok(half)
    }

    /// Whether it is not checked yet because its producer asked for time: for that its age counts from its creation.
    pub(super) fn is_immune(&self, timeout_ms: i64, now_ms: i64) -> bool {
        let Some(seconds) = self.immunity_seconds else { return false };
        let immunity = if seconds == -1 { timeout_ms } else { seconds.saturating_mul(1_000) };
        now_ms.saturating_sub(self.record.born_timestamp) <= immunity
    }

    /// Whether its producer comes too late to end it without being asked. Compat: only one that asked for time can be too late, and it
    /// has `transactionTimeOut` at least.
    pub(super) fn is_too_late(&self, timeout_ms: i64, now_ms: i64) -> bool {
        let Some(seconds) = self.immunity_seconds else { return false };
        let immunity = seconds.saturating_mul(1_000).max(timeout_ms);
        now_ms.saturating_sub(self.record.born_timestamp) > immunity
    }

    /// Whether it was checked so often that it is given up.
    pub(super) fn is_given_up(&self, max: i32) -> bool {
        self.checks >= max
    }

    /// Its properties when it is written again because its producer is asked.
    pub(super) fn checked_properties(&self) -> Vec<u8> {
        const REPLACED: [&str; 2] = [properties::TRANSACTION_CHECK_TIMES, properties::TRANSACTION_FIRST_QUEUE_OFFSET];
        Builder::from_bytes_without(self.record.properties, &REPLACED)
            .with(properties::TRANSACTION_CHECK_TIMES, &(self.checks.max(0) + 1).to_string())
            .with(properties::TRANSACTION_FIRST_QUEUE_OFFSET, &self.first.to_string())
            .build()
    }

    /// Its properties when it has been given up and an operator has it checked again.
    pub(super) fn resumed_properties(record: &Record<'_>) -> Vec<u8> {
        const REPLACED: [&str; 3] = [
            properties::TRANSACTION_CHECK_TIMES,
            properties::TRANSACTION_FIRST_QUEUE_OFFSET,
            properties::TRANSACTION_PREPARED_QUEUE_OFFSET,
        ];
        Builder::from_bytes_without(record.properties, &REPLACED)
            .with(properties::TRANSACTION_CHECK_TIMES, "0")
            .build()
    }

    /// The properties of its message. Compat: that it was a half message stays in it.
    pub(super) fn committed_properties(&self) -> Vec<u8> {
        const REMOVED: [&str; 3] = [
            properties::REAL_TOPIC,
            properties::REAL_QID,
            properties::TRANSACTION_FIRST_QUEUE_OFFSET,
        ];
        Builder::from_bytes_without(self.record.properties, &REMOVED).build()
    }

    /// Its properties in the dead topic.
    pub(super) fn given_up_properties(&self) -> Vec<u8> {
        shown_properties(self.record.properties)
    }

    /// The message of the committed transaction, without its place.
    pub(super) fn committed(&self, half_log_offset: i64) -> Draft<'a> {
        Draft {
            sys_flag: (self.record.sys_flag & !sys_flag::TRANSACTION_MASK) | sys_flag::TRANSACTION_COMMIT,
            prepared_offset: half_log_offset,
            ..Draft::of(&self.record)
        }
    }
}

/// The properties of a half message without what only this broker knows of.
#[must_use]
pub(super) fn shown_properties(own: &[u8]) -> Vec<u8> {
    Builder::from_bytes_without(own, &[properties::TRANSACTION_FIRST_QUEUE_OFFSET]).build()
}

/// A half message that cannot be read as one.
pub(super) fn malformed(offset: i64, why: &str) -> Refusal {
    Refusal::system(format!("no half message at offset {offset}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use message::record::Placement;
    use message::{LogOffset, QueueOffset};

    fn stored(properties: &[u8], queue_offset: i64) -> BytesMut {
        let draft = Draft {
            born_timestamp: 1_000,
            properties,
            ..Draft::new(names::TRANS_HALF_TOPIC, 0, b"body")
        };
        let placement = Placement {
            queue_offset: QueueOffset(queue_offset),
            log_offset: LogOffset(77),
            store_timestamp: 1_000,
        };
        let mut bytes = BytesMut::new();
        draft.encode(placement, &mut bytes);
        bytes
    }

    #[test]
    fn a_half_message_knows_its_message_and_the_first_of_its_transaction() {
        let own = Builder::new()
            .with(properties::PRODUCER_GROUP, "p")
            .with(properties::UNIQ_KEY, "u")
            .with(properties::REAL_TOPIC, "of another broker")
            .build();
        let first = stored(&half_properties(&own, "t", 3, "u"), 5);
        let half = Half::parse(&first).unwrap();
        assert_eq!((&*half.topic, half.queue_id, half.first, half.checks), ("t", 3, 5, 0));
        let again = stored(&half.checked_properties(), 9);
        let again = Half::parse(&again).unwrap();
        assert_eq!(
            (again.first, again.checks, again.is_given_up(1), again.is_given_up(2)),
            (5, 1, true, false)
        );
        let (committed, given_up) = (again.committed_properties(), again.given_up_properties());
        for name in [
            properties::TRANSACTION_FIRST_QUEUE_OFFSET,
            properties::REAL_TOPIC,
            properties::REAL_QID,
        ] {
            assert_eq!(properties::find(&committed, name), None, "consumers see no {name}");
        }
        assert_eq!(properties::find(&given_up, properties::TRANSACTION_FIRST_QUEUE_OFFSET), None);
        assert_eq!(
            properties::find(&given_up, properties::REAL_TOPIC),
            Some(&b"t"[..]),
            "it may be resumed"
        );
        assert!(again.checked_properties().len() < half.record.properties.len() + GROWTH_BYTES);
        assert!(Half::parse(&stored(&own[..4], 1)).is_err());
    }

    #[test]
    fn a_producer_that_asks_for_time_has_it_from_the_creation_of_the_message() {
        let with = |seconds: &str| {
            let own = Builder::new().with(properties::CHECK_IMMUNITY_SECONDS, seconds).build();
            stored(&half_properties(&own, "t", 0, "u"), 0)
        };
        let (ten, one, wrong) = (with("10"), with("1"), with("soon"));
        let (ten, one, wrong) = (Half::parse(&ten).unwrap(), Half::parse(&one).unwrap(), Half::parse(&wrong).unwrap());
        assert!(ten.is_immune(6_000, 11_000) && !ten.is_immune(6_000, 11_001));
        assert!(
            !one.is_immune(6_000, 2_001) && !one.is_too_late(6_000, 7_000),
            "it may end for as long as any other"
        );
        assert!(one.is_too_late(6_000, 7_001) && ten.is_too_late(6_000, 11_001));
        assert!(wrong.is_immune(6_000, 7_000) && !wrong.is_immune(6_000, 7_001));
        let plain = stored(&half_properties(b"", "t", 0, "u"), 0);
        let plain = Half::parse(&plain).unwrap();
        assert!(!plain.is_immune(6_000, 1_000) && !plain.is_too_late(6_000, i64::MAX));
    }
}
