//! Lists: clusters, members of a broker name, topics.
//!
//! Lists of topics are returned as shared names, unsorted, so that the tables are not locked while a hundred thousand names are sorted and
//! encoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::route::{BrokerData, MemberGroup};
use protocol::topic::sys_flag;
use rustc_hash::FxHashSet;
use serde::{Serialize, Serializer};

use super::lookup::broker_data;
use super::{BrokerGroup, Routes, Topic};
use crate::java_order::{Table, ordered};

/// Selects topics by their unit flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// Unit topics (311).
    Unit,
    /// Topics with unit subscriptions (312).
    Subscribed,
    /// Topics with unit subscriptions that are not unit topics (313).
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

/// Version of all lists: it changes with every topic and every broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListStamp {
    topics: u64,
    brokers: u64,
}

/// The answer of 106, see [`protocol::route::ClusterInfo`], in the order of Java's tables.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Clusters {
    broker_addr_table: Ordered<BrokerData>,
    cluster_addr_table: Ordered<Vec<String>>,
}

impl Clusters {
    /// The brokers, to replace addresses.
    pub fn brokers_mut(&mut self) -> impl Iterator<Item = &mut BrokerData> {
        self.broker_addr_table.0.iter_mut().map(|(_, data)| data)
    }
}

/// A JSON object with its members in the order of the list.
#[derive(Debug)]
struct Ordered<T>(Vec<(String, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Routes {
    /// The stamp of all lists.
    pub fn list_stamp(&self) -> ListStamp {
        ListStamp {
            topics: self.last_version,
            brokers: self.brokers_version,
        }
    }

    /// All clusters and brokers.
    pub fn cluster_info(&self) -> Clusters {
        let brokers = self
            .brokers
            .iter()
            .map(|(name, broker)| (name.to_string(), broker_data(name, broker)));
        let names = |names: &BTreeMap<Arc<str>, usize>| {
            let names = names.keys().map(ToString::to_string).collect();
            ordered(names, Table::Hash, |name: &String| name)
        };
        let clusters = self.clusters.iter().map(|(cluster, brokers)| (cluster.to_string(), names(brokers)));
        Clusters {
            broker_addr_table: Ordered(ordered(brokers.collect(), Table::Concurrent(128), |(name, _)| name)),
            cluster_addr_table: Ordered(ordered(clusters.collect(), Table::Concurrent(32), |(cluster, _)| cluster)),
        }
    }

    /// The brokers of one name; none if it is unknown. Compat: the cluster is that of the request, as with Apache.
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
        let mut brokers: Vec<&BrokerGroup> = names.filter_map(|name| self.brokers.get(name)).collect();
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
        let includes = |topic: &Topic| {
            topic
                .brokers
                .first()
                .is_some_and(|on_broker| units.includes(on_broker.queues.sys_flag))
        };
        self.topics
            .iter()
            .filter(|(_, topic)| includes(topic))
            .map(|(name, _)| Arc::clone(name))
            .collect()
    }

    /// System topics that are the same on every broker (one for each cluster and broker name), and the address of a broker that has the
    /// others.
    pub fn system_topics(&self) -> (Vec<Arc<str>>, Option<String>) {
        let names = self.clusters.iter().flat_map(|(cluster, brokers)| {
            let cluster: Arc<str> = (&**cluster).into();
            std::iter::once(cluster).chain(brokers.keys().cloned())
        });
        let brokers = ordered(self.brokers.iter().collect(), Table::Concurrent(128), |(name, _)| name);
        let any = brokers.iter().find_map(|(_, broker)| broker.members.values().next());
        (names.collect(), any.map(|process| process.address.to_string()))
    }
}
