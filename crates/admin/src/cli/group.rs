//! Verbs for groups and connected clients.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use protocol::assignment::{GroupRequestMode, RequestMode};
use protocol::group::{GroupConfig, RetryPolicy};

use super::flags::{TargetFlags, attributes, boolean, list_from, name, print_steps};
use super::out::Out;
use crate::{Cluster, Error, clients, group};

/// Create a consumer group, or change its settings
#[derive(Debug, Args)]
pub(super) struct UpdateSubGroup {
    #[command(flatten)]
    target: TargetFlags,
    /// Name of the group
    #[arg(short = 'g', long = "groupName", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Whether it may consume [default: true]
    #[arg(short = 's', long = "consumeEnable", value_name = "BOOL", value_parser = boolean)]
    consume: Option<bool>,
    /// Whether it may start at the lowest offset [default: false]
    #[arg(short = 'm', long = "consumeFromMinEnable", value_name = "BOOL", value_parser = boolean)]
    from_min: Option<bool>,
    /// Whether broadcasting is allowed [default: false]
    #[arg(short = 'd', long = "consumeBroadcastEnable", value_name = "BOOL", value_parser = boolean)]
    broadcast: Option<bool>,
    /// Whether retries keep order [default: false]
    #[arg(short = 'o', long = "consumeMessageOrderly", value_name = "BOOL", value_parser = boolean)]
    orderly: Option<bool>,
    /// Queues of its retry topic [default: 1]
    #[arg(short = 'q', long = "retryQueueNums", value_name = "COUNT")]
    retry_queues: Option<i32>,
    /// Maximum number of retries [default: 16]
    #[arg(short = 'r', long = "retryMaxTimes", value_name = "COUNT")]
    retry_times: Option<i32>,
    /// Delays between retries, JSON: {"type":"CUSTOMIZED","customizedRetryPolicy":{"next":[1000,5000]}}
    #[arg(short = 'p', long = "groupRetryPolicy", value_name = "JSON", value_parser = retry_policy)]
    retry_policy: Option<RetryPolicy>,
    /// Broker id from which it consumes [default: 0]
    #[arg(short = 'i', long = "brokerId", value_name = "ID")]
    broker_id: Option<i64>,
    /// Broker id from which it consumes when it lags [default: 1]
    #[arg(short = 'w', long = "whichBrokerWhenConsumeSlowly", value_name = "ID")]
    slow_broker: Option<i64>,
    /// Whether members are notified of changes of the membership [default: true]
    #[arg(short = 'a', long = "notifyConsumerIdsChanged", value_name = "BOOL", value_parser = boolean)]
    notify: Option<bool>,
    /// Changes to attributes: +name=value,-name,...
    #[arg(long = "attributes", value_name = "CHANGES", value_parser = attributes, allow_hyphen_values = true)]
    attributes: Option<BTreeMap<String, String>>,
}

fn retry_policy(text: &str) -> Result<RetryPolicy, String> {
    protocol::json::read(text.as_bytes()).map_err(|error| error.to_string())
}

impl UpdateSubGroup {
    fn config(&self) -> GroupConfig {
        let usual = GroupConfig::new(&self.group);
        GroupConfig {
            attributes: self.attributes.clone().unwrap_or_default(),
            broker_id: self.broker_id.unwrap_or(usual.broker_id),
            consume_broadcast_enable: self.broadcast.unwrap_or(false),
            consume_enable: self.consume.unwrap_or(usual.consume_enable),
            consume_from_min_enable: self.from_min.unwrap_or(false),
            consume_message_orderly: self.orderly.unwrap_or(usual.consume_message_orderly),
            group_retry_policy: self.retry_policy.clone().unwrap_or_else(|| usual.group_retry_policy.clone()),
            notify_consumer_ids_changed_enable: self.notify.unwrap_or(usual.notify_consumer_ids_changed_enable),
            retry_max_times: self.retry_times.unwrap_or(usual.retry_max_times),
            retry_queue_nums: self.retry_queues.unwrap_or(usual.retry_queue_nums),
            which_broker_when_consume_slowly: self.slow_broker.unwrap_or(usual.which_broker_when_consume_slowly),
            ..usual
        }
    }

    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &group::create(cluster, &self.target.target()?, &self.config()).await?)
    }
}

/// Create or change the consumer groups that a JSON file lists
#[derive(Debug, Args)]
pub(super) struct UpdateSubGroupList {
    #[command(flatten)]
    target: TargetFlags,
    /// File with a JSON list of group settings (groupName, retryMaxTimes, ...)
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
}

