//! The controller's requests: codes 1001 to 1006 and 1011 to 1013, the broker's epochs (1007), and what a controller tells brokers (1008).
//!
//! A broker asks for an id (1012, 1013), registers (1003), asks for an election (1002), reads its master (1004), and as master reports its
//! in-sync set (1001). Heartbeats (904) are in [`crate::register`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::header::header;
use crate::route::MemberGroup;

header! {
    /// Code 1001: a master reports its in-sync set; the body is a [`SyncStateSet`] with the epoch that it replaces.
    pub struct AlterSyncStateSetHeader<'a> {
        /// The broker.
        pub broker_name: &'a str = "brokerName",
        /// The master's id.
        pub master_broker_id: i64 = "masterBrokerId",
        /// The master's epoch.
        pub master_epoch: i32 = "masterEpoch",
    }
}

header! {
    /// The answer of code 1001; the body is the new [`SyncStateSet`].
    pub struct AlterSyncStateSetReply {
        /// Epoch of the new set.
        pub new_sync_state_set_epoch: i32 = "newSyncStateSetEpoch",
    }
}

header! {
    /// Code 1002: elects a master.
    pub struct ElectMasterHeader<'a> {
        /// The cluster; empty when a controller elects.
        pub cluster_name: Option<&'a str> = "clusterName",
        /// The broker.
        pub broker_name: &'a str = "brokerName",
        /// Who asks, or with `designateElect` who is to be elected. Absent or -1: nobody in particular.
        pub broker_id: Option<i64> = "brokerId",
        /// Whether only that broker may be elected.
        pub designate_elect: bool = "designateElect",
        /// The master of this epoch asks, and takes no more messages. Of ours; Apache's controller does not read it.
        pub gave_up_epoch: Option<i32> = "apogeeGaveUpEpoch",
    }
}

header! {
    /// The answer of codes 1002 and 1004, and code 1008: who is the master. All fields are absent while there is none.
    pub struct MasterHeader<'a> {
        /// The master's id.
        pub master_broker_id: Option<i64> = "masterBrokerId",
        /// `ip:port` of the master.
        pub master_address: Option<&'a str> = "masterAddress",
        /// The master's epoch.
        pub master_epoch: Option<i32> = "masterEpoch",
        /// Epoch of the in-sync set. Code 1004 has it in its body only.
        pub sync_state_set_epoch: Option<i32> = "syncStateSetEpoch",
    }
}

header! {
    /// Code 1003: a broker registers.
    pub struct RegisterToControllerHeader<'a> {
        /// The cluster.
        pub cluster_name: &'a str = "clusterName",
        /// The broker.
        pub broker_name: &'a str = "brokerName",
        /// Its id.
        pub broker_id: i64 = "brokerId",
        /// `ip:port` of the broker.
        pub broker_address: &'a str = "brokerAddress",
        /// How long after a heartbeat it may take messages as the master, ms. Of ours; Apache's controller does not read it.
        pub lease_ms: Option<i64> = "apogeeLeaseMillis",
    }
}

header! {
    /// The answer of code 1003; the body is the [`SyncStateSet`]. The master's fields are in [`MasterHeader`].
    pub struct BrokerSetHeader<'a> {
        /// The cluster.
        pub cluster_name: Option<&'a str> = "clusterName",
        /// The broker.
        pub broker_name: Option<&'a str> = "brokerName",
    }
}

header! {
    /// Code 1004.
    pub struct GetReplicaInfoHeader<'a> {
        /// The broker.
        pub broker_name: &'a str = "brokerName",
    }
}

header! {
    /// The answer of code 1005.
    pub struct ControllerMetadata<'a> {
        /// Name of the group of controllers.
        pub group: Option<&'a str> = "group",
        /// Id of the leader; absent while there is none.
        pub controller_leader_id: Option<&'a str> = "controllerLeaderId",
        /// `host:port` of the leader; absent while there is none.
        pub controller_leader_address: Option<&'a str> = "controllerLeaderAddress",
        /// Whether the controller that answers is the leader.
        pub is_leader: bool = "isLeader",
        /// All controllers: `id:host:port;` for each.
        pub peers: Option<&'a str> = "peers",
    }
}

header! {
    /// Code 1011: forgets brokers.
    pub struct CleanBrokerDataHeader<'a> {
        /// The cluster.
        pub cluster_name: Option<&'a str> = "clusterName",
        /// The broker.
        pub broker_name: &'a str = "brokerName",
        /// Ids of the brokers, separated by `;`. Absent or empty: all.
        pub broker_controller_ids_to_clean: Option<&'a str> = "brokerControllerIdsToClean",
        /// Whether brokers that are alive may be forgotten.
        pub is_clean_living_broker: bool = "isCleanLivingBroker",
    }
}

