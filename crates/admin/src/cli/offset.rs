//! Verbs for progress and offsets.

use std::time::Duration;

use clap::Args;

use super::flags::{Rounds, boolean, name, print_steps, timestamp_ms};
use super::out::Out;
use crate::offset::reset::{self, END, Reset};
use crate::{Cluster, Error, monitor, offset};

/// Show the progress of consumer groups
#[derive(Debug, Args)]
pub(super) struct ConsumerProgress {
    /// One group with all its queues [default: a summary of all groups]
    #[arg(short = 'g', long = "groupName", value_name = "GROUP", value_parser = name)]
    group: Option<String>,
    /// Only this topic
    #[arg(short = 't', long = "topicName", value_name = "TOPIC", value_parser = name, requires = "group")]
    topic: Option<String>,
    /// Show the address of the consumer of each queue
    #[arg(short = 's', long = "showClientIP", value_name = "BOOL", value_parser = boolean, requires = "group")]
    clients: Option<bool>,
    /// For topics without a route (light message queues): the topic that has it
    #[arg(short = 'c', long = "cluster", value_name = "PARENT", value_parser = name)]
    via: Option<String>,
}

impl ConsumerProgress {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let (topic, via) = (self.topic.as_deref(), self.via.as_deref());
        match &self.group {
            None => out.emit(&offset::summaries(cluster).await?),
            Some(group) if self.clients == Some(true) => out.emit(&offset::progress_with_clients(cluster, group, topic, via).await?),
            Some(group) => out.emit(&offset::progress(cluster, group, topic, via).await?),
        }
    }
}

/// Show the progress of all groups of a broker
#[derive(Debug, Args)]
pub(super) struct BrokerConsumeStats {
    /// Address of the broker
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT", value_parser = name)]
    broker: String,
    /// Time-out of the answer, ms
    #[arg(short = 't', long = "timeoutMillis", value_name = "MS", default_value_t = 50_000)]
    timeout: u64,
    /// Only queues with a backlog of at least this many messages
    #[arg(short = 'l', long = "level", value_name = "COUNT", default_value_t = 0)]
    level: i64,
    /// Only ordered topics
    #[arg(short = 'o', long = "order", value_name = "BOOL", value_parser = boolean)]
    order: Option<bool>,
}

impl BrokerConsumeStats {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let patient = cluster.with_timeout(Duration::from_millis(self.timeout));
        let ordered = self.order.unwrap_or(false);
        out.emit(&offset::of_broker(&patient, &self.broker, ordered, self.level).await?)
    }
}

/// Reset a group's offsets in a topic to a time, also for running consumers
#[derive(Debug, Args)]
pub(super) struct ResetOffsetByTime {
    /// Name of the group
    #[arg(short = 'g', long = "group", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// now, epoch milliseconds, yyyy-MM-dd#HH:mm:ss:SSS (local time), or -1 for the end
    #[arg(short = 's', long = "timestamp", value_name = "TIME", value_parser = timestamp_ms, allow_negative_numbers = true)]
    timestamp: i64,
    /// Whether to reset forward, too [default: true]
    #[arg(short = 'f', long = "force", value_name = "BOOL", value_parser = boolean)]
    force: Option<bool>,
    /// One queue of the broker at this address
    #[arg(short = 'b', long = "broker", value_name = "HOST:PORT", value_parser = name, requires = "queue")]
    broker: Option<String>,
    /// Queue id
    #[arg(short = 'q', long = "queue", value_name = "QUEUE", requires = "broker", value_parser = clap::value_parser!(i32).range(0..))]
    queue: Option<i32>,
    /// With a queue: the new offset instead of the time
    #[arg(short = 'o', long = "offset", value_name = "OFFSET", requires = "queue", value_parser = clap::value_parser!(i64).range(0..))]
    offset: Option<i64>,
    /// For topics without a route (light message queues): the topic that has it
    #[arg(short = 'c', long = "cluster", value_name = "PARENT", value_parser = name)]
    via: Option<String>,
    /// No effect: brokers know the language of their clients
    #[arg(long = "cplus", hide = true)]
    cplus: bool,
}

impl ResetOffsetByTime {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let wanted = Reset {
            group: &self.group,
            topic: &self.topic,
            timestamp: self.timestamp,
            force: self.force.unwrap_or(true),
            via: self.via.as_deref(),
        };
        match (&self.broker, self.queue) {
            (Some(broker), Some(queue)) => out.emit(&reset::reset_queue(cluster, broker, queue, &wanted, self.offset).await?),
            _ => out.emit(&reset::reset(cluster, &wanted).await?),
        }
    }
}

/// Reset a group's offsets in a topic to the end, skipping the backlog
#[derive(Debug, Args)]
pub(super) struct SkipAccumulatedMessage {
    /// Name of the group
    #[arg(short = 'g', long = "group", value_name = "GROUP", value_parser = name)]
    group: String,
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Whether to reset forward, as skipping requires [default: true]
    #[arg(short = 'f', long = "force", value_name = "BOOL", value_parser = boolean)]
    force: Option<bool>,
    /// For topics without a route (light message queues): the topic that has it
    #[arg(short = 'c', long = "cluster", value_name = "PARENT", value_parser = name)]
    via: Option<String>,
}

impl SkipAccumulatedMessage {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let wanted = Reset {
            group: &self.group,
            topic: &self.topic,
            timestamp: END,
            force: self.force.unwrap_or(true),
            via: self.via.as_deref(),
        };
        out.emit(&reset::reset(cluster, &wanted).await?)
    }
}

/// Copy one group's offsets in a topic to another group
#[derive(Debug, Args)]
pub(super) struct CloneGroupOffset {
    /// Source group
    #[arg(short = 's', long = "srcGroup", value_name = "GROUP", value_parser = name)]
    from: String,
    /// Destination group
    #[arg(short = 'd', long = "destGroup", value_name = "GROUP", value_parser = name)]
    to: String,
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Accepted for compatibility with mqadmin, without effect in both
    #[arg(short = 'o', long = "offline", value_name = "BOOL", value_parser = boolean)]
    offline: Option<bool>,
}

impl CloneGroupOffset {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &reset::clone(cluster, &self.from, &self.to, &self.topic).await?)
    }
}

/// Monitor all groups: backlog and problems
#[derive(Debug, Args)]
pub(super) struct StartMonitoring {
    /// Repeat after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    interval: u64,
    /// End after this many rounds [default: only when interrupted]
    #[arg(long, value_name = "COUNT")]
    rounds: Option<u64>,
}

impl StartMonitoring {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let mut rounds = Rounds::new(Some(self.interval), self.rounds);
        loop {
            out.emit_apart(&monitor::round(cluster).await?)?;
            if !rounds.another().await {
                return Ok(());
            }
        }
    }
}
