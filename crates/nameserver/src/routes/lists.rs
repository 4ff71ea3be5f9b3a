//! Overviews: the clusters, the members of a broker name, lists of topics.
//!
//! Lists of topics are taken as shared names, in no order, so that the tables are not held while a hundred thousand names are sorted
//! and written.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::route::{ClusterInfo, MemberGroup};
use protocol::topic::sys_flag;
use rustc_hash::FxHashSet;

use super::lookup::broker_data;
use super::{Broker, Routes, Topic};

/// Which topics of units are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// Unit topics (311).
    Unit,
    /// Topics with unit subscriptions (312).
    Subscribed,
    /// Topics with unit subscriptions that are no unit topics themselves (313).
    OnlySubscribed,
}

impl Units {
    fn includes(self, flags: i32) -> bool {
        let (unit, subscribed) = (flags & sys_flag::UNIT != 0, flags & sys_flag::UNIT_SUB != 0);
        match self {
            Self::Unit => unit,
            Self::Subscribed => subscribed,
            Self::OnlySubscribed => subscribed && !unit,
        }
    }
}

/// Under which any overview stays right: it changes with every topic and every broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListStamp {
    topics: u64,
    brokers: u64,
}

impl Routes {
    /// The stamp of all overviews.
    pub fn list_stamp(&self) -> ListStamp {
        ListStamp {
            topics: self.last_version,
            brokers: self.brokers_version,
        }
    }

    /// All clusters and brokers.
    pub fn cluster_info(&self) -> ClusterInfo {
        let names = |names: &BTreeMap<Arc<str>, usize>| names.keys().map(ToString::to_string).collect();
        ClusterInfo {
            broker_addr_table: self
                .brokers
                .iter()
                .map(|(name, broker)| (name.to_string(), broker_data(name, broker)))
                .collect(),
            cluster_addr_table: self
                .clusters
                .iter()
                .map(|(cluster, brokers)| (cluster.to_string(), names(brokers)))
                .collect(),
        }
    }

    /// The brokers of one name; none if it is unknown. The cluster is the one asked for, as Apache answers.
    pub fn member_group(&self, cluster: &str, broker_name: &str) -> MemberGroup {
        let addresses = self
            .brokers
            .get(broker_name)
            .map(|broker| broker_data(broker_name, broker).broker_addrs);
        MemberGroup {
            broker_addrs: addresses.unwrap_or_default(),
            broker_name: broker_name.to_owned(),
            cluster: cluster.to_owned(),
        }
    }

    /// All topics.
    pub fn all_topics(&self) -> Vec<Arc<str>> {
        self.topics.keys().cloned().collect()
    }

    /// Topics with queues on any broker of a cluster.
    pub fn topics_of_cluster(&self, cluster: &str) -> Vec<Arc<str>> {
        let names = self.clusters.get(cluster).into_iter().flat_map(BTreeMap::keys);
        let mut brokers: Vec<&Broker> = names.filter_map(|name| self.brokers.get(name)).collect();
        match brokers.pop() {
            Some(only) if brokers.is_empty() => only.topics.iter().cloned().collect(),
            Some(last) => {
                let all = brokers.iter().fold(last.topics.clone(), |mut all: FxHashSet<_>, broker| {
                    all.extend(broker.topics.iter().cloned());
                    all
                });
                all.into_iter().collect()
            }
            None => Vec::new(),
        }
    }

    /// Topics by their unit flags on the first broker that has them.
    pub fn unit_topics(&self, units: Units) -> Vec<Arc<str>> {
        let includes = |topic: &Topic| topic.parts.first().is_some_and(|part| units.includes(part.queues.sys_flag));
        self.topics
            .iter()
            .filter(|(_, topic)| includes(topic))
            .map(|(name, _)| Arc::clone(name))
            .collect()
    }

    /// Names that are topics on every broker (clusters and brokers have one each), and the address of a broker that knows the others.
    pub fn system_topics(&self) -> (Vec<Arc<str>>, Option<String>) {
        let names = self.clusters.iter().flat_map(|(cluster, brokers)| {
            let cluster: Arc<str> = (&**cluster).into();
            std::iter::once(cluster).chain(brokers.keys().cloned())
        });
        let any = self.brokers.values().find_map(|broker| broker.members.values().next());
        (names.collect(), any.map(|place| place.address.to_string()))
    }
}
