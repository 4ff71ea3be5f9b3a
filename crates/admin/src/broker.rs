//! Brokers: overview of a cluster, runtime information, settings, deletion of expired files, replication.

use std::collections::BTreeMap;

use protocol::replication::ReplicationStatus;
use serde::Serialize;

use crate::{Broker, Changes, Cluster, Error, Steps, Target, time};

/// Overview of all brokers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterState {
    /// By cluster, name and id.
    pub brokers: Vec<BrokerSummary>,
}

/// A step is a broker, which may not have answered.
impl Steps for ClusterState {
    fn failed_of(&self) -> (usize, usize) {
        let failed = self.brokers.iter().filter(|broker| broker.error.is_some());
        (failed.count(), self.brokers.len())
    }
}

/// Summary of a broker. Values that it does not report are absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerSummary {
    /// The broker.
    #[serde(flatten)]
    pub broker: Broker,
    /// Its version.
    pub version: Option<String>,
    /// Messages stored per second, over the last ten seconds.
    pub in_tps: Option<f64>,
    /// Messages delivered per second, over the last ten seconds.
    pub out_tps: Option<f64>,
    /// Send requests in the queue.
    pub send_queue_size: Option<i64>,
    /// Wait time of the first of them, ms.
    pub send_queue_wait_ms: Option<i64>,
    /// Pull requests in the queue.
    pub pull_queue_size: Option<i64>,
    /// Wait time of the first of them, ms.
    pub pull_queue_wait_ms: Option<i64>,
    /// Timer messages that are due and not delivered yet.
    pub timer_read_behind: Option<i64>,
    /// Timer messages that are not in the timer wheel yet.
    pub timer_offset_behind: Option<i64>,
    /// How long the current append has held the log's lock, ms.
    pub page_cache_lock_ms: Option<i64>,
    /// The age of the oldest message, hours.
    pub oldest_hours: Option<f64>,
    /// Used part of the log's disk, 0 to 1.
    pub disk_ratio: Option<f64>,
    /// Whether it is active as a master.
    pub active: Option<bool>,
    /// Messages stored yesterday.
    pub in_yesterday: Option<i64>,
    /// Messages delivered yesterday.
    pub out_yesterday: Option<i64>,
    /// Messages stored today.
    pub in_today: Option<i64>,
    /// Messages delivered today.
    pub out_today: Option<i64>,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Names and values of several servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// One per server.
    pub servers: Vec<Table>,
}

/// Names and values of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// `host:port`.
    pub address: String,
    /// Values by name.
    pub table: BTreeMap<String, String>,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A step is a server, which may not have answered.
impl Steps for Tables {
    fn failed_of(&self) -> (usize, usize) {
        let failed = self.servers.iter().filter(|server| server.error.is_some());
        (failed.count(), self.servers.len())
    }
}

/// Replication status of brokers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replication {
    /// One per broker.
    pub brokers: Vec<BrokerReplication>,
}

/// Replication status of a broker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BrokerReplication {
    /// `host:port`.
    pub address: String,
    /// Its status.
    #[serde(flatten)]
    pub state: ReplicationStatus,
}

/// What brokers can be told to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleaning {
    /// Queue files without messages.
    ExpiredQueues,
    /// Expired log files.
    ExpiredLog,
    /// Queues of deleted topics.
    UnusedTopics,
}

impl Cleaning {
    fn step(self) -> &'static str {
        match self {
            Self::ExpiredQueues => "clean expired consume queues",
            Self::ExpiredLog => "delete expired commit log files",
            Self::UnusedTopics => "clean unused topics",
        }
    }
}

