//! Verbs for lite topics.

use clap::Args;

use super::flags::{OptionalTargetFlags, name, print_steps};
use super::out::Out;
use crate::{Cluster, Error, lite};

/// Show what brokers know of lite topics
#[derive(Debug, Args)]
pub(super) struct GetBrokerLiteInfo {
    #[command(flatten)]
    target: OptionalTargetFlags,
    /// Show parent topics and groups
    #[arg(short = 'd', long = "showDetail")]
    detail: bool,
}

impl GetBrokerLiteInfo {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&lite::brokers(cluster, self.target.target().as_ref(), self.detail).await?)
    }
}

/// Show a topic that has lite topics
#[derive(Debug, Args)]
pub(super) struct GetParentTopicInfo {
    /// Name of the parent topic
    #[arg(short = 'p', long = "parentTopic", value_name = "TOPIC", value_parser = name)]
    parent: String,
}

impl GetParentTopicInfo {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&lite::parent(cluster, &self.parent).await?)
    }
}

/// Show a lite topic
#[derive(Debug, Args)]
pub(super) struct GetLiteTopicInfo {
    /// Name of the parent topic
    #[arg(short = 'p', long = "parentTopic", value_name = "TOPIC", value_parser = name)]
    parent: String,
    /// Name of the lite topic
    #[arg(short = 'l', long = "liteTopic", value_name = "LITE", value_parser = name)]
    lite: String,
    /// Show who subscribes to it
    #[arg(short = 's', long = "showClientId")]
    clients: bool,
}

impl GetLiteTopicInfo {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&lite::topic(cluster, &self.parent, &self.lite, self.clients).await?)
    }
}

/// Show the lite subscriptions of a client
#[derive(Debug, Args)]
pub(super) struct GetLiteClientInfo {
    /// Name of the parent topic
    #[arg(short = 'p', long = "parentTopic", value_name = "TOPIC", value_parser = name)]
    parent: String,
    /// Name of the group
    #[arg(short = 'g', long = "group", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Id of the client
    #[arg(short = 'c', long = "clientId", value_name = "CLIENT", value_parser = name)]
    client: String,
    /// Show its lite topics
    #[arg(short = 's', long = "showDetail")]
    topics: bool,
}

impl GetLiteClientInfo {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&lite::client(cluster, &self.parent, &self.group, &self.client, self.topics).await?)
    }
}

/// Show the lag of a group in its lite topics
#[derive(Debug, Args)]
pub(super) struct GetLiteGroupInfo {
    /// Name of the parent topic
    #[arg(short = 'p', long = "parentTopic", value_name = "TOPIC", value_parser = name)]
    parent: String,
    /// Name of the group
    #[arg(short = 'g', long = "group", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Only this lite topic
    #[arg(short = 'l', long = "liteTopic", value_name = "LITE", value_parser = name)]
    lite: Option<String>,
    /// Lite topics to show of each broker
    #[arg(short = 'k', long = "topK", value_name = "COUNT", default_value_t = 20)]
    top: i32,
}

impl GetLiteGroupInfo {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&lite::lag(cluster, &self.parent, &self.group, self.lite.as_deref(), self.top).await?)
    }
}

/// Have brokers look again which lite topics of a group have messages
#[derive(Debug, Args)]
pub(super) struct TriggerLiteDispatch {
    /// Name of the parent topic
    #[arg(short = 'p', long = "parentTopic", value_name = "TOPIC", value_parser = name)]
    parent: String,
    /// Name of the group
    #[arg(short = 'g', long = "group", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Only those of this client
    #[arg(short = 'c', long = "clientId", value_name = "CLIENT", value_parser = name)]
    client: Option<String>,
    /// Only at this broker
    #[arg(short = 'b', long = "brokerName", value_name = "BROKER", value_parser = name)]
    broker: Option<String>,
}

impl TriggerLiteDispatch {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let (client, broker) = (self.client.as_deref(), self.broker.as_deref());
        print_steps(out, &lite::dispatch(cluster, &self.parent, &self.group, client, broker).await?)
    }
}
