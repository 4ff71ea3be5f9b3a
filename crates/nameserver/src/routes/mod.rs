//! State of a name server: registered brokers and their queues. No sockets; the time `now` is an argument.
//!
//! Life of a broker: it registers with its topics (`register`), sends heartbeats (`touch`) or registers again every 30 s, and is removed
//! (`removal.rs`) when it unregisters, its connection closes, or its heartbeat timeout passes.
//!
//! ```text
//! clusters     cluster      ─► broker names
//! brokers      broker name  ─► processes by broker id (`MASTER_ID` is the master), topics, zone, acting master
//! live         process      ─► last heartbeat, timeout, data version, connection, HA address
//! connections  connection   ─► processes that registered over it
//! topics       topic        ─► queues by broker name, static mappings by broker name
//! ```
//!
//! A process is identified by cluster, broker name and address. A registration with the address of another process but another name is a
//! different process and does not change the other one.
//!
//! Invariants (`Routes::check_invariants` asserts them in tests):
//! - Every id of every name belongs to a live process, and a process has at most one id: a slave that becomes master loses its old one. So
//!   the limit on live processes limits names, ids and clusters, too.
//! - There is no name without processes, no cluster without names, and no topic without queues.
//! - `brokers[name].topics` and `topics[topic].brokers` agree, and so do `live` and `connections`.
//! - `bytes` is the sum of the entries' sizes by `cost.rs`.
//! - Only the master sets a topic's queues; without a master the slave with the lowest id does, unless it is too old to know acting masters.
//! - The `Stamp` of a topic's route changes whenever the route may have changed; encoded answers are cached under it.
//!
//! Name servers do not replicate, and none of this is on disk.

mod cost;
mod lists;
mod lookup;
mod permission;
mod register;
mod removal;
mod repeat;
#[cfg(test)]
mod tests;
mod topics;
mod unchanged;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::data_version::DataVersion;
use protocol::static_topic::QueueMapping;
use rustc_hash::{FxHashMap, FxHashSet};

pub use lists::{Clusters, ListStamp, Units};
pub use lookup::{Stamp, retain_zone};
pub use register::{LeftOut, Master, MinIdChange, Refused, Registered, Registration};
pub use unchanged::Unchanged;

/// Heartbeat timeout of brokers that do not set one, ms.
pub const DEFAULT_HEARTBEAT_TIMEOUT_MS: i64 = 120_000;

/// The queues of a topic on one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Number of queues to read from.
    pub read: i32,
    /// Number of queues to write to.
    pub write: i32,
    /// Bits of [`protocol::topic::perm`].
    pub perm: i32,
    /// Bits of [`protocol::topic::sys_flag`].
    pub sys_flag: i32,
}

/// Limits of the state; more is refused.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Broker processes (`apogeeMaxBrokers`).
    pub brokers: usize,
    /// Broker processes that register over one connection (`apogeeMaxBrokersPerConnection`).
    pub brokers_per_connection: usize,
    /// Topics (`apogeeMaxTopics`).
    pub topics: usize,
    /// Bytes of all tables, see [`Routes::bytes`] (`apogeeMaxRouteBytes`).
    pub bytes: usize,
}

/// Identity of a broker process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct BrokerProcess {
    cluster: Box<str>,
    name: Arc<str>,
    address: Box<str>,
}

impl BrokerProcess {
    fn new(cluster: &str, name: impl Into<Arc<str>>, address: &str) -> Self {
        Self {
            cluster: cluster.into(),
            name: name.into(),
            address: address.into(),
        }
    }
}

/// The broker processes of one name.
#[derive(Debug, Default)]
struct BrokerGroup {
    cluster: Box<str>,
    members: BTreeMap<i64, Arc<BrokerProcess>>,
    zone: Option<Box<str>>,
    acting_master: bool,
    /// Topics that have queues under this name.
    topics: FxHashSet<Arc<str>>,
    /// Changes of the write permission by operators, see `permission.rs`.
    permission: permission::WritePermChanges,
    /// Time of the last warning that two processes use one id, ms.
    warned_ms: Option<i64>,
    /// Incremented with every change of its processes, topics and their permissions.
    changes: u64,
}