impl UpdateSubGroupList {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let groups: Vec<GroupConfig> = list_from(&self.file)?;
        if groups.iter().any(|group| group.group_name.is_empty()) {
            return Err(Error::Invalid(format!("{}: a group has no groupName", self.file.display())));
        }
        print_steps(out, &group::create_list(cluster, &self.target.target()?, groups).await?)
    }
}

/// Delete a consumer group; in a whole cluster also its retry and dead letter topics
#[derive(Debug, Args)]
pub(super) struct DeleteSubGroup {
    #[command(flatten)]
    target: TargetFlags,
    /// Name of the group
    #[arg(short = 'g', long = "groupName", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Delete its offsets, too
    #[arg(short = 'r', long = "removeOffset", value_name = "BOOL", value_parser = boolean)]
    remove_offset: Option<bool>,
}

impl DeleteSubGroup {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let offsets_too = self.remove_offset.unwrap_or(false);
        print_steps(
            out,
            &group::delete(cluster, &self.target.target()?, &self.group, offsets_too).await?,
        )
    }
}

/// Show a consumer group's settings at all brokers
#[derive(Debug, Args)]
pub(super) struct GetConsumerConfig {
    /// Name of the group
    #[arg(short = 'g', long = "groupName", value_name = "GROUP", value_parser = name)]
    group: String,
}

impl GetConsumerConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&group::settings(cluster, &self.group).await?)
    }
}

/// Set whether a group consumes a topic by pulling or by POP
#[derive(Debug, Args)]
pub(super) struct SetConsumeMode {
    #[command(flatten)]
    target: TargetFlags,
    /// Name of the topic
    #[arg(short = 't', long = "topicName", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Name of the group
    #[arg(short = 'g', long = "groupName", value_name = "GROUP", value_parser = name)]
    group: String,
    /// The mode
    #[arg(short = 'm', long = "mode", value_enum, value_name = "MODE", ignore_case = true)]
    mode: Mode,
    /// With POP: how many further clients share each client's queues
    #[arg(short = 'q', long = "popShareQueueNum", value_name = "COUNT", default_value_t = 0)]
    share: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    #[value(name = "PULL")]
    Pull,
    #[value(name = "POP")]
    Pop,
}

impl SetConsumeMode {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let mode = GroupRequestMode {
            consumer_group: self.group.clone(),
            mode: match self.mode {
                Mode::Pull => RequestMode::Pull,
                Mode::Pop => RequestMode::Pop,
            },
            pop_share_queue_num: self.share,
            topic: self.topic.clone(),
        };
        print_steps(out, &group::set_mode(cluster, &self.target.target()?, &mode).await?)
    }
}

/// Show a group's connected consumers and what they subscribe to
#[derive(Debug, Args)]
pub(super) struct ConsumerConnection {
    /// Name of the group
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Address of the broker to ask
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT", value_parser = name)]
    broker: Option<String>,
}

impl ConsumerConnection {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&clients::consumers(cluster, &self.group, self.broker.as_deref()).await?)
    }
}

/// Show the state of a group's consumers, and problems
#[derive(Debug, Args)]
pub(super) struct ConsumerStatus {
    /// Name of the group
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Only this client, in detail
    #[arg(short = 'i', long = "clientId", value_name = "CLIENT", value_parser = name)]
    client: Option<String>,
    /// Address of the broker to ask
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT", value_parser = name)]
    broker: Option<String>,
    /// With stack traces
    #[arg(short = 's', long = "jstack")]
    jstack: bool,
}

impl ConsumerStatus {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let (client, broker) = (self.client.as_deref(), self.broker.as_deref());
        out.emit(&clients::status(cluster, &self.group, client, broker, self.jstack).await?)
    }
}

/// Show a group's connected producers
#[derive(Debug, Args)]
pub(super) struct ProducerConnection {
    /// Name of the group
    #[arg(short = 'g', long = "producerGroup", value_name = "GROUP", value_parser = name)]
    group: String,
    /// A topic it sends to
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
}

impl ProducerConnection {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&clients::producers(cluster, &self.group, &self.topic).await?)
    }
}

/// Show all producers that are connected to a broker
#[derive(Debug, Args)]
pub(super) struct Producer {
    /// Address of the broker
    #[arg(short = 'b', long = "broker", value_name = "HOST:PORT", value_parser = name)]
    broker: String,
}

impl Producer {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&clients::all_producers(cluster, &self.broker).await?)
    }
}
