//! Consumer groups' configuration: codes 200, 201, 207, 225, 352 and 353.

use crate::data_version::DataVersion;
use crate::header::header;
use crate::json::named_enum::named_enum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

named_enum! {
    /// How delays between retries grow.
    pub enum RetryPolicyType {
        /// Exponentially.
        Exponential = "EXPONENTIAL",
        /// By a list.
        Customized = "CUSTOMIZED",
    } else Customized
}

/// Delays between retries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryPolicy {
    /// For [`RetryPolicyType::Customized`].
    #[serde(rename = "customizedRetryPolicy", skip_serializing_if = "Option::is_none")]
    pub customized: Option<CustomizedRetry>,
    /// For [`RetryPolicyType::Exponential`].
    #[serde(rename = "exponentialRetryPolicy", skip_serializing_if = "Option::is_none")]
    pub exponential: Option<ExponentialRetry>,
    /// Which policy applies.
    #[serde(rename = "type")]
    pub kind: RetryPolicyType,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            customized: None,
            exponential: None,
            kind: RetryPolicyType::Customized,
        }
    }
}

/// A list of delays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomizedRetry {
    /// The delay before each retry, ms; the last one applies to all further retries.
    pub next: Vec<i64>,
}

impl Default for CustomizedRetry {
    fn default() -> Self {
        const SECONDS: [i64; 18] = [
            1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200,
        ];
        Self {
            next: SECONDS.iter().map(|seconds| seconds * 1000).collect(),
        }
    }
}

/// Growing delays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExponentialRetry {
    /// The first delay, ms.
    pub initial: i64,
    /// The longest delay, ms.
    pub max: i64,
    /// Factor between two delays.
    pub multiplier: i64,
}

impl Default for ExponentialRetry {
    fn default() -> Self {
        Self {
            initial: 5_000,
            max: 7_200_000,
            multiplier: 2,
        }
    }
}

/// A subscription stored with a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SimpleSubscription {
    /// The expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// `TAG` or `SQL92`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression_type: Option<String>,
    /// The topic.
    pub topic: String,
    /// When it was created, ms.
    pub version: i64,
}

/// A consumer group on one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupConfig {
    /// Attributes; absent from brokers before 5.0.
    pub attributes: BTreeMap<String, String>,
    /// Which broker it consumes from.
    pub broker_id: i64,
    /// Whether broadcasting is allowed.
    pub consume_broadcast_enable: bool,
    /// Whether consuming is allowed.
    pub consume_enable: bool,
    /// Whether it may begin at the lowest offset.
    pub consume_from_min_enable: bool,
    /// Whether retries keep order.
    pub consume_message_orderly: bool,
    /// After how many minutes of consumption a message counts as failed.
    pub consume_timeout_minute: i32,
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group_name: String,
    /// Delays between retries.
    pub group_retry_policy: RetryPolicy,
    /// Flag bits.
    pub group_sys_flag: i32,
    /// Whether members are notified of changes of the membership.
    pub notify_consumer_ids_changed_enable: bool,
    /// Maximum number of retries before a message goes to the dead letter queue.
    pub retry_max_times: i32,
    /// Queues of the retry topic.
    pub retry_queue_nums: i32,
    /// Subscriptions stored with the group.
    #[serde(rename = "subscriptionDataSet", skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<Vec<SimpleSubscription>>,
    /// Broker id from which a group that lags far behind should read.
    pub which_broker_when_consume_slowly: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: RetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscriptions: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

impl GroupConfig {
    /// A group with the default values.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            group_name: name.into(),
            ..Self::default()
        }
    }
}

/// All groups of a broker: the answer of code 201 and `subscriptionGroup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupConfigs {
    /// The table's version.
    pub data_version: DataVersion,
    /// Group to topic to bits of forbidden operations.
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// Groups by name.
    pub subscription_group_table: BTreeMap<String, GroupConfig>,
}

/// The body of code 225.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupConfigList {
    /// Groups to create or change.
    pub group_config_list: Vec<GroupConfig>,
}

/// Names of groups: the answer of code 300.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupList {
    /// The names.
    pub group_list: Vec<String>,
}

/// The answer of code 353.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct GroupForbidden {
    /// The group.
    pub group: String,
    /// Whether the group may read the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readable: Option<bool>,
    /// The topic.
    pub topic: String,
}

header! {
    /// Code 201. Clients before 5.3.4 send no fields and expect all groups in one answer.
    pub struct AllGroupConfigHeader<'a> {
        /// First group of the page, from 0.
        pub group_seq: Option<i32> = "groupSeq",
        /// JSON of the version of the previous pages.
        pub data_version: Option<&'a str> = "dataVersion",
        /// Maximum number of groups.
        pub max_group_num: Option<i32> = "maxGroupNum",
    }
}

header! {
    /// The answer of code 201.
    pub struct AllGroupConfigReply {
        /// Total number of groups.
        pub total_group_num: i32 = "totalGroupNum",
    }
}

header! {
    /// Code 207.
    pub struct DeleteGroupHeader<'a> {
        /// The group.
        pub group_name: &'a str = "groupName",
        /// Whether its offsets are deleted, too.
        pub clean_offset: bool = "cleanOffset",
    }
}

header! {
    /// Codes 343 and 352: only a group.
    pub struct GroupHeader<'a> {
        /// The group.
        pub group: &'a str = "group",
    }
}

header! {
    /// Code 353: changes or queries whether a group may read a topic.
    pub struct GroupForbiddenHeader<'a> {
        /// The group.
        pub group: &'a str = "group",
        /// The topic.
        pub topic: &'a str = "topic",
        /// The new value; absent to query only.
        pub readable: Option<bool> = "readable",
    }
}
