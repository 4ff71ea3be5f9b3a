//! POP: the broker hands out messages and waits for each to be acknowledged. Codes 200050 to 200055 and 200151.
//!
//! A consumer pops messages of a topic, which are then invisible to its group for a time. It acknowledges each with the *handle* that the
//! answer gave it ([`handle`]), or asks for more time. What is in flight is described by records of the topic
//! `rmq_sys_REVIVE_LOG_<cluster>` ([`records`]). The answer's body is consecutive stored records.

pub mod handle;
pub mod order;
pub mod records;

use crate::header::header;
use crate::json::JsonError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The revive queue in handles of messages that were popped in order: no record describes them.
pub const ORDER_REVIVE_QUEUE: i32 = 999;

/// Longest time for which messages are held, ms: a day.
pub const MAX_HOLD_MS: i64 = 24 * 3_600_000;

/// Start of a group without an offset: at the first message.
pub const INIT_MIN: i32 = 0;

header! {
    /// Code 200050: pops messages.
    pub struct PopHeader<'a> {
        /// The consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue; below 0 for any.
        pub queue_id: i32 = "queueId",
        /// Maximum number of messages, at most 32.
        pub max_msg_nums: i32 = "maxMsgNums",
        /// How long the messages are invisible to the group, ms.
        pub invisible_time: i64 = "invisibleTime",
        /// How long the request may be parked, ms; counts from `born_time`.
        pub poll_time: i64 = "pollTime",
        /// When the client made the request, epoch ms; 0: now.
        pub born_time: i64 = "bornTime",
        /// Where a group without an offset starts: [`INIT_MIN`], or else at the end.
        pub init_mode: i32 = "initMode",
        /// `TAG` or `SQL92`; TAG when absent.
        pub exp_type: Option<&'a str> = "expType",
        /// The filter expression; all messages when absent.
        pub exp: Option<&'a str> = "exp",
        /// Whether messages of a queue are handed out in order: no further ones before these are acknowledged.
        pub order: bool = "order",
        /// With `order`: a request repeated with the same id gets the same messages again.
        pub attempt_id: Option<&'a str> = "attemptId",
        /// Ours only: the messages are *held* for this client of the group: they stay invisible as long as it is online. Brokers that know it
        /// answer with [`PopReply::held`].
        pub hold_for: Option<&'a str> = "apogeeHoldFor",
        /// With `hold_for`: for how long at most, ms; [`MAX_HOLD_MS`] is the limit.
        pub hold_time: Option<i64> = "apogeeHoldMillis",
    }
}

header! {
    /// The answer of 200050 and, with `rest_num` only, of 200052.
    pub struct PopReply<'a> {
        /// When the messages were popped, epoch ms.
        pub pop_time: i64 = "popTime",
        /// For how long they are invisible, ms.
        pub invisible_time: i64 = "invisibleTime",
        /// Queue of the revive topic, or [`ORDER_REVIVE_QUEUE`].
        pub revive_queue: i32 = "reviveQid",
        /// Number of messages that are left in the queues that were read.
        pub rest_num: i64 = "restNum",
        /// See [`handle::push_start_offset`].
        pub start_offset_info: Option<&'a str> = "startOffsetInfo",
        /// See [`handle::push_message_offsets`].
        pub msg_offset_info: Option<&'a str> = "msgOffsetInfo",
        /// With `order`: see [`handle::push_order_count`].
        pub order_count_info: Option<&'a str> = "orderCountInfo",
        /// Ours only: the broker holds the messages, see [`PopHeader::hold_for`].
        pub held: Option<bool> = "apogeeHeld",
    }
}

header! {
    /// Code 200051: acknowledges a message.
    pub struct AckHeader<'a> {
        /// The consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic that the message is in: of a retried message, its retry topic.
        pub topic: &'a str = "topic",
        /// The queue.
        pub queue_id: i32 = "queueId",
        /// The handle.
        pub extra_info: &'a str = "extraInfo",
        /// The message's queue offset.
        pub offset: i64 = "offset",
        /// The lite topic, of which messages are popped by another request.
        pub lite_topic: Option<&'a str> = "liteTopic",
        /// Ours only: whether a message that is not in flight any more is refused with code 208.
        pub in_flight: Option<bool> = "apogeeInFlight",
    }
}