impl BrokerGroup {
    fn holds(&self, id: i64, process: &BrokerProcess) -> bool {
        self.members.get(&id).is_some_and(|known| **known == *process)
    }

    /// Queues with the permission that operators left them.
    fn queues(&self, on_broker: &BrokerQueues) -> Queues {
        Queues {
            perm: self.permission.of(on_broker),
            ..on_broker.queues
        }
    }

    fn lowest_id(&self) -> Option<i64> {
        self.members.keys().next().copied()
    }
}

/// State of a registered process.
#[derive(Debug)]
struct LiveBroker {
    /// The id with which it registered; another process may have taken it since.
    broker_id: i64,
    last_heartbeat_ms: i64,
    heartbeat_timeout_ms: i64,
    version: DataVersion,
    /// Whether its last registration was taken completely. If not, it has to register again.
    complete: bool,
    connection: u64,
    ha_address: Box<str>,
    /// The last registration's fingerprint, and its name's `changes` after it. `None`: a repetition may change something.
    repeatable: Option<(u64, u64)>,
}

impl LiveBroker {
    fn is_expired(&self, now_ms: i64) -> bool {
        self.last_heartbeat_ms.saturating_add(self.heartbeat_timeout_ms) < now_ms
    }
}

/// The queues of a topic on the brokers of one name.
#[derive(Debug)]
struct BrokerQueues {
    broker: Arc<str>,
    queues: Queues,
    /// Version at which `queues` was set. A later change of the broker's write permission applies to it.
    set_at: u64,
}

#[derive(Debug, Default)]
struct Topic {
    /// Sorted by broker name. Usually one to a few, but system topics are on every broker.
    brokers: Vec<BrokerQueues>,
    /// Mappings of a static topic by broker name.
    mappings: BTreeMap<String, QueueMapping>,
    version: u64,
}

impl Topic {
    fn position(&self, broker_name: &str) -> Result<usize, usize> {
        self.brokers.binary_search_by(|on_broker| (*on_broker.broker).cmp(broker_name))
    }

    fn on(&self, broker_name: &str) -> Option<&BrokerQueues> {
        self.brokers.get(self.position(broker_name).ok()?)
    }

    fn has(&self, broker_name: &str) -> bool {
        self.position(broker_name).is_ok()
    }
}

/// The state, see the module.
#[derive(Debug)]
pub struct Routes {
    topics: FxHashMap<Arc<str>, Topic>,
    brokers: BTreeMap<Arc<str>, BrokerGroup>,
    /// Broker names by cluster, each with its number of processes there.
    clusters: BTreeMap<Box<str>, BTreeMap<Arc<str>, usize>>,
    live: FxHashMap<Arc<BrokerProcess>, LiveBroker>,
    connections: FxHashMap<u64, Vec<Arc<BrokerProcess>>>,
    filter_servers: FxHashMap<Arc<BrokerProcess>, Vec<String>>,
    bounds: Bounds,
    bytes: usize,
    /// Incremented with every change of what routes say about brokers.
    brokers_version: u64,
    /// Source of topic versions, incremented with every change of a topic.
    last_version: u64,
    /// Number of registrations that took a name and id from a live process with another address.
    taken_over: u64,
}

impl Routes {
    /// Number of registrations that took a name and id from a live process with another address: two brokers have the same configuration.
    pub fn taken_over(&self) -> u64 {
        self.taken_over
    }

    /// Without brokers.
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

    /// Number of registered broker processes.
    pub fn live_brokers(&self) -> usize {
        self.live.len()
    }

    /// Memory of the tables in bytes, an upper bound.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Data version of a broker's last registration; `None` if the broker is unknown or topics of that registration were left out.
    pub fn data_version(&self, cluster: &str, broker_name: &str, address: &str) -> Option<DataVersion> {
        let live = self.live.get(&BrokerProcess::new(cluster, broker_name, address))?;
        live.complete.then_some(live.version)
    }

    /// Records a heartbeat of a registered broker.
    pub fn touch(&mut self, cluster: &str, broker_name: &str, address: &str, now_ms: i64) {
        if let Some(live) = self.live.get_mut(&BrokerProcess::new(cluster, broker_name, address)) {
            live.last_heartbeat_ms = now_ms;
        }
    }
}
