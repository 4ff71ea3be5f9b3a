//! Who is there and which queues they have: the state of a name server, without sockets and with `now` given.
//!
//! Life of a broker: it registers with all its topics (`register`), says that it lives (`touch`) or registers again every 30 s, and
//! leaves (`depart`) because it says so, because its connection closed, or because it was silent for longer than it promised.
//!
//! ```text
//! clusters   cluster      ─► broker names
//! brokers    broker name  ─► cluster, addresses by broker id (`MASTER_ID` is the master), zone, acting master
//! live       cluster+addr ─► last sign of life, promise, data version, connection, HA address
//! topics     topic        ─► queues by broker name, static mappings by broker name
//! ```
//!
//! Invariants:
//! - One address has one broker id: a slave that became master leaves its old id.
//! - A broker without addresses, a cluster without brokers and a topic without queues do not exist.
//! - Only the master's word counts for a topic's queues; without a master that of the slave with the lowest id, unless it is too old to
//!   know of acting masters.
//! - `Stamp` of a topic's route changes whenever the route may have changed; encoded routes are kept under it.
//!
//! Every name server keeps the whole table for itself; there is no replication and nothing of it is on disk.

mod depart;
mod lists;
mod lookup;
mod register;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::data_version::DataVersion;
use protocol::route::QueueMapping;
use rustc_hash::FxHashMap;

pub use depart::{Departure, Expired};
pub use lists::Units;
pub use lookup::{Stamp, keep_zone};
pub use register::{Master, MinIdChange, Refused, Registered, Registration};

/// Silence after which a broker that promised nothing is gone.
pub const DEFAULT_PROMISE_MS: i64 = 120_000;
/// What one broker has of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Queues that consumers read.
    pub read: i32,
    /// Queues that producers write to.
    pub write: i32,
    /// Bits of [`protocol::topic::perm`].
    pub perm: i32,
    /// Bits of [`protocol::topic::sys_flag`].
    pub sys_flag: i32,
}

/// The most this state may hold; more is refused.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Broker addresses.
    pub brokers: usize,
    /// Topics.
    pub topics: usize,
}

/// A broker process: where it is, and in which cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    cluster: Box<str>,
    address: Box<str>,
}

impl Place {
    fn new(cluster: &str, address: &str) -> Self {
        Self {
            cluster: cluster.into(),
            address: address.into(),
        }
    }
}

#[derive(Debug)]
struct Broker {
    cluster: Box<str>,
    addresses: BTreeMap<i64, Arc<str>>,
    zone: Option<Box<str>>,
    acting_master: bool,
}

impl Broker {
    fn id_of(&self, address: &str) -> Option<i64> {
        self.addresses.iter().find(|(_, known)| &***known == address).map(|(id, _)| *id)
    }

    fn lowest_id(&self) -> Option<i64> {
        self.addresses.keys().next().copied()
    }
}

#[derive(Debug)]
struct Live {
    last_ms: i64,
    promise_ms: i64,
    version: DataVersion,
    connection: u64,
    ha_address: Box<str>,
}

#[derive(Debug, Default)]
struct Topic {
    /// By broker name; almost always one to a few entries.
    queues: Vec<(Arc<str>, Queues)>,
    /// Of static topics, by broker name.
    mappings: BTreeMap<String, QueueMapping>,
    version: u64,
}

impl Topic {
    fn of(&self, broker_name: &str) -> Option<&Queues> {
        self.queues
            .iter()
            .find(|(name, _)| &**name == broker_name)
            .map(|(_, queues)| queues)
    }

    fn of_mut(&mut self, broker_name: &str) -> Option<&mut Queues> {
        self.queues
            .iter_mut()
            .find(|(name, _)| &**name == broker_name)
            .map(|(_, queues)| queues)
    }

    /// True if there was something to remove.
    fn remove(&mut self, broker_name: &str) -> bool {
        let before = self.queues.len();
        self.queues.retain(|(name, _)| &**name != broker_name);
        self.queues.len() < before
    }

    /// True if it is new or different.
    fn set(&mut self, broker_name: &Arc<str>, queues: Queues) -> bool {
        match self.of_mut(broker_name) {
            Some(known) if *known == queues => return false,
            Some(known) => *known = queues,
            None => self.queues.push((Arc::clone(broker_name), queues)),
        }
        true
    }
}

/// The state. See the module.
#[derive(Debug)]
pub struct Routes {
    topics: FxHashMap<Arc<str>, Topic>,
    brokers: BTreeMap<Arc<str>, Broker>,
    clusters: BTreeMap<Box<str>, BTreeSet<Arc<str>>>,
    live: FxHashMap<Place, Live>,
    filter_servers: FxHashMap<Place, Vec<String>>,
    bounds: Bounds,
    /// Grows with every change of what a route says about brokers.
    brokers_version: u64,
    /// Source of topic versions.
    last_version: u64,
}

impl Routes {
    /// Nobody is there.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            topics: FxHashMap::default(),
            brokers: BTreeMap::new(),
            clusters: BTreeMap::new(),
            live: FxHashMap::default(),
            filter_servers: FxHashMap::default(),
            bounds,
            brokers_version: 0,
            last_version: 0,
        }
    }

    /// Broker processes registered now.
    pub fn live_brokers(&self) -> usize {
        self.live.len()
    }

    /// The data version under which a broker last registered.
    pub fn data_version(&self, cluster: &str, address: &str) -> Option<DataVersion> {
        self.live.get(&Place::new(cluster, address)).map(|live| live.version)
    }

    /// A registered broker gave a sign of life.
    pub fn touch(&mut self, cluster: &str, address: &str, now_ms: i64) {
        if let Some(live) = self.live.get_mut(&Place::new(cluster, address)) {
            live.last_ms = now_ms;
        }
    }

    fn next_version(&mut self) -> u64 {
        self.last_version += 1;
        self.last_version
    }
}
