//! State of topics: names, consumer groups, routes, offsets of their queues, allocation of queues to consumers.

use std::collections::{BTreeMap, BTreeSet};

use message::names;
use protocol::MessageQueue;
use protocol::route::TopicRoute;
use serde::Serialize;

use crate::{Cluster, Error, static_topic};

/// Names of topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicNames {
    /// The names, sorted.
    pub topics: Vec<String>,
}

/// Consumer groups of topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicUses {
    /// One per topic.
    pub topics: Vec<TopicUse>,
}

/// Consumer groups of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicUse {
    /// Its clusters.
    pub clusters: Vec<String>,
    /// The topic.
    pub topic: String,
    /// Consumer groups; empty if there are none.
    pub groups: Vec<String>,
}

/// Names of clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNames {
    /// The names, sorted.
    pub clusters: Vec<String>,
}

/// Offsets of a topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicState {
    /// The topic.
    pub topic: String,
    /// Messages stored per second.
    pub put_tps: f64,
    /// Its queues.
    pub queues: Vec<QueueState>,
}

/// Offsets of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueState {
    /// Its broker's name.
    pub broker: String,
    /// Its queue id.
    pub queue_id: i32,
    /// The lowest offset.
    pub min_offset: i64,
    /// The end: one after the newest offset.
    pub max_offset: i64,
    /// Store time of the newest message, ms; 0 if there is none.
    pub last_update_timestamp: i64,
}

/// Allocation of a topic's queues to consumers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allocation {
    /// Queues by consumer.
    pub result: BTreeMap<String, Vec<MessageQueue>>,
}

/// All topics of the name server.
///
/// # Errors
/// [`Error::Call`] if no name server answers.
pub async fn list(cluster: &Cluster) -> Result<TopicNames, Error> {
    let topics = cluster.client().topics().await?;
    Ok(TopicNames { topics })
}

/// All topics except retry and dead letter topics, with their clusters and groups.
///
/// # Errors
/// [`Error::Call`] if no name server answers, or a broker does not.
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

/// The clusters and consumer groups of a topic.
///
/// # Errors
/// [`Error`] as in [`Cluster::route`]; or if a broker does not answer.
pub async fn use_of(cluster: &Cluster, topic: &str) -> Result<TopicUse, Error> {
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
/// [`Error`] as in [`Cluster::route`].
pub async fn clusters(cluster: &Cluster, topic: &str) -> Result<ClusterNames, Error> {
    let brokers = cluster.brokers_with(topic, None).await?;
    let clusters: BTreeSet<_> = brokers.into_iter().map(|broker| broker.cluster).collect();
    Ok(ClusterNames {
        clusters: clusters.into_iter().collect(),
    })
}

/// The route of a topic; brokers and queues sorted by name.
///
/// # Errors
/// [`Error`] as in [`Cluster::route`].
pub async fn route(cluster: &Cluster, topic: &str) -> Result<TopicRoute, Error> {
    let mut route = cluster.route(topic, None).await?;
    route.broker_datas.sort();
    route.queue_datas.sort();
    Ok(route)
}

/// The offsets of a topic: of its physical queues, and of the logical ones of a static topic. `via` as in [`Cluster::route`].
///
/// # Errors
/// [`Error`] as in [`Cluster::route`]; or if a broker does not answer.
pub async fn state(cluster: &Cluster, topic: &str, via: Option<&str>) -> Result<TopicState, Error> {
    let mut state = TopicState {
        topic: topic.to_owned(),
        put_tps: 0.0,
        queues: Vec::new(),
    };
    let mut queues = BTreeMap::new();
    for broker in cluster.brokers_with(topic, via).await? {
        let table = cluster.client().topic_stats(&broker.address, topic).await?;
        state.put_tps += table.topic_put_tps;
        queues.extend(table.offset_table);
    }
    if via.is_none() {
        static_topic::stats::add_logical(cluster, topic, &mut queues).await?;
    }
    state.queues.extend(queues.into_iter().map(|(queue, offset)| QueueState {
        broker: queue.broker_name,
        queue_id: queue.queue_id,
        min_offset: offset.min_offset,
        max_offset: offset.max_offset,
        last_update_timestamp: offset.last_update_timestamp,
    }));
    state.queues.sort_by(|a, b| (&a.broker, a.queue_id).cmp(&(&b.broker, b.queue_id)));
    Ok(state)
}

/// Allocates a topic's queues to these consumers by the clients' default strategy: evenly, in consecutive runs.
///
/// # Errors
/// [`Error`] as in [`Cluster::route`].
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
    fn queues_are_allocated_evenly_and_the_first_consumers_get_one_more() {
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
