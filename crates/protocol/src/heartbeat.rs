//! Clients: heartbeats (34), leaving (35), checking a subscription (46), a group's members (38, 40).
//!
//! Heartbeats come in two kinds. V1 says everything each time. V2 says everything once with a fingerprint, then only the
//! fingerprint and `withoutSub`; a client does so after an answer carried [`SUPPORTS_V2`], and says everything again after
//! one with [`SUB_CHANGE`].
//!
//! Compat: the C++ client writes enums as ordinals, versions and tag hashes as text ([`crate::json`] reads both).

use crate::header::header;
use crate::json::named_enum::named_enum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Answer field: whether heartbeats of the second kind are understood.
pub const SUPPORTS_V2: &str = "IS_SUPPORT_HEART_BEAT_V2";
/// Answer field: whether the client has to say everything again.
pub const SUB_CHANGE: &str = "IS_SUB_CHANGE";
/// Everything of a topic.
pub const SUB_ALL: &str = "*";
/// [`Subscription::expression_type`] of tag filters.
pub const TAG: &str = "TAG";
/// [`Subscription::expression_type`] of SQL filters.
pub const SQL92: &str = "SQL92";

named_enum! {
    /// Who drives consuming.
    pub enum ConsumeType {
        /// The client pulls.
        Actively = "CONSUME_ACTIVELY",
        /// The client library pulls and pushes to a listener.
        Passively = "CONSUME_PASSIVELY",
        /// The broker hands out.
        Pop = "CONSUME_POP",
    } else Passively
}

named_enum! {
    /// Who of a group gets a message.
    pub enum MessageModel {
        /// Everyone.
        Broadcasting = "BROADCASTING",
        /// One of them.
        Clustering = "CLUSTERING",
        /// A lite consumer (Apache 5.5), which counts as [`MessageModel::Clustering`].
        LiteSelective = "LITE_SELECTIVE",
    } else Clustering
}

named_enum! {
    /// Where a group begins that has no offset.
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
        /// At a time the client knows.
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    } else LastOffset
}

/// What a group wants of a topic.
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
    /// When it was made, ms; newer ones replace older ones.
    pub sub_version: i64,
    /// The tags.
    pub tags_set: BTreeSet<String>,
    /// The topic.
    pub topic: String,
}

impl Subscription {
    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        /// What the allocator keeps for each piece.
        const PIECE: usize = 16;
        let texts = [&self.expression_type, &self.sub_string, &self.topic];
        let text = |text: &String| size_of::<String>() + text.len() + PIECE;
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
    /// Where it begins.
    pub consume_from_where: ConsumeFromWhere,
    /// Who drives.
    pub consume_type: ConsumeType,
    /// The group.
    pub group_name: String,
    /// Who gets a message.
    pub message_model: MessageModel,
    /// What it wants.
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
    /// Identifies what the last full heartbeat said; 0 for the first kind.
    pub heartbeat_fingerprint: i32,
    /// Its producer groups.
    #[serde(rename = "producerDataSet")]
    pub producers: Vec<ProducerData>,
    /// Whether subscriptions were left out because they did not change.
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
    /// What is to be checked.
    #[serde(rename = "subscriptionData", skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
}
