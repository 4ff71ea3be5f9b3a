//! Progress of groups (here) and resetting offsets (`reset.rs`).

pub mod reset;

use std::collections::BTreeMap;

use message::names;
use protocol::MessageQueue;
use protocol::diagnose::QueueTimeSpan;
use protocol::heartbeat::{ConsumeType, MessageModel};
use protocol::stats::{ConsumeStats, OffsetWrapper};
use protocol::version;
use serde::Serialize;

use crate::{Cluster, Error, clients, static_topic};

/// Progress of a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupProgress {
    /// The group.
    pub group: String,
    /// Messages consumed per second.
    pub consume_tps: f64,
    /// Messages not consumed yet.
    pub diff_total: i64,
    /// Messages pulled and not consumed yet.
    pub inflight_total: i64,
    /// One per queue.
    pub queues: Vec<QueueProgress>,
}

/// Progress of a group in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueProgress {
    /// The topic.
    pub topic: String,
    /// The broker's name.
    pub broker: String,
    /// The queue id.
    pub queue_id: i32,
    /// The queue's end.
    pub broker_offset: i64,
    /// The next offset to consume.
    pub consumer_offset: i64,
    /// Messages not consumed yet.
    pub diff: i64,
    /// Messages pulled and not consumed yet.
    pub inflight: i64,
    /// Store time of the last consumed message, ms; 0 if there is none.
    pub last_timestamp: i64,
    /// Damaged messages that the group skipped since the broker started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<u32>,
    /// Address of the consumer to which the queue is assigned, if requested and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

impl QueueProgress {
    fn new(queue: MessageQueue, offset: OffsetWrapper) -> Self {
        Self {
            topic: queue.topic,
            broker: queue.broker_name,
            queue_id: queue.queue_id,
            broker_offset: offset.broker_offset,
            consumer_offset: offset.consumer_offset,
            diff: offset.broker_offset.saturating_sub(offset.consumer_offset),
            inflight: offset.pull_offset.saturating_sub(offset.consumer_offset),
            last_timestamp: offset.last_timestamp,
            damaged: Some(offset.damaged).filter(|count| *count > 0),
            client: None,
        }
    }
}

/// Summaries of all groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupSummaries {
    /// One per group.
    pub groups: Vec<GroupSummary>,
}

/// Summary of a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupSummary {
    /// The group.
    pub group: String,
    /// Connected consumers.
    pub members: usize,
    /// Their lowest version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How they get messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consume_type: Option<ConsumeType>,
    /// Which members get a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_model: Option<MessageModel>,
    /// Messages consumed per second.
    pub consume_tps: f64,
    /// Messages not consumed yet.
    pub diff_total: i64,
}

/// Progress of the groups of one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerProgress {
    /// The broker.
    pub broker_addr: String,
    /// Messages not consumed yet over all groups, also those that are not listed.
    pub diff_total: i64,
    /// One per queue.
    pub queues: Vec<GroupQueueProgress>,
}

/// Progress of a group of a broker in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupQueueProgress {
    /// The group.
    pub group: String,
    /// The progress.
    #[serde(flatten)]
    pub progress: QueueProgress,
}

/// Progress of a group in one or all of its topics. `via` as in [`Cluster::route`].
///
/// # Errors
/// [`Error::NotFound`] if the group has no offsets; [`Error::Call`] if a server does not answer.
pub async fn progress(cluster: &Cluster, group: &str, topic: Option<&str>, via: Option<&str>) -> Result<GroupProgress, Error> {
    let stats = stats(cluster, group, topic, via).await?;
    if stats.offset_table.is_empty() {
        let place = topic.map_or_else(String::new, |topic| format!(" in topic {topic}"));
        let why = "it never committed any, or it is a broadcasting group whose members store their own";
        return Err(Error::NotFound(format!("group {group} has no offsets{place}: {why}")));
    }
    Ok(summed(group, stats.consume_tps, rows(stats)))
}

