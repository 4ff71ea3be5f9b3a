//! Controllers: who leads, in-sync sets, elections, forgotten brokers, settings; and the epochs of brokers.

use std::collections::BTreeSet;

use protocol::controller::{EpochEntry, ReplicasInfo};
use serde::Serialize;

use crate::broker::{Tables, parsed, setting, table};
use crate::{Changes, Cluster, Error};

/// Who leads a group of controllers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Controllers {
    /// Name of the group.
    pub group: String,
    /// Id of the leader, if there is one.
    pub leader_id: Option<String>,
    /// `host:port` of the leader, if there is one.
    pub leader_address: Option<String>,
    /// `id:host:port` of all.
    pub peers: Vec<String>,
}

/// The replicas of broker names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncStates {
    /// One for each name that the controllers know.
    pub brokers: Vec<SyncState>,
}

/// The replicas of one broker name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncState {
    /// The name.
    pub broker_name: String,
    /// Its replicas.
    #[serde(flatten)]
    pub replicas: ReplicasInfo,
}

/// The result of an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Election {
    /// The cluster.
    pub cluster: String,
    /// The name.
    pub broker_name: String,
    /// Id of the master.
    pub master_id: Option<i64>,
    /// `host:port` of the master.
    pub master_address: Option<String>,
    /// The master's epoch.
    pub master_epoch: Option<i32>,
    /// Epoch of the in-sync set.
    pub sync_state_set_epoch: Option<i32>,
}

/// The epochs of brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Epochs {
    /// One for each broker.
    pub brokers: Vec<BrokerEpochs>,
}

/// The epochs of one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerEpochs {
    /// The cluster.
    pub cluster: String,
    /// The name.
    pub broker_name: String,
    /// `host:port`.
    pub address: String,
    /// Id of the broker.
    pub broker_id: i64,
    /// The epochs; the last ends at the end of the log.
    pub epochs: Vec<EpochEntry>,
}

/// Who leads, from the first of the addresses that answers.
///
/// # Errors
/// [`Error`] of the last address if none answers.
pub async fn metadata(cluster: &Cluster, addresses: &[String]) -> Result<Controllers, Error> {
    let mut last = Error::Invalid("-a has no controller; expected: HOST:PORT[;HOST:PORT]".to_owned());
    for address in addresses {
        match cluster.client().controllers(address).await {
            Ok(found) => {
                return Ok(Controllers {
                    group: found.group,
                    leader_id: found.leader_id,
                    leader_address: found.leader_address,
                    peers: found.peers,
                });
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// The address of the leader.
async fn leader(cluster: &Cluster, addresses: &[String]) -> Result<String, Error> {
    let found = metadata(cluster, addresses).await?;
    found
        .leader_address
        .ok_or_else(|| Error::NotFound(format!("the controllers of group {} have no leader now", found.group)))
}

/// The replicas of a broker name, or of all names of a cluster.
///
/// # Errors
/// [`Error`] if no controller leads, or the cluster is not found.
pub async fn sync_states(cluster: &Cluster, addresses: &[String], names: Names<'_>) -> Result<SyncStates, Error> {
    let names: BTreeSet<String> = match names {
        Names::Broker(name) => BTreeSet::from([name.to_owned()]),
        Names::Cluster(name) => cluster.members(name).await?.into_iter().map(|broker| broker.name).collect(),
    };
    let names: Vec<_> = names.into_iter().collect();
    let leader = leader(cluster, addresses).await?;
    let found = cluster.client().sync_states(&leader, &names).await?;
    let brokers = found
        .replicas_info_table
        .into_iter()
        .map(|(broker_name, replicas)| SyncState { broker_name, replicas });
    Ok(SyncStates {
        brokers: brokers.collect(),
    })
}

/// A broker name, or all of a cluster.
#[derive(Debug, Clone, Copy)]
pub enum Names<'a> {
    /// One name.
    Broker(&'a str),
    /// The names of this cluster.
    Cluster(&'a str),
}

/// Makes a broker the master of its name.
///
/// # Errors
/// [`Error`] if no controller leads, or the leader refuses.
pub async fn elect(cluster: &Cluster, addresses: &[String], of: &str, broker_name: &str, id: i64) -> Result<Election, Error> {
    let leader = leader(cluster, addresses).await?;
    let elected = cluster.client().elect_master(&leader, of, broker_name, id).await?;
    Ok(Election {
        cluster: of.to_owned(),
        broker_name: broker_name.to_owned(),
        master_id: elected.master_id,
        master_address: elected.master_address,
        master_epoch: elected.master_epoch,
        sync_state_set_epoch: elected.sync_state_set_epoch,
    })
}

/// Lets the controllers forget brokers of a name.
///
/// # Errors
/// [`Error`] if no controller leads. What the leader refuses is in the result.
pub async fn clean(
    cluster: &Cluster,
    addresses: &[String],
    of: Option<&str>,
    broker_name: &str,
    ids: Option<&str>,
    living: bool,
) -> Result<Changes, Error> {
    let leader = leader(cluster, addresses).await?;
    let outcome = cluster.client().clean_broker_data(&leader, of, broker_name, ids, living).await;
    let mut changes = Changes::default();
    let which = ids.map_or_else(|| "all brokers".to_owned(), |ids| format!("brokers {ids}"));
    changes.note(&leader, format!("forget {which} of {broker_name}"), outcome);
    Ok(changes)
}

/// The settings of each controller.
pub async fn settings(cluster: &Cluster, addresses: &[String]) -> Tables {
    let mut servers = Vec::new();
    for address in addresses {
        let answer = cluster.client().controller_config(address).await;
        servers.push(table(address.clone(), answer.map(|text| parsed(&text))));
    }
    Tables { servers }
}

/// Changes a setting of each controller.
pub async fn update(cluster: &Cluster, addresses: &[String], key: &str, value: &str) -> Changes {
    let mut changes = Changes::default();
    for address in addresses {
        let outcome = cluster
            .client()
            .update_controller_config(address, &format!("{key}={value}\n"))
            .await;
        changes.note(address, setting(key, value, &outcome), outcome);
    }
    changes
}

/// The epochs of the brokers of a name, or of a cluster.
///
/// # Errors
/// [`Error`] if the brokers are not found, or one does not answer.
pub async fn epochs(cluster: &Cluster, names: Names<'_>) -> Result<Epochs, Error> {
    let members = match names {
        Names::Cluster(name) => cluster.members(name).await?,
        Names::Broker(name) => {
            let mut all = cluster.brokers().await?;
            all.retain(|broker| broker.name == name);
            all
        }
    };
    if members.is_empty() {
        return Err(Error::NotFound("the name server knows no such broker".to_owned()));
    }
    let mut brokers = Vec::new();
    for member in members {
        let mut found = cluster.client().epochs(&member.address).await?;
        if let Some(last) = found.epoch_list.last_mut() {
            last.end_offset = found.max_offset;
        }
        brokers.push(BrokerEpochs {
            cluster: found.cluster_name,
            broker_name: found.broker_name,
            address: member.address,
            broker_id: found.broker_id,
            epochs: found.epoch_list,
        });
    }
    Ok(Epochs { brokers })
}
