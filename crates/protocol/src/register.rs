//! A broker's registration with name servers: codes 103, 104, 322, 904 and 905.
//!
//! The body of 103 is JSON, or with header `compressed=true` a zlib stream of
//!
//! ```text
//! int length, JSON of the table's version
//! int topics, each: int length, line (see `TopicConfig::to_line`)
//! int length, JSON list of filter servers
//! int mappings, each: int length, JSON   (only from brokers of 5.0.0 on)
//! ```
//!
//! The line has no fields for a topic's `order` and flag bits: compressed registrations lose them, also Apache's.
//! Inflated bytes are limited by [`MAX_INFLATED`], and memory is allocated only for bytes that were read, not for announced counts.

use crate::data_version::DataVersion;
use crate::header::header;
use crate::json::{self, JsonError};
use crate::static_topic::QueueMapping;
use crate::topic::{TopicConfig, TopicConfigs, TopicFilterType};
use crate::version;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Maximum size of an inflated body in bytes: half a million topics.
pub const MAX_INFLATED: u64 = 128 * 1024 * 1024;

/// Why a registration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// A JSON part is malformed.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The deflated stream is damaged, too long or ends early.
    #[error("damaged compressed registration: {0}")]
    Stream(#[from] io::Error),
    /// A topic's line is malformed.
    #[error("malformed topic in a compressed registration")]
    Topic,
}

header! {
    /// Code 103.
    pub struct RegisterBrokerHeader<'a> {
        /// The broker.
        pub broker_name: &'a str = "brokerName",
        /// `ip:port` for clients.
        pub broker_addr: &'a str = "brokerAddr",
        /// The cluster.
        pub cluster_name: &'a str = "clusterName",
        /// `ip:port` for replicas.
        pub ha_server_addr: &'a str = "haServerAddr",
        /// 0: master.
        pub broker_id: i64 = "brokerId",
        /// After how many ms without a heartbeat it expires.
        pub heartbeat_timeout_ms: Option<i64> = "heartbeatTimeoutMillis",
        /// Whether a replica may act for an absent master; absent from older brokers.
        pub enable_acting_master: Option<bool> = "enableActingMaster",
        /// Whether the body is deflated.
        pub compressed: bool = "compressed",
        /// CRC-32 of the body; 0 or absent: not checked.
        pub body_crc32: Option<i32> = "bodyCrc32",
    }
}

header! {
    /// The answer of code 103: addresses of the master, for a replica.
    pub struct RegisterBrokerReply<'a> {
        /// The master's address for replicas.
        pub ha_server_addr: Option<&'a str> = "haServerAddr",
        /// The master's address for clients.
        pub master_addr: Option<&'a str> = "masterAddr",
    }
}

header! {
    /// Codes 104 and 322: the identity of the broker.
    pub struct BrokerIdentityHeader<'a> {
        /// The broker.
        pub broker_name: &'a str = "brokerName",
        /// `ip:port` for clients.
        pub broker_addr: &'a str = "brokerAddr",
        /// The cluster.
        pub cluster_name: &'a str = "clusterName",
        /// 0: master.
        pub broker_id: i64 = "brokerId",
    }
}

header! {
    /// The answer of code 322; the body is the name server's version, JSON.
    pub struct QueryDataVersionReply {
        /// Whether the broker has to register again.
        pub changed: bool = "changed",
    }
}

header! {
    /// Code 904: a broker's heartbeat.
    pub struct BrokerHeartbeatHeader<'a> {
        /// The cluster.
        pub cluster_name: &'a str = "clusterName",
        /// `ip:port` for clients.
        pub broker_addr: &'a str = "brokerAddr",
        /// The broker.
        pub broker_name: &'a str = "brokerName",
        /// 0: master.
        pub broker_id: Option<i64> = "brokerId",
        /// The master's epoch.
        pub epoch: Option<i32> = "epoch",
        /// The log's end.
        pub max_offset: Option<i64> = "maxOffset",
        /// Confirmed by replicas.
        pub confirm_offset: Option<i64> = "confirmOffset",
        /// After how many ms without a heartbeat it expires.
        pub heartbeat_timeout_ms: Option<i64> = "heartbeatTimeoutMills",
        /// Priority in elections.
        pub election_priority: Option<i32> = "electionPriority",
    }
}

header! {
    /// Code 905, name server to broker: another member has the lowest id now.
    pub struct MinBrokerIdChangeHeader<'a> {
        /// The lowest id.
        pub min_broker_id: Option<i64> = "minBrokerId",
        /// The broker.
        pub broker_name: Option<&'a str> = "brokerName",
        /// Its address.
        pub min_broker_addr: Option<&'a str> = "minBrokerAddr",
        /// Address of the broker that went offline.
        pub offline_broker_addr: Option<&'a str> = "offlineBrokerAddr",
        /// Its address for replicas.
        pub ha_broker_addr: Option<&'a str> = "haBrokerAddr",
    }
}

/// The body of code 103.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterBrokerBody {
    /// Always empty since RocketMQ removed filter servers.
    pub filter_server_list: Vec<String>,
    /// The broker's topics.
    #[serde(rename = "topicConfigSerializeWrapper")]
    pub topics: TopicConfigs,
}

impl RegisterBrokerBody {
    /// Reads a body; `broker_version` is the frame's.
    ///
    /// # Errors
    /// [`RegisterError`] if the body is damaged or too long.
    pub fn decode(body: &[u8], compressed: bool, broker_version: i32) -> Result<Self, RegisterError> {
        Self::decode_within(body, compressed, broker_version, MAX_INFLATED)
    }