pub(crate) fn rows(stats: ConsumeStats) -> Vec<QueueProgress> {
    let offsets = stats.offset_table.into_iter();
    offsets.map(|(queue, offset)| QueueProgress::new(queue, offset)).collect()
}

fn summed(group: &str, consume_tps: f64, mut queues: Vec<QueueProgress>) -> GroupProgress {
    queues.sort_by(|a, b| (&a.topic, &a.broker, a.queue_id).cmp(&(&b.topic, &b.broker, b.queue_id)));
    GroupProgress {
        group: group.to_owned(),
        consume_tps,
        diff_total: total(queues.iter().map(|queue| queue.diff)),
        inflight_total: total(queues.iter().map(|queue| queue.inflight)),
        queues,
    }
}

/// [`progress`] with the consumer of each queue.
///
/// # Errors
/// [`Error`] as in [`progress`].
pub async fn progress_with_clients(cluster: &Cluster, group: &str, topic: Option<&str>, via: Option<&str>) -> Result<GroupProgress, Error> {
    let mut progress = progress(cluster, group, topic, via).await?;
    let owners = clients::owners(cluster, group).await?;
    for queue in &mut progress.queues {
        let key = MessageQueue::new(&queue.topic, &queue.broker, queue.queue_id);
        queue.client = owners.get(&key).cloned();
    }
    Ok(progress)
}

/// Store times of a topic's queues, and how far behind a group is in each.
///
/// # Errors
/// [`Error`] as in [`Cluster::route`]; or if a broker does not answer.
pub async fn time_spans(cluster: &Cluster, group: &str, topic: &str) -> Result<Vec<QueueTimeSpan>, Error> {
    let mut spans = Vec::new();
    for broker in cluster.brokers_with(topic, None).await? {
        spans.extend(
            cluster
                .client()
                .time_spans(&broker.address, group, topic)
                .await?
                .consume_time_span_set,
        );
    }
    spans.sort_by(|a, b| a.message_queue.cmp(&b.message_queue));
    Ok(spans)
}

/// The statistics of a group from all its brokers; empty if it has no offsets. Static topics have their logical queues.
pub(crate) async fn stats(cluster: &Cluster, group: &str, topic: Option<&str>, via: Option<&str>) -> Result<ConsumeStats, Error> {
    let mut all = physical_stats(cluster, group, topic, via).await?;
    if via.is_none() {
        static_topic::stats::translate(cluster, &mut all).await?;
    }
    Ok(all)
}

/// The same of the queues as brokers have them.
pub(crate) async fn physical_stats(cluster: &Cluster, group: &str, topic: Option<&str>, via: Option<&str>) -> Result<ConsumeStats, Error> {
    let mut all = ConsumeStats::default();
    let brokers = match (topic, via) {
        (Some(topic), Some(via)) => cluster.brokers_with(topic, Some(via)).await?,
        _ => cluster.brokers_of_group(group, topic).await?,
    };
    for broker in brokers {
        let stats = cluster.client().progress(&broker.address, group, topic).await?;
        all.consume_tps += stats.consume_tps;
        all.offset_table.extend(stats.offset_table);
    }
    Ok(all)
}

/// Summaries of all groups that have a retry topic. Values that cannot be queried are empty.
///
/// # Errors
/// [`Error::Call`] if no name server answers.
pub async fn summaries(cluster: &Cluster) -> Result<GroupSummaries, Error> {
    let mut groups = Vec::new();
    for topic in cluster.client().topics().await? {
        if let Some(group) = topic.strip_prefix(names::RETRY_PREFIX) {
            groups.push(summary(cluster, group).await);
        }
    }
    groups.sort_by(|a: &GroupSummary, b| (b.members, b.diff_total, &a.group).cmp(&(a.members, a.diff_total, &b.group)));
    Ok(GroupSummaries { groups })
}

