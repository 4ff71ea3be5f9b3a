//! Topics: their configuration and its bodies; codes 17, 18, 21, 215 to 217, 351, and the name server's lists (206, 224,
//! 304, 305, 311 to 313).

use crate::data_version::DataVersion;
use crate::header::header;
use crate::json::named_enum::named_enum;
use crate::static_topic::{QueueMapping, QueueMappingDetail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Default number of queues of a topic.
pub const DEFAULT_QUEUE_NUMS: i32 = 16;

/// Bits of `perm`.
pub mod perm {
    /// Template for topics created on first use.
    pub const INHERIT: i32 = 1;
    /// Sending is allowed.
    pub const WRITE: i32 = 2;
    /// Consuming is allowed.
    pub const READ: i32 = 4;
    /// Preferred when queues are chosen.
    pub const PRIORITY: i32 = 8;
}

/// Bits of `topicSysFlag`.
pub mod sys_flag {
    /// Unit topic.
    pub const UNIT: i32 = 1;
    /// Has unit subscriptions.
    pub const UNIT_SUB: i32 = 2;
}

named_enum! {
    /// How many tags a message may have. It has no effect.
    pub enum TopicFilterType {
        /// One.
        SingleTag = "SINGLE_TAG",
        /// Several.
        MultiTag = "MULTI_TAG",
    } else SingleTag
}

/// A topic on one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfig {
    /// Attributes, such as `message.type`.
    pub attributes: BTreeMap<String, String>,
    /// Whether messages are ordered across changes of brokers.
    pub order: bool,
    /// Bits of [`perm`].
    pub perm: i32,
    /// Number of queues for reading.
    pub read_queue_nums: i32,
    /// See [`TopicFilterType`].
    pub topic_filter_type: TopicFilterType,
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub topic_name: String,
    /// Bits of [`sys_flag`].
    pub topic_sys_flag: i32,
    /// Number of queues for writing.
    pub write_queue_nums: i32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            order: false,
            perm: perm::READ | perm::WRITE,
            read_queue_nums: DEFAULT_QUEUE_NUMS,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: DEFAULT_QUEUE_NUMS,
        }
    }
}

impl TopicConfig {
    /// A readable and writable topic with this number of queues.
    pub fn new(name: impl Into<String>, queue_nums: i32) -> Self {
        Self {
            topic_name: name.into(),
            read_queue_nums: queue_nums,
            write_queue_nums: queue_nums,
            ..Self::default()
        }
    }

    /// Whether consuming is allowed.
    pub fn is_readable(&self) -> bool {
        self.perm & perm::READ != 0
    }

    /// The line of the deflated registration body: `name read write perm filterType attributesJSON`.
    pub fn to_line(&self) -> String {
        let mut line = String::new();
        let (name, read, write) = (&self.topic_name, self.read_queue_nums, self.write_queue_nums);
        let attributes = crate::json::write_standard(&self.attributes);
        let attributes = String::from_utf8_lossy(&attributes);
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "{name} {read} {write} {} {} {attributes}",
            self.perm,
            self.topic_filter_type.name()
        );
        line
    }

    /// Parses the line; `None` if it is malformed. Malformed attributes are dropped, as in Apache's broker.
    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let mut config = Self {
            topic_name: words.next()?.to_owned(),
            ..Self::default()
        };
        config.read_queue_nums = words.next()?.parse().ok()?;
        config.write_queue_nums = words.next()?.parse().ok()?;
        config.perm = words.next()?.parse().ok()?;
        config.topic_filter_type = TopicFilterType::from_name(words.next()?)?;
        if let Some(attributes) = words.next() {
            config.attributes = crate::json::read(attributes.as_bytes()).unwrap_or_default();
        }
        Some(config)
    }
}

/// All topics of a broker: the answer of code 21 and the first part of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigs {
    /// The table's version.
    pub data_version: DataVersion,
    /// The mappings' version.
    pub mapping_data_version: DataVersion,
    /// Topics by name.
    pub topic_config_table: BTreeMap<String, TopicConfig>,
    /// Static topics: the mapping of logical queues, by topic. Absent in registrations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_detail_map: Option<BTreeMap<String, QueueMappingDetail>>,
    /// Static topics: the logical queues that this broker has now, by topic.
    pub topic_queue_mapping_info_map: BTreeMap<String, QueueMapping>,
}

