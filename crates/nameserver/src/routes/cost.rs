//! What entries of the tables cost, in bytes. Estimates from above, so that `apogeeMaxRouteBytes` bounds the memory of the process
//! and not only a count of its entries.

use protocol::route::QueueMapping;

use super::{Live, Place};

/// A topic's part on one broker: the part itself, and the topic's place in the broker's own list.
pub(super) const PART: usize = 96;

pub(super) fn topic(name: &str) -> usize {
    192 + name.len()
}

/// Name, zone, cluster and what belongs to them.
pub(super) fn broker(name: &str) -> usize {
    1_024 + name.len()
}

pub(super) fn live(place: &Place, live: &Live) -> usize {
    512 + place.cluster.len() + place.name.len() + place.address.len() + live.ha_address.len()
}

pub(super) fn mapping(mapping: &QueueMapping) -> usize {
    let texts = 2 * mapping.bname.len() + mapping.topic.len() + mapping.scope.as_ref().map_or(0, String::len);
    384 + texts + 24 * mapping.curr_id_map.len()
}

pub(super) fn filter_servers(servers: &[String]) -> usize {
    64 + servers.iter().map(|server| 32 + server.len()).sum::<usize>()
}