header! {
    /// Code 200053: changes how long a message stays invisible.
    pub struct ChangeInvisibleHeader<'a> {
        /// The consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic that the message is in.
        pub topic: &'a str = "topic",
        /// The queue.
        pub queue_id: i32 = "queueId",
        /// The handle.
        pub extra_info: &'a str = "extraInfo",
        /// The message's queue offset.
        pub offset: i64 = "offset",
        /// The new time from now on, ms.
        pub invisible_time: i64 = "invisibleTime",
        /// The lite topic.
        pub lite_topic: Option<&'a str> = "liteTopic",
        /// Whether the next delivery does not count as a retry.
        pub suspend: bool = "suspend",
        /// As in [`AckHeader::in_flight`]. One that was not popped in order is refused in any case.
        pub in_flight: Option<bool> = "apogeeInFlight",
    }
}

header! {
    /// The answer of 200053: the parts of the message's new handle.
    pub struct ChangeInvisibleReply {
        /// See [`PopReply::pop_time`].
        pub pop_time: i64 = "popTime",
        /// See [`PopReply::invisible_time`].
        pub invisible_time: i64 = "invisibleTime",
        /// See [`PopReply::revive_queue`].
        pub revive_queue: i32 = "reviveQid",
    }
}

header! {
    /// Code 200052: reads messages without popping them.
    pub struct PeekHeader<'a> {
        /// The consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue; below 0 for any.
        pub queue_id: i32 = "queueId",
        /// Maximum number of messages.
        pub max_msg_nums: i32 = "maxMsgNums",
    }
}

header! {
    /// Code 200054: waits for a message that could be popped.
    pub struct NotificationHeader<'a> {
        /// The consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue; below 0 for any.
        pub queue_id: i32 = "queueId",
        /// How long the request may be parked, ms; counts from `born_time`.
        pub poll_time: i64 = "pollTime",
        /// When the client made the request, epoch ms; 0: now.
        pub born_time: i64 = "bornTime",
        /// As in [`PopHeader::order`].
        pub order: bool = "order",
        /// As in [`PopHeader::attempt_id`].
        pub attempt_id: Option<&'a str> = "attemptId",
        /// `TAG` or `SQL92`.
        pub exp_type: Option<&'a str> = "expType",
        /// The filter expression.
        pub exp: Option<&'a str> = "exp",
    }
}

header! {
    /// The answer of 200054.
    pub struct NotificationReply {
        /// Whether there is a message.
        pub has_msg: bool = "hasMsg",
        /// Whether too many requests are parked, so that this one was not.
        pub polling_full: bool = "pollingFull",
    }
}

header! {
    /// Code 200055: asks how many pops of a group are parked.
    pub struct PollingInfoHeader<'a> {
        /// The consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue that they are parked for; below 0: those for any queue.
        pub queue_id: i32 = "queueId",
    }
}

/// The body of code 200151: acknowledges messages of several pops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchAckBody {
    /// The acknowledged messages, by pop.
    pub acks: Vec<BatchAck>,
    /// The broker that handed them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_name: Option<String>,
}

/// Acknowledged messages of one pop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct BatchAck {
    /// Base64 of a little-endian bit set: bit n is set for the message at `start_offset + n`.
    #[serde(rename = "b", alias = "bitSet")]
    pub bit_set: String,
    /// The consumer group.
    #[serde(rename = "c", alias = "consumerGroup")]
    pub consumer_group: String,
    /// For how long the messages are invisible, ms.
    #[serde(rename = "it", alias = "invisibleTime")]
    pub invisible_time: i64,
    /// When they were popped.
    #[serde(rename = "pt", alias = "popTime")]
    pub pop_time: i64,
    /// The queue.
    #[serde(rename = "q", alias = "queueId")]
    pub queue_id: i32,
    /// `0`: the messages are in the topic, `1` or `2`: in its retry topic of that version.
    #[serde(rename = "r", alias = "retry")]
    pub retry: String,
    /// Queue of the revive topic.
    #[serde(rename = "rq", alias = "reviveQueueId")]
    pub revive_queue: i32,
    /// The first offset of the pop.
    #[serde(rename = "so", alias = "startOffset")]
    pub start_offset: i64,
    /// The topic, also of retried messages.
    #[serde(rename = "t", alias = "topic")]
    pub topic: String,
}

