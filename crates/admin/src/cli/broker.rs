//! Verbs for brokers and their cluster.

use std::path::PathBuf;

use clap::Args;

use super::flags::{OptionalTargetFlags, RepeatFlags, TargetFlags, name, print_steps};
use super::out::Out;
use crate::broker::{self, Cleaning};
use crate::export::{self, Part};
use crate::show::Totals;
use crate::{Cluster, Error, Steps};

/// Directory of mqadmin's exports.
const EXPORT_DIR: &str = "/tmp/rocketmq/export";

/// Show an overview of all brokers
#[derive(Debug, Args)]
pub(super) struct ClusterList {
    /// Show the message counts of yesterday and today instead
    #[arg(short = 'm', long = "moreStats")]
    totals: bool,
    #[command(flatten)]
    repeat: RepeatFlags,
    /// Only this cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER", value_parser = name)]
    cluster: Option<String>,
}

impl ClusterList {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let mut rounds = self.repeat.rounds();
        loop {
            let state = broker::clusters(cluster, self.cluster.as_deref()).await?;
            let outcome = state.check();
            match self.totals {
                true => out.emit_apart(&Totals(state))?,
                false => out.emit_apart(&state)?,
            }
            if !rounds.another().await {
                return outcome;
            }
        }
    }
}

/// Show a broker's runtime information
#[derive(Debug, Args)]
pub(super) struct BrokerStatus {
    #[command(flatten)]
    target: TargetFlags,
}

impl BrokerStatus {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &broker::states(cluster, &self.target.target()?).await?)
    }
}

/// Show a broker's settings
#[derive(Debug, Args)]
pub(super) struct GetBrokerConfig {
    #[command(flatten)]
    target: TargetFlags,
}

impl GetBrokerConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &broker::settings(cluster, &self.target.target()?).await?)
    }
}

/// Change a setting of running brokers
#[derive(Debug, Args)]
pub(super) struct UpdateBrokerConfig {
    #[command(flatten)]
    target: TargetFlags,
    /// Change replicas, too (any value)
    #[arg(short = 'a', long = "updateAllBroker", value_name = "BOOL")]
    replicas_too: Option<String>,
    /// Name of the setting
    #[arg(short = 'k', long = "key", value_name = "KEY", value_parser = name)]
    key: String,
    /// Its new value
    #[arg(short = 'v', long = "value", value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
}

impl UpdateBrokerConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let (target, value) = (self.target.target()?, self.value.trim());
        print_steps(
            out,
            &broker::update(cluster, &target, self.replicas_too.is_some(), &self.key, value).await?,
        )
    }
}

/// Delete consume queue files without messages
#[derive(Debug, Args)]
pub(super) struct CleanExpiredCq {
    #[command(flatten)]
    target: OptionalTargetFlags,
}

impl CleanExpiredCq {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(
            out,
            &broker::clean(cluster, self.target.target().as_ref(), Cleaning::ExpiredQueues).await?,
        )
    }
}

/// Delete queues of deleted topics
#[derive(Debug, Args)]
pub(super) struct CleanUnusedTopic {
    #[command(flatten)]
    target: OptionalTargetFlags,
}

impl CleanUnusedTopic {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(
            out,
            &broker::clean(cluster, self.target.target().as_ref(), Cleaning::UnusedTopics).await?,
        )
    }
}

/// Delete expired commit log files
#[derive(Debug, Args)]
pub(super) struct DeleteExpiredCommitLog {
    #[command(flatten)]
    target: OptionalTargetFlags,
}

impl DeleteExpiredCommitLog {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(
            out,
            &broker::clean(cluster, self.target.target().as_ref(), Cleaning::ExpiredLog).await?,
        )
    }
}

/// Show the replication status
#[derive(Debug, Args)]
pub(super) struct HaStatus {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    repeat: RepeatFlags,
}

impl HaStatus {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let target = self.target.target()?;
        let mut rounds = self.repeat.rounds();
        loop {
            out.emit_apart(&broker::replication(cluster, &target).await?)?;
            if !rounds.another().await {
                return Ok(());
            }
        }
    }
}

/// Set the flushed offset of its master that a slave keeps (a master ignores it)
#[derive(Debug, Args)]
pub(super) struct ResetMasterFlushOffset {
    /// Address of the slave
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT", value_parser = name)]
    broker: String,
    /// The offset in the log
    #[arg(short = 'o', long = "offset", value_name = "OFFSET")]
    offset: i64,
}

impl ResetMasterFlushOffset {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &broker::reset_master_flush_offset(cluster, &self.broker, self.offset).await)
    }
}

/// Write the settings of a cluster to configs.json
#[derive(Debug, Args)]
pub(super) struct ExportConfigs {
    /// Name of the cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER", value_parser = name)]
    cluster: String,
    /// Directory for the file
    #[arg(short = 'f', long = "filePath", value_name = "DIR", default_value = EXPORT_DIR)]
    dir: PathBuf,
}

impl ExportConfigs {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&export::configs(cluster, &self.cluster, &self.dir).await?)
    }
}

/// Write topics and groups to metadata.json, topic.json or subscriptionGroup.json
#[derive(Debug, Args)]
pub(super) struct ExportMetadata {
    #[command(flatten)]
    target: TargetFlags,
    /// Directory for the file
    #[arg(short = 'f', long = "filePath", value_name = "DIR", default_value = EXPORT_DIR)]
    dir: PathBuf,
    /// Only topics
    #[arg(short = 't', long = "topic", conflicts_with = "groups")]
    topics: bool,
    /// Only consumer groups
    #[arg(short = 'g', long = "subscriptionGroup")]
    groups: bool,
    /// With retry and dead letter topics
    #[arg(short = 's', long = "specialTopic")]
    special: bool,
}

impl ExportMetadata {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let target = self.target.target()?;
        let part = match (self.topics, self.groups) {
            (true, _) => Part::Topics,
            (_, true) => Part::Groups,
            _ => Part::All,
        };
        out.emit(&export::metadata(cluster, &target, part, self.special, &self.dir).await?)
    }
}

/// Write environment, content and traffic of a cluster's masters to metrics.json
#[derive(Debug, Args)]
pub(super) struct ExportMetrics {
    /// Name of the cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER", value_parser = name)]
    cluster: String,
    /// Directory for the file
    #[arg(short = 'f', long = "filePath", value_name = "DIR", default_value = EXPORT_DIR)]
    dir: PathBuf,
}

impl ExportMetrics {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&export::metrics(cluster, &self.cluster, &self.dir).await?)
    }
}
