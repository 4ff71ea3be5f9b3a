//! Verbs for controllers, and the epochs of brokers. Controllers are found by `-a`, not by the name server.

use clap::Args;

use super::flags::{RepeatFlags, name, print_steps};
use super::out::Out;
use crate::controller::{self, Names};
use crate::{Cluster, Error};

/// Where controllers are.
#[derive(Debug, Clone, Args)]
struct At {
    /// Controllers, HOST:PORT separated by ';'
    #[arg(short = 'a', long = "controllerAddress", value_name = "HOST:PORT", value_parser = name)]
    addresses: String,
}

impl At {
    fn list(&self) -> Vec<String> {
        let addresses = self.addresses.split([';', ',']).map(str::trim);
        addresses.filter(|address| !address.is_empty()).map(str::to_owned).collect()
    }
}

/// A broker name or a cluster; one of them is required.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Name of the brokers
    #[arg(short = 'b', long = "brokerName", value_name = "BROKER", value_parser = name)]
    broker: Option<String>,
    /// All brokers of a cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER", value_parser = name)]
    cluster: Option<String>,
}

impl Which {
    fn names(&self) -> Result<Names<'_>, Error> {
        let broker = self.broker.as_deref().map(Names::Broker);
        let names = broker.or_else(|| self.cluster.as_deref().map(Names::Cluster));
        names.ok_or_else(|| Error::Invalid("-b or -c is required".to_owned()))
    }
}

/// Show who leads a group of controllers
#[derive(Debug, Args)]
pub(super) struct GetControllerMetaData {
    #[command(flatten)]
    at: At,
}

impl GetControllerMetaData {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&controller::metadata(cluster, &self.at.list()).await?)
    }
}

/// Show the settings of controllers
#[derive(Debug, Args)]
pub(super) struct GetControllerConfig {
    #[command(flatten)]
    at: At,
}

impl GetControllerConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &controller::settings(cluster, &self.at.list()).await)
    }
}

/// Change a setting of running controllers
#[derive(Debug, Args)]
pub(super) struct UpdateControllerConfig {
    #[command(flatten)]
    at: At,
    /// Name of the setting
    #[arg(short = 'k', long = "key", value_name = "KEY", value_parser = name)]
    key: String,
    /// Its new value
    #[arg(short = 'v', long = "value", value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
}

impl UpdateControllerConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(
            out,
            &controller::update(cluster, &self.at.list(), &self.key, self.value.trim()).await,
        )
    }
}

/// Show the replicas of brokers, and which are in sync
#[derive(Debug, Args)]
pub(super) struct GetSyncStateSet {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    repeat: RepeatFlags,
}

impl GetSyncStateSet {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let mut rounds = self.repeat.rounds();
        loop {
            out.emit_apart(&controller::sync_states(cluster, &self.at.list(), self.which.names()?).await?)?;
            if !rounds.another().await {
                return Ok(());
            }
        }
    }
}

/// Show which part of a broker's log was written in which epoch
#[derive(Debug, Args)]
pub(super) struct GetBrokerEpoch {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    repeat: RepeatFlags,
}

impl GetBrokerEpoch {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let mut rounds = self.repeat.rounds();
        loop {
            out.emit_apart(&controller::epochs(cluster, self.which.names()?).await?)?;
            if !rounds.another().await {
                return Ok(());
            }
        }
    }
}

/// Make a broker the master of its name
#[derive(Debug, Args)]
pub(super) struct ElectMaster {
    #[command(flatten)]
    at: At,
    /// Id of the broker
    #[arg(short = 'b', long = "brokerId", value_name = "ID")]
    id: i64,
    /// Name of the broker
    #[arg(long = "brokerName", alias = "bn", value_name = "BROKER", value_parser = name)]
    broker: String,
    /// Its cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER", value_parser = name)]
    cluster: String,
}

impl ElectMaster {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        out.emit(&controller::elect(cluster, &self.at.list(), &self.cluster, &self.broker, self.id).await?)
    }
}

/// Let the controllers forget brokers that are gone
#[derive(Debug, Args)]
pub(super) struct CleanBrokerMetadata {
    #[command(flatten)]
    at: At,
    /// Ids of the brokers, separated by ';' [default: all]
    #[arg(short = 'b', long = "brokerControllerIdsToClean", value_name = "IDS", value_parser = name)]
    ids: Option<String>,
    /// Name of the brokers
    #[arg(long = "brokerName", alias = "bn", value_name = "BROKER", value_parser = name)]
    broker: String,
    /// Their cluster; required without -l
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER", value_parser = name, required_unless_present = "living")]
    cluster: Option<String>,
    /// Forget brokers that are alive, too
    #[arg(short = 'l', long = "cleanLivingBroker")]
    living: bool,
}

impl CleanBrokerMetadata {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let (of, ids) = (self.cluster.as_deref(), self.ids.as_deref());
        print_steps(
            out,
            &controller::clean(cluster, &self.at.list(), of, &self.broker, ids, self.living).await?,
        )
    }
}
