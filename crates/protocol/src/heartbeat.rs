//! Clients: heartbeats (34), unregistering (35), checking a subscription (46), a group's members (38, 40).
//!
//! There are two versions of heartbeats. V1 sends all data each time. V2 sends all data once with a fingerprint, then only the
//! fingerprint and `withoutSub`. A client uses V2 after an answer with [`SUPPORTS_V2`], and sends all data again after
//! an answer with [`SUB_CHANGE`].
//!
//! Compat: the C++ client writes enums as ordinals, versions and tag hashes as text ([`crate::json`] reads both).

use crate::header::header;
use crate::json::named_enum::named_enum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Answer field: whether V2 heartbeats are supported.
pub const SUPPORTS_V2: &str = "IS_SUPPORT_HEART_BEAT_V2";
/// Answer field: whether the client has to send all data again.
pub const SUB_CHANGE: &str = "IS_SUB_CHANGE";
/// Ours only, field of 34 and 35: the request is about a client behind the proxy that sends it, and of 34's answer: the broker knows such
/// clients by connection and client id.
pub const PROXIED: &str = "apogeeProxied";
/// Ours only, with [`PROXIED`]: address of the client, `IP:PORT`.
pub const CLIENT_ADDRESS: &str = "apogeeClientAddress";
/// Ours only, field of 35 with [`PROXIED`]: the client ended, and what is held for it is visible again after so many ms. Without it the
/// client is gone but may come back.
pub const VISIBLE_AFTER: &str = "apogeeVisibleAfterMillis";
/// Ours only, field of what a broker asks a client behind a proxy: its client id.
pub const CLIENT: &str = "apogeeClientId";
/// Expression for all messages of a topic.
pub const SUB_ALL: &str = "*";
/// [`Subscription::expression_type`] of tag filters.
pub const TAG: &str = "TAG";
/// [`Subscription::expression_type`] of SQL filters.
pub const SQL92: &str = "SQL92";

named_enum! {
    /// How a consumer gets messages.
    pub enum ConsumeType {
        /// The client pulls.
        Actively = "CONSUME_ACTIVELY",
        /// The client library pulls and pushes to a listener.
        Passively = "CONSUME_PASSIVELY",
        /// POP: the broker hands out messages.
        Pop = "CONSUME_POP",
    } else Passively
}

named_enum! {
    /// Which members of a group get a message.
    pub enum MessageModel {
        /// All members.
        Broadcasting = "BROADCASTING",
        /// One member.
        Clustering = "CLUSTERING",
        /// A lite consumer (Apache 5.5), which counts as [`MessageModel::Clustering`].
        LiteSelective = "LITE_SELECTIVE",
    } else Clustering
}

named_enum! {
    /// Where a group without an offset starts.
    pub enum ConsumeFromWhere {
        /// At the end.
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        /// Old name, as [`ConsumeFromWhere::LastOffset`].
        LastOffsetAndFromMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        /// Old name, as [`ConsumeFromWhere::FirstOffset`].
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        /// Old name, as [`ConsumeFromWhere::LastOffset`].
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        /// At the beginning.
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        /// At a time that the client knows.
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    } else LastOffset
}

/// A group's subscription to a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subscription {
    /// Filtering by class, which RocketMQ removed.
    pub class_filter_mode: bool,
    /// Java string hashes of the tags.
    pub code_set: BTreeSet<i32>,
    /// [`TAG`] or [`SQL92`]; TAG when absent.
    pub expression_type: String,
    /// The expression.
    pub sub_string: String,
    /// When it was created, ms; newer ones replace older ones.
    pub sub_version: i64,
    /// The tags.
    pub tags_set: BTreeSet<String>,
    /// The topic.
    pub topic: String,
}

impl Subscription {
    /// Approximate size in memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        /// Overhead of the allocator per allocation.
        const ALLOCATION_OVERHEAD: usize = 16;
        let texts = [&self.expression_type, &self.sub_string, &self.topic];
        let text = |text: &String| size_of::<String>() + text.len() + ALLOCATION_OVERHEAD;
        size_of::<Self>() + 4 * self.code_set.len() + texts.into_iter().chain(&self.tags_set).map(text).sum::<usize>()
    }
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            class_filter_mode: false,
            code_set: BTreeSet::new(),
            expression_type: TAG.to_owned(),
            sub_string: String::new(),
            sub_version: 0,
            tags_set: BTreeSet::new(),
            topic: String::new(),
        }
    }
}

/// A producer group of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerData {
    /// The group.
    pub group_name: String,
}

/// A consumer group of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerData {
    /// Where it starts.
    pub consume_from_where: ConsumeFromWhere,
    /// How it gets messages.
    pub consume_type: ConsumeType,
    /// The group.
    pub group_name: String,
    /// Which members get a message.
    pub message_model: MessageModel,
    /// Its subscriptions.
    #[serde(rename = "subscriptionDataSet")]
    pub subscriptions: Vec<Subscription>,
    /// Unit mode.
    pub unit_mode: bool,
}

impl Default for ConsumerData {
    fn default() -> Self {
        Self {
            consume_from_where: ConsumeFromWhere::LastOffset,
            consume_type: ConsumeType::Passively,
            group_name: String::new(),
            message_model: MessageModel::Clustering,
            subscriptions: Vec::new(),
            unit_mode: false,
        }
    }
}

/// The body of code 34.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatData {
    /// `ip@instance[@unit]`.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Its consumer groups.
    #[serde(rename = "consumerDataSet")]
    pub consumers: Vec<ConsumerData>,
    /// Fingerprint of the last full heartbeat; 0 for V1.
    pub heartbeat_fingerprint: i32,
    /// Its producer groups.
    #[serde(rename = "producerDataSet")]
    pub producers: Vec<ProducerData>,
    /// Whether subscriptions are omitted because they did not change.
    pub without_sub: bool,
}

header! {
    /// Code 35: a client leaves a group.
    pub struct UnregisterClientHeader<'a> {
        /// The client.
        pub client_id: &'a str = "clientID",
        /// Its producer group.
        pub producer_group: Option<&'a str> = "producerGroup",
        /// Its consumer group.
        pub consumer_group: Option<&'a str> = "consumerGroup",
    }
}

header! {
    /// Codes 38 (members of a group), 40 (they changed; to clients) and 203 (connections of a group).
    pub struct ConsumerGroupHeader<'a> {
        /// The group.
        pub consumer_group: &'a str = "consumerGroup",
    }
}

/// The answer of code 38.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerIds {
    /// Client ids.
    pub consumer_id_list: Vec<String>,
}

/// The body of code 46.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckClientBody {
    /// The client.
    pub client_id: String,
    /// The group.
    pub group: String,
    /// The namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The subscription to check.
    #[serde(rename = "subscriptionData", skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
}
