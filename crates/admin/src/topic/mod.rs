//! Topics: creating, changing and deleting (here), state (`state.rs`), order configuration (`order.rs`).

pub mod order;
pub mod state;

use message::names;
use protocol::ResponseCode;
use protocol::kv::ORDER_TOPIC_CONFIG;
use protocol::route::{MASTER_ID, TopicRoute};
use protocol::topic::{TopicConfig, TopicConfigList};

use crate::{Broker, Changes, Cluster, Error, Target};

/// Creates a topic, or changes its settings. An ordered topic gets its order configuration at the name servers, too.
///
/// # Errors
/// [`Error`] if the target is not found. Failures at servers are in the result.
pub async fn create(cluster: &Cluster, target: &Target, config: &TopicConfig) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    for address in cluster.masters_at(target).await? {
        let outcome = cluster.client().create_topic(&address, config).await;
        changes.note(&address, format!("create or change topic {}", config.topic_name), outcome);
    }
    if config.order && changes.failed() == 0 {
        changes.append(order::after_create(cluster, target, config).await?);
    }
    Ok(changes)
}

/// Creates or changes several topics.
///
/// # Errors
/// [`Error`] as in [`create`].
pub async fn create_list(cluster: &Cluster, target: &Target, topics: Vec<TopicConfig>) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    let step = format!("create or change {} topics", topics.len());
    let list = TopicConfigList { topic_config_list: topics };
    for address in cluster.masters_at(target).await? {
        changes.note(&address, step.as_str(), cluster.client().create_topics(&address, &list).await);
    }
    Ok(changes)
}

/// Deletes a topic of a cluster: at its masters and then, if that succeeded, at the name servers.
///
/// # Errors
/// [`Error`] as in [`create`].
pub async fn delete(cluster: &Cluster, cluster_name: &str, topic: &str) -> Result<Changes, Error> {
    let masters = cluster.masters(Some(cluster_name)).await?;
    Ok(delete_at(cluster, &masters, Some(cluster_name), topic).await)
}

/// Deletes a group's retry and dead letter topics, with their order configuration, at all brokers of a cluster.
pub(crate) async fn delete_of_group(cluster: &Cluster, cluster_name: &str, group: &str) -> Result<Changes, Error> {
    let members = cluster.members(cluster_name).await?;
    let mut changes = Changes::default();
    for topic in [names::retry_topic(group), names::dlq_topic(group)] {
        changes.append(delete_at(cluster, &members, None, &topic).await);
        for address in cluster.name_servers() {
            let outcome = cluster.client().delete_kv(address, ORDER_TOPIC_CONFIG, &topic).await;
            changes.note(address, format!("delete order configuration of {topic}"), outcome);
        }
    }
    Ok(changes)
}

async fn delete_at(cluster: &Cluster, brokers: &[Broker], cluster_name: Option<&str>, topic: &str) -> Changes {
    let mut changes = Changes::default();
    for broker in brokers {
        let outcome = cluster.client().delete_topic(&broker.address, topic).await;
        changes.note(&broker.address, format!("delete topic {topic}"), outcome);
    }
    if changes.failed() > 0 {
        // A broker that still has the topic would register it again.
        return changes;
    }
    for address in cluster.name_servers() {
        let outcome = cluster.client().delete_route_at(address, topic, cluster_name).await;
        changes.note(address, format!("delete route of topic {topic}"), outcome);
    }
    changes
}

/// Changes the permission of a topic: bits of [`protocol::topic::perm`]. Its other settings stay.
///
/// # Errors
/// [`Error`] as in [`create`]; [`Error::NotFound`] if the broker is not a master of the topic.
pub async fn set_perm(cluster: &Cluster, target: &Target, topic: &str, perm: i32) -> Result<Changes, Error> {
    let route = cluster.route(topic, None).await?;
    let masters = match target {
        Target::Broker(address) => vec![master_at(&route, address)?],
        Target::Cluster(name) => cluster.masters(Some(name)).await?,
    };
    let mut changes = Changes::default();
    for master in masters {
        let outcome = set_perm_at(cluster, &route, &master, topic, perm).await;
        match outcome {
            Ok(before) => changes.note(
                &master.address,
                format!("change permission of {topic} from {before} to {perm}"),
                Ok(()),
            ),
            Err(error) => changes.note::<()>(&master.address, format!("change permission of {topic} to {perm}"), Err(error)),
        };
    }
    Ok(changes)
}

async fn set_perm_at(cluster: &Cluster, route: &TopicRoute, master: &Broker, topic: &str, perm: i32) -> Result<i32, client::Error> {
    let mut config = settings_at(cluster, route, master, topic).await?;
    let before = std::mem::replace(&mut config.perm, perm);
    // Attributes are sent as changes, and there are none.
    config.attributes.clear();
    cluster.client().create_topic(&master.address, &config).await?;
    Ok(before)
}

/// The settings of a topic at the first of its masters.
///
/// # Errors
/// [`Error`] as in [`Cluster::route`]; [`Error::NotFound`] if it has no master.
pub async fn settings(cluster: &Cluster, topic: &str) -> Result<TopicConfig, Error> {
    let route = cluster.route(topic, None).await?;
    let address = route.broker_datas.iter().find_map(|data| data.broker_addrs.get(&MASTER_ID));
    let address = address.ok_or_else(|| Error::NotFound(format!("topic {topic} has no master")))?;
    let master = master_at(&route, address)?;
    Ok(settings_at(cluster, &route, &master, topic).await?)
}

async fn settings_at(cluster: &Cluster, route: &TopicRoute, master: &Broker, topic: &str) -> Result<TopicConfig, client::Error> {
    match cluster.client().topic_config(&master.address, topic).await {
        Ok(found) => Ok(found),
        // Compat: brokers before 5.0 do not serve the settings of one topic; the route has the necessary ones, which mqadmin uses, too.
        Err(error) if error.code() == Some(ResponseCode::RequestCodeNotSupported.into()) => {
            let data = route.queue_datas.iter().find(|data| data.broker_name == master.name);
            let data = data.or(route.queue_datas.first()).cloned().unwrap_or_default();
            Ok(TopicConfig {
                topic_name: topic.to_owned(),
                read_queue_nums: data.read_queue_nums,
                write_queue_nums: data.write_queue_nums,
                topic_sys_flag: data.topic_sys_flag,
                ..TopicConfig::default()
            })
        }
        Err(error) => Err(error),
    }
}

fn master_at(route: &TopicRoute, address: &str) -> Result<Broker, Error> {
    let found = route
        .broker_datas
        .iter()
        .find(|data| data.broker_addrs.get(&MASTER_ID).is_some_and(|master| master == address));
    let data = found.ok_or_else(|| Error::NotFound(format!("the topic has no master at {address}; see apogeemq admin topicRoute")))?;
    Ok(Broker {
        cluster: data.cluster.clone(),
        name: data.broker_name.clone(),
        id: MASTER_ID,
        address: address.to_owned(),
    })
}