/// Overview of all brokers, or of one cluster. A broker that does not answer is in the result with its error.
///
/// # Errors
/// [`Error::Call`] if no name server answers; [`Error::NoCluster`].
pub async fn clusters(cluster: &Cluster, name: Option<&str>) -> Result<ClusterState, Error> {
    let brokers = match name {
        Some(name) => cluster.members(name).await?,
        None => cluster.brokers().await?,
    };
    let mut summaries = Vec::new();
    for broker in brokers {
        let answer = cluster.client().broker_state(&broker.address).await;
        summaries.push(match answer {
            Ok(state) => summary(broker, &state.table, time::now_ms()),
            Err(error) => BrokerSummary {
                error: Some(error.to_string()),
                ..summary(broker, &BTreeMap::new(), 0)
            },
        });
    }
    Ok(ClusterState { brokers: summaries })
}

fn summary(broker: Broker, state: &BTreeMap<String, String>, now_ms: i64) -> BrokerSummary {
    let number = |name: &str| state.get(name).and_then(|text| text.parse::<i64>().ok());
    let tps = |name: &str| state.get(name).and_then(|text| first_number(text));
    let since = |later: &str, earlier: &str| Some(number(later)? - number(earlier)?);
    let oldest = number("earliestMessageTimeStamp").filter(|at| *at > 0);
    BrokerSummary {
        broker,
        version: state.get("brokerVersionDesc").cloned(),
        in_tps: tps("putTps"),
        out_tps: tps("getTransferredTps"),
        send_queue_size: number("sendThreadPoolQueueSize"),
        send_queue_wait_ms: number("sendThreadPoolQueueHeadWaitTimeMills"),
        pull_queue_size: number("pullThreadPoolQueueSize"),
        pull_queue_wait_ms: number("pullThreadPoolQueueHeadWaitTimeMills"),
        timer_read_behind: number("timerReadBehind"),
        timer_offset_behind: number("timerOffsetBehind"),
        page_cache_lock_ms: number("pageCacheLockTimeMills"),
        oldest_hours: oldest.map(|at| (now_ms - at) as f64 / 3_600_000.0),
        disk_ratio: state.get("commitLogDiskRatio").and_then(|text| text.parse().ok()),
        active: state.get("brokerActive").map(|text| text == "true"),
        in_yesterday: since("msgPutTotalTodayMorning", "msgPutTotalYesterdayMorning"),
        out_yesterday: since("msgGetTotalTodayMorning", "msgGetTotalYesterdayMorning"),
        in_today: since("msgPutTotalTodayNow", "msgPutTotalTodayMorning"),
        out_today: since("msgGetTotalTodayNow", "msgGetTotalTodayMorning"),
        error: None,
    }
}

/// The first number of `last ten seconds, last minute, last ten minutes`.
pub(crate) fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The runtime information of brokers by name.
///
/// # Errors
/// [`Error`] if the target is not found, or is one broker that does not answer.
pub async fn states(cluster: &Cluster, target: &Target) -> Result<Tables, Error> {
    let mut servers = Vec::new();
    for address in cluster.members_at(target).await? {
        let answer = cluster.client().broker_state(&address).await.map(|state| state.table);
        servers.push(table_or_error(target, address, answer)?);
    }
    Ok(Tables { servers })
}

/// The settings of brokers.
///
/// # Errors
/// [`Error`] as in [`states`].
pub async fn settings(cluster: &Cluster, target: &Target) -> Result<Tables, Error> {
    let mut servers = Vec::new();
    for address in cluster.members_at(target).await? {
        let answer = cluster.client().broker_config(&address).await.map(|text| parsed(&text));
        servers.push(table_or_error(target, address, answer)?);
    }
    Ok(Tables { servers })
}

/// The table of a broker. If one of a cluster's brokers does not answer, the table has its error; for a single broker it is returned.
fn table_or_error(target: &Target, address: String, answer: Result<BTreeMap<String, String>, client::Error>) -> Result<Table, Error> {
    match target {
        Target::Broker(_) => Ok(table(address, Ok(answer?))),
        Target::Cluster(_) => Ok(table(address, answer)),
    }
}

