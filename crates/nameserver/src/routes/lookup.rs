//! The route of a topic, as clients get it.

use std::collections::BTreeMap;

use protocol::route::{BrokerData, MASTER_ID, QueueData, TopicRoute};
use protocol::topic::perm;

use super::{BrokerGroup, Routes};
use crate::java_order::{Table, ordered};

/// Prefix of topics that coordinate the brokers of one name: their route never shows a slave as master.
const MEMBER_GROUP_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

/// Version of a route: it changes with the topic's queues and with the addresses of any broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    topic: u64,
    brokers: u64,
}

impl Routes {
    /// The stamp of a topic's route; `None` without the topic.
    pub fn stamp(&self, topic: &str) -> Option<Stamp> {
        self.topics.get(topic).map(|topic| Stamp {
            topic: topic.version,
            brokers: self.brokers_version,
        })
    }

    /// The route of a topic, without its order configuration; `None` without the topic or a broker that has it.
    ///
    /// With `acting_master`, the slave with the lowest id of a name without master shows as master, if its topic is read-only
    /// (`supportActingMaster`).
    pub fn route(&self, topic: &str, acting_master: bool) -> Option<TopicRoute> {
        let known = self.topics.get(topic)?;
        let mut route = TopicRoute::default();
        for on_broker in ordered(known.brokers.iter().collect(), Table::Hash, |on_broker| &on_broker.broker) {
            let Some(broker) = self.brokers.get(&on_broker.broker) else {
                continue;
            };
            let perm = broker.permission.of(on_broker);
            route.queue_datas.push(QueueData {
                broker_name: on_broker.broker.to_string(),
                perm,
                read_queue_nums: on_broker.queues.read,
                topic_sys_flag: on_broker.queues.sys_flag,
                write_queue_nums: on_broker.queues.write,
            });
            self.add_filter_servers(broker, &mut route.filter_server_table);
            let mut data = broker_data(&on_broker.broker, broker);
            if acting_master && !topic.starts_with(MEMBER_GROUP_PREFIX) && perm & perm::WRITE == 0 {
                promote(&mut data);
            }
            route.broker_datas.push(data);
        }
        route.topic_queue_mapping_by_broker = (!known.mappings.is_empty()).then(|| known.mappings.clone());
        (!route.broker_datas.is_empty()).then_some(route)
    }

    fn add_filter_servers(&self, broker: &BrokerGroup, table: &mut BTreeMap<String, Vec<String>>) {
        if self.filter_servers.is_empty() {
            return;
        }
        for process in broker.members.values() {
            if let Some(servers) = self.filter_servers.get(process) {
                table.insert(process.address.to_string(), servers.clone());
            }
        }
    }
}

/// The brokers of one name, as in all answers.
pub(super) fn broker_data(name: &str, broker: &BrokerGroup) -> BrokerData {
    BrokerData {
        broker_addrs: broker
            .members
            .iter()
            .map(|(id, process)| (*id, process.address.to_string()))
            .collect(),
        broker_name: name.to_owned(),
        cluster: broker.cluster.to_string(),
        enable_acting_master: broker.acting_master,
        zone_name: broker.zone.as_deref().map(str::to_owned),
    }
}

/// Shows the slave with the lowest id as master if there is none.
fn promote(data: &mut BrokerData) {
    if data.enable_acting_master
        && !data.broker_addrs.contains_key(&MASTER_ID)
        && let Some((_, address)) = data.broker_addrs.pop_first()
    {
        data.broker_addrs.insert(MASTER_ID, address);
    }
}

/// Removes brokers of other zones from a route. Names without a master stay, whatever their zone.
pub fn retain_zone(route: &mut TopicRoute, zone: &str) {
    let near = |data: &BrokerData| {
        let same = data.zone_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(zone));
        same || !data.broker_addrs.contains_key(&MASTER_ID)
    };
    let (kept, removed): (Vec<_>, Vec<_>) = std::mem::take(&mut route.broker_datas).into_iter().partition(near);
    route.broker_datas = kept;
    let gone = |name: &str| removed.iter().any(|data| data.broker_name == name);
    route.queue_datas.retain(|queues| !gone(&queues.broker_name));
    for address in removed.iter().flat_map(|data| data.broker_addrs.values()) {
        route.filter_server_table.remove(address);
    }
}
