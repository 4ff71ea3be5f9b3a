//! Overviews: the clusters, the members of a broker name, lists of topics.

use std::collections::BTreeSet;

use protocol::route::{ClusterInfo, MemberGroup};
use protocol::topic::{TopicList, sys_flag};

use super::lookup::broker_data;
use super::{Routes, Topic};

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

impl Routes {
    /// All clusters and brokers.
    pub fn cluster_info(&self) -> ClusterInfo {
        let names = |names: &BTreeSet<std::sync::Arc<str>>| names.iter().map(ToString::to_string).collect();
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
    pub fn all_topics(&self) -> TopicList {
        self.topics_where(|_| true)
    }

    /// Topics with queues on any broker of a cluster.
    pub fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let Some(names) = self.clusters.get(cluster) else {
            return TopicList::default();
        };
        self.topics_where(|topic| topic.queues.iter().any(|(name, _)| names.contains(name)))
    }

    /// Topics by their unit flags on the first broker that has them.
    pub fn unit_topics(&self, units: Units) -> TopicList {
        self.topics_where(|topic| topic.queues.first().is_some_and(|(_, queues)| units.includes(queues.sys_flag)))
    }

    /// Names that are topics on every broker (clusters and brokers have one each), and a broker that knows the others.
    pub fn system_topics(&self) -> TopicList {
        let names = self.clusters.iter().flat_map(|(cluster, brokers)| {
            let brokers = brokers.iter().map(ToString::to_string);
            std::iter::once(cluster.to_string()).chain(brokers)
        });
        let any = self.brokers.values().find_map(|broker| broker.addresses.values().next());
        TopicList {
            broker_addr: any.map(ToString::to_string),
            topic_list: names.collect(),
        }
    }

    fn topics_where(&self, wanted: impl Fn(&Topic) -> bool) -> TopicList {
        let names = self
            .topics
            .iter()
            .filter(|(_, topic)| wanted(topic))
            .map(|(name, _)| name.to_string());
        TopicList {
            broker_addr: None,
            topic_list: names.collect(),
        }
    }
}