/// The answer of code 351: a topic's configuration and, for static topics, its mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigAndMapping {
    /// The configuration; its fields are on the level of the mapping.
    #[serde(flatten)]
    pub config: TopicConfig,
    /// The mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping_detail: Option<QueueMappingDetail>,
}

/// The body of code 18.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigList {
    /// Topics to create or change.
    pub topic_config_list: Vec<TopicConfig>,
}

/// Names of topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicList {
    /// Address of a broker with further information (codes 304 and 305).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    /// The names.
    pub topic_list: BTreeSet<String>,
}

header! {
    /// Codes 17 and 513: creates or changes a topic.
    pub struct CreateTopicHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The template topic; clients send `TBW102`, it has no effect.
        pub default_topic: Option<&'a str> = "defaultTopic",
        /// Queues to read.
        pub read_queue_nums: i32 = "readQueueNums",
        /// Queues to write.
        pub write_queue_nums: i32 = "writeQueueNums",
        /// Bits of [`perm`].
        pub perm: i32 = "perm",
        /// Name of a [`TopicFilterType`].
        pub topic_filter_type: Option<&'a str> = "topicFilterType",
        /// Bits of [`sys_flag`].
        pub topic_sys_flag: Option<i32> = "topicSysFlag",
        /// Ordered.
        pub order: bool = "order",
        /// `+name=value,-name,…`: changes to the attributes.
        pub attributes: Option<&'a str> = "attributes",
        /// Static topics: also if the number of queues decreases.
        pub force: bool = "force",
    }
}

header! {
    /// Code 21. Clients before 5.3.4 send no fields and expect all topics in one answer.
    pub struct AllTopicConfigHeader<'a> {
        /// First topic of the page, from 0.
        pub topic_seq: Option<i32> = "topicSeq",
        /// JSON of the version of the previous pages.
        pub data_version: Option<&'a str> = "dataVersion",
        /// Maximum number of topics.
        pub max_topic_num: Option<i32> = "maxTopicNum",
    }
}

header! {
    /// The answer of code 21.
    pub struct AllTopicConfigReply {
        /// Total number of topics.
        pub total_topic_num: Option<i32> = "totalTopicNum",
    }
}

header! {
    /// Codes 202, 215, 217, 300: only a topic.
    pub struct TopicHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
    }
}

header! {
    /// Code 351: a topic's configuration.
    pub struct TopicConfigHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// Whether the answer has the mapping of a static topic.
        pub is_logical: Option<bool> = "lo",
    }
}

header! {
    /// Code 216: deletes a topic's routes, for one cluster or all.
    pub struct DeleteTopicInNameServerHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The cluster.
        pub cluster_name: Option<&'a str> = "clusterName",
    }
}

header! {
    /// Code 224: topics of a cluster.
    pub struct TopicsByClusterHeader<'a> {
        /// The cluster.
        pub cluster: &'a str = "cluster",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        let mut config = TopicConfig::new("t", 4);
        assert_eq!(config.to_line(), "t 4 4 6 SINGLE_TAG {}");
        config.attributes.insert("+message.type".to_owned(), "a b".to_owned());
        assert_eq!(TopicConfig::from_line(&config.to_line()), Some(config));
    }

    #[test]
    fn old_lines_without_attributes_are_read_and_broken_ones_refused() {
        assert_eq!(TopicConfig::from_line("t 16 16 6 SINGLE_TAG"), Some(TopicConfig::new("t", 16)));
        assert_eq!(TopicConfig::from_line("t 16 16 6 SINGLE_TAG x"), Some(TopicConfig::new("t", 16)));
        for bad in ["", "t", "t 1 2", "t a 2 6 SINGLE_TAG", "t 1 2 6 X"] {
            assert_eq!(TopicConfig::from_line(bad), None, "{bad}");
        }
    }
}
