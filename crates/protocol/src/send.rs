//! Sending: the header of codes 10, 310, 320, 324 and 325, and its answer.
//!
//! The header has two spellings of the same fields, long names (V1) and single letters (V2), depending on the code:
//!
//! | V2 | V1 | | V2 | V1 |
//! |---|---|---|---|---|
//! | a | producerGroup | | h | flag |
//! | b | topic | | i | properties |
//! | c | defaultTopic | | j | reconsumeTimes |
//! | d | defaultTopicQueueNums | | k | unitMode |
//! | e | queueId | | l | maxReconsumeTimes |
//! | f | sysFlag | | m | batch |
//! | g | bornTimestamp | | n | bname |
//!
//! It is decoded for every message, so in one pass over the fields and without allocation.

use crate::codes::RequestCode;
use crate::ext::{Ext, Value, text_of};
use crate::header::{HeaderError, header};
use crate::number::{Integer, parse_bool};

/// A send request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendHeader<'a> {
    /// The producer group.
    pub producer_group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The template topic if the topic has to be created (`TBW102`).
    pub default_topic: &'a str,
    /// Number of queues if the topic has to be created.
    pub default_topic_queue_nums: i32,
    /// The queue; negative: the broker chooses.
    pub queue_id: i32,
    /// System flag bits of the message.
    pub sys_flag: i32,
    /// When the client created the message, ms.
    pub born_timestamp: i64,
    /// The user's flag.
    pub flag: i32,
    /// The properties as they are stored: `name 0x01 value 0x02 …`; empty when absent. Not checked to be UTF-8.
    pub properties: &'a [u8],
    /// How often its consumption failed so far; 0 if absent.
    pub reconsume_times: i32,
    /// Unit mode.
    pub unit_mode: bool,
    /// Maximum number of retries.
    pub max_reconsume_times: Option<i32>,
    /// Whether the body is a batch.
    pub batch: bool,
    /// The destination broker (static topics).
    pub broker_name: Option<&'a str>,
}

/// The fields of the header.
#[derive(Clone, Copy)]
enum Slot {
    ProducerGroup = 0,
    Topic = 1,
    DefaultTopic = 2,
    DefaultTopicQueueNums = 3,
    QueueId = 4,
    SysFlag = 5,
    BornTimestamp = 6,
    Flag = 7,
    Properties = 8,
    ReconsumeTimes = 9,
    UnitMode = 10,
    MaxReconsumeTimes = 11,
    Batch = 12,
    BrokerName = 13,
}

/// The V1 names in the order of [`Slot`]; V2 names are `a` plus the slot. Required are those of [`REQUIRED`].
const NAMES: [&str; 14] = [
    "producerGroup",
    "topic",
    "defaultTopic",
    "defaultTopicQueueNums",
    "queueId",
    "sysFlag",
    "bornTimestamp",
    "flag",
    "properties",
    "reconsumeTimes",
    "unitMode",
    "maxReconsumeTimes",
    "batch",
    "bname",
];
/// Compat: the Java broker's fast decoder requires topic, queue, system flag, born time and flag only.
const REQUIRED: u32 = 0b1111_0010;
const SLOTS: [Slot; 14] = [
    Slot::ProducerGroup,
    Slot::Topic,
    Slot::DefaultTopic,
    Slot::DefaultTopicQueueNums,
    Slot::QueueId,
    Slot::SysFlag,
    Slot::BornTimestamp,
    Slot::Flag,
    Slot::Properties,
    Slot::ReconsumeTimes,
    Slot::UnitMode,
    Slot::MaxReconsumeTimes,
    Slot::Batch,
    Slot::BrokerName,
];

#[inline]
fn short_slot(key: &[u8]) -> Option<Slot> {
    match key {
        [letter] => SLOTS.get(usize::from(letter.wrapping_sub(b'a'))).copied(),
        _ => None,
    }
}

fn long_slot(key: &[u8]) -> Option<Slot> {
    NAMES.iter().position(|name| name.as_bytes() == key).map(|at| SLOTS[at])
}

impl<'a> SendHeader<'a> {
    /// Reads the header in the spelling of `code`.
    ///
    /// # Errors
    /// [`HeaderError`] if a required field is absent or a field is not of its type.
    #[inline]
    pub fn decode(code: RequestCode, ext: &'a Ext) -> Result<Self, HeaderError> {
        match code {
            RequestCode::SendMessage | RequestCode::SendReplyMessage => Self::decode_v1(ext),
            _ => Self::decode_v2(ext),
        }
    }

    /// Reads long names.
    ///
    /// # Errors
    /// [`HeaderError`] as in [`SendHeader::decode`].
    pub fn decode_v1(ext: &'a Ext) -> Result<Self, HeaderError> {
        Self::gather(ext, long_slot)
    }

    /// Reads single letters.
    ///
    /// # Errors
    /// [`HeaderError`] as in [`SendHeader::decode`].
    #[inline]
    pub fn decode_v2(ext: &'a Ext) -> Result<Self, HeaderError> {
        Self::gather(ext, short_slot)
    }

    #[inline]
    fn gather(ext: &'a Ext, slot_of: impl Fn(&[u8]) -> Option<Slot>) -> Result<Self, HeaderError> {
        let mut header = Self::default();
        let mut seen = 0u32;
        for (key, value) in ext.iter() {
            if let Some(slot) = slot_of(key) {
                header.fill(slot, value)?;
                seen |= 1 << slot as u32;
            }
        }
        match REQUIRED & !seen {
            0 => Ok(header),
            absent => Err(HeaderError::Missing(NAMES[absent.trailing_zeros() as usize])),
        }
    }