async fn summary(cluster: &Cluster, group: &str) -> GroupSummary {
    // A group may have no offsets or no members, or be deleted meanwhile: a gap, not an error.
    let stats = stats(cluster, group, None, None).await.unwrap_or_default();
    let members = clients::consumers(cluster, group, None).await.ok();
    let connections = members
        .as_ref()
        .map(|members| members.connection_set.as_slice())
        .unwrap_or_default();
    GroupSummary {
        group: group.to_owned(),
        members: connections.len(),
        version: connections.iter().map(|one| one.version).min().map(version::name),
        consume_type: members.as_ref().and_then(|members| members.consume_type),
        message_model: members.as_ref().and_then(|members| members.message_model),
        consume_tps: stats.consume_tps,
        diff_total: diff(&stats.offset_table),
    }
}

/// Messages not consumed yet, over all queues.
pub(crate) fn diff(offsets: &BTreeMap<MessageQueue, OffsetWrapper>) -> i64 {
    let left = |offset: &OffsetWrapper| offset.broker_offset.saturating_sub(offset.consumer_offset);
    total(offsets.values().map(left))
}

/// The sum of numbers from servers, without overflow.
pub(crate) fn total(numbers: impl Iterator<Item = i64>) -> i64 {
    numbers.fold(0, i64::saturating_add)
}

/// Progress of all groups of a broker, in queues with a backlog of at least `level` messages.
///
/// # Errors
/// [`Error::Call`] if the broker does not answer.
pub async fn of_broker(cluster: &Cluster, address: &str, ordered: bool, level: i64) -> Result<BrokerProgress, Error> {
    let list = cluster.client().progress_of_all(address, ordered).await?;
    let by_group = list.consume_stats_list.into_iter().flatten();
    let mut queues: Vec<_> = by_group
        .flat_map(|(group, stats)| stats.into_iter().map(move |stats| (group.clone(), stats)))
        .flat_map(|(group, stats)| stats.offset_table.into_iter().map(move |row| (group.clone(), row)))
        .map(|(group, (queue, offset))| GroupQueueProgress {
            group,
            progress: QueueProgress::new(queue, offset),
        })
        .filter(|row| row.progress.diff >= level)
        .collect();
    queues.sort_by(|a, b| {
        let key = |row: &GroupQueueProgress| (row.progress.topic.clone(), row.group.clone(), row.progress.queue_id);
        key(a).cmp(&key(b))
    });
    Ok(BrokerProgress {
        broker_addr: address.to_owned(),
        diff_total: list.total_diff,
        queues,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_servers_are_summed_without_overflow() {
        let wrapper = |broker_offset, consumer_offset| OffsetWrapper {
            broker_offset,
            consumer_offset,
            pull_offset: i64::MIN,
            ..OffsetWrapper::default()
        };
        let offsets = [(0, wrapper(i64::MAX, -1)), (1, wrapper(i64::MAX, 0)), (2, wrapper(i64::MIN, 1))];
        let table: BTreeMap<_, _> = offsets.map(|(id, offset)| (MessageQueue::new("t", "b", id), offset)).into();
        assert_eq!(diff(&table), -1);
        let stats = ConsumeStats {
            offset_table: table,
            ..ConsumeStats::default()
        };
        assert_eq!(summed("g", 0.0, rows(stats)).diff_total, -1);
    }

    #[test]
    fn progress_sums_the_backlog() {
        let queue = |id, broker_offset, consumer_offset, pull_offset| {
            let offset = OffsetWrapper {
                broker_offset,
                consumer_offset,
                pull_offset,
                damaged: 0,
                last_timestamp: 0,
            };
            QueueProgress::new(MessageQueue::new("t", "b", id), offset)
        };
        let progress = summed("g", 0.0, vec![queue(1, 10, 4, 6), queue(0, 5, 5, 5)]);
        assert_eq!((progress.diff_total, progress.inflight_total), (6, 2));
        assert_eq!(progress.queues[0].queue_id, 0);
    }
}