/// Maximum number of bits of [`BatchAck::bit_set`] that are read: as far as the messages of one pop are apart.
const MAX_BITS: usize = 1 << 20;

impl BatchAck {
    /// The bit set for messages at these distances from `start_offset`; those that no reader takes, 2^20 and more, are left out.
    #[must_use]
    pub fn bit_set_of(distances: impl IntoIterator<Item = u32>) -> String {
        let mut bytes = Vec::new();
        for distance in distances
            .into_iter()
            .map(|distance| distance as usize)
            .filter(|distance| *distance < MAX_BITS)
        {
            if bytes.len() <= distance / 8 {
                bytes.resize(distance / 8 + 1, 0u8);
            }
            bytes[distance / 8] |= 1 << (distance % 8);
        }
        STANDARD.encode(bytes)
    }

    /// The distances of the acknowledged messages from `start_offset`, in ascending order.
    ///
    /// # Errors
    /// [`JsonError`] if the bit set is not base64 or has more than 2^20 bits.
    pub fn distances(&self) -> Result<Vec<u32>, JsonError> {
        let bytes =
            base64(self.bit_set.as_bytes()).ok_or_else(|| JsonError("the bit set of an acknowledgement is not base64".to_owned()))?;
        if bytes.len() * 8 > MAX_BITS {
            return Err(JsonError(format!(
                "the bit set of an acknowledgement has {} bits, the limit is {MAX_BITS}",
                bytes.len() * 8
            )));
        }
        let bits = |(at, byte): (usize, &u8)| {
            let byte = *byte;
            (0..8u32)
                .filter(move |bit| byte & (1 << bit) != 0)
                .map(move |bit| at as u32 * 8 + bit)
        };
        Ok(bytes.iter().enumerate().flat_map(bits).collect())
    }
}

/// Decodes base64 with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut word, mut bits) = (0u32, 0);
    for c in text {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        word = (word << 6) | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext::Ext;
    use crate::json;

    #[test]
    fn a_batch_of_acks_names_its_messages_by_bits() {
        let body = br#"{"acks":[{"b":"BQE=","c":"g","it":60000,"pt":5,"q":3,"r":"0","rq":2,"so":100,"t":"t"}],"brokerName":"b"}"#;
        let read: BatchAckBody = json::read(body).unwrap();
        assert_eq!(read.acks[0].distances(), Ok(vec![0, 2, 8]));
        assert_eq!(
            BatchAck::bit_set_of([0, 2, 8]),
            read.acks[0].bit_set,
            "the bits of the same messages"
        );
        assert_eq!(BatchAck::bit_set_of([MAX_BITS as u32]), "");
        assert_eq!(json::write(&read), body);
        let long: BatchAckBody = json::read(br#"{"acks":[{"bitSet":"AQ==","consumerGroup":"g","startOffset":7}]}"#).unwrap();
        assert_eq!((long.acks[0].start_offset, long.acks[0].distances()), (7, Ok(vec![0])));
        let bad = BatchAck {
            bit_set: "?".to_owned(),
            ..BatchAck::default()
        };
        assert!(bad.distances().is_err());
    }

    #[test]
    fn a_pop_without_its_optional_fields_is_read() {
        let mut ext = Ext::new();
        for (name, value) in [("consumerGroup", "g"), ("topic", "t"), ("queueId", "-1"), ("maxMsgNums", "32")] {
            ext.push(name, value);
        }
        for name in ["invisibleTime", "pollTime", "bornTime", "initMode"] {
            ext.push(name, "1");
        }
        let header = PopHeader::decode(&ext).unwrap();
        assert_eq!(
            (header.queue_id, header.order, header.exp, header.attempt_id),
            (-1, false, None, None)
        );
        ext.remove("pollTime");
        assert!(PopHeader::decode(&ext).is_err());
    }
}
