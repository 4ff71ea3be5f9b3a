//! Removal of brokers: on their own request, when their connection closes, or when their heartbeat timeout has passed.
//!
//! Invariant: brokers are found and removed in one call, under one lock. A broker that registered over another connection or sent a
//! heartbeat before that call is not removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::route::MASTER_ID;

use super::{BrokerGroup, BrokerProcess, MinIdChange, Routes, cost};

/// Names that lost a broker and have others left, each with the address of the last removed broker that had the lowest id.
type Affected = BTreeMap<Arc<str>, Option<Box<str>>>;

impl Routes {
    /// Removes a broker on its own request. Returns the change of the lowest id, if any. Does nothing if no broker of this name has this
    /// address.
    pub fn unregister(&mut self, cluster: &str, broker_name: &str, address: &str) -> Vec<MinIdChange> {
        let known = self.live.get_key_value(&BrokerProcess::new(cluster, broker_name, address));
        let process = known.map(|(process, _)| Arc::clone(process));
        self.remove_processes(&Vec::from_iter(process))
    }

    /// Removes the brokers whose last registration came over this connection, after it closed.
    pub fn connection_closed(&mut self, connection: u64) -> Vec<MinIdChange> {
        let processes = self.connections.get(&connection).cloned().unwrap_or_default();
        self.remove_processes(&processes)
    }

    /// Whether the heartbeat timeout of any broker has passed.
    pub fn has_expired(&self, now_ms: i64) -> bool {
        self.live.values().any(|live| live.is_expired(now_ms))
    }

    /// Removes the brokers whose heartbeat timeout has passed.
    pub fn expire(&mut self, now_ms: i64) -> Vec<MinIdChange> {
        let expired = self.live.iter().filter(|(_, live)| live.is_expired(now_ms));
        let processes: Vec<_> = expired
            .map(|(process, live)| {
                let heartbeat_timeout_ms = live.heartbeat_timeout_ms;
                tracing::warn!(cluster = %process.cluster, broker = %process.name, address = %process.address, heartbeat_timeout_ms, "broker expired: no heartbeat within its timeout");
                Arc::clone(process)
            })
            .collect();
        self.remove_processes(&processes)
    }

    pub(super) fn remove_processes(&mut self, processes: &[Arc<BrokerProcess>]) -> Vec<MinIdChange> {
        let mut affected = Affected::new();
        for process in processes {
            self.remove_process(process, &mut affected);
        }
        self.after_removals(&affected)
    }

    /// Removes a process from all tables, and its name if no other process has it.
    fn remove_process(&mut self, process: &Arc<BrokerProcess>, affected: &mut Affected) {
        let Some(live) = self.live.remove(process) else { return };
        self.bytes -= cost::live(process, &live);
        self.forget_connection(live.connection, process);
        self.set_filter_servers(process, &[]);
        let name = Arc::clone(&process.name);
        tracing::info!(cluster = %process.cluster, broker = %name, address = %process.address, "broker removed");
        let id = live.broker_id;
        if !self.brokers.get(&name).is_some_and(|broker| broker.holds(id, process)) {
            // Another process has taken its id.
            return;
        }
        let lowest = self.brokers.get(&name).and_then(BrokerGroup::lowest_id);
        self.remove_member(&name, id);
        match self.brokers.get(&name) {
            Some(broker) if broker.members.is_empty() => {
                self.remove_name(&name);
                affected.remove(&name);
            }
            _ => {
                let offline = affected.entry(name).or_default();
                if lowest == Some(id) {
                    *offline = Some(process.address.clone());
                }
            }
        }
    }

    /// Removes the write permission of names that lost their master and allow acting masters. Returns the changes of lowest ids.
    fn after_removals(&mut self, affected: &Affected) -> Vec<MinIdChange> {
        for name in affected.keys() {
            let masterless = |broker: &BrokerGroup| broker.acting_master && !broker.members.contains_key(&MASTER_ID);
            if self.brokers.get(name).is_some_and(masterless) {
                self.wipe_write_perm(name);
            }
        }
        let changes = affected
            .iter()
            .filter_map(|(name, offline)| self.next_lowest_id(name, offline.as_deref()?));
        changes.collect()
    }

    pub(super) fn forget_connection(&mut self, connection: u64, process: &BrokerProcess) {
        if let Some(processes) = self.connections.get_mut(&connection) {
            processes.retain(|known| **known != *process);
            if processes.is_empty() {
                self.connections.remove(&connection);
            }
        }
    }

    /// Removes a broker id of a name, and the name from the cluster if it was its last id there.
    pub(super) fn remove_member(&mut self, name: &Arc<str>, id: i64) {
        let Some(broker) = self.brokers.get_mut(name) else { return };
        let Some(process) = broker.members.remove(&id) else { return };
        broker.changes += 1;
        self.brokers_version += 1;
        let Some(names) = self.clusters.get_mut(&process.cluster) else {
            return;
        };
        if let Some(processes) = names.get_mut(name) {
            *processes -= 1;
            if *processes == 0 {
                names.remove(name);
            }
        }
        if names.is_empty() {
            self.clusters.remove(&process.cluster);
        }
    }

    fn remove_name(&mut self, name: &Arc<str>) {
        let Some(broker) = self.brokers.remove(name) else { return };
        self.bytes -= cost::broker(name);
        for topic in &broker.topics {
            self.remove_queues(topic, name);
        }
    }

    fn next_lowest_id(&self, broker_name: &str, offline: &str) -> Option<MinIdChange> {
        let broker = self.brokers.get(broker_name).filter(|broker| broker.acting_master)?;
        let (min_id, process) = broker.members.first_key_value()?;
        Some(MinIdChange {
            broker_name: broker_name.to_owned(),
            min_id: *min_id,
            min_address: process.address.to_string(),
            offline_address: Some(offline.to_owned()),
            ha_address: None,
            recipients: broker.addresses(|_| true),
        })
    }
}