header! {
    /// Code 1012.
    pub struct GetNextBrokerIdHeader<'a> {
        /// The cluster.
        pub cluster_name: &'a str = "clusterName",
        /// The broker.
        pub broker_name: &'a str = "brokerName",
    }
}

header! {
    /// The answer of code 1012. The broker set's fields are in [`BrokerSetHeader`].
    pub struct NextBrokerId {
        /// The id that is given out next.
        pub next_broker_id: i64 = "nextBrokerId",
    }
}

header! {
    /// Code 1013: takes a broker id.
    pub struct ApplyBrokerIdHeader<'a> {
        /// The cluster.
        pub cluster_name: &'a str = "clusterName",
        /// The broker.
        pub broker_name: &'a str = "brokerName",
        /// The id.
        pub applied_broker_id: i64 = "appliedBrokerId",
        /// `ip:port;timestamp` of the broker, which identifies it when it asks again.
        pub register_check_code: &'a str = "registerCheckCode",
    }
}

/// An in-sync set: body of codes 1001, 1003, 1004 and 1008.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncStateSet {
    /// Ids of the brokers.
    pub sync_state_set: BTreeSet<i64>,
    /// Its epoch.
    pub sync_state_set_epoch: i32,
}

/// Body of the answer of code 1002.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ElectMasterBody {
    /// All brokers of the name; absent if the master did not change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_member_group: Option<MemberGroup>,
    /// The in-sync set.
    pub sync_state_set: BTreeSet<i64>,
}

/// Body of the answer of code 1006.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerReplicasInfo {
    /// By broker name.
    pub replicas_info_table: BTreeMap<String, ReplicasInfo>,
}

/// The replicas of one broker name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicasInfo {
    /// Those that may be elected.
    pub in_sync_replicas: Vec<ReplicaIdentity>,
    /// `ip:port` of the master.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_address: Option<String>,
    /// Id of the master.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_broker_id: Option<i64>,
    /// The master's epoch.
    pub master_epoch: i32,
    /// The others.
    pub not_in_sync_replicas: Vec<ReplicaIdentity>,
    /// Epoch of the in-sync set.
    pub sync_state_set_epoch: i32,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaIdentity {
    /// Whether its heartbeats arrive.
    pub alive: bool,
    /// `ip:port`.
    pub broker_address: String,
    /// Its id.
    pub broker_id: i64,
    /// The broker.
    pub broker_name: String,
}

/// Body of the answer of code 1007: which part of the log was written in which epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct EpochCache {
    /// Id of the broker.
    pub broker_id: i64,
    /// The broker.
    pub broker_name: String,
    /// The cluster.
    pub cluster_name: String,
    /// The epochs, oldest first.
    pub epoch_list: Vec<EpochEntry>,
    /// End of the log.
    pub max_offset: i64,
}

/// One epoch of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct EpochEntry {
    /// Where the next epoch begins; `i64::MAX` for the last.
    pub end_offset: i64,
    /// The epoch.
    pub epoch: i32,
    /// Where it begins.
    pub start_offset: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn bodies_are_those_of_java() {
        let set = SyncStateSet {
            sync_state_set: BTreeSet::from([1, 2]),
            sync_state_set_epoch: 3,
        };
        let text = br#"{"syncStateSet":[1,2],"syncStateSetEpoch":3}"#;
        assert_eq!(json::write(&set), text);
        assert_eq!(json::read::<SyncStateSet>(text).unwrap(), set);
        let body = ElectMasterBody {
            broker_member_group: Some(MemberGroup {
                broker_addrs: BTreeMap::from([(1, "a:1".to_owned())]),
                broker_name: "b".to_owned(),
                cluster: "c".to_owned(),
            }),
            sync_state_set: BTreeSet::from([1]),
        };
        let text = br#"{"brokerMemberGroup":{"brokerAddrs":{1:"a:1"},"brokerName":"b","cluster":"c"},"syncStateSet":[1]}"#;
        assert_eq!(String::from_utf8(json::write(&body)).unwrap(), String::from_utf8_lossy(text));
    }

    #[test]
    fn a_header_without_a_master_has_no_fields() {
        let mut ext = crate::Ext::new();
        let header = MasterHeader {
            master_broker_id: None,
            master_address: None,
            master_epoch: None,
            sync_state_set_epoch: None,
        };
        header.encode(&mut ext);
        assert!(ext.is_empty());
        assert_eq!(MasterHeader::decode(&ext).unwrap(), header);
    }
}
