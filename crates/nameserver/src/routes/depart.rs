//! Brokers leave: by their own word, with their connection, or by silence. However many leave at once, the topics are walked once.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::route::MASTER_ID;
use protocol::topic::perm;

use super::{Broker, MinIdChange, Place, Routes};

/// A broker that leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its cluster.
    pub cluster: String,
    /// Its name.
    pub broker_name: String,
    /// Its id.
    pub broker_id: i64,
    /// `ip:port` for clients.
    pub address: String,
}

/// A broker that was silent for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Who leaves; nobody if it was in no route any more.
    pub departure: Option<Departure>,
    /// Connection to close.
    pub connection: u64,
}

impl Routes {
    /// Removes brokers and what only they had. Those of their names who may want to know of a new lowest id are returned.
    pub fn depart(&mut self, departures: &[Departure]) -> Vec<MinIdChange> {
        let mut changes = BTreeMap::new();
        // Names with brokers left and names without.
        let (mut reduced, mut removed) = (Vec::new(), Vec::new());
        for departure in departures {
            tracing::info!(
                cluster = departure.cluster,
                broker = departure.broker_name,
                address = departure.address,
                "broker left"
            );
            let place = Place::new(&departure.cluster, &departure.address);
            self.live.remove(&place);
            self.filter_servers.remove(&place);
            self.brokers_version += 1;
            let was_lowest = self.remove_address(departure);
            match self.brokers.get(departure.broker_name.as_str()) {
                Some(broker) if !broker.addresses.is_empty() => {
                    if was_lowest {
                        changes.insert(departure.broker_name.clone(), departure.address.clone());
                    }
                    reduced.push(departure.broker_name.as_str());
                }
                Some(_) => {
                    self.remove_name(departure);
                    removed.push(departure.broker_name.as_str());
                }
                None => {}
            }
        }
        self.clean_topics(&removed, &reduced);
        changes.iter().filter_map(|(name, offline)| self.successor(name, offline)).collect()
    }

    /// True if it had the lowest id of its name.
    fn remove_address(&mut self, departure: &Departure) -> bool {
        let Some(broker) = self.brokers.get_mut(departure.broker_name.as_str()) else {
            return false;
        };
        let lowest = broker.lowest_id();
        broker.addresses.retain(|_, address| **address != *departure.address);
        lowest == Some(departure.broker_id)
    }

    fn remove_name(&mut self, departure: &Departure) {
        let name = departure.broker_name.as_str();
        self.brokers.remove(name);
        if let Some(names) = self.clusters.get_mut(departure.cluster.as_str()) {
            names.remove(name);
            if names.is_empty() {
                self.clusters.remove(departure.cluster.as_str());
            }
        }
    }

    fn clean_topics(&mut self, removed: &[&str], reduced: &[&str]) {
        // Without a master that a slave can act for, nothing can be written.
        let masterless = |broker: &Broker| broker.acting_master && !broker.addresses.contains_key(&MASTER_ID);
        let read_only: Vec<&str> = reduced
            .iter()
            .copied()
            .filter(|name| self.brokers.get(*name).is_some_and(masterless))
            .collect();
        if removed.is_empty() && read_only.is_empty() {
            return;
        }
        let version = self.next_version();
        self.topics.retain(|_, topic| {
            for name in removed {
                if topic.remove(name) {
                    topic.version = version;
                }
            }
            for name in &read_only {
                if let Some(queues) = topic.of_mut(name) {
                    queues.perm &= !perm::WRITE;
                    topic.version = version;
                }
            }
            !topic.queues.is_empty()
        });
    }

    fn successor(&self, broker_name: &str, offline: &str) -> Option<MinIdChange> {
        let broker = self.brokers.get(broker_name).filter(|broker| broker.acting_master)?;
        let (min_id, min_address) = broker.addresses.first_key_value()?;
        Some(MinIdChange {
            broker_name: broker_name.to_owned(),
            min_id: *min_id,
            min_address: min_address.to_string(),
            offline_address: Some(offline.to_owned()),
            ha_address: None,
            tell: broker.addresses.values().map(ToString::to_string).collect(),
        })
    }

    /// Who spoke on a connection that is gone.
    pub fn departure_of_connection(&self, connection: u64) -> Option<Departure> {
        let (place, _) = self.live.iter().find(|(_, live)| live.connection == connection)?;
        self.departure_of(place)
    }

    /// Who has been silent for longer than it promised.
    pub fn expired(&self, now_ms: i64) -> Vec<Expired> {
        let silent = self
            .live
            .iter()
            .filter(|(_, live)| live.last_ms.saturating_add(live.promise_ms) < now_ms);
        silent
            .map(|(place, live)| {
                tracing::warn!(cluster = %place.cluster, address = %place.address, promise_ms = live.promise_ms, "broker is silent");
                Expired {
                    departure: self.departure_of(place),
                    connection: live.connection,
                }
            })
            .collect()
    }

    fn departure_of(&self, place: &Place) -> Option<Departure> {
        let of_cluster = self.brokers.iter().filter(|(_, broker)| broker.cluster == place.cluster);
        let mut found = of_cluster.filter_map(|(name, broker)| Some((name, broker.id_of(&place.address)?)));
        found.next().map(|(name, broker_id): (&Arc<str>, i64)| Departure {
            cluster: place.cluster.to_string(),
            broker_name: name.to_string(),
            broker_id,
            address: place.address.to_string(),
        })
    }

    /// Forgets a silent broker that is in no route any more.
    pub fn forget_lost(&mut self, now_ms: i64) {
        self.live.retain(|_, live| live.last_ms.saturating_add(live.promise_ms) >= now_ms);
    }
}
