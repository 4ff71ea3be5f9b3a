//! Watching all groups: what is left to consume, how old it is, what looks wrong.

use std::collections::BTreeMap;

use client::{PullOptions, Puller, Queue};
use message::names;
use serde::Serialize;

use crate::message::TOOLS_GROUP;
use crate::offset::QueueProgress;
use crate::{Cluster, Error, clients, offset, time};

/// What a look at all groups saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// When, ms.
    pub timestamp: i64,
    /// One for each group and topic.
    pub undone: Vec<Undone>,
    /// What looks wrong.
    pub warnings: Vec<String>,
}

/// What a group has not consumed of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Undone {
    /// The group.
    pub consumer_group: String,
    /// The topic.
    pub topic: String,
    /// Messages in all.
    pub total: i64,
    /// Messages in the queue that has most.
    pub single_queue: i64,
    /// From the last consumed message to the newest one, of the queue where that is longest, ms.
    pub delay_ms: i64,
}

/// Looks at all groups that have a retry topic. What cannot be seen of a group is a warning.
///
/// # Errors
/// No name server answers.
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
        if let Err(error) = look(cluster, group, &mut round).await {
            round.warnings.push(format!("group {group}: {error}"));
        }
    }
    Ok(round)
}

/// A group without connected consumers is not looked at, as it may be out of use.
async fn look(cluster: &Cluster, group: &str, round: &mut Round) -> Result<(), Error> {
    let status = match clients::status(cluster, group, (None, None), false).await {
        Ok(status) => status,
        Err(error) if clients::nobody_is_there(&error) => return Ok(()),
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

fn counted(group: &str, topic: &str, queues: &[QueueProgress]) -> Undone {
    let left = queues.iter().map(|queue| queue.diff.max(0));
    Undone {
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
    fn what_is_left_is_counted_and_what_is_ahead_is_not() {
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
