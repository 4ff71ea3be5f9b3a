//! Pulling: the header of codes 11 and 361, and its answer. The answer's body is consecutive stored records.

use crate::ext::{Ext, Value, text_of};
use crate::header::{HeaderError, header, read};
use crate::send::number;

/// Bits of a pull's `sysFlag`.
pub mod sys_flag {
    /// `commitOffset` is valid and to be committed.
    pub const COMMIT_OFFSET: i32 = 1;
    /// The request may be parked until messages arrive.
    pub const SUSPEND: i32 = 2;
    /// The header carries the subscription.
    pub const SUBSCRIPTION: i32 = 4;
    /// Filtering by class, which RocketMQ removed.
    pub const CLASS_FILTER: i32 = 8;
    /// The consumer is a lite pull consumer.
    pub const LITE_PULL: i32 = 16;
}

/// A pull request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PullHeader<'a> {
    /// The consumer group.
    pub consumer_group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The queue.
    pub queue_id: i32,
    /// The first queue offset to return.
    pub queue_offset: i64,
    /// Maximum number of messages.
    pub max_msg_nums: i32,
    /// Bits of [`sys_flag`].
    pub sys_flag: i32,
    /// The offset to commit, if [`sys_flag::COMMIT_OFFSET`] is set.
    pub commit_offset: i64,
    /// How long it may be parked, ms.
    pub suspend_timeout_ms: i64,
    /// The filter expression, when [`sys_flag::SUBSCRIPTION`] is set.
    pub subscription: Option<&'a str>,
    /// The subscription's version, ms.
    pub sub_version: i64,
    /// `TAG` or `SQL92`; TAG when absent.
    pub expression_type: Option<&'a str>,
    /// Maximum number of bytes.
    pub max_msg_bytes: Option<i32>,
    /// The component that forwarded the request, if any.
    pub request_source: Option<i32>,
    /// The client behind a proxy.
    pub proxy_forward_client_id: Option<&'a str>,
    /// Whether the queue may be a logical one of a static topic; false in requests that brokers forward.
    pub is_logical: Option<bool>,
}

/// Required fields by bit, for naming a missing one.
const REQUIRED_NAMES: [&str; 9] = [
    "consumerGroup",
    "topic",
    "queueId",
    "queueOffset",
    "maxMsgNums",
    "sysFlag",
    "commitOffset",
    "suspendTimeoutMillis",
    "subVersion",
];
/// Compat: the last three may be absent, as in the Java broker's fast decoder.
const REQUIRED: u32 = 0b0_0011_1111;

