//! The request by which another broker stores a message.

use bytes::Bytes;
use message::properties::{self, Builder};
use message::record::Draft;
use message::{names, sys_flag};
use protocol::number::Integer;
use protocol::send::SendHeader;
use protocol::{Frame, RequestCode};

/// The queues of a topic that the other broker has to create.
const DEFAULT_QUEUES: i32 = 8;
/// What says where and when a message was to be delivered, which it is now.
const DELIVERY: [&str; 9] = [
    properties::REAL_TOPIC,
    properties::REAL_QID,
    properties::DELAY,
    properties::TIMER_DELAY_SEC,
    properties::TIMER_DELAY_MS,
    properties::TIMER_DELIVER_MS,
    properties::TIMER_DEL_UNIQKEY,
    properties::WAIT,
    properties::TRANSACTION_PREPARED,
];
/// What a half message has from the broker that stored it.
const OF_HALF: [&str; 7] = [
    properties::REAL_TOPIC,
    properties::REAL_QID,
    properties::WAIT,
    properties::TRANSACTION_ID,
    properties::TRANSACTION_CHECK_TIMES,
    properties::TRANSACTION_FIRST_QUEUE_OFFSET,
    properties::TRANSACTION_PREPARED_QUEUE_OFFSET,
];
/// What the message of a committed transaction keeps besides: that it was a half message may not make it one again.
const STORED_FLAGS: i32 = sys_flag::COMPRESSED | sys_flag::MULTI_TAGS | sys_flag::COMPRESSION_TYPE_MASK;

/// A message on its way to another broker, without its queue there.
pub(super) struct Outgoing {
    pub(super) topic: Box<str>,
    /// Its queue here; messages of one queue stay together.
    pub(super) queue_id: i32,
    producer_group: Box<str>,
    sys_flag: i32,
    born_timestamp: i64,
    flag: i32,
    reconsume_times: i32,
    max_reconsume_times: Option<i32>,
    properties: Vec<u8>,
    body: Bytes,
}

impl Outgoing {
    /// `None` if it cannot leave: a timer that waits on, which its master delivers when it is back.
    pub(super) fn of(draft: &Draft<'_>) -> Option<Self> {
        if draft.topic == names::TIMER_TOPIC {
            tracing::warn!("a timer message that waits for days more is left to the master");
            return None;
        }
        let is_half = draft.sys_flag & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_PREPARED;
        let own = match is_half {
            true => Builder::from_bytes_without(draft.properties, &OF_HALF).build(),
            false => Builder::from_bytes_without(draft.properties, &DELIVERY).build(),
        };
        let text = |name| properties::text(&own, name);
        let transaction = if is_half { sys_flag::TRANSACTION_PREPARED } else { 0 };
        Some(Self {
            topic: draft.topic.into(),
            queue_id: draft.queue_id,
            producer_group: text(properties::PRODUCER_GROUP)
                .unwrap_or_else(|| "InnerProducerGroup".into())
                .into(),
            sys_flag: draft.sys_flag & STORED_FLAGS | transaction,
            born_timestamp: draft.born_timestamp,
            flag: draft.flag,
            reconsume_times: draft.reconsume_times,
            max_reconsume_times: properties::find(&own, properties::MAX_RECONSUME_TIMES).and_then(i32::parse),
            body: Bytes::copy_from_slice(draft.body),
            properties: own,
        })
    }

    /// The request for a queue of a broker.
    pub(super) fn frame(&self, broker: &str, queue_id: i32) -> Frame {
        let header = SendHeader {
            producer_group: &self.producer_group,
            topic: &self.topic,
            default_topic: names::AUTO_CREATE_TOPIC,
            default_topic_queue_nums: DEFAULT_QUEUES,
            queue_id,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            flag: self.flag,
            properties: &self.properties,
            reconsume_times: self.reconsume_times,
            unit_mode: false,
            max_reconsume_times: self.max_reconsume_times,
            batch: false,
            broker_name: Some(broker),
        };
        let mut frame = Frame::request(RequestCode::SendMessageV2);
        header.encode_v2(&mut frame.ext);
        frame.body = self.body.clone();
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(draft: &Draft<'_>) -> (Frame, Vec<u8>) {
        let frame = Outgoing::of(draft).unwrap().frame("b", 2);
        let properties = SendHeader::decode_v2(&frame.ext).unwrap().properties.to_vec();
        (frame, properties)
    }

    #[test]
    fn a_due_message_is_not_delayed_again_and_no_half_message() {
        let own = b"DELAY\x013\x02TAGS\x01a\x02REAL_TOPIC\x01t\x02TRAN_MSG\x01true\x02PGROUP\x01p\x02";
        let draft = Draft {
            properties: own,
            sys_flag: sys_flag::TRANSACTION_COMMIT | sys_flag::COMPRESSED,
            reconsume_times: 2,
            ..Draft::new("t", 1, b"body")
        };
        let (frame, properties) = header_of(&draft);
        let header = SendHeader::decode_v2(&frame.ext).unwrap();
        assert_eq!((header.topic, header.producer_group, header.queue_id), ("t", "p", 2));
        assert_eq!((header.sys_flag, header.reconsume_times), (sys_flag::COMPRESSED, 2));
        assert_eq!(properties, b"TAGS\x01a\x02PGROUP\x01p\x02");
        assert_eq!(&*frame.body, b"body");
    }

    #[test]
    fn a_half_message_stays_one_with_what_it_waits_for_after_its_commit() {
        let own = b"DELAY\x013\x02TRAN_MSG\x01true\x02REAL_TOPIC\x01t\x02TRANSACTION_CHECK_TIMES\x014\x02__transactionId__\x01u\x02";
        let draft = Draft {
            properties: own,
            sys_flag: sys_flag::TRANSACTION_PREPARED,
            ..Draft::new("t", 1, b"body")
        };
        let (frame, properties) = header_of(&draft);
        assert_eq!(SendHeader::decode_v2(&frame.ext).unwrap().sys_flag, sys_flag::TRANSACTION_PREPARED);
        assert_eq!(properties, b"DELAY\x013\x02TRAN_MSG\x01true\x02");
        let waits = Draft::new(names::TIMER_TOPIC, 0, b"");
        assert!(Outgoing::of(&waits).is_none(), "it waits on");
    }
}
