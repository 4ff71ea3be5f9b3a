//! Brokers leave: by their own word, with their connection, or by silence. However many leave at once, each topic they had is touched
//! once.
//!
//! Invariant: who leaves is found and removed in one call, under one lock. A broker that registered in between, on another connection
//! or with a new sign of life, was told success and is not found any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::route::MASTER_ID;

use super::{Broker, MinIdChange, Place, Routes, cost};

/// Names that lost a broker and have others, each with the address of the last one that went with the lowest id.
type Reduced = BTreeMap<Arc<str>, Option<Box<str>>>;

impl Routes {
    /// A broker says that it leaves. Those of its name who may want to know of a new lowest id are returned. Nothing happens if no
    /// broker of this name is at this address.
    pub fn unregister(&mut self, cluster: &str, broker_name: &str, address: &str) -> Vec<MinIdChange> {
        let known = self.live.get_key_value(&Place::new(cluster, broker_name, address));
        let place = known.map(|(place, _)| Arc::clone(place));
        self.leave_all(&Vec::from_iter(place))
    }

    /// A connection closed: all brokers leave whose last registration came over it.
    pub fn connection_closed(&mut self, connection: u64) -> Vec<MinIdChange> {
        let places = self.connections.get(&connection).cloned().unwrap_or_default();
        self.leave_all(&places)
    }

    /// Whether any broker has been silent for longer than it promised.
    pub fn has_silent(&self, now_ms: i64) -> bool {
        self.live.values().any(|live| live.is_silent(now_ms))
    }

    /// Removes the brokers that have been silent for longer than they promised.
    pub fn expire(&mut self, now_ms: i64) -> Vec<MinIdChange> {
        let silent = self.live.iter().filter(|(_, live)| live.is_silent(now_ms));
        let places: Vec<_> = silent
            .map(|(place, live)| {
                let promise_ms = live.promise_ms;
                tracing::warn!(cluster = %place.cluster, broker = %place.name, address = %place.address, promise_ms, "broker is silent");
                Arc::clone(place)
            })
            .collect();
        self.leave_all(&places)
    }

    pub(super) fn leave_all(&mut self, places: &[Arc<Place>]) -> Vec<MinIdChange> {
        let mut reduced = Reduced::new();
        for place in places {
            self.leave(place, &mut reduced);
        }
        self.after_departures(&reduced)
    }

    /// Takes a place out of all tables, and its name if nobody else has it.
    fn leave(&mut self, place: &Arc<Place>, reduced: &mut Reduced) {
        let Some(live) = self.live.remove(place) else { return };
        self.bytes -= cost::live(place, &live);
        self.forget_connection(live.connection, place);
        self.set_filter_servers(place, &[]);
        let name = Arc::clone(&place.name);
        tracing::info!(cluster = %place.cluster, broker = %name, address = %place.address, "broker left");
        let id = live.broker_id;
        if !self.brokers.get(&name).is_some_and(|broker| broker.holds(id, place)) {
            // Another process has its id.
            return;
        }
        let lowest = self.brokers.get(&name).and_then(Broker::lowest_id);
        self.remove_member(&name, id);
        match self.brokers.get(&name) {
            Some(broker) if broker.members.is_empty() => {
                self.remove_name(&name);
                reduced.remove(&name);
            }
            _ => {
                let offline = reduced.entry(name).or_default();
                if lowest == Some(id) {
                    *offline = Some(place.address.clone());
                }
            }
        }
    }

    /// What follows for the names that have brokers left: without a master that a slave can act for, nothing can be written.
    fn after_departures(&mut self, reduced: &Reduced) -> Vec<MinIdChange> {
        for name in reduced.keys() {
            let masterless = |broker: &Broker| broker.acting_master && !broker.members.contains_key(&MASTER_ID);
            if self.brokers.get(name).is_some_and(masterless) {
                self.wipe_write_perm(name);
            }
        }
        let successors = reduced
            .iter()
            .filter_map(|(name, offline)| self.successor(name, offline.as_deref()?));
        successors.collect()
    }

    pub(super) fn forget_connection(&mut self, connection: u64, place: &Place) {
        if let Some(places) = self.connections.get_mut(&connection) {
            places.retain(|known| **known != *place);
            if places.is_empty() {
                self.connections.remove(&connection);
            }
        }
    }

    /// Takes an id of a name out, and the name out of the cluster where it was the last.
    pub(super) fn remove_member(&mut self, name: &Arc<str>, id: i64) {
        let Some(place) = self.brokers.get_mut(name).and_then(|broker| broker.members.remove(&id)) else {
            return;
        };
        self.brokers_version += 1;
        let Some(names) = self.clusters.get_mut(&place.cluster) else {
            return;
        };
        if let Some(places) = names.get_mut(name) {
            *places -= 1;
            if *places == 0 {
                names.remove(name);
            }
        }
        if names.is_empty() {
            self.clusters.remove(&place.cluster);
        }
    }

    fn remove_name(&mut self, name: &Arc<str>) {
        let Some(broker) = self.brokers.remove(name) else { return };
        self.bytes -= cost::broker(name);
        for topic in &broker.topics {
            self.remove_queues(topic, name);
        }
    }

    fn successor(&self, broker_name: &str, offline: &str) -> Option<MinIdChange> {
        let broker = self.brokers.get(broker_name).filter(|broker| broker.acting_master)?;
        let (min_id, place) = broker.members.first_key_value()?;
        Some(MinIdChange {
            broker_name: broker_name.to_owned(),
            min_id: *min_id,
            min_address: place.address.to_string(),
            offline_address: Some(offline.to_owned()),
            ha_address: None,
            tell: broker.told(|_| true),
        })
    }
}
