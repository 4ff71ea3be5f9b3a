//! Topics as they are: names, who consumes them, where they are, how full their queues are, how consumers would share them.

use std::collections::{BTreeMap, BTreeSet};

use message::names;
use protocol::MessageQueue;
use protocol::route::TopicRoute;
use serde::Serialize;

use crate::{Cluster, Error};

/// Names of topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicNames {
    /// The names, sorted.
    pub topics: Vec<String>,
}

/// Who consumes topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicUses {
    /// One for each topic.
    pub topics: Vec<TopicUse>,
}

/// Who consumes a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicUse {
    /// Its clusters.
    pub clusters: Vec<String>,
    /// The topic.
    pub topic: String,
    /// Consumer groups; empty when nobody does.
    pub groups: Vec<String>,
}

/// Names of clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNames {
    /// The names, sorted.
    pub clusters: Vec<String>,
}

/// How full a topic is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicState {
    /// The topic.
    pub topic: String,
    /// Messages stored a second.
    pub put_tps: f64,
    /// Its queues.
    pub queues: Vec<QueueState>,
}

/// How full a queue is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueState {
    /// Its broker's name.
    pub broker: String,
    /// Its number there.
    pub queue_id: i32,
    /// The lowest offset.
    pub min_offset: i64,
    /// The end: one beyond the newest offset.
    pub max_offset: i64,
    /// Store time of the newest message, ms; 0 when there is none.
    pub last_update_timestamp: i64,
}

/// How consumers would share a topic's queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allocation {
    /// Queues by consumer.
    pub result: BTreeMap<String, Vec<MessageQueue>>,
}

/// All topics that the name server knows.
///
/// # Errors
/// No name server answers.
pub async fn list(cluster: &Cluster) -> Result<TopicNames, Error> {
    let topics = cluster.client().topics().await?;
    Ok(TopicNames { topics })
}

/// All topics but retry and dead letter ones, with their clusters and consumers.
///
/// # Errors
/// No name server answers, or a broker does not.
pub async fn uses(cluster: &Cluster) -> Result<TopicUses, Error> {
    let mut topics = Vec::new();
    for topic in list(cluster).await?.topics {
        if names::is_retry(&topic) || names::is_dlq(&topic) {
            continue;
        }
        match use_of(cluster, &topic).await {
            Ok(found) => topics.push(found),
            // Deleted meanwhile.
            Err(Error::Call(client::Error::NoRoute { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(TopicUses { topics })
}

async fn use_of(cluster: &Cluster, topic: &str) -> Result<TopicUse, Error> {
    let (mut clusters, mut groups) = (BTreeSet::new(), BTreeSet::new());
    for broker in cluster.brokers_with(topic, None).await? {
        groups.extend(cluster.client().groups_of_topic(&broker.address, topic).await?.group_list);
        clusters.insert(broker.cluster);
    }
    Ok(TopicUse {
        clusters: clusters.into_iter().collect(),
        topic: topic.to_owned(),
        groups: groups.into_iter().collect(),
    })
}

/// The clusters that have a topic.
///
/// # Errors
/// As [`Cluster::route`].
pub async fn clusters(cluster: &Cluster, topic: &str) -> Result<ClusterNames, Error> {
    let brokers = cluster.brokers_with(topic, None).await?;
    let clusters: BTreeSet<_> = brokers.into_iter().map(|broker| broker.cluster).collect();
    Ok(ClusterNames {
        clusters: clusters.into_iter().collect(),
    })
}

/// Where a topic is; brokers and queues sorted by name.
///
/// # Errors
/// As [`Cluster::route`].
pub async fn route(cluster: &Cluster, topic: &str) -> Result<TopicRoute, Error> {
    let mut route = cluster.route(topic, None).await?;
    route.broker_datas.sort();
    route.queue_datas.sort();
    Ok(route)
}

/// How full a topic is. `via` as in [`Cluster::route`].
///
/// # Errors
/// As [`Cluster::route`]; a broker does not answer.
pub async fn state(cluster: &Cluster, topic: &str, via: Option<&str>) -> Result<TopicState, Error> {
    let mut state = TopicState {
        topic: topic.to_owned(),
        put_tps: 0.0,
        queues: Vec::new(),
    };
    for broker in cluster.brokers_with(topic, via).await? {
        let table = cluster.client().topic_stats(&broker.address, topic).await?;
        state.put_tps += table.topic_put_tps;
        state
            .queues
            .extend(table.offset_table.into_iter().map(|(queue, offset)| QueueState {
                broker: queue.broker_name,
                queue_id: queue.queue_id,
                min_offset: offset.min_offset,
                max_offset: offset.max_offset,
                last_update_timestamp: offset.last_update_timestamp,
            }));
    }
    state.queues.sort_by(|a, b| (&a.broker, a.queue_id).cmp(&(&b.broker, b.queue_id)));
    Ok(state)
}

/// How these consumers would share a topic's queues by the clients' default rule: evenly, in runs.
///
/// # Errors
/// As [`Cluster::route`].
pub async fn allocate(cluster: &Cluster, topic: &str, consumers: &[String]) -> Result<Allocation, Error> {
    let queues = cluster.queues(topic, None).await?;
    let queues: Vec<_> = queues
        .iter()
        .map(|queue| MessageQueue::new(topic, &*queue.broker, queue.id))
        .collect();
    Ok(Allocation {
        result: shared(&queues, consumers),
    })
}

fn shared(queues: &[MessageQueue], consumers: &[String]) -> BTreeMap<String, Vec<MessageQueue>> {
    let count = consumers.len().max(1);
    let (each, more) = (queues.len() / count, queues.len() % count);
    let mut rest = queues;
    let mut share = |index: usize| {
        let (own, others) = rest.split_at(each + usize::from(index < more));
        rest = others;
        own.to_vec()
    };
    consumers
        .iter()
        .enumerate()
        .map(|(index, consumer)| (consumer.clone(), share(index)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_shared_evenly_the_first_consumers_having_one_more() {
        let queues: Vec<_> = (0..5).map(|id| MessageQueue::new("t", "b", id)).collect();
        let consumers = ["1.1.1.1", "2.2.2.2"].map(str::to_owned);
        let shares = shared(&queues, &consumers);
        assert_eq!(shares["1.1.1.1"], queues[..3]);
        assert_eq!(shares["2.2.2.2"], queues[3..]);
        let many: Vec<_> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(shared(&queues, &many).values().filter(|own| own.is_empty()).count(), 2);
        assert!(shared(&queues, &[]).is_empty());
    }
}
