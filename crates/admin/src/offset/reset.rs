//! Offset reset: to a time, to the end, to an offset, or to the offsets of another group.

use std::collections::BTreeMap;

use client::{Puller, Queue};
use protocol::MessageQueue;
use protocol::reset::ResetOffsetHeader;
use serde::Serialize;

use crate::{Broker, Changes, Cluster, Error, clients};

/// The time that stands for a queue's end.
pub const END: i64 = -1;

/// A request for an offset reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The store time whose offset becomes the new one, ms, or [`END`].
    pub timestamp: i64,
    /// Whether to reset forward, too; otherwise only backward.
    pub force: bool,
    /// The topic whose route is used, as in [`Cluster::route`].
    pub via: Option<&'a str>,
}

/// Result of an offset reset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetDone {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Whether the brokers reset running consumers. Otherwise none is connected and only the offsets were set.
    pub running_consumers: bool,
    /// One per queue.
    pub queues: Vec<QueueReset>,
}

/// Result of an offset reset in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReset {
    /// The broker's name, or its address if that was given.
    pub broker: String,
    /// The queue.
    pub queue_id: i32,
    /// The previous offset, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// The next offset to consume.
    pub offset: i64,
}

/// Resets a group's offsets in a topic, at all of its brokers.
///
/// # Errors
/// [`Error`] as in [`Cluster::route`]; or if a broker refuses.
pub async fn reset(cluster: &Cluster, request: &Reset<'_>) -> Result<ResetDone, Error> {
    let brokers = cluster.brokers_with(request.topic, request.via).await?;
    let (queues, running_consumers) = match by_brokers(cluster, &brokers, request).await {
        Ok(queues) => (queues, true),
        // Older brokers can only notify connected consumers; without one the offsets are set directly.
        Err(error) if clients::is_not_online(&error) => (directly(cluster, &brokers, request).await?, false),
        Err(error) => return Err(error.into()),
    };
    Ok(done(request.group, request.topic, running_consumers, queues))
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

async fn by_brokers(cluster: &Cluster, brokers: &[Broker], request: &Reset<'_>) -> Result<Vec<QueueReset>, client::Error> {
    let header = ResetOffsetHeader {
        group: request.group,
        topic: request.topic,
        queue_id: Some(-1),
        offset: Some(-1),
        timestamp: request.timestamp,
        is_force: request.force,
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

async fn directly(cluster: &Cluster, brokers: &[Broker], request: &Reset<'_>) -> Result<Vec<QueueReset>, Error> {
    let mut queues = Vec::new();
    for broker in brokers {
        for (queue, before) in offsets_at(cluster, broker, request).await? {
            let at = Queue {
                broker: broker.name.as_str().into(),
                ..Queue::at(&broker.address, request.topic, queue.queue_id)
            };
            let target = offset_for(cluster, &at, request.timestamp).await?;
            let moves = request.force || target <= before;
            if moves {
                Puller::new(cluster.client(), request.group).commit(&at, target).await?;
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

/// The offset of a time in a queue, or of [`END`].
async fn offset_for(cluster: &Cluster, queue: &Queue, timestamp: i64) -> Result<i64, client::Error> {
    match timestamp {
        END => cluster.client().max_offset(queue).await,
        timestamp => cluster.client().offset_at(queue, timestamp).await,
    }
}

/// The group's offset in each queue, or each queue's lowest offset if the group never consumed the topic.
async fn offsets_at(cluster: &Cluster, broker: &Broker, request: &Reset<'_>) -> Result<BTreeMap<MessageQueue, i64>, Error> {
    let progress = cluster
        .client()
        .progress(&broker.address, request.group, Some(request.topic))
        .await?;
    let known: BTreeMap<_, _> = progress
        .offset_table
        .into_iter()
        .filter(|(queue, _)| queue.topic == request.topic)
        .map(|(queue, offset)| (queue, offset.consumer_offset))
        .collect();
    if !known.is_empty() {
        return Ok(known);
    }
    let bounds = cluster.client().topic_stats(&broker.address, request.topic).await?;
    Ok(bounds
        .offset_table
        .into_iter()
        .map(|(queue, bounds)| (queue, bounds.min_offset))
        .collect())
}

/// Resets a group's offset in one queue of the broker at an address, to an offset or a time.
///
/// # Errors
/// [`Error::Call`] if the broker refuses or does not answer.
pub async fn reset_queue(
    cluster: &Cluster,
    address: &str,
    queue_id: i32,
    request: &Reset<'_>,
    offset: Option<i64>,
) -> Result<ResetDone, Error> {
    let queue = Queue::at(address, request.topic, queue_id);
    let target = match offset {
        Some(offset) => offset,
        None => offset_for(cluster, &queue, request.timestamp).await?,
    };
    let puller = Puller::new(cluster.client(), request.group);
    let before = puller.committed(&queue).await?;
    puller.commit(&queue, target).await?;
    let header = ResetOffsetHeader {
        group: request.group,
        topic: request.topic,
        queue_id: Some(queue_id),
        offset: Some(target),
        timestamp: 0,
        is_force: false,
    };
    let answer = cluster.client().reset_offsets(address, &header).await;
    let running_consumers = match answer {
        Ok(_) => true,
        // No consumer to notify; the offset is set.
        Err(error) if clients::is_not_online(&error) => false,
        Err(error) => return Err(error.into()),
    };
    let moved = QueueReset {
        broker: address.to_owned(),
        queue_id,
        before,
        offset: target,
    };
    Ok(done(request.group, request.topic, running_consumers, vec![moved]))
}

/// Copies the offsets of one group in a topic to another group.
///
/// # Errors
/// [`Error::NotFound`] if the source group has none; [`Error::Call`] if a server does not answer.
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
