//! Diagnosis: the state of a consumer (307), consuming one message on demand (309), time spans (303), raw queue entries
//! (321), subscriptions (343, 345).
//!
//! The broker forwards 307 and 309 to the client and its answer back unchanged; [`RunningInfo`] is for tools.

use crate::header::header;
use crate::heartbeat::Subscription;
use crate::json::named_enum::{self, named_enum};
use crate::json::object_keys;
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
        /// Whether to include stack traces.
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

/// The answer of code 307: the state of a consumer. Clients in other languages than Java omit parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RunningInfo {
    /// Stack traces, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jstack: Option<String>,
    /// Queues it consumes by POP.
    #[serde(with = "object_keys")]
    pub mq_pop_table: BTreeMap<MessageQueue, PopQueue>,
    /// Queues assigned to it.
    #[serde(with = "object_keys")]
    pub mq_table: BTreeMap<MessageQueue, ProcessQueue>,
    /// Settings; usually text, see [`RunningInfo::property`].
    pub properties: BTreeMap<String, serde_json::Value>,
    /// Throughput by topic.
    pub status_table: BTreeMap<String, ConsumeSpeed>,
    /// Its subscriptions.
    pub subscription_set: Vec<Subscription>,
    /// Values that the application adds.
    pub user_consumer_info: BTreeMap<String, String>,
}

impl RunningInfo {
    /// A setting as text; `None` if the client did not send it.
    pub fn property(&self, name: &str) -> Option<String> {
        match self.properties.get(name)? {
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// A queue within a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessQueue {
    /// Messages pulled and not consumed yet.
    pub cached_msg_count: i32,
    /// Highest offset of those.
    pub cached_msg_max_offset: i64,
    /// Lowest offset of those.
    pub cached_msg_min_offset: i64,
    /// Their size, MiB.
    #[serde(rename = "cachedMsgSizeInMiB")]
    pub cached_msg_size_in_mib: i32,
    /// The next offset to consume.
    pub commit_offset: i64,
    /// Dropped: the queue is assigned to another consumer.
    pub droped: bool,
    /// When a message of it was last consumed, ms.
    pub last_consume_timestamp: i64,
    /// When it was last locked, ms.
    pub last_lock_timestamp: i64,
    /// When it was last pulled, ms.
    pub last_pull_timestamp: i64,
    /// Locked for an ordered consumer.
    pub locked: bool,
    /// Messages being consumed in order.
    pub transaction_msg_count: i32,
    /// Highest offset of those.
    pub transaction_msg_max_offset: i64,
    /// Lowest offset of those.
    pub transaction_msg_min_offset: i64,
    /// How often unlocking failed.
    pub try_unlock_times: i64,
}

/// A queue that a consumer gets by POP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PopQueue {
    /// Dropped: the queue is assigned to another consumer.
    pub droped: bool,
    /// When it last popped, ms.
    pub last_pop_timestamp: i64,
    /// Messages that are not acknowledged yet.
    pub wait_ack_count: i32,
}

/// A consumer's throughput in one topic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeSpeed {
    /// Failures in the last hour.
    pub consume_failed_msgs: i64,
    /// Failures per second.
    #[serde(rename = "consumeFailedTPS")]
    pub consume_failed_tps: f64,
    /// Successes per second.
    #[serde(rename = "consumeOKTPS")]
    pub consume_ok_tps: f64,
    /// Mean time of a listener call, ms.
    #[serde(rename = "consumeRT")]
    pub consume_rt: f64,
    /// Mean time of a pull, ms.
    #[serde(rename = "pullRT")]
    pub pull_rt: f64,
    /// Messages pulled per second.
    #[serde(rename = "pullTPS")]
    pub pull_tps: f64,
}

named_enum! {
    /// The result of consuming on demand.
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
        /// The listener returned nothing.
        ReturnNull = "CR_RETURN_NULL",
    } else ReturnNull
}

/// The answer of code 309.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeDirectlyReply {
    /// Whether the consumer commits automatically.
    pub auto_commit: bool,
    /// The result.
    #[serde(deserialize_with = "named_enum::known", skip_serializing_if = "Option::is_none")]
    pub consume_result: Option<ConsumeResult>,
    /// Whether the listener is an ordered one.
    pub order: bool,
    /// Explanation.
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
    /// The same as text.
    pub consume_time_stamp_str: String,
    /// How far behind the group is, ms.
    pub delay_time: i64,
    /// Store time of the newest record, ms.
    pub max_time_stamp: i64,
    /// The same as text.
    pub max_time_stamp_str: String,
    /// The queue.
    pub message_queue: MessageQueue,
    /// Store time of the oldest record, ms.
    pub min_time_stamp: i64,
    /// The same as text.
    pub min_time_stamp_str: String,
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
        /// The first entry to return.
        pub index: i64 = "index",
        /// Maximum number of entries.
        pub count: i32 = "count",
        /// The group whose filter is evaluated.
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
    /// Whether the filter accepts it.
    pub eval: bool,
    /// The extension, JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_data_json: Option<String>,
    /// Explanation.
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
    /// Code 345: a group's subscription to a topic.
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
    /// Code 308: offsets of groups compared with those of another group.
    pub struct CorrectionOffsetHeader<'a> {
        /// Groups to examine, separated by commas.
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
