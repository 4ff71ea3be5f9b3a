//! Lite topics: many small topics within a parent topic, each kept as a light queue. Codes 200070 to 200079.
//!
//! A client subscribes to lite topics of a parent topic (200071) and pops messages of those that have some (200070). The answer's body is
//! consecutive stored records. Acknowledgements (200051) and changes of the invisible time (200053) name the lite topic. 200073 goes from
//! the broker to a client.

use crate::header::header;
use crate::json::named_enum::named_enum;
use crate::stats::{OffsetWrapper, TopicOffset};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

header! {
    /// Code 200070: pops messages of the client's lite topics.
    pub struct PopLiteHeader<'a> {
        /// The client.
        pub client_id: &'a str = "clientId",
        /// The consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The parent topic.
        pub topic: &'a str = "topic",
        /// Maximum number of messages, at most 32.
        pub max_msg_num: i32 = "maxMsgNum",
        /// How long the messages are invisible to the group, ms.
        pub invisible_time: i64 = "invisibleTime",
        /// How long the request may be parked, ms; counts from `born_time`.
        pub poll_time: i64 = "pollTime",
        /// When the client made the request, epoch ms; 0: now.
        pub born_time: i64 = "bornTime",
        /// A request repeated with the same id gets the same messages again.
        pub attempt_id: Option<&'a str> = "attemptId",
        /// Ours only: the messages are held for the client for so long at most, ms; see [`crate::pop::PopHeader::hold_for`].
        pub hold_time: Option<i64> = "apogeeHoldMillis",
    }
}

header! {
    /// The answer of 200070.
    pub struct PopLiteReply<'a> {
        /// When the messages were popped, epoch ms.
        pub pop_time: i64 = "popTime",
        /// For how long they are invisible, ms.
        pub invisible_time: i64 = "invisibleTime",
        /// Always [`crate::pop::ORDER_REVIVE_QUEUE`].
        pub revive_queue: i32 = "reviveQid",
        /// How often each message was handed out before, separated by semicolons.
        pub order_count_info: Option<&'a str> = "orderCountInfo",
        /// Ours only: the broker holds the messages.
        pub held: Option<bool> = "apogeeHeld",
    }
}

header! {
    /// Code 200073: the client is not subscribed to a lite topic any more.
    pub struct NotifyUnsubscribeLiteHeader<'a> {
        /// The lite topic.
        pub lite_topic: &'a str = "liteTopic",
        /// The consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// The client.
        pub client_id: &'a str = "clientId",
    }
}

named_enum! {
    /// What a change of subscriptions does.
    pub enum LiteAction {
        /// Adds lite topics.
        PartialAdd = "PARTIAL_ADD",
        /// Removes lite topics.
        PartialRemove = "PARTIAL_REMOVE",
        /// Replaces the client's lite topics.
        CompleteAdd = "COMPLETE_ADD",
        /// Removes the client.
        CompleteRemove = "COMPLETE_REMOVE",
        /// A text that is none of these.
        Unknown = "",
    } else Unknown
}

named_enum! {
    /// Kind of an [`OffsetOption`].
    pub enum OffsetKind {
        /// [`OffsetOption::LAST`], [`OffsetOption::MIN`] or [`OffsetOption::MAX`].
        Policy = "POLICY",
        /// A queue offset.
        Offset = "OFFSET",
        /// So many messages before the committed offset.
        TailN = "TAIL_N",
        /// A store time, epoch ms.
        Timestamp = "TIMESTAMP",
    } else Policy
}

/// Where a group continues with a lite topic that is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct OffsetOption {
    /// What `value` is.
    #[serde(rename = "type")]
    pub kind: OffsetKind,
    /// The value.
    pub value: i64,
}

impl OffsetOption {
    /// Policy: where the group is.
    pub const LAST: i64 = 0;
    /// Policy: at the first message.
    pub const MIN: i64 = 1;
    /// Policy: at the end.
    pub const MAX: i64 = 2;
}

/// A change of the subscriptions of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LiteSubscription {
    /// What it does.
    pub action: LiteAction,
    /// The client.
    pub client_id: String,
    /// The consumer group.
    pub group: String,
    /// The lite topics.
    pub lite_topic_set: BTreeSet<String>,
    /// Where the group continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_option: Option<OffsetOption>,
    /// The parent topic.
    pub topic: String,
    /// Counts the client's changes.
    pub version: i64,
}

/// The body of 200071.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LiteSubscriptionBody {
    /// The changes.
    pub subscription_set: Vec<LiteSubscription>,
}

/// The answer of 200074.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerLiteInfo {
    /// Queues in memory.
    pub cq_table_size: i32,
    /// Light queues.
    pub current_lmq_num: i32,
    /// Clients with events that wait.
    pub event_map_size: i32,
    /// Groups by parent topic.
    pub group_meta: BTreeMap<String, BTreeSet<String>>,
    /// Subscriptions: pairs of client and lite topic.
    pub lite_subscription_count: i32,
    /// Maximum light queues.
    pub max_lmq_num: i32,
    /// Pairs of topic and group with a committed offset.
    pub offset_table_size: i32,
    /// Lite topics with messages in flight, per group.
    pub order_info_count: i32,
    /// Kind of store.
    pub store_type: String,
    /// Minutes after which lite topics of each parent topic expire.
    pub topic_meta: BTreeMap<String, i32>,
}