pub(crate) fn table(address: String, answer: Result<BTreeMap<String, String>, client::Error>) -> Table {
    let (table, error) = match answer {
        Ok(table) => (table, None),
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    Table { address, table, error }
}

/// Parses lines of `key=value` as servers send them, without escapes and continued lines.
pub(crate) fn parsed(properties: &str) -> BTreeMap<String, String> {
    let lines = properties.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// Changes a setting of running brokers: of masters, or of all.
///
/// # Errors
/// [`Error`] if the target is not found. Failures at brokers are in the result.
pub async fn update(cluster: &Cluster, target: &Target, replicas_too: bool, key: &str, value: &str) -> Result<Changes, Error> {
    let addresses = match replicas_too {
        true => cluster.members_at(target).await?,
        false => cluster.masters_at(target).await?,
    };
    let mut changes = Changes::default();
    for address in addresses {
        let outcome = cluster.client().update_broker_config(&address, &format!("{key}={value}\n")).await;
        changes.note(&address, setting(key, value, &outcome), outcome);
    }
    Ok(changes)
}

/// Text of the step that sets a key, with the server's remark.
pub(crate) fn setting(key: &str, value: &str, outcome: &Result<Option<String>, client::Error>) -> String {
    match outcome {
        Ok(Some(remark)) if !remark.is_empty() => format!("set {key} to {value} ({remark})"),
        _ => format!("set {key} to {value}"),
    }
}

/// Tells the brokers of the target, or all brokers, to delete files.
///
/// # Errors
/// [`Error`] as in [`update`].
pub async fn clean(cluster: &Cluster, target: Option<&Target>, cleaning: Cleaning) -> Result<Changes, Error> {
    let addresses = match target {
        Some(target) => cluster.members_at(target).await?,
        None => cluster.brokers().await?.into_iter().map(|broker| broker.address).collect(),
    };
    let mut changes = Changes::default();
    for address in addresses {
        let client = cluster.client();
        let outcome = match cleaning {
            Cleaning::ExpiredQueues => client.clean_expired_queues(&address).await,
            Cleaning::ExpiredLog => client.delete_expired_log(&address).await,
            Cleaning::UnusedTopics => client.clean_unused_topics(&address).await,
        };
        changes.note(&address, cleaning.step(), outcome);
    }
    Ok(changes)
}

/// Sets the flushed offset of its master that the slave at this address keeps. A master ignores it, as Apache's.
pub async fn reset_master_flush_offset(cluster: &Cluster, address: &str, offset: i64) -> Changes {
    let mut changes = Changes::default();
    let outcome = cluster.client().reset_master_flush_offset(address, offset).await;
    changes.note(address, format!("set the master's flushed offset to {offset}"), outcome);
    changes
}

/// The replication status of the target.
///
/// # Errors
/// [`Error`] if the target is not found, or a broker refuses or does not answer.
pub async fn replication(cluster: &Cluster, target: &Target) -> Result<Replication, Error> {
    let mut brokers = Vec::new();
    for address in cluster.masters_at(target).await? {
        let state = cluster.client().replication(&address).await?;
        brokers.push(BrokerReplication { address, state });
    }
    Ok(Replication { brokers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_gaps_for_values_that_a_broker_does_not_report() {
        let says = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let broker = Broker {
            cluster: "c".to_owned(),
            name: "b".to_owned(),
            id: 0,
            address: "b:1".to_owned(),
        };
        let state = says(&[
            ("putTps", "12.5 3 1"),
            ("earliestMessageTimeStamp", "3600000"),
            ("msgPutTotalTodayNow", "7"),
            ("msgPutTotalTodayMorning", "2"),
            ("brokerActive", "true"),
        ]);
        let summary = summary(broker, &state, 7_200_000);
        assert_eq!(
            (summary.in_tps, summary.oldest_hours, summary.in_today),
            (Some(12.5), Some(1.0), Some(5))
        );
        assert_eq!((summary.active, summary.out_tps, summary.in_yesterday), (Some(true), None, None));
    }

    #[test]
    fn properties_are_read_as_servers_write_them() {
        let read = parsed("a=1\n# comment\nb = x=y \n\nnothing\nc=\n");
        let pairs: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x=y"), ("c", "")]);
    }
}
