//! Who is there and which queues they have: the state of a name server, without sockets and with `now` given.
//!
//! Life of a broker: it registers with its topics (`register`), says that it lives (`touch`) or registers again every 30 s, and
//! leaves (`depart.rs`) because it says so, because its connection closed, or because it was silent for longer than it promised.
//!
//! ```text
//! clusters     cluster      ─► broker names
//! brokers      broker name  ─► places by broker id (`MASTER_ID` is the master), its topics, zone, acting master
//! live         place        ─► last sign of life, promise, data version, connection, HA address
//! connections  connection   ─► places that registered on it
//! topics       topic        ─► queues by broker name, static mappings by broker name
//! ```
//!
//! A place is a cluster, a broker name and an address: one broker process. Whoever registers with the address of another under another
//! name is another place, and takes nothing from it.
//!
//! Invariants (`Routes::check_invariants` asserts them in tests):
//! - Every id of every name belongs to a live place, and a place has at most one id: a slave that became master leaves its old one. So the
//!   bound on live places bounds names, ids and clusters, too.
//! - A name without addresses, a cluster without names and a topic without queues do not exist.
//! - `brokers[name].topics` and `topics[topic].queues` say the same, as do `live` and `connections`.
//! - `bytes` is what the tables cost, by the sizes in `cost.rs`.
//! - Only the master's word counts for a topic's queues; without a master that of the slave with the lowest id, unless it is too old to
//!   know of acting masters.
//! - `Stamp` of a topic's route changes whenever the route may have changed; encoded answers are kept under it.
//!
//! Every name server keeps the whole table for itself; there is no replication and nothing of it is on disk.

mod cost;
mod depart;
mod lists;
mod lookup;
mod permission;
mod register;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::data_version::DataVersion;
use protocol::route::QueueMapping;
use rustc_hash::{FxHashMap, FxHashSet};

pub use lists::{Clusters, ListStamp, Units};
pub use lookup::{Stamp, keep_zone};
pub use register::{LeftOut, Master, MinIdChange, Refused, Registered, Registration};

/// Silence after which a broker that promised nothing is gone, ms.
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
    /// Broker processes (`apogeeMaxBrokers`).
    pub brokers: usize,
    /// Broker processes that speak on one connection (`apogeeMaxBrokersPerConnection`).
    pub brokers_per_connection: usize,
    /// Topics (`apogeeMaxTopics`).
    pub topics: usize,
    /// Bytes of all tables, see [`Routes::bytes`] (`apogeeMaxRouteBytes`).
    pub bytes: usize,
}

/// A broker process: its cluster, its name, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    cluster: Box<str>,
    name: Arc<str>,
    address: Box<str>,
}

impl Place {
    fn new(cluster: &str, name: impl Into<Arc<str>>, address: &str) -> Self {
        Self {
            cluster: cluster.into(),
            name: name.into(),
            address: address.into(),
        }
    }
}

/// The brokers of one name.
#[derive(Debug, Default)]
struct Broker {
    cluster: Box<str>,
    members: BTreeMap<i64, Arc<Place>>,
    zone: Option<Box<str>>,
    acting_master: bool,
    /// Topics that have queues under this name.
    topics: FxHashSet<Arc<str>>,
    /// What operators did to the permission to write, see `permission.rs`.
    permission: permission::Changes,
    /// When two processes were last reported to claim one id, ms.
    reported_ms: Option<i64>,
}

impl Broker {
    fn holds(&self, id: i64, place: &Place) -> bool {
        self.members.get(&id).is_some_and(|known| **known == *place)
    }

    fn lowest_id(&self) -> Option<i64> {
        self.members.keys().next().copied()
    }
}

/// A broker process that gives signs of life.
#[derive(Debug)]
struct Live {
    /// The id under which it registered; another process may have taken it since.
    broker_id: i64,
    last_ms: i64,
    promise_ms: i64,
    version: DataVersion,
    /// False: topics were left out of its last registration, so it has to register again.
    complete: bool,
    connection: u64,
    ha_address: Box<str>,
}

impl Live {
    fn is_silent(&self, now_ms: i64) -> bool {
        self.last_ms.saturating_add(self.promise_ms) < now_ms
    }
}

/// What the brokers of one name have of a topic.
#[derive(Debug)]
struct Part {
    broker: Arc<str>,
    queues: Queues,
    /// Version at which `queues` was set: older than a change of the broker's permission, and that change applies.
    set_at: u64,
}

#[derive(Debug, Default)]
struct Topic {
    /// In order of broker names. Usually one to a few, but the system's topics are on every broker.
    parts: Vec<Part>,
    /// Of static topics, by broker name.
    mappings: BTreeMap<String, QueueMapping>,
    version: u64,
}

impl Topic {
    fn position(&self, broker_name: &str) -> Result<usize, usize> {
        self.parts.binary_search_by(|part| (*part.broker).cmp(broker_name))
    }

    fn has(&self, broker_name: &str) -> bool {
        self.position(broker_name).is_ok()
    }
}

/// The state. See the module.
#[derive(Debug)]
pub struct Routes {
    topics: FxHashMap<Arc<str>, Topic>,
    brokers: BTreeMap<Arc<str>, Broker>,
    /// Broker names with how many places of the cluster they have.
    clusters: BTreeMap<Box<str>, BTreeMap<Arc<str>, usize>>,
    live: FxHashMap<Arc<Place>, Live>,
    connections: FxHashMap<u64, Vec<Arc<Place>>>,
    filter_servers: FxHashMap<Arc<Place>, Vec<String>>,
    bounds: Bounds,
    bytes: usize,
    /// Grows with every change of what a route says about brokers.
    brokers_version: u64,
    /// Source of topic versions; grows with every change of a topic.
    last_version: u64,
    /// How often an address took a broker's name and id from another one that is alive.
    taken_over: u64,
}

impl Routes {
    /// How often an address took a broker's name and id from another one that is alive: two brokers are configured alike.
    pub fn taken_over(&self) -> u64 {
        self.taken_over
    }

    /// Nobody is there.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            topics: FxHashMap::default(),
            brokers: BTreeMap::new(),
            clusters: BTreeMap::new(),
            live: FxHashMap::default(),
            connections: FxHashMap::default(),
            filter_servers: FxHashMap::default(),
            bounds,
            bytes: 0,
            brokers_version: 0,
            last_version: 0,
            taken_over: 0,
        }
    }

    /// Broker processes registered now.
    pub fn live_brokers(&self) -> usize {
        self.live.len()
    }

    /// What the tables cost, in bytes: an estimate from above of the memory they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The data version under which a broker last registered; `None` if it is unknown, or if topics were left out of that registration.
    pub fn data_version(&self, cluster: &str, broker_name: &str, address: &str) -> Option<DataVersion> {
        let live = self.live.get(&Place::new(cluster, broker_name, address))?;
        live.complete.then_some(live.version)
    }

    /// A registered broker gave a sign of life.
    pub fn touch(&mut self, cluster: &str, broker_name: &str, address: &str, now_ms: i64) {
        if let Some(live) = self.live.get_mut(&Place::new(cluster, broker_name, address)) {
            live.last_ms = now_ms;
        }
    }
}
