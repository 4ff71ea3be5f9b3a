//! Moving groups: to a time, to the end, to an offset, to where another group is.

use std::collections::BTreeMap;

use client::{Puller, Queue};
use protocol::MessageQueue;
use protocol::reset::ResetOffsetHeader;
use serde::Serialize;

use crate::{Broker, Changes, Cluster, Error, clients};

/// The time that means a queue's end.
pub const END: i64 = -1;

/// Where a group is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// To messages stored from this time on, ms; [`END`].
    pub timestamp: i64,
    /// Also forward; otherwise only back.
    pub force: bool,
    /// As in [`Cluster::route`].
    pub via: Option<&'a str>,
}

/// Where a group was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetDone {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Whether the brokers moved running consumers; otherwise only the offsets were set, since none is connected.
    pub running_consumers: bool,
    /// Queue by queue.
    pub queues: Vec<QueueReset>,
}

/// Where a group was moved in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReset {
    /// The broker's name, or its address where that was given.
    pub broker: String,
    /// The queue.
    pub queue_id: i32,
    /// The offset before, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// The next offset to consume.
    pub offset: i64,
}

/// Moves a group in a topic, at all of its brokers.
///
/// # Errors
/// As [`Cluster::route`]; a broker refuses.
pub async fn reset(cluster: &Cluster, wanted: &Reset<'_>) -> Result<ResetDone, Error> {
    let brokers = cluster.brokers_with(wanted.topic, wanted.via).await?;
    let (queues, running_consumers) = match by_brokers(cluster, &brokers, wanted).await {
        Ok(queues) => (queues, true),
        // Older brokers can only tell consumers that are there; without one the offsets are set directly.
        Err(error) if clients::is_not_online(&error) => (directly(cluster, &brokers, wanted).await?, false),
        Err(error) => return Err(error.into()),
    };
    Ok(done(wanted.group, wanted.topic, running_consumers, queues))
}

fn done(group: &str, topic: &str, running_consumers: bool, mut queues: Vec<QueueReset>) -> ResetDone {
    queues.sort_by(|a, b| (&a.broker, a.queue_id).cmp(&(&b.broker, b.queue_id)));
    ResetDone {
        group: group.to_owned(),
        topic: topic.to_owned(),
        running_consumers,
        queues,
    }
}

async fn by_brokers(cluster: &Cluster, brokers: &[Broker], wanted: &Reset<'_>) -> Result<Vec<QueueReset>, client::Error> {
    let header = ResetOffsetHeader {
        group: wanted.group,
        topic: wanted.topic,
        queue_id: Some(-1),
        offset: Some(-1),
        timestamp: wanted.timestamp,
        is_force: wanted.force,
    };
    let mut queues = Vec::new();
    for broker in brokers {
        let table = cluster.client().reset_offsets(&broker.address, &header).await?.offset_table;
        queues.extend(table.into_iter().map(|(queue, offset)| QueueReset {
            broker: queue.broker_name,
            queue_id: queue.queue_id,
            before: None,
            offset,
        }));
    }
    Ok(queues)
}

async fn directly(cluster: &Cluster, brokers: &[Broker], wanted: &Reset<'_>) -> Result<Vec<QueueReset>, Error> {
    let mut queues = Vec::new();
    for broker in brokers {
        for (queue, before) in offsets_at(cluster, broker, wanted).await? {
            let at = Queue {
                broker: broker.name.as_str().into(),
                ..Queue::at(&broker.address, wanted.topic, queue.queue_id)
            };
            let target = offset_for(cluster, &at, wanted.timestamp).await?;
            let moves = wanted.force || target <= before;
            if moves {
                Puller::new(cluster.client(), wanted.group).commit(&at, target).await?;
            }
            queues.push(QueueReset {
                broker: broker.name.clone(),
                queue_id: queue.queue_id,
                before: Some(before),
                offset: if moves { target } else { before },
            });
        }
    }
    Ok(queues)
}

/// Where in a queue a time is, or [`END`].
async fn offset_for(cluster: &Cluster, queue: &Queue, timestamp: i64) -> Result<i64, client::Error> {
    match timestamp {
        END => cluster.client().max_offset(queue).await,
        timestamp => cluster.client().offset_at(queue, timestamp).await,
    }
}

/// The group's offset in each queue; of a group that never consumed the topic, each queue's lowest.
async fn offsets_at(cluster: &Cluster, broker: &Broker, wanted: &Reset<'_>) -> Result<BTreeMap<MessageQueue, i64>, Error> {
    let progress = cluster.client().progress(&broker.address, wanted.group, Some(wanted.topic)).await?;
    let known: BTreeMap<_, _> = progress
        .offset_table
        .into_iter()
        .filter(|(queue, _)| queue.topic == wanted.topic)
        .map(|(queue, offset)| (queue, offset.consumer_offset))
        .collect();
    if !known.is_empty() {
        return Ok(known);
    }
    let bounds = cluster.client().topic_stats(&broker.address, wanted.topic).await?;
    Ok(bounds
        .offset_table
        .into_iter()
        .map(|(queue, bounds)| (queue, bounds.min_offset))
        .collect())
}

/// Moves a group in one queue of the broker at an address: to an offset, or to a time.
///
/// # Errors
/// The broker refuses or does not answer.
pub async fn reset_queue(
    cluster: &Cluster,
    (address, queue_id): (&str, i32),
    wanted: &Reset<'_>,
    offset: Option<i64>,
) -> Result<ResetDone, Error> {
    let queue = Queue::at(address, wanted.topic, queue_id);
    let target = match offset {
        Some(offset) => offset,
        None => offset_for(cluster, &queue, wanted.timestamp).await?,
    };
    let puller = Puller::new(cluster.client(), wanted.group);
    let before = puller.committed(&queue).await?;
    puller.commit(&queue, target).await?;
    let header = ResetOffsetHeader {
        group: wanted.group,
        topic: wanted.topic,
        queue_id: Some(queue_id),
        offset: Some(target),
        timestamp: 0,
        is_force: false,
    };
    let told = cluster.client().reset_offsets(address, &header).await;
    let running_consumers = match told {
        Ok(_) => true,
        // Nobody to be told; the offset is set.
        Err(error) if clients::is_not_online(&error) => false,
        Err(error) => return Err(error.into()),
    };
    let moved = QueueReset {
        broker: address.to_owned(),
        queue_id,
        before,
        offset: target,
    };
    Ok(done(wanted.group, wanted.topic, running_consumers, vec![moved]))
}

/// Sets one group's offsets in a topic to another's.
///
/// # Errors
/// [`Error::NotFound`] when the other has none; a server does not answer.
pub async fn clone(cluster: &Cluster, from: &str, to: &str, topic: &str) -> Result<Changes, Error> {
    let progress = super::progress(cluster, from, Some(topic), None).await?;
    let brokers = cluster.brokers_with(topic, None).await?;
    let puller = Puller::new(cluster.client(), to);
    let mut changes = Changes::default();
    for from in progress
        .queues
        .iter()
        .filter(|queue| queue.topic == topic && queue.consumer_offset >= 0)
    {
        let Some(broker) = brokers.iter().find(|broker| broker.name == from.broker) else {
            continue;
        };
        let queue = Queue::at(&broker.address, topic, from.queue_id);
        let outcome = puller.commit(&queue, from.consumer_offset).await;
        let step = format!(
            "group {to} is at {} in {topic} {}/{}",
            from.consumer_offset, from.broker, from.queue_id
        );
        changes.note(&broker.address, step, outcome);
    }
    Ok(changes)
}
