//! Verbs for static topics.

use std::path::PathBuf;

use clap::Args;

use super::flags::{boolean, name, print_steps};
use super::out::Out;
use crate::static_topic::{self, StaticTopicChange, Targets};
use crate::{Cluster, Error};

/// Flags of both verbs. One of brokers, clusters and file is required.
#[derive(Debug, Args)]
struct ChangeFlags {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Names of the brokers that get the queues, separated by commas
    #[arg(short = 'b', long = "brokers", value_name = "NAME,NAME", value_delimiter = ',', group = "targets")]
    brokers: Vec<String>,
    /// Clusters whose brokers get the queues, separated by commas
    #[arg(short = 'c', long = "clusters", value_name = "NAME,NAME", value_delimiter = ',', group = "targets")]
    clusters: Vec<String>,
    /// Carry out the plan in this file: an earlier change that failed half-way
    #[arg(long = "mapFile", alias = "mf", value_name = "FILE", group = "targets")]
    file: Option<PathBuf>,
    /// With a file: have brokers accept it although it contradicts their mapping
    #[arg(long = "forceReplace", alias = "fr", value_name = "BOOL", value_parser = boolean, requires = "file")]
    force: Option<bool>,
}

impl ChangeFlags {
    fn targets(&self) -> Targets {
        let trimmed = |names: &[String]| names.iter().map(|name| name.trim().to_owned()).collect();
        if self.clusters.is_empty() {
            Targets::Brokers(trimmed(&self.brokers))
        } else {
            Targets::Clusters(trimmed(&self.clusters))
        }
    }

    async fn repeated(&self, cluster: &Cluster) -> Option<Result<StaticTopicChange, Error>> {
        let file = self.file.as_ref()?;
        Some(static_topic::from_file(cluster, &self.topic, file, self.force == Some(true)).await)
    }
}

/// Create a static topic, or add queues to it
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("targets").required(true).multiple(false))]
pub(super) struct UpdateStaticTopic {
    #[command(flatten)]
    change: ChangeFlags,
    /// Number of logical queues altogether
    #[arg(long = "totalQueueNum", alias = "qn", value_name = "COUNT", required_unless_present = "file", value_parser = clap::value_parser!(i32).range(1..))]
    total: Option<i32>,
}

impl UpdateStaticTopic {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let change = match self.change.repeated(cluster).await {
            Some(change) => change?,
            None => {
                let total = self.total.unwrap_or_default();
                static_topic::update(cluster, &self.change.topic, total, &self.change.targets(), &std::env::temp_dir()).await?
            }
        };
        print_steps(out, &change)
    }
}

/// Move the queues of a static topic to other brokers
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("targets").required(true).multiple(false))]
pub(super) struct RemappingStaticTopic {
    #[command(flatten)]
    change: ChangeFlags,
}

impl RemappingStaticTopic {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let change = match self.change.repeated(cluster).await {
            Some(change) => change?,
            None => static_topic::remap(cluster, &self.change.topic, &self.change.targets(), &std::env::temp_dir()).await?,
        };
        print_steps(out, &change)
    }
}
