//! Memory of the tables' entries in bytes. The estimates are upper bounds, so that `apogeeMaxRouteBytes` limits the memory of the process.

use protocol::static_topic::QueueMapping;

use super::{BrokerProcess, LiveBroker};

/// The queues of a topic on one broker, with the topic's entry in the broker's own set.
pub(super) const BROKER_QUEUES: usize = 96;

pub(super) fn topic(name: &str) -> usize {
    192 + name.len()
}

/// A broker name with its zone and cluster.
pub(super) fn broker(name: &str) -> usize {
    1_024 + name.len()
}

pub(super) fn live(process: &BrokerProcess, live: &LiveBroker) -> usize {
    512 + process.cluster.len() + process.name.len() + process.address.len() + live.ha_address.len()
}

pub(super) fn mapping(mapping: &QueueMapping) -> usize {
    let texts = 2 * mapping.bname.len() + mapping.topic.len() + mapping.scope.as_ref().map_or(0, String::len);
    384 + texts + 24 * mapping.curr_id_map.len()
}

pub(super) fn filter_servers(servers: &[String]) -> usize {
    64 + servers.iter().map(|server| 32 + server.len()).sum::<usize>()
}
