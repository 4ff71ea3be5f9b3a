//! Verbs for sending.

use clap::Args;
use serde::Serialize;

use super::flags::{Rounds, boolean, name, print_steps};
use super::out::Out;
use crate::message::send::{self, Draft, RoundTrips};
use crate::show::{Page, Show, Table};
use crate::{Cluster, Error, Steps};

/// Send a message
#[derive(Debug, Args)]
pub(super) struct SendMessage {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// The body
    #[arg(short = 'p', long = "body", value_name = "TEXT", allow_hyphen_values = true)]
    body: String,
    /// Keys, separated by blanks
    #[arg(short = 'k', long = "key", value_name = "KEYS", value_parser = name)]
    keys: Option<String>,
    /// The tag
    #[arg(short = 'c', long = "tags", value_name = "TAG", value_parser = name)]
    tags: Option<String>,
    /// Name of the broker
    #[arg(short = 'b', long = "broker", value_name = "BROKER", value_parser = name, requires = "queue")]
    broker: Option<String>,
    /// Queue id at the broker
    #[arg(short = 'i', long = "qid", value_name = "QUEUE", requires = "broker", value_parser = clap::value_parser!(i32).range(0..))]
    queue: Option<i32>,
    /// Whether to write a trace [default: false]
    #[arg(short = 'm', long = "msgTraceEnable", value_name = "BOOL", value_parser = boolean)]
    traced: Option<bool>,
}

impl SendMessage {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let draft = Draft {
            topic: &self.topic,
            body: &self.body,
            keys: self.keys.as_deref(),
            tags: self.tags.as_deref(),
            queue: self.broker.as_deref().zip(self.queue),
            traced: self.traced == Some(true),
        };
        out.emit(&send::send(cluster, &draft).await?)
    }
}

/// Send messages to a topic and show the round trip of each
#[derive(Debug, Args)]
pub(super) struct CheckMsgSendRt {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Number of messages
    #[arg(short = 'a', long = "amount", value_name = "COUNT", default_value_t = 100)]
    amount: usize,
    /// Size of each body in bytes
    #[arg(short = 's', long = "size", value_name = "BYTES", default_value_t = 128)]
    size: usize,
}

impl CheckMsgSendRt {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &send::round_trips(cluster, &self.topic, self.amount, self.size).await?)
    }
}

/// Send messages to a broker's own topic and show the round trip of each
#[derive(Debug, Args)]
pub(super) struct SendMsgStatus {
    /// Name of the broker
    #[arg(short = 'b', long = "brokerName", value_name = "BROKER", value_parser = name)]
    broker: String,
    /// Size of each body in bytes
    #[arg(short = 's', long = "messageSize", value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// Number of messages
    #[arg(short = 'c', long = "count", value_name = "COUNT", default_value_t = 50)]
    count: usize,
}

impl SendMsgStatus {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &send::round_trips(cluster, &self.broker, self.count, self.size).await?)
    }
}

/// Send to every broker's own topic repeatedly and show the round trips
#[derive(Debug, Args)]
pub(super) struct ClusterRt {
    /// Number of messages per broker and round
    #[arg(short = 'a', long = "amount", value_name = "COUNT", default_value_t = 100)]
    amount: usize,
    /// Size of each body in bytes
    #[arg(short = 's', long = "size", value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// Only this cluster
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER", value_parser = name)]
    cluster: Option<String>,
    /// One line per broker, fields separated by | [default: false]
    #[arg(short = 'p', long = "printLog", value_name = "BOOL", value_parser = boolean)]
    as_log: Option<bool>,
    /// Name of the machine room in those lines
    #[arg(short = 'm', long = "machineRoom", value_name = "NAME", default_value = "noname")]
    room: String,
    /// Seconds between rounds
    #[arg(short = 'i', long = "interval", value_name = "SECONDS", default_value_t = 10)]
    interval: u64,
    /// End after this many rounds [default: only when interrupted]
    #[arg(long, value_name = "COUNT")]
    rounds: Option<u64>,
}

/// Round trips of all brokers.
#[derive(Serialize)]
struct Round {
    brokers: Vec<BrokerTrips>,
    #[serde(skip)]
    room: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BrokerTrips {
    timestamp: i64,
    cluster: String,
    broker: String,
    average_ms: f64,
    succeeded: usize,
    failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A step is a send.
impl Steps for Round {
    fn failed_of(&self) -> (usize, usize) {
        let failed: usize = self.brokers.iter().map(|row| row.failed).sum();
        let succeeded: usize = self.brokers.iter().map(|row| row.succeeded).sum();
        (failed, failed + succeeded)
    }
}

impl Show for Round {
    fn show(&self, out: &mut Page) {
        if let Some(room) = &self.room {
            for row in &self.brokers {
                let at = crate::time::shown(row.timestamp);
                out.line(format_args!("{at}|{room}|{}|{}|{:.0}", row.cluster, row.broker, row.average_ms));
            }
            return;
        }
        let mut table = Table::new(["CLUSTER", "BROKER", ">AVERAGE MS", ">SUCCEEDED", ">FAILED", "NOTE"]);
        for row in &self.brokers {
            table.row([
                row.cluster.clone(),
                row.broker.clone(),
                format!("{:.2}", row.average_ms),
                row.succeeded.to_string(),
                row.failed.to_string(),
                row.error.clone().unwrap_or_default(),
            ]);
        }
        out.table(&table);
    }
}

impl ClusterRt {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let mut rounds = Rounds::new(Some(self.interval), self.rounds);
        loop {
            let round = self.round(cluster).await?;
            out.emit_apart(&round)?;
            if !rounds.another().await {
                return round.check();
            }
        }
    }

    async fn round(&self, cluster: &Cluster) -> Result<Round, Error> {
        let mut brokers = Vec::new();
        for master in cluster.masters(self.cluster.as_deref()).await? {
            let outcome = send::round_trips(cluster, &master.name, self.amount, self.size).await;
            let row = |trips: Option<&RoundTrips>, error| BrokerTrips {
                timestamp: crate::time::now_ms(),
                cluster: master.cluster.clone(),
                broker: master.name.clone(),
                average_ms: trips.map_or(0.0, |trips| trips.average_ms),
                succeeded: trips.map_or(0, |trips| trips.succeeded),
                failed: trips.map_or(self.amount, |trips| trips.failed),
                error,
            };
            brokers.push(match &outcome {
                Ok(trips) => row(Some(trips), trips.sends.iter().find_map(|send| send.error.clone())),
                Err(error) => row(None, Some(error.to_string())),
            });
        }
        let room = (self.as_log == Some(true)).then(|| self.room.clone());
        Ok(Round { brokers, room })
    }
}