header! {
    /// Code 200075.
    pub struct ParentTopicInfoHeader<'a> {
        /// The parent topic.
        pub topic: &'a str = "topic",
    }
}

/// The answer of 200075.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentTopicInfo {
    /// The groups that are bound to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<BTreeSet<String>>,
    /// Its lite topics.
    pub lite_topic_count: i32,
    /// Light queues of the broker.
    pub lmq_num: i32,
    /// The topic.
    pub topic: String,
    /// Minutes after which its lite topics expire; -1 for never.
    pub ttl: i32,
}

header! {
    /// Code 200076.
    pub struct LiteTopicInfoHeader<'a> {
        /// The parent topic.
        pub parent_topic: &'a str = "parentTopic",
        /// The lite topic.
        pub lite_topic: &'a str = "liteTopic",
    }
}

/// A client of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientGroup {
    /// The client; `*` for all of a group.
    pub client_id: String,
    /// The group.
    pub group: String,
}

/// The answer of 200076.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LiteTopicInfo {
    /// The lite topic.
    pub lite_topic: String,
    /// The parent topic.
    pub parent_topic: String,
    /// Whether its messages are sent to this broker.
    pub sharding_to_broker: bool,
    /// Who subscribes to it.
    pub subscriber: BTreeSet<ClientGroup>,
    /// Its offsets.
    pub topic_offset: TopicOffset,
}

header! {
    /// Code 200077.
    pub struct LiteClientInfoHeader<'a> {
        /// The parent topic.
        pub parent_topic: &'a str = "parentTopic",
        /// The group.
        pub group: &'a str = "group",
        /// The client.
        pub client_id: &'a str = "clientId",
        /// Maximum number of lite topics in the answer; 1,000 when absent.
        pub max_count: Option<i32> = "maxCount",
    }
}

/// The answer of 200077.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LiteClientInfo {
    /// The client.
    pub client_id: String,
    /// The group.
    pub group: String,
    /// When it asked for messages last, epoch ms; -1 if it never did.
    pub last_access_time: i64,
    /// When it got messages last, epoch ms.
    pub last_consume_time: i64,
    /// Lite topics it subscribes to; -1 if the client is unknown.
    pub lite_topic_count: i32,
    /// Names of their light queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lite_topic_set: Option<BTreeSet<String>>,
    /// The parent topic.
    pub parent_topic: String,
}

header! {
    /// Code 200078.
    pub struct LiteGroupInfoHeader<'a> {
        /// The group.
        pub group: &'a str = "group",
        /// The lite topic; all when absent.
        pub lite_topic: Option<&'a str> = "liteTopic",
        /// How many lite topics with the most lag the answer has.
        pub top_k: Option<i32> = "topK",
    }
}

/// A lite topic of which a group has not consumed all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LiteLag {
    /// Store time of the first message that is not consumed, epoch ms; -1 if unknown.
    pub earliest_unconsumed_timestamp: i64,
    /// Messages that are not consumed.
    pub lag_count: i64,
    /// The lite topic.
    pub lite_topic: String,
}

/// The answer of 200078.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LiteGroupInfo {
    /// Store time of the first message that is not consumed, epoch ms; -1 if there is none.
    pub earliest_unconsumed_timestamp: i64,
    /// The group.
    pub group: String,
    /// Lite topics with the most messages that are not consumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_count_top_k: Option<Vec<LiteLag>>,
    /// Lite topics whose messages wait longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_timestamp_top_k: Option<Vec<LiteLag>>,
    /// The lite topic that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lite_topic: Option<String>,
    /// Its offsets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lite_topic_offset_wrapper: Option<OffsetWrapper>,
    /// The parent topic.
    pub parent_topic: String,
    /// Messages that are not consumed, of all lite topics or of the one that was asked for; -1 if that does not exist.
    pub total_lag_count: i64,
}

header! {
    /// Code 200079.
    pub struct TriggerLiteDispatchHeader<'a> {
        /// The group.
        pub group: &'a str = "group",
        /// The client; all when absent.
        pub client_id: Option<&'a str> = "clientId",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn a_change_of_subscriptions_is_read_and_written() {
        let body = br#"{"subscriptionSet":[{"action":"PARTIAL_ADD","clientId":"c","group":"g","liteTopicSet":["a","b"],"offsetOption":{"type":"TAIL_N","value":3},"topic":"t","version":7}]}"#;
        let read: LiteSubscriptionBody = json::read(body).unwrap();
        let change = &read.subscription_set[0];
        assert_eq!((change.action, change.version), (LiteAction::PartialAdd, 7));
        assert_eq!(
            change.offset_option,
            Some(OffsetOption {
                kind: OffsetKind::TailN,
                value: 3
            })
        );
        assert_eq!(json::write(&read), body);
        let other: LiteSubscriptionBody = json::read(br#"{"subscriptionSet":[{"action":"NEW_ACTION"}]}"#).unwrap();
        assert_eq!(other.subscription_set[0].action, LiteAction::Unknown);
    }
}
