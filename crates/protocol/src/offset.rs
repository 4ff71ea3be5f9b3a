//! Consumer offsets and queue bounds: codes 14, 15, 29 to 32 and 43.

use crate::data_version::DataVersion;
use crate::header::header;
use crate::json::named_enum::named_enum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

header! {
    /// Code 14: queries a group's offset in a queue.
    pub struct QueryConsumerOffsetHeader<'a> {
        /// The group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue.
        pub queue_id: i32 = "queueId",
        /// False: answer "not found" (22) instead of 0 for a group without an offset.
        pub set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }
}

header! {
    /// Code 15: commits a group's offset in a queue.
    pub struct UpdateConsumerOffsetHeader<'a> {
        /// The group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue.
        pub queue_id: i32 = "queueId",
        /// The next offset to consume.
        pub commit_offset: i64 = "commitOffset",
    }
}

header! {
    /// The answer of codes 14, 29, 30 and 31.
    pub struct OffsetReply {
        /// The queue offset.
        pub offset: i64 = "offset",
    }
}

named_enum! {
    /// Which of several records with one time is meant.
    pub enum BoundaryType {
        /// The first one at or after the time.
        Lower = "LOWER",
        /// The last one at or before the time.
        Upper = "UPPER",
    } else Lower
}

header! {
    /// Code 29: finds the offset of a time.
    pub struct SearchOffsetHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue.
        pub queue_id: i32 = "queueId",
        /// Store time, ms.
        pub timestamp: i64 = "timestamp",
        /// See [`SearchOffsetHeader::boundary`].
        pub boundary_type: Option<&'a str> = "boundaryType",
    }
}

impl SearchOffsetHeader<'_> {
    /// The boundary, in any case; lower when absent or unknown.
    pub fn boundary(&self) -> BoundaryType {
        match self.boundary_type {
            Some(name) if name.eq_ignore_ascii_case("upper") => BoundaryType::Upper,
            _ => BoundaryType::Lower,
        }
    }
}

header! {
    /// Code 30: the queue's end.
    pub struct MaxOffsetHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue.
        pub queue_id: i32 = "queueId",
        /// False: includes messages that are not confirmed yet. True if absent.
        pub committed: Option<bool> = "committed",
    }
}

header! {
    /// Codes 31 (lowest offset) and 32 (store time of the oldest record).
    pub struct QueueHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The queue.
        pub queue_id: i32 = "queueId",
    }
}

header! {
    /// The answer of code 32.
    pub struct StoreTimeReply {
        /// Store time of the oldest record, ms; -1 when there is none.
        pub timestamp: i64 = "timestamp",
    }
}

/// The answer of code 43, and `consumerOffset.json`: `topic@group` to queue to offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerOffsets {
    /// The table's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// The offsets.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// The answer of code 45, and `delayOffset.json`: delay level to offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DelayOffsets {
    /// The table's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// The offsets.
    pub offset_table: BTreeMap<i32, i64>,
}
