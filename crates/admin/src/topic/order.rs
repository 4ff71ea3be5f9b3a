//! The order configuration of ordered topics: `broker:queues;…`, stored at every name server.

use std::collections::BTreeMap;

use protocol::kv::ORDER_TOPIC_CONFIG;
use protocol::topic::TopicConfig;
use serde::Serialize;

use crate::{Changes, Cluster, Error, Target};

/// A topic's order configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderConf {
    /// The topic.
    pub topic: String,
    /// `broker:queues;…`.
    pub order_conf: String,
}

/// The configuration of a topic.
///
/// # Errors
/// [`Error::NotFound`] if it has none.
pub async fn find(cluster: &Cluster, topic: &str) -> Result<OrderConf, Error> {
    let found = cluster.client().kv(ORDER_TOPIC_CONFIG, topic).await?;
    let order_conf = found.ok_or_else(|| Error::NotFound(format!("topic {topic} has no order configuration")))?;
    let topic = topic.to_owned();
    Ok(OrderConf { topic, order_conf })
}

/// Sets the configuration of a topic at every name server.
pub async fn put(cluster: &Cluster, topic: &str, order_conf: &str) -> Changes {
    let mut changes = Changes::default();
    for address in cluster.name_servers() {
        let outcome = cluster.client().put_kv(address, ORDER_TOPIC_CONFIG, topic, order_conf).await;
        changes.note(address, format!("set order configuration of {topic} to {order_conf}"), outcome);
    }
    changes
}

/// Deletes the configuration of a topic at every name server.
pub async fn delete(cluster: &Cluster, topic: &str) -> Changes {
    let mut changes = Changes::default();
    for address in cluster.name_servers() {
        let outcome = cluster.client().delete_kv(address, ORDER_TOPIC_CONFIG, topic).await;
        changes.note(address, format!("delete order configuration of {topic}"), outcome);
    }
    changes
}

/// Sets the order configuration of a created topic: replaced for a whole cluster, extended for one broker.
pub(super) async fn after_create(cluster: &Cluster, target: &Target, config: &TopicConfig) -> Result<Changes, Error> {
    let (topic, queues) = (&config.topic_name, config.write_queue_nums);
    let conf = match target {
        Target::Cluster(name) => {
            let masters = cluster.masters(Some(name)).await?;
            let parts: Vec<_> = masters.iter().map(|master| format!("{}:{queues}", master.name)).collect();
            parts.join(";")
        }
        Target::Broker(address) => {
            let name = cluster.name_of(address).await?;
            let before = cluster.client().kv(ORDER_TOPIC_CONFIG, topic).await?;
            merged(before.as_deref().unwrap_or_default(), &name, queues)
        }
    };
    Ok(put(cluster, topic, &conf).await)
}

fn merged(before: &str, broker: &str, queues: i32) -> String {
    let known = before.split(';').filter_map(|part| part.split_once(':'));
    let mut parts: BTreeMap<&str, String> = known.map(|(name, queues)| (name, queues.to_owned())).collect();
    parts.insert(broker, queues.to_string());
    let parts: Vec<_> = parts.iter().map(|(name, queues)| format!("{name}:{queues}")).collect();
    parts.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_added_or_replaced() {
        assert_eq!(merged("", "a", 4), "a:4");
        assert_eq!(merged("b:8", "a", 4), "a:4;b:8");
        assert_eq!(merged("a:2;b:8", "a", 4), "a:4;b:8");
    }
}
