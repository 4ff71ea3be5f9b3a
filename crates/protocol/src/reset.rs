//! Resetting a group's offsets: codes 220 (to clients) and 222; querying clients' offsets (221, 223);
//! cloning offsets of another group (314).

use crate::header::header;
use crate::json::object_keys;
use crate::queue::MessageQueue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

header! {
    /// Codes 220 and 222.
    pub struct ResetOffsetHeader<'a> {
        /// The group.
        pub group: &'a str = "group",
        /// The topic.
        pub topic: &'a str = "topic",
        /// One queue; -1 or absent means all.
        pub queue_id: Option<i32> = "queueId",
        /// The new offset, instead of a time.
        pub offset: Option<i64> = "offset",
        /// The store time whose offset is the new one, ms; -1 means the end.
        pub timestamp: i64 = "timestamp",
        /// Also if the new offset is higher than the current one.
        pub is_force: bool = "isForce",
    }
}

/// The body of code 220 to Java and Go clients and the answer of 222.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetOffsetBody {
    /// The new offset of each queue.
    #[serde(with = "object_keys")]
    pub offset_table: BTreeMap<MessageQueue, i64>,
}

/// The body of code 220 to clients that cannot read object keys (C++ and others).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetOffsetList {
    /// The new offset of each queue.
    pub offset_table: Vec<QueueOffset>,
}

/// A queue and its offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueOffset {
    /// The broker.
    pub broker_name: String,
    /// The offset.
    pub offset: i64,
    /// The queue.
    pub queue_id: i32,
    /// The topic.
    pub topic: String,
}

impl From<&ResetOffsetBody> for ResetOffsetList {
    fn from(body: &ResetOffsetBody) -> Self {
        let row = |(queue, &offset): (&MessageQueue, &i64)| QueueOffset {
            broker_name: queue.broker_name.clone(),
            offset,
            queue_id: queue.queue_id,
            topic: queue.topic.clone(),
        };
        Self {
            offset_table: body.offset_table.iter().map(row).collect(),
        }
    }
}

header! {
    /// Codes 221 and 223.
    pub struct ConsumerStatusHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The group.
        pub group: &'a str = "group",
        /// One client.
        pub client_addr: Option<&'a str> = "clientAddr",
    }
}

/// Offsets of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct OffsetsByQueue {
    /// The offset of each queue.
    #[serde(with = "object_keys")]
    pub offsets: BTreeMap<MessageQueue, i64>,
}

/// The answers of codes 221 (one client's table) and 223 (a table by client).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerStatusBody {
    /// By client id.
    pub consumer_table: BTreeMap<String, OffsetsByQueue>,
    /// The answering client's own.
    #[serde(with = "object_keys")]
    pub message_queue_table: BTreeMap<MessageQueue, i64>,
}

header! {
    /// Code 314: clones the offsets of a group to another group.
    pub struct CloneGroupOffsetHeader<'a> {
        /// From.
        pub src_group: &'a str = "srcGroup",
        /// To.
        pub dest_group: &'a str = "destGroup",
        /// One topic.
        pub topic: Option<&'a str> = "topic",
        /// Also while the group has members.
        pub offline: bool = "offline",
    }
}