    /// Like [`Self::decode`], with a limit on the inflated bytes.
    ///
    /// # Errors
    /// [`RegisterError`] if the body is damaged or too long.
    pub fn decode_within(body: &[u8], compressed: bool, broker_version: i32, max_inflated: u64) -> Result<Self, RegisterError> {
        if !compressed {
            return Ok(json::read(body)?);
        }
        let mut parts = Parts {
            inflated: ZlibDecoder::new(body).take(max_inflated),
            buffer: Vec::new(),
        };
        let mut decoded = Self::default();
        decoded.topics.data_version = json::read(parts.part()?)?;
        for _ in 0..parts.int()? {
            let line = String::from_utf8_lossy(parts.part()?);
            let topic = TopicConfig::from_line(&line).ok_or(RegisterError::Topic)?;
            decoded.topics.topic_config_table.insert(topic.topic_name.clone(), topic);
        }
        decoded.filter_server_list = json::read(parts.part()?).unwrap_or_default();
        if broker_version >= version::V5_0_0 {
            for _ in 0..parts.int()? {
                let mapping: QueueMapping = json::read(parts.part()?)?;
                decoded.topics.topic_queue_mapping_info_map.insert(mapping.topic.clone(), mapping);
            }
        }
        Ok(decoded)
    }

    /// Writes the body as Apache's broker does.
    pub fn encode(&self, compressed: bool) -> Vec<u8> {
        if compressed { self.deflate() } else { json::write(self) }
    }

    /// Writes the body without fields whose value is the default of every reader. For a hundred thousand topics
    /// this takes a third of the bytes, and of the time that a name server needs to read them.
    pub fn encode_short(&self, compressed: bool) -> Vec<u8> {
        if compressed {
            return self.deflate();
        }
        let configs = &self.topics.topic_config_table;
        json::write(&ShortBody {
            filter_server_list: &self.filter_server_list,
            topics: ShortTopics {
                data_version: self.topics.data_version,
                topic_config_table: configs.iter().map(|(name, config)| (name.as_str(), config.into())).collect(),
                topic_queue_mapping_info_map: &self.topics.topic_queue_mapping_info_map,
            },
        })
    }

    fn deflate(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        put_part(&mut plain, &json::write(&self.topics.data_version));
        put_int(&mut plain, self.topics.topic_config_table.len());
        for topic in self.topics.topic_config_table.values() {
            put_part(&mut plain, topic.to_line().as_bytes());
        }
        put_part(&mut plain, &json::write(&self.filter_server_list));
        put_int(&mut plain, self.topics.topic_queue_mapping_info_map.len());
        for mapping in self.topics.topic_queue_mapping_info_map.values() {
            put_part(&mut plain, &json::write(mapping));
        }
        let mut out = ZlibEncoder::new(Vec::new(), Compression::default());
        // Writing to a Vec cannot fail.
        let deflated = out.write_all(&plain).and_then(|()| out.finish());
        deflated.unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShortBody<'a> {
    filter_server_list: &'a [String],
    #[serde(rename = "topicConfigSerializeWrapper")]
    topics: ShortTopics<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShortTopics<'a> {
    data_version: DataVersion,
    topic_config_table: BTreeMap<&'a str, ShortTopic<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    topic_queue_mapping_info_map: &'a BTreeMap<String, QueueMapping>,
}

/// A [`TopicConfig`]. The number of queues is always written, because readers have different defaults.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShortTopic<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<bool>,
    perm: i32,
    read_queue_nums: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_filter_type: Option<TopicFilterType>,
    topic_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_sys_flag: Option<i32>,
    write_queue_nums: i32,
}

impl<'a> From<&'a TopicConfig> for ShortTopic<'a> {
    fn from(config: &'a TopicConfig) -> Self {
        Self {
            attributes: &config.attributes,
            order: config.order.then_some(true),
            perm: config.perm,
            read_queue_nums: config.read_queue_nums,
            topic_filter_type: Some(config.topic_filter_type).filter(|kind| *kind != TopicFilterType::SingleTag),
            topic_name: &config.topic_name,
            topic_sys_flag: Some(config.topic_sys_flag).filter(|flags| *flags != 0),
            write_queue_nums: config.write_queue_nums,
        }
    }
}

fn put_int(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&(value as u32).to_be_bytes());
}

fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    put_int(out, part.len());
    out.extend_from_slice(part);
}

struct Parts<R> {
    inflated: R,
    buffer: Vec<u8>,
}

impl<R: Read> Parts<R> {
    fn int(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.inflated.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// The next part. The buffer grows with the bytes that are read, not with the announced length.
    fn part(&mut self) -> io::Result<&[u8]> {
        let len = u64::from(self.int()?);
        self.buffer.clear();
        let read = self.inflated.by_ref().take(len).read_to_end(&mut self.buffer)?;
        if read as u64 == len {
            Ok(&self.buffer)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// The result of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegisterBrokerResult {
    /// The master's address for replicas.
    pub ha_server_addr: Option<String>,
    /// The master's address for clients.
    pub master_addr: Option<String>,
    /// Configuration of ordered topics, if the name server sends it.
    pub order_topics: Option<crate::kv::KvTable>,
}

impl RegisterBrokerResult {
    /// Reads the answer of code 103.
    ///
    /// # Errors
    /// [`JsonError`] if the body is not a table.
    pub fn decode(reply: &crate::Frame) -> Result<Self, JsonError> {
        let text = |name| reply.ext.text(name).map(str::to_owned);
        let order_topics = if reply.body.is_empty() {
            None
        } else {
            Some(json::read(&reply.body)?)
        };
        Ok(Self {
            ha_server_addr: text("haServerAddr"),
            master_addr: text("masterAddr"),
            order_topics,
        })
    }
}