    #[inline]
    fn fill(&mut self, slot: Slot, value: &'a [u8]) -> Result<(), HeaderError> {
        let name = NAMES[slot as usize];
        match slot {
            Slot::ProducerGroup => self.producer_group = text_of(value, name)?,
            Slot::Topic => self.topic = text_of(value, name)?,
            Slot::DefaultTopic => self.default_topic = text_of(value, name)?,
            Slot::DefaultTopicQueueNums => self.default_topic_queue_nums = number(value, name)?,
            Slot::QueueId => self.queue_id = number(value, name)?,
            Slot::SysFlag => self.sys_flag = number(value, name)?,
            Slot::BornTimestamp => self.born_timestamp = number(value, name)?,
            Slot::Flag => self.flag = number(value, name)?,
            Slot::Properties => self.properties = value,
            Slot::ReconsumeTimes => self.reconsume_times = number(value, name)?,
            Slot::UnitMode => self.unit_mode = parse_bool(value),
            Slot::MaxReconsumeTimes => self.max_reconsume_times = Some(number(value, name)?),
            Slot::Batch => self.batch = parse_bool(value),
            Slot::BrokerName => self.broker_name = Some(text_of(value, name)?),
        }
        Ok(())
    }

    /// Adds the fields in the V1 spelling. Bytes of properties that are not UTF-8 are lost.
    pub fn encode_v1(&self, ext: &mut Ext) {
        self.spell(ext, NAMES);
    }

    /// Adds the fields in the V2 spelling. Bytes of properties that are not UTF-8 are lost.
    pub fn encode_v2(&self, ext: &mut Ext) {
        self.spell(ext, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"]);
    }

    fn spell(&self, ext: &mut Ext, names: [&str; 14]) {
        ext.push(names[0], self.producer_group);
        ext.push(names[1], self.topic);
        ext.push(names[2], self.default_topic);
        ext.push(names[3], self.default_topic_queue_nums);
        ext.push(names[4], self.queue_id);
        ext.push(names[5], self.sys_flag);
        ext.push(names[6], self.born_timestamp);
        ext.push(names[7], self.flag);
        ext.push(names[8], &*String::from_utf8_lossy(self.properties));
        ext.push(names[9], self.reconsume_times);
        ext.push(names[10], self.unit_mode);
        if let Some(most) = self.max_reconsume_times {
            ext.push(names[11], most);
        }
        ext.push(names[12], self.batch);
        if let Some(broker) = self.broker_name {
            ext.push(names[13], broker);
        }
    }
}

#[inline]
pub(crate) fn number<T: Integer>(value: &[u8], name: &'static str) -> Result<T, HeaderError> {
    T::parse(value).ok_or(HeaderError::Malformed(name))
}

/// Field of a send answer: the region (`DefaultRegion`).
pub const MSG_REGION: &str = "MSG_REGION";
/// Field of a send answer: whether tracing is on.
pub const TRACE_ON: &str = "TRACE_ON";

header! {
    /// The answer to a send, as the client reads it.
    pub struct SendReply<'a> {
        /// The offset message id, several with commas for a batch.
        pub msg_id: &'a str = "msgId",
        /// The queue in which it was stored.
        pub queue_id: i32 = "queueId",
        /// Its queue offset, for a batch that of the first message.
        pub queue_offset: i64 = "queueOffset",
        /// The unique key.
        pub transaction_id: Option<&'a str> = "transactionId",
        /// The batch's unique key.
        pub batch_uniq_id: Option<&'a str> = "batchUniqId",
        /// Handle for recalling a delayed message.
        pub recall_handle: Option<&'a str> = "recallHandle",
    }
}

impl<'a> SendReply<'a> {
    /// The fields of every send answer, for [`crate::frame::encode_response_head`].
    pub fn base_fields(&self) -> [(&'static str, Value<'a>); 3] {
        [
            ("msgId", Value::Text(self.msg_id)),
            ("queueId", self.queue_id.into()),
            ("queueOffset", self.queue_offset.into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>() -> SendHeader<'a> {
        SendHeader {
            producer_group: "g",
            topic: "t",
            default_topic: "TBW102",
            default_topic_queue_nums: 4,
            queue_id: -1,
            sys_flag: 1,
            born_timestamp: 1_700_000_000_000,
            flag: 2,
            properties: b"K\x01V\x02",
            reconsume_times: 3,
            unit_mode: true,
            max_reconsume_times: Some(16),
            batch: true,
            broker_name: Some("b"),
        }
    }

    #[test]
    fn both_spellings_are_equivalent() {
        let (mut short, mut long) = (Ext::new(), Ext::new());
        header().encode_v2(&mut short);
        header().encode_v1(&mut long);
        assert_eq!(SendHeader::decode(RequestCode::SendMessageV2, &short), Ok(header()));
        assert_eq!(SendHeader::decode(RequestCode::SendMessage, &long), Ok(header()));
    }

    #[test]
    fn the_first_missing_field_is_named() {
        let mut ext = Ext::new();
        header().encode_v2(&mut ext);
        ext.remove("e");
        ext.remove("h");
        assert_eq!(SendHeader::decode_v2(&ext), Err(HeaderError::Missing("queueId")));
        assert_eq!(SendHeader::decode_v2(&ext.with("e", "x")), Err(HeaderError::Malformed("queueId")));
    }

    #[test]
    fn optional_fields_may_be_absent() {
        let mut ext = Ext::new();
        header().encode_v2(&mut ext);
        for name in ["i", "j", "k", "l", "m", "n"] {
            ext.remove(name);
        }
        let header = SendHeader::decode_v2(&ext).expect("decoded");
        assert_eq!(
            (header.properties, header.reconsume_times, header.batch, header.max_reconsume_times),
            (&b""[..], 0, false, None)
        );
    }
}
