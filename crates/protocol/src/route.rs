//! Routes: which brokers have a topic (105), and the cluster's brokers (106).
//!
//! Compat: clients before 4.9.4 read broker ids as bare JSON keys, later ones ask for quoted keys or read both;
//! [`TopicRoute::encode`] chooses like the Java name server.

use crate::header::header;
use crate::static_topic::QueueMapping;
use crate::{json, version};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The master's broker id.
pub const MASTER_ID: i64 = 0;

/// A topic's queues on one broker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueData {
    /// The broker.
    pub broker_name: String,
    /// Bits of [`crate::topic::perm`].
    pub perm: i32,
    /// Queues to read.
    pub read_queue_nums: i32,
    /// Bits of [`crate::topic::sys_flag`].
    pub topic_sys_flag: i32,
    /// Queues to write.
    pub write_queue_nums: i32,
}

/// A broker: a name with a master and replicas.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerData {
    /// `ip:port` by broker id; [`MASTER_ID`] is the master.
    pub broker_addrs: BTreeMap<i64, String>,
    /// The name.
    pub broker_name: String,
    /// The cluster.
    pub cluster: String,
    /// Whether a replica may act for an absent master.
    pub enable_acting_master: bool,
    /// The zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

/// The answer of code 105 and the body of 217.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicRoute {
    /// The brokers.
    pub broker_datas: Vec<BrokerData>,
    /// Filter servers by broker address; RocketMQ removed them, but clients expect the field.
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// `broker:queues;…` for ordered topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    /// The queues.
    pub queue_datas: Vec<QueueData>,
    /// Static topics: mapping by broker name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_by_broker: Option<BTreeMap<String, QueueMapping>>,
}

impl TopicRoute {
    /// The body for a client of this version: standard JSON from 4.9.4 on, or if the client asks for it.
    pub fn encode(&self, client_version: i32, standard_json_only: bool) -> Vec<u8> {
        if standard_json_only || client_version >= version::V4_9_4 {
            json::write_standard(self)
        } else {
            json::write(self)
        }
    }
}

/// The answer of code 106.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInfo {
    /// Brokers by name.
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    /// Broker names by cluster.
    pub cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
}

header! {
    /// Code 105.
    pub struct RouteHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// Whether the client needs quoted keys.
        pub accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly",
    }
}

header! {
    /// Code 901: the members of one broker name.
    pub struct MemberGroupHeader<'a> {
        /// The cluster.
        pub cluster_name: &'a str = "clusterName",
        /// The broker.
        pub broker_name: &'a str = "brokerName",
    }
}

/// The answer of code 901.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberGroupReply {
    /// The members; absent when the broker is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_member_group: Option<MemberGroup>,
}

/// The members of one broker name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberGroup {
    /// `ip:port` by broker id.
    pub broker_addrs: BTreeMap<i64, String>,
    /// The broker.
    pub broker_name: String,
    /// The cluster.
    pub cluster: String,
}

header! {
    /// Codes 205 and 327: removes or restores the write permission of a broker's topics.
    pub struct WritePermHeader<'a> {
        /// The broker.
        pub broker_name: &'a str = "brokerName",
    }
}

header! {
    /// The answer of code 205.
    pub struct WipeWritePermReply {
        /// Topics changed.
        pub wipe_topic_count: i32 = "wipeTopicCount",
    }
}

header! {
    /// The answer of code 327.
    pub struct AddWritePermReply {
        /// Topics changed.
        pub add_topic_count: i32 = "addTopicCount",
    }
}
