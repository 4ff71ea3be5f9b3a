//! Verbs for name servers. Changes are made at each given name server.

use clap::Args;

use super::flags::{name, print_steps};
use super::out::Out;
use crate::{Cluster, Error, nameserver};

/// Remove the write permission of a broker's topics
#[derive(Debug, Args)]
pub(super) struct WipeWritePerm {
    /// Name of the broker
    #[arg(short = 'b', long = "brokerName", value_name = "BROKER", value_parser = name)]
    broker: String,
}

impl WipeWritePerm {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &nameserver::set_writeable(cluster, &self.broker, false).await)
    }
}

/// Restore the write permission of a broker's topics
#[derive(Debug, Args)]
pub(super) struct AddWritePerm {
    /// Name of the broker
    #[arg(short = 'b', long = "brokerName", value_name = "BROKER", value_parser = name)]
    broker: String,
}

impl AddWritePerm {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &nameserver::set_writeable(cluster, &self.broker, true).await)
    }
}

/// Set a key of the name servers' key-value configuration
#[derive(Debug, Args)]
pub(super) struct UpdateKvConfig {
    /// The namespace
    #[arg(short = 's', long = "namespace", value_name = "NAMESPACE", value_parser = name)]
    namespace: String,
    /// The key
    #[arg(short = 'k', long = "key", value_name = "KEY", value_parser = name)]
    key: String,
    /// Its new value
    #[arg(short = 'v', long = "value", value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
}

impl UpdateKvConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(
            out,
            &nameserver::put_kv(cluster, &self.namespace, &self.key, self.value.trim()).await,
        )
    }
}

/// Delete a key of the name servers' key-value configuration
#[derive(Debug, Args)]
pub(super) struct DeleteKvConfig {
    /// The namespace
    #[arg(short = 's', long = "namespace", value_name = "NAMESPACE", value_parser = name)]
    namespace: String,
    /// The key
    #[arg(short = 'k', long = "key", value_name = "KEY", value_parser = name)]
    key: String,
}

impl DeleteKvConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &nameserver::delete_kv(cluster, &self.namespace, &self.key).await)
    }
}

/// Show the settings of name servers
#[derive(Debug, Args)]
pub(super) struct GetNamesrvConfig {}

impl GetNamesrvConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &nameserver::settings(cluster).await)
    }
}

/// Change a setting of running name servers
#[derive(Debug, Args)]
pub(super) struct UpdateNamesrvConfig {
    /// Name of the setting
    #[arg(short = 'k', long = "key", value_name = "KEY", value_parser = name)]
    key: String,
    /// Its new value
    #[arg(short = 'v', long = "value", value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
}

impl UpdateNamesrvConfig {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &nameserver::update(cluster, &self.key, self.value.trim()).await)
    }
}
