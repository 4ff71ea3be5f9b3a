//! Monitoring of all groups: backlog, delay, problems.

use std::collections::BTreeMap;

use client::{PullOptions, Puller, Queue};
use message::names;
use serde::Serialize;

use crate::message::TOOLS_GROUP;
use crate::offset::QueueProgress;
use crate::{Cluster, Error, clients, offset, time};

/// Result of one round over all groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// Time of the round, ms.
    pub timestamp: i64,
    /// One per group and topic.
    pub undone: Vec<Backlog>,
    /// Problems that were found.
    pub warnings: Vec<String>,
}

/// The backlog of a group in a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// The group.
    pub consumer_group: String,
    /// The topic.
    pub topic: String,
    /// Total number of messages.
    pub total: i64,
    /// Number of messages in the queue with the largest backlog.
    pub single_queue: i64,
    /// Maximum over all queues of the time between the last consumed and the newest message, ms.
    pub delay_ms: i64,
}

/// Examines all groups that have a retry topic. A group that cannot be examined becomes a warning.
///
/// # Errors
/// [`Error::Call`] if no name server answers.
pub async fn round(cluster: &Cluster) -> Result<Round, Error> {
    let mut round = Round {
        timestamp: time::now_ms(),
        undone: Vec::new(),
        warnings: Vec::new(),
    };
    for topic in cluster.client().topics().await? {
        let Some(group) = topic.strip_prefix(names::RETRY_PREFIX) else {
            continue;
        };
        if let Err(error) = examine(cluster, group, &mut round).await {
            round.warnings.push(format!("group {group}: {error}"));
        }
    }
    Ok(round)
}

/// A group without connected consumers is skipped, because it may be unused.
async fn examine(cluster: &Cluster, group: &str, round: &mut Round) -> Result<(), Error> {
    let status = match clients::status(cluster, group, None, None, false).await {
        Ok(status) => status,
        Err(error) if clients::is_no_consumer_connected(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    round
        .warnings
        .extend(status.warnings.iter().map(|warning| format!("group {group}: {warning}")));
    let progress = offset::stats(cluster, group, None, None).await?;
    let mut by_topic: BTreeMap<String, Vec<QueueProgress>> = BTreeMap::new();
    for queue in offset::rows(progress) {
        by_topic.entry(queue.topic.clone()).or_default().push(queue);
    }
    for (topic, queues) in by_topic {
        let mut undone = counted(group, &topic, &queues);
        undone.delay_ms = delay(cluster, &topic, &queues).await?;
        round.undone.push(undone);
    }
    Ok(())
}

fn counted(group: &str, topic: &str, queues: &[QueueProgress]) -> Backlog {
    let left = queues.iter().map(|queue| queue.diff.max(0));
    Backlog {
        consumer_group: group.to_owned(),
        topic: topic.to_owned(),
        total: offset::total(left.clone()),
        single_queue: left.max().unwrap_or(0),
        delay_ms: 0,
    }
}

async fn delay(cluster: &Cluster, topic: &str, queues: &[QueueProgress]) -> Result<i64, Error> {
    let brokers = cluster.brokers_with(topic, None).await?;
    let puller = Puller::new(cluster.client(), TOOLS_GROUP);
    let newest = PullOptions {
        max_messages: 1,
        ..PullOptions::default()
    };
    let mut longest = 0;
    for queue in queues
        .iter()
        .filter(|queue| queue.last_timestamp > 0 && queue.broker_offset > 0 && queue.diff > 0)
    {
        let Some(broker) = brokers.iter().find(|broker| broker.name == queue.broker) else {
            continue;
        };
        let at = Queue::at(&broker.address, topic, queue.queue_id);
        let pulled = puller.pull(&at, queue.broker_offset - 1, &newest).await?;
        if let Some(record) = pulled.records().next().transpose()? {
            longest = longest.max(record.store_timestamp.saturating_sub(queue.last_timestamp));
        }
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlogs_are_counted_and_offsets_beyond_the_end_are_not() {
        let queue = |diff| QueueProgress {
            topic: "t".to_owned(),
            broker: "b".to_owned(),
            queue_id: 0,
            broker_offset: diff,
            consumer_offset: 0,
            diff,
            inflight: 0,
            last_timestamp: 0,
            damaged: None,
            client: None,
        };
        let undone = counted("g", "t", &[queue(3), queue(-1), queue(7)]);
        assert_eq!((undone.total, undone.single_queue), (10, 7));
    }
}
