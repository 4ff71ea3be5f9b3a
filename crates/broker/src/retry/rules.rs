//! Rules for messages whose consumption failed, with Apache's numbers. Pure functions.

use crate::group::Rule;
use message::properties::{self, Builder};
use message::{Record, id, names};
use protocol::version;

/// Queues of a dead letter topic.
pub const DLQ_QUEUES: i32 = 1;
/// Delay level of the first retry; each further retry is one level higher.
const FIRST_LEVEL: i32 = 3;
/// Compat: separators of group and topic in the names of POP's retry topics.
const POP_SEPARATOR: char = '+';

/// Decision about a message that was sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is delivered to the group again after this delay level.
    Again {
        /// The level, from 1.
        level: i32,
    },
    /// It is put into the dead letter queue.
    Dead,
}

/// Maximum number of retries: as the client says, if it is of version 3.4.9 or later and says it, else as the group is configured.
#[must_use]
pub fn max_times(rule: &Rule, client_version: i32, said: Option<i32>) -> i32 {
    said.filter(|_| client_version >= version::V3_4_9).unwrap_or(rule.retry_max_times)
}

/// Decides about a message whose consumption had failed `times` times before. `asked` is the delay level that the client asks for: below
/// 0 for the dead letter queue, 0 to let the broker choose.
#[must_use]
pub fn fate(times: i32, max: i32, asked: i32) -> Fate {
    if times >= max || asked < 0 {
        return Fate::Dead;
    }
    let level = if asked == 0 { times.saturating_add(FIRST_LEVEL) } else { asked };
    Fate::Again { level }
}

/// Whether a message that a client itself sends to its retry topic becomes a dead letter. An orderly consumer, whose group holds queue
/// locks, retries by itself and sends only messages that have reached their limit.
#[must_use]
pub fn dies_on_send(times: i32, max: i32, is_orderly: bool) -> bool {
    times > max || is_orderly
}

/// The group of a retry topic.
#[must_use]
pub fn group_of(retry_topic: &str) -> &str {
    let name = retry_topic.strip_prefix(names::RETRY_PREFIX).unwrap_or(retry_topic);
    match name.split_once(POP_SEPARATOR) {
        Some((group, topic)) if !topic.is_empty() && !topic.contains(POP_SEPARATOR) => group,
        _ => name,
    }
}

/// The properties of a message that is stored again: with its origin, and WAIT=false.
#[must_use]
pub fn sent_back(record: &Record<'_>, level: i32) -> Vec<u8> {
    let known = |name| properties::find(record.properties, name);
    let topic = known(properties::RETRY_TOPIC).unwrap_or(record.topic.as_bytes());
    let own_id = || id::offset_id(record.store_host, record.log_offset).into_bytes();
    let origin = known(properties::ORIGIN_MESSAGE_ID)
        .filter(|id| !id.trim_ascii().is_empty())
        .map_or_else(own_id, <[u8]>::to_vec);
    const REPLACED: [&str; 4] = [
        properties::RETRY_TOPIC,
        properties::ORIGIN_MESSAGE_ID,
        properties::WAIT,
        properties::DELAY,
    ];
    Builder::from_bytes_without(record.properties, &REPLACED)
        .with(properties::RETRY_TOPIC, topic)
        .with(properties::ORIGIN_MESSAGE_ID, &origin)
        .with(properties::WAIT, "false")
        .with(properties::DELAY, &level.to_string())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use message::record::{Draft, Placement};
    use message::{LogOffset, QueueOffset};

    #[test]
    fn each_failure_waits_longer_until_the_last() {
        let levels: Vec<Fate> = (0..3).map(|times| fate(times, 3, 0)).collect();
        assert_eq!(levels, [3, 4, 5].map(|level| Fate::Again { level }));
        assert_eq!(fate(3, 3, 0), Fate::Dead);
        assert_eq!(fate(0, 16, 7), Fate::Again { level: 7 });
        assert_eq!(fate(0, 16, -1), Fate::Dead);
        assert_eq!(fate(0, 0, 1), Fate::Dead);
        assert_eq!(fate(i32::MAX - 1, i32::MAX, 0), Fate::Again { level: i32::MAX });
    }

    #[test]
    fn the_client_says_how_often_if_it_is_not_too_old() {
        let rule = Rule {
            retry_max_times: 5,
            ..Rule::default()
        };
        assert_eq!(max_times(&rule, version::V5_5_0, Some(2)), 2);
        assert_eq!(max_times(&rule, version::V5_5_0, None), 5);
        assert_eq!(max_times(&rule, version::V3_4_9 - 1, Some(2)), 5);
    }

    #[test]
    fn what_a_client_sends_to_its_retry_topic_dies_over_the_limit_or_in_order() {
        assert!(!dies_on_send(5, 5, false) && dies_on_send(6, 5, false) && dies_on_send(0, 5, true));
    }

    #[test]
    fn a_retry_topic_names_its_group() {
        assert_eq!(group_of("%RETRY%g"), "g");
        assert_eq!(group_of("%RETRY%g+orders"), "g");
        assert_eq!(group_of("%RETRY%a+b+c"), "a+b+c");
    }

    fn stored(properties: &[u8]) -> BytesMut {
        let draft = Draft {
            store_host: "127.0.0.1:10911".parse().unwrap(),
            properties,
            ..Draft::new("orders", 0, b"x")
        };
        let place = Placement {
            queue_offset: QueueOffset(0),
            log_offset: LogOffset(0x1234),
            store_timestamp: 1,
        };
        let mut out = BytesMut::new();
        draft.encode(place, &mut out);
        out
    }

    fn texts(properties: &[u8]) -> Vec<(&str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        properties::iter(properties)
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    #[test]
    fn properties_that_are_not_utf8_are_kept() {
        let bytes = stored(b"TAGS\x01\xb6\xa9\x02my\x01\xff\x02RETRY_TOPIC\x01\xfe\x02");
        let built = sent_back(&Record::parse(&bytes).unwrap(), 3);
        assert!(built.starts_with(b"TAGS\x01\xb6\xa9\x02my\x01\xff\x02RETRY_TOPIC\x01\xfe\x02ORIGIN_MESSAGE_ID\x01"));
    }

    #[test]
    fn a_message_remembers_where_it_was_first() {
        let bytes = stored(b"TAGS\x01a\x02DELAY\x019\x02WAIT\x01true\x02");
        let built = sent_back(&Record::parse(&bytes).unwrap(), 3);
        let pairs = texts(&built);
        let expected = [
            ("TAGS", "a"),
            ("RETRY_TOPIC", "orders"),
            ("ORIGIN_MESSAGE_ID", "7F00000100002A9F0000000000001234"),
            ("WAIT", "false"),
            ("DELAY", "3"),
        ];
        assert_eq!(pairs, expected);
        let again = stored(b"RETRY_TOPIC\x01first\x02ORIGIN_MESSAGE_ID\x01ID\x02");
        let built = sent_back(&Record::parse(&again).unwrap(), 0);
        let pairs = texts(&built);
        assert_eq!(
            pairs,
            [
                ("RETRY_TOPIC", "first"),
                ("ORIGIN_MESSAGE_ID", "ID"),
                ("WAIT", "false"),
                ("DELAY", "0")
            ]
        );
    }
}
