//! Consumer groups: creating, changing, deleting, settings.

use protocol::assignment::GroupRequestMode;
use protocol::group::{GroupConfig, GroupConfigList};
use serde::Serialize;

use crate::{Changes, Cluster, Error, Target, topic};

/// The settings of a group at all brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupSettings {
    /// One per broker that has the group.
    pub brokers: Vec<GroupAtBroker>,
}

/// The settings of a group at one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupAtBroker {
    /// The cluster.
    pub cluster: String,
    /// The broker's name.
    pub broker: String,
    /// The settings.
    pub config: GroupConfig,
}

/// Creates a group, or changes its settings.
///
/// # Errors
/// [`Error`] if the target is not found. Failures at servers are in the result.
pub async fn create(cluster: &Cluster, target: &Target, config: &GroupConfig) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    for address in cluster.masters_at(target).await? {
        let outcome = cluster.client().create_group(&address, config).await;
        changes.note(&address, format!("create or change group {}", config.group_name), outcome);
    }
    Ok(changes)
}

/// Creates or changes several groups.
///
/// # Errors
/// [`Error`] as in [`create`].
pub async fn create_list(cluster: &Cluster, target: &Target, groups: Vec<GroupConfig>) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    let step = format!("create or change {} groups", groups.len());
    let list = GroupConfigList { group_config_list: groups };
    for address in cluster.masters_at(target).await? {
        changes.note(&address, step.as_str(), cluster.client().create_groups(&address, &list).await);
    }
    Ok(changes)
}

/// Deletes a group, with its offsets if `clean_offset`; in a whole cluster also its retry and dead letter topics.
///
/// # Errors
/// [`Error`] as in [`create`].
pub async fn delete(cluster: &Cluster, target: &Target, group: &str, clean_offset: bool) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    for address in cluster.masters_at(target).await? {
        let outcome = cluster.client().delete_group(&address, group, clean_offset).await;
        changes.note(&address, format!("delete group {group}"), outcome);
    }
    if let Target::Cluster(name) = target {
        changes.append(topic::delete_of_group(cluster, name, group).await?);
    }
    Ok(changes)
}

/// The settings of a group at all masters that have it. Does not create the group.
///
/// # Errors
/// [`Error::NotFound`] if no broker has it; [`Error::Call`] if a broker does not answer.
pub async fn settings(cluster: &Cluster, group: &str) -> Result<GroupSettings, Error> {
    let mut brokers = Vec::new();
    for broker in cluster.masters(None).await? {
        // Asks for all groups: a broker that creates groups on first use would create a group that it is asked for.
        let all = cluster.client().group_configs(&broker.address).await?;
        if let Some(config) = all.subscription_group_table.get(group) {
            brokers.push(GroupAtBroker {
                cluster: broker.cluster,
                broker: broker.name,
                config: config.clone(),
            });
        }
    }
    if brokers.is_empty() {
        return Err(Error::NotFound(format!("no broker has a consumer group {group}")));
    }
    Ok(GroupSettings { brokers })
}

/// Sets the request mode of a group for a topic.
///
/// # Errors
/// [`Error`] as in [`create`].
pub async fn set_mode(cluster: &Cluster, target: &Target, mode: &GroupRequestMode) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    let step = format!("group {} consumes {} by {}", mode.consumer_group, mode.topic, mode.mode.name());
    for address in cluster.masters_at(target).await? {
        changes.note(&address, step.as_str(), cluster.client().set_request_mode(&address, mode).await);
    }
    Ok(changes)
}
