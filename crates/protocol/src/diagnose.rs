//! Looking closer: what a consumer does (307), consuming one message on demand (309), time spans (303), raw queue entries
//! (321), subscriptions (343, 345).
//!
//! The broker hands 307 and 309 on to the client and its answer back as it is, so the body of 307 has no type here.

use crate::header::header;
use crate::heartbeat::Subscription;
use crate::json::loose::named_enum;
use crate::queue::MessageQueue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

header! {
    /// Code 307.
    pub struct ConsumerRunningInfoHeader<'a> {
        /// The group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The client.
        pub client_id: &'a str = "clientId",
        /// With its stack traces.
        pub jstack_enable: bool = "jstackEnable",
    }
}

header! {
    /// Code 309. The broker adds the stored message as body on the way to the client.
    pub struct ConsumeDirectlyHeader<'a> {
        /// The group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The client.
        pub client_id: Option<&'a str> = "clientId",
        /// The message's offset id.
        pub msg_id: Option<&'a str> = "msgId",
        /// The broker.
        pub broker_name: Option<&'a str> = "brokerName",
        /// The topic.
        pub topic: Option<&'a str> = "topic",
        /// The topic's flag bits.
        pub topic_sys_flag: Option<i32> = "topicSysFlag",
        /// The group's flag bits.
        pub group_sys_flag: Option<i32> = "groupSysFlag",
    }
}

named_enum! {
    /// How consuming on demand ended.
    pub enum ConsumeResult {
        /// Consumed.
        Success = "CR_SUCCESS",
        /// To be consumed later.
        Later = "CR_LATER",
        /// Rolled back.
        Rollback = "CR_ROLLBACK",
        /// Committed.
        Commit = "CR_COMMIT",
        /// The listener failed.
        ThrowException = "CR_THROW_EXCEPTION",
        /// The listener said nothing.
        ReturnNull = "CR_RETURN_NULL",
    }
}

/// The answer of code 309.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeDirectlyReply {
    /// Whether the consumer commits by itself.
    pub auto_commit: bool,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consume_result: Option<ConsumeResult>,
    /// Whether the listener is an ordered one.
    pub order: bool,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// How long it took, ms.
    pub spent_time_mills: i64,
}

header! {
    /// Code 303.
    pub struct ConsumeTimeSpanHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The group.
        pub group: &'a str = "group",
    }
}

/// Times of one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueTimeSpan {
    /// Store time of the last consumed record, ms.
    pub consume_time_stamp: i64,
    /// How far behind the group is, ms.
    pub delay_time: i64,
    /// Store time of the newest record, ms.
    pub max_time_stamp: i64,
    /// The queue.
    pub message_queue: MessageQueue,
    /// Store time of the oldest record, ms.
    pub min_time_stamp: i64,
}

/// The answer of code 303.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeTimeSpans {
    /// By queue.
    pub consume_time_span_set: Vec<QueueTimeSpan>,
}

header! {
    /// Code 321.
    pub struct QueryConsumeQueueHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue.
        pub queue_id: i32 = "queueId",
        /// The first entry wanted.
        pub index: i64 = "index",
        /// Most entries wanted.
        pub count: i32 = "count",
        /// Whose filter is to be tried.
        pub consumer_group: Option<&'a str> = "consumerGroup",
    }
}

/// One entry of a consume queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeQueueEntry {
    /// Bloom filter bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_map: Option<String>,
    /// Whether the filter lets it through.
    pub eval: bool,
    /// The extension, JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_data_json: Option<String>,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// Log offset.
    pub physic_offset: i64,
    /// Bytes.
    pub physic_size: i32,
    /// Hash of the tags.
    pub tags_code: i64,
}

/// The answer of code 321.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeQueueEntries {
    /// The compiled filter, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_data: Option<String>,
    /// The queue's end.
    pub max_queue_index: i64,
    /// The lowest offset.
    pub min_queue_index: i64,
    /// The entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_data: Option<Vec<ConsumeQueueEntry>>,
    /// The group's subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<Subscription>,
}

header! {
    /// Code 345: what a group wants of a topic.
    pub struct QuerySubscriptionHeader<'a> {
        /// The group.
        pub group: &'a str = "group",
        /// The topic.
        pub topic: Option<&'a str> = "topic",
    }
}

/// The answer of code 345.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QuerySubscriptionReply {
    /// The group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<Subscription>,
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

header! {
    /// Code 308: offsets of groups that follow another's.
    pub struct CorrectionOffsetHeader<'a> {
        /// Groups to look at, separated by commas.
        pub filter_groups: Option<&'a str> = "filterGroups",
        /// The group to compare with.
        pub compare_group: &'a str = "compareGroup",
        /// The topic.
        pub topic: &'a str = "topic",
    }
}

/// The answer of code 308.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct CorrectionOffsets {
    /// The offset of each queue.
    pub correction_offsets: BTreeMap<i32, i64>,
}
