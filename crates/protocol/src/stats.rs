//! Statistics for operators: progress of topics and groups (202, 208, 300, 317), connections (203, 204, 328), counters (315).
//! The broker's runtime information (28) is a [`crate::kv::KvTable`].

use crate::header::header;
use crate::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel, Subscription};
use crate::json::{named_enum, object_keys};
use crate::queue::MessageQueue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A group's progress in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct OffsetWrapper {
    /// The queue's end.
    pub broker_offset: i64,
    /// The next offset to consume.
    pub consumer_offset: i64,
    /// Store time of the last consumed record, ms.
    pub last_timestamp: i64,
    /// The next offset to pull.
    pub pull_offset: i64,
    /// Damaged messages that the group skipped since the broker started. Only ours; omitted if 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub damaged: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The answer of code 208.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStats {
    /// Messages consumed per second.
    pub consume_tps: f64,
    /// Progress by queue.
    #[serde(with = "object_keys")]
    pub offset_table: BTreeMap<MessageQueue, OffsetWrapper>,
}

/// The answer of code 317.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStatsList {
    /// The broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    /// For each group the progress in each of its topics.
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    /// Messages not consumed yet.
    pub total_diff: i64,
    /// Messages pulled and not consumed yet.
    pub total_inflight_diff: i64,
}

/// The first and last offset of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicOffset {
    /// Store time of the newest record, ms.
    pub last_update_timestamp: i64,
    /// The end.
    pub max_offset: i64,
    /// The lowest offset.
    pub min_offset: i64,
}

/// The answer of code 202.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStatsTable {
    /// Offsets by queue.
    #[serde(with = "object_keys")]
    pub offset_table: BTreeMap<MessageQueue, TopicOffset>,
    /// Messages stored per second.
    pub topic_put_tps: f64,
}

/// A client's connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// `ip:port`.
    pub client_addr: String,
    /// The client.
    pub client_id: String,
    /// Name of a [`crate::Language`].
    pub language: String,
    /// Version ordinal.
    pub version: i32,
}

/// The answer of code 203.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerConnection {
    /// The members.
    pub connection_set: Vec<Connection>,
    /// Where the group starts.
    #[serde(deserialize_with = "named_enum::known", skip_serializing_if = "Option::is_none")]
    pub consume_from_where: Option<ConsumeFromWhere>,
    /// How it gets messages.
    #[serde(deserialize_with = "named_enum::known", skip_serializing_if = "Option::is_none")]
    pub consume_type: Option<ConsumeType>,
    /// Which members get a message.
    #[serde(deserialize_with = "named_enum::known", skip_serializing_if = "Option::is_none")]
    pub message_model: Option<MessageModel>,
    /// Its subscriptions by topic.
    pub subscription_table: BTreeMap<String, Subscription>,
}

/// The answer of code 204.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerConnection {
    /// The members.
    pub connection_set: Vec<Connection>,
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerInfo {
    /// The client.
    pub client_id: String,
    /// Name of a [`crate::Language`].
    pub language: String,
    /// Its last heartbeat, ms.
    pub last_update_timestamp: i64,
    /// `ip:port`.
    #[serde(rename = "remoteIP")]
    pub remote_ip: String,
    /// Version ordinal.
    pub version: i32,
}

/// The answer of code 328: producers by group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct ProducerTable {
    /// Producers by group.
    pub data: BTreeMap<String, Vec<ProducerInfo>>,
}

/// A counter over a period.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct StatsItem {
    /// Average per call.
    pub avgpt: f64,
    /// The sum.
    pub sum: i64,
    /// The sum per second.
    pub tps: f64,
}

/// The answer of code 315.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerStatsData {
    /// The last day.
    pub stats_day: StatsItem,
    /// The last hour.
    pub stats_hour: StatsItem,
    /// The last minute.
    pub stats_minute: StatsItem,
}

header! {
    /// Code 208: progress of a group in one, several or all of its topics.
    pub struct ConsumeStatsHeader<'a> {
        /// The group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic; empty or absent means all.
        pub topic: Option<&'a str> = "topic",
        /// Several topics, separated by `;`.
        pub topic_list: Option<&'a str> = "topicList",
    }
}

header! {
    /// Code 317.
    pub struct BrokerConsumeStatsHeader {
        /// Only ordered topics.
        pub is_order: bool = "isOrder",
    }
}

header! {
    /// Code 204.
    pub struct ProducerGroupHeader<'a> {
        /// The group.
        pub producer_group: &'a str = "producerGroup",
    }
}

header! {
    /// Code 315.
    pub struct BrokerStatsHeader<'a> {
        /// The name of the counter, such as `TOPIC_PUT_NUMS`.
        pub stats_name: &'a str = "statsName",
        /// The key: a topic, or `topic@group`.
        pub stats_key: &'a str = "statsKey",
    }
}