impl<'a> PullHeader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`HeaderError`] if a required field is absent or a field is not of its type.
    #[inline]
    pub fn decode(ext: &'a Ext) -> Result<Self, HeaderError> {
        read(ext, Self::gather)
    }

    #[inline]
    fn gather(ext: &'a Ext) -> Result<Self, HeaderError> {
        let mut header = Self::blank();
        let mut seen = 0u32;
        for (key, value) in ext.iter() {
            seen |= header.fill(key, value)?;
        }
        match REQUIRED & !seen {
            0 => Ok(header),
            absent => Err(HeaderError::Missing(REQUIRED_NAMES[absent.trailing_zeros() as usize])),
        }
    }

    /// The bit of the required field that `key` names, or 0.
    #[inline]
    fn fill(&mut self, key: &[u8], value: &'a [u8]) -> Result<u32, HeaderError> {
        let required = match key {
            b"consumerGroup" => {
                self.consumer_group = text_of(value, "consumerGroup")?;
                0
            }
            b"topic" => {
                self.topic = text_of(value, "topic")?;
                1
            }
            b"queueId" => {
                self.queue_id = number(value, "queueId")?;
                2
            }
            b"queueOffset" => {
                self.queue_offset = number(value, "queueOffset")?;
                3
            }
            b"maxMsgNums" => {
                self.max_msg_nums = number(value, "maxMsgNums")?;
                4
            }
            b"sysFlag" => {
                self.sys_flag = number(value, "sysFlag")?;
                5
            }
            b"commitOffset" => {
                self.commit_offset = number(value, "commitOffset")?;
                6
            }
            b"suspendTimeoutMillis" => {
                self.suspend_timeout_ms = number(value, "suspendTimeoutMillis")?;
                7
            }
            b"subVersion" => {
                self.sub_version = number(value, "subVersion")?;
                8
            }
            _ => {
                self.fill_optional(key, value)?;
                return Ok(0);
            }
        };
        Ok(1 << required)
    }

    #[inline]
    fn fill_optional(&mut self, key: &[u8], value: &'a [u8]) -> Result<(), HeaderError> {
        match key {
            b"subscription" => self.subscription = Some(text_of(value, "subscription")?),
            b"expressionType" => self.expression_type = Some(text_of(value, "expressionType")?),
            b"maxMsgBytes" => self.max_msg_bytes = Some(number(value, "maxMsgBytes")?),
            b"requestSource" => self.request_source = Some(number(value, "requestSource")?),
            // Compat: misspelt by Apache on the wire.
            b"proxyFrowardClientId" => self.proxy_forward_client_id = Some(text_of(value, "proxyFrowardClientId")?),
            b"lo" => self.is_logical = Some(value.eq_ignore_ascii_case(b"true")),
            _ => {}
        }
        Ok(())
    }

    fn blank() -> Self {
        Self {
            consumer_group: "",
            topic: "",
            queue_id: 0,
            queue_offset: 0,
            max_msg_nums: 0,
            sys_flag: 0,
            commit_offset: 0,
            suspend_timeout_ms: 0,
            subscription: None,
            sub_version: 0,
            expression_type: None,
            max_msg_bytes: None,
            request_source: None,
            proxy_forward_client_id: None,
            is_logical: None,
        }
    }

    /// Adds the fields, as a client.
    pub fn encode(&self, ext: &mut Ext) {
        ext.push("consumerGroup", self.consumer_group);
        ext.push("topic", self.topic);
        ext.push("queueId", self.queue_id);
        ext.push("queueOffset", self.queue_offset);
        ext.push("maxMsgNums", self.max_msg_nums);
        ext.push("sysFlag", self.sys_flag);
        ext.push("commitOffset", self.commit_offset);
        ext.push("suspendTimeoutMillis", self.suspend_timeout_ms);
        ext.push("subVersion", self.sub_version);
        let texts = [
            ("subscription", self.subscription),
            ("expressionType", self.expression_type),
            ("proxyFrowardClientId", self.proxy_forward_client_id),
        ];
        for (name, text) in texts {
            text.into_iter().for_each(|text| ext.push(name, text));
        }
        for (name, number) in [("maxMsgBytes", self.max_msg_bytes), ("requestSource", self.request_source)] {
            number.into_iter().for_each(|number| ext.push(name, number));
        }
        self.is_logical.into_iter().for_each(|is_logical| ext.push("lo", is_logical));
    }

    /// Whether a bit of [`sys_flag`] is set.
    pub fn has(&self, bit: i32) -> bool {
        self.sys_flag & bit != 0
    }
}

header! {
    /// A pull's answer. The first four fields are always present, whatever the code.
    pub struct PullReply {
        /// Broker id to pull from next: 0 the master, 1 a replica.
        pub suggest_which_broker_id: i64 = "suggestWhichBrokerId",
        /// The next offset to pull.
        pub next_begin_offset: i64 = "nextBeginOffset",
        /// The queue's lowest offset.
        pub min_offset: i64 = "minOffset",
        /// The queue's end: one after the newest offset.
        pub max_offset: i64 = "maxOffset",
        /// Static topics: to be added to each offset.
        pub offset_delta: Option<i64> = "offsetDelta",
        /// The topic's flag bits.
        pub topic_sys_flag: Option<i32> = "topicSysFlag",
        /// The group's flag bits.
        pub group_sys_flag: Option<i32> = "groupSysFlag",
        /// Why reading is forbidden.
        pub forbidden_type: Option<i32> = "forbiddenType",
    }
}

impl PullReply {
    /// The fields of every pull answer, for [`crate::frame::encode_response_head`].
    #[inline]
    pub fn base_fields(&self) -> [(&'static str, Value<'static>); 4] {
        [
            ("suggestWhichBrokerId", Value::Int(self.suggest_which_broker_id)),
            ("nextBeginOffset", Value::Int(self.next_begin_offset)),
            ("minOffset", Value::Int(self.min_offset)),
            ("maxOffset", Value::Int(self.max_offset)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_header_is_read_back_and_names_a_missing_field() {
        let mut header = PullHeader::blank();
        (header.consumer_group, header.topic, header.queue_offset) = ("g", "t", i64::MAX);
        (header.subscription, header.max_msg_bytes, header.proxy_forward_client_id) = (Some("*"), Some(5), Some("c"));
        header.is_logical = Some(false);
        let mut ext = Ext::new();
        header.encode(&mut ext);
        assert_eq!(PullHeader::decode(&ext), Ok(header));
        ["subVersion", "suspendTimeoutMillis", "commitOffset"]
            .iter()
            .for_each(|optional| ext.remove(optional));
        assert!(PullHeader::decode(&ext).is_ok());
        ext.remove("queueOffset");
        assert_eq!(PullHeader::decode(&ext), Err(HeaderError::Missing("queueOffset")));
    }
}
