//! Verbs for topics.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use protocol::topic::{TopicConfig, perm, sys_flag};

use super::flags::{TargetFlags, attributes, boolean, list_from, name, print_steps};
use super::out::Out;
use crate::{Cluster, Error, stats, topic};

/// Default number of queues of a topic, as in mqadmin.
const QUEUES: i32 = 8;

/// Create a topic, or change its settings
#[derive(Debug, Args)]
pub(super) struct UpdateTopic {
    #[command(flatten)]
    target: TargetFlags,
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Number of read queues
    #[arg(short = 'r', long = "readQueueNums", value_name = "COUNT", default_value_t = QUEUES)]
    read_queues: i32,
    /// Number of write queues
    #[arg(short = 'w', long = "writeQueueNums", value_name = "COUNT", default_value_t = QUEUES)]
    write_queues: i32,
    /// Permission: 2 write, 4 read, 6 both
    #[arg(short = 'p', long = "perm", value_name = "PERM", default_value_t = perm::READ | perm::WRITE, value_parser = clap::value_parser!(i32).range(0..8))]
    perm: i32,
    /// Whether messages are ordered across brokers
    #[arg(short = 'o', long = "order", value_name = "BOOL", value_parser = boolean)]
    order: Option<bool>,
    /// Whether it is a unit topic
    #[arg(short = 'u', long = "unit", value_name = "BOOL", value_parser = boolean)]
    unit: Option<bool>,
    /// Whether it has unit subscriptions
    #[arg(short = 's', long = "hasUnitSub", value_name = "BOOL", value_parser = boolean)]
    unit_sub: Option<bool>,
    /// Changes to attributes: +name=value,-name,...
    #[arg(short = 'a', long = "attributes", value_name = "CHANGES", value_parser = attributes, allow_hyphen_values = true)]
    attributes: Option<BTreeMap<String, String>>,
}

impl UpdateTopic {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let bit = |wanted: Option<bool>, bit| if wanted == Some(true) { bit } else { 0 };
        let config = TopicConfig {
            topic_name: self.topic.clone(),
            read_queue_nums: self.read_queues,
            write_queue_nums: self.write_queues,
            perm: self.perm,
            order: self.order.unwrap_or(false),
            topic_sys_flag: bit(self.unit, sys_flag::UNIT) | bit(self.unit_sub, sys_flag::UNIT_SUB),
            attributes: self.attributes.clone().unwrap_or_default(),
            ..TopicConfig::default()
        };
        print_steps(out, &topic::create(cluster, &self.target.target()?, &config).await?)
    }
}

/// Create or change the topics that a JSON file lists
#[derive(Debug, Args)]
pub(super) struct UpdateTopicList {
    #[command(flatten)]
    target: TargetFlags,
    /// File with a JSON list of topic settings (topicName, readQueueNums, writeQueueNums, perm, ...)
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
}

impl UpdateTopicList {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let topics: Vec<TopicConfig> = list_from(&self.file)?;
        if topics.iter().any(|topic| topic.topic_name.is_empty()) {
            return Err(Error::Invalid(format!("{}: a topic has no topicName", self.file.display())));
        }
        print_steps(out, &topic::create_list(cluster, &self.target.target()?, topics).await?)
    }
}

/// Delete a topic with its messages, at the brokers and the name servers
#[derive(Debug, Args)]
pub(super) struct DeleteTopic {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Name of the cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER", value_parser = name)]
    cluster: String,
}

impl DeleteTopic {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &topic::delete(cluster, &self.cluster, &self.topic).await?)
    }
}

/// Change a topic's permission
#[derive(Debug, Args)]
pub(super) struct UpdateTopicPerm {
    #[command(flatten)]
    target: TargetFlags,
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Permission: 2 write, 4 read, 6 both
    #[arg(short = 'p', long = "perm", value_name = "PERM", value_parser = clap::value_parser!(i32).range(0..8))]
    perm: i32,
}

impl UpdateTopicPerm {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(
            out,
            &topic::set_perm(cluster, &self.target.target()?, &self.topic, self.perm).await?,
        )
    }
}

/// Set, show or delete a topic's order configuration
#[derive(Debug, Args)]
pub(super) struct UpdateOrderConf {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// The operation
    #[arg(short = 'm', long = "method", value_enum, value_name = "METHOD")]
    method: Method,
    /// BROKER:QUEUES;BROKER:QUEUES...
    #[arg(short = 'v', long = "orderConf", value_name = "CONF", required_if_eq("method", "put"), value_parser = name)]
    conf: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    Put,
    Get,
    Delete,
}

impl UpdateOrderConf {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        match self.method {
            Method::Get => out.emit(&topic::order::find(cluster, &self.topic).await?),
            Method::Put => {
                let conf = self.conf.as_deref().unwrap_or_default();
                print_steps(out, &topic::order::put(cluster, &self.topic, conf).await)
            }
            Method::Delete => print_steps(out, &topic::order::delete(cluster, &self.topic).await),
        }
    }
}

/// List the topics of the name server
#[derive(Debug, Args)]
pub(super) struct TopicList {
    /// Show clusters and consumer groups
    #[arg(short = 'c', long = "clusterModel")]
    with_clusters: bool,
}

impl TopicList {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        match self.with_clusters {
            true => out.emit(&topic::state::uses(cluster).await?),
            false => out.emit(&topic::state::list(cluster).await?),
        }
    }
}

/// Show the route of a topic
#[derive(Debug, Args)]
pub(super) struct TopicRoute {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Accepted for compatibility with mqadmin; it is always a list
    #[arg(short = 'l', long = "list")]
    list: bool,
}

impl TopicRoute {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&topic::state::route(cluster, &self.topic).await?)
    }
}

/// Show the offsets of a topic's queues
#[derive(Debug, Args)]
pub(super) struct TopicStatus {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// For topics without a route (light message queues): the topic that has it
    #[arg(short = 'c', long = "cluster", value_name = "PARENT", value_parser = name)]
    via: Option<String>,
}

impl TopicStatus {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&topic::state::state(cluster, &self.topic, self.via.as_deref()).await?)
    }
}

/// List the clusters that have a topic
#[derive(Debug, Args)]
pub(super) struct TopicClusterList {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
}

impl TopicClusterList {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&topic::state::clusters(cluster, &self.topic).await?)
    }
}

/// Show how a topic's queues would be allocated to consumers
#[derive(Debug, Args)]
pub(super) struct AllocateMq {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// The consumers, separated by commas
    #[arg(short = 'i', long = "ipList", value_name = "IP,IP", value_delimiter = ',', required = true)]
    consumers: Vec<String>,
}

impl AllocateMq {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&topic::state::allocate(cluster, &self.topic, &self.consumers).await?)
    }
}

/// Show the traffic of topics and their groups
#[derive(Debug, Args)]
pub(super) struct StatsAll {
    /// Only topics with traffic in the last day
    #[arg(short = 'a', long = "activeTopic")]
    active: bool,
    /// Only this topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: Option<String>,
}

impl StatsAll {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&stats::traffic(cluster, self.topic.as_deref(), self.active).await?)
    }
}
