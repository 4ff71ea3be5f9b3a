//! Registration of brokers: the first one, every 30 s, after a change of role, or with some of the topics.

use std::sync::Arc;

use net::Gate;
use protocol::data_version::DataVersion;
use protocol::route::MASTER_ID;
use protocol::static_topic::QueueMapping;
use protocol::topic::perm;
use rustc_hash::FxHashSet;

use super::{BrokerGroup, BrokerProcess, DEFAULT_HEARTBEAT_TIMEOUT_MS, LiveBroker, Queues, Routes, Unchanged, cost};

/// Maximum number of brokers that are notified of a new lowest id. Names have a few.
const MAX_RECIPIENTS: usize = 64;
/// Time between two warnings that two processes use one id of a broker name, ms.
const WARN_INTERVAL_MS: i64 = 600_000;

/// A broker's registration.
#[derive(Debug, Clone, Default)]
pub struct Registration<'a> {
    /// Cluster.
    pub cluster: &'a str,
    /// Name, shared with its master or slaves.
    pub broker_name: &'a str,
    /// 0 for the master.
    pub broker_id: i64,
    /// `ip:port` for clients.
    pub address: &'a str,
    /// `ip:port` for its slaves.
    pub ha_address: &'a str,
    /// Zone, if it has one.
    pub zone: Option<&'a str>,
    /// Time without heartbeat after which it is removed, ms; `None`: [`DEFAULT_HEARTBEAT_TIMEOUT_MS`].
    pub heartbeat_timeout_ms: Option<i64>,
    /// Whether a slave may act as master. `None`: a broker too old for that.
    pub acting_master: Option<bool>,
    /// All topics or some of them.
    pub topics: Vec<(&'a str, Queues)>,
    /// Version of its topics.
    pub version: DataVersion,
    /// Mappings of static topics.
    pub mappings: Vec<(&'a str, &'a QueueMapping)>,
    /// Filter servers; `None` leaves them unchanged.
    pub filter_servers: Option<&'a [String]>,
    /// Connection of the registration.
    pub connection: u64,
    /// Whether topics that are not in `topics` are removed (`deleteTopicWithBrokerRegistration`).
    pub complete: bool,
    /// Number of topics that are not in `topics` because their names are invalid. If there are any, the broker has to register again.
    pub invalid: usize,
    /// Hash of all that the registration consists of, for [`Routes::repeat`]; `None`: it is not recognised when it is repeated.
    pub fingerprint: Option<u64>,
}

/// The master of a slave that registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// `ip:port` for clients.
    pub address: String,
    /// `ip:port` for slaves.
    pub ha_address: String,
}

/// A change of the lowest broker id of a name, of which its brokers are notified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinIdChange {
    /// Name the brokers share.
    pub broker_name: String,
    /// The new lowest id.
    pub min_id: i64,
    /// Address of that broker.
    pub min_address: String,
    /// Address of the removed broker, if one was.
    pub offline_address: Option<String>,
    /// HA address of the new broker, if there is one.
    pub ha_address: Option<String>,
    /// Addresses of the brokers to notify.
    pub recipients: Vec<String>,
}

/// Topics that were not registered although the rest of the registration was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{topics} of the topics were not registered: {why}")]
pub struct LeftOut {
    /// Number of topics.
    pub topics: usize,
    /// Why the first of them was refused.
    pub why: Refused,
}

/// Result of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    /// The master of a slave, if registered.
    pub master: Option<Master>,
    /// Whether another broker has the same name and id with a newer state version; nothing was registered then. Compat: such a broker gets
    /// an answer of success, and learns of it from the controller.
    pub stale: bool,
    /// Topics over a limit. Topics registered before stay, and the broker is registered.
    pub left_out: Option<LeftOut>,
    /// A new lowest id, if the registration changed it: the broker has a lower one than the others, or it is stale and had the lowest.
    pub min_id_change: Option<MinIdChange>,
}

/// Why nothing was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One topic of a broker that has not registered yet. The broker then registers all topics.
    #[error("register broker failed")]
    SingleTopicFirst,
    /// `apogeeMaxBrokers` is reached.
    #[error("the name server has {0} brokers and accepts no more; raise apogeeMaxBrokers")]
    TooManyBrokers(usize),
    /// `apogeeMaxBrokersPerConnection` is reached.
    #[error(
        "{0} brokers have registered over this connection and no more are accepted; use another connection, or raise apogeeMaxBrokersPerConnection"
    )]
    TooManyOnConnection(usize),
    /// `apogeeMaxTopics` is reached.
    #[error("the name server has {0} topics and accepts no more; delete some, or raise apogeeMaxTopics")]
    TooManyTopics(usize),
    /// `apogeeMaxRouteBytes` is reached.
    #[error("the tables of the name server may have {0} bytes and are full; delete topics, or raise apogeeMaxRouteBytes")]
    TooManyBytes(usize),
}

impl BrokerGroup {
    /// Addresses of its processes, for a notification.
    pub(super) fn addresses(&self, of: impl Fn(i64) -> bool) -> Vec<String> {
        let members = self.members.iter().filter(|(id, _)| of(**id));
        members
            .take(MAX_RECIPIENTS)
            .map(|(_, process)| process.address.to_string())
            .collect()
    }
}

impl Routes {
    /// Registers a broker.
    ///
    /// # Errors
    /// [`Refused`] over a limit, or for a single topic of an unknown broker; nothing has changed.
    pub fn register(&mut self, new: &Registration<'_>, now_ms: i64) -> Result<Registered, Refused> {
        self.register_compared(new, &Unchanged::default(), now_ms)
    }

    /// As [`Self::register`], with topics compared by [`Self::compare`] before.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub fn register_compared(&mut self, new: &Registration<'_>, compared: &Unchanged, now_ms: i64) -> Result<Registered, Refused> {
        let name = self.name(new.broker_name).unwrap_or_else(|| new.broker_name.into());
        let process = Arc::new(BrokerProcess::new(new.cluster, name, new.address));
        self.check_bounds(new, &process)?;
        let known = self.brokers.get(new.broker_name);
        let known_id = known.is_some_and(|broker| broker.members.contains_key(&new.broker_id));
        let is_stale = self.is_stale(new, &process);
        if !is_stale && !known_id && new.topics.len() == 1 {
            return Err(Refused::SingleTopicFirst);
        }
        let min_before = known.and_then(BrokerGroup::lowest_id).unwrap_or(MASTER_ID);
        if is_stale {
            // A stale process is not registered, whatever id it had.
            return Ok(Registered {
                stale: true,
                min_id_change: self.remove_processes(&[process]).pop(),
                ..Registered::default()
            });
        }
        self.set_member(new, &process, now_ms);
        let first = !known_id;
        let left_out = if self.owns_topics(new) {
            self.register_topics(new, compared, &process, first)
        } else {
            None
        };
        self.set_live(new, &process, now_ms, left_out.is_none() && new.invalid == 0);
        if let Some(servers) = new.filter_servers {
            self.set_filter_servers(&process, servers);
        }
        Ok(Registered {
            master: self.master_of(new.broker_name, new.broker_id),
            stale: false,
            left_out,
            min_id_change: (new.broker_id < min_before).then(|| self.new_lowest_id(new)).flatten(),
        })
    }

    fn check_bounds(&self, new: &Registration<'_>, process: &BrokerProcess) -> Result<(), Refused> {
        let known = self.live.get(process);
        if known.is_none() && self.live.len() >= self.bounds.brokers {
            return Err(Refused::TooManyBrokers(self.bounds.brokers));
        }
        let is_known_here = known.is_some_and(|live| live.connection == new.connection);
        let here = self.connections.get(&new.connection).map_or(0, Vec::len);
        if !is_known_here && here >= self.bounds.brokers_per_connection {
            return Err(Refused::TooManyOnConnection(self.bounds.brokers_per_connection));
        }
        if known.is_none() && self.bytes >= self.bounds.bytes {
            return Err(Refused::TooManyBytes(self.bounds.bytes));
        }
        Ok(())
    }

    /// Whether another process has this id with a newer state version.
    fn is_stale(&self, new: &Registration<'_>, process: &BrokerProcess) -> bool {
        static GATE: Gate = Gate::new();
        let broker = self.brokers.get(new.broker_name);
        let Some(holder) = broker
            .and_then(|broker| broker.members.get(&new.broker_id))
            .filter(|holder| ***holder != *process)
        else {
            return false;
        };
        let stale = self
            .live
            .get(holder)
            .is_some_and(|live| live.version.state_version > new.version.state_version);
        if stale && let Some(others) = GATE.open() {
            tracing::warn!(
                others,broker = new.broker_name, id = new.broker_id, address = new.address, holder = %holder.address, "ignoring a broker with an older state");
        }
        stale
    }

    /// Sets the process as the member with its id.
    fn set_member(&mut self, new: &Registration<'_>, process: &Arc<BrokerProcess>, now_ms: i64) {
        let name = Arc::clone(&process.name);
        if !self.brokers.contains_key(&name) {
            self.bytes += cost::broker(&name);
            self.brokers.insert(Arc::clone(&name), BrokerGroup::default());
        }
        // One process has one id.
        if let Some(before) = self.live.get(process).map(|live| live.broker_id).filter(|id| *id != new.broker_id)
            && self.brokers.get(&name).is_some_and(|broker| broker.holds(before, process))
        {
            self.remove_member(&name, before);
        }
        if self.brokers.get(&name).is_some_and(|broker| !broker.holds(new.broker_id, process)) {
            self.warn_of_duplicate_id(&name, new, now_ms);
            self.remove_member(&name, new.broker_id);
            self.add_member(&name, new.broker_id, process);
            tracing::info!(
                cluster = new.cluster,
                broker = new.broker_name,
                id = new.broker_id,
                address = new.address,
                "broker registered"
            );
        }
        if let Some(broker) = self.brokers.get_mut(&name) {
            let acting_master = new.acting_master.unwrap_or(false);
            let same = broker.acting_master == acting_master && broker.zone.as_deref() == new.zone;
            self.brokers_version += u64::from(!same);
            broker.changes += u64::from(!same);
            broker.acting_master = acting_master;
            broker.zone = new.zone.map(Into::into);
            if broker.lowest_id() == Some(new.broker_id) && *broker.cluster != *new.cluster {
                self.brokers_version += 1;
                broker.changes += 1;
                broker.cluster = new.cluster.into();
            }
        }
    }

    fn add_member(&mut self, name: &Arc<str>, id: i64, process: &Arc<BrokerProcess>) {
        let Some(broker) = self.brokers.get_mut(name) else { return };
        if broker.members.is_empty() {
            broker.cluster = process.cluster.clone();
        }
        broker.members.insert(id, Arc::clone(process));
        broker.changes += 1;
        self.brokers_version += 1;
        let names = self.clusters.entry(process.cluster.clone()).or_default();
        *names.entry(Arc::clone(name)).or_default() += 1;
    }

    /// Warns that two live processes use one name and id: each registration takes the route from the other process.
    fn warn_of_duplicate_id(&mut self, name: &Arc<str>, new: &Registration<'_>, now_ms: i64) {
        let Some(broker) = self.brokers.get_mut(name) else { return };
        let Some(holder) = broker.members.get(&new.broker_id).filter(|holder| self.live.contains_key(*holder)) else {
            return;
        };
        self.taken_over += 1;
        if broker.warned_ms.is_some_and(|then| now_ms.saturating_sub(then) < WARN_INTERVAL_MS) {
            return;
        }
        tracing::warn!(
            broker = new.broker_name,
            id = new.broker_id,
            before = %holder.address,
            now = new.address,
            times = self.taken_over,
            "a broker registers with the name and id of a live broker at another address; configure a different brokerName or brokerId"
        );
        broker.warned_ms = Some(now_ms);
    }

    /// Whether the broker sets the queues of its topics: a master does; without one the slave with the lowest id, if it knows acting masters.
    fn owns_topics(&self, new: &Registration<'_>) -> bool {
        new.broker_id == MASTER_ID || self.is_prime_slave(new)
    }

    fn is_prime_slave(&self, new: &Registration<'_>) -> bool {
        let lowest = self.brokers.get(new.broker_name).and_then(BrokerGroup::lowest_id);
        new.acting_master.is_some() && new.broker_id != MASTER_ID && lowest == Some(new.broker_id)
    }

    fn register_topics(&mut self, new: &Registration<'_>, compared: &Unchanged, process: &BrokerProcess, first: bool) -> Option<LeftOut> {
        let name = &process.name;
        let unchanged = compared.of(self.brokers.get(name));
        let differs = |(at, topic)| (unchanged.get(at) != Some(&true)).then_some(topic);
        if new.complete && new.mappings.is_empty() {
            self.remove_missing_topics(new, name);
        }
        let known = self.live.get(process);
        let changed = first || known.is_none_or(|live| !live.complete || live.version != new.version);
        let read_only = new.acting_master == Some(true) && self.is_prime_slave(new);
        let mut left_out: Option<LeftOut> = None;
        let mut leave_out = |why| left_out.get_or_insert(LeftOut { topics: 0, why }).topics += 1;
        for (topic, queues) in (0..).zip(&new.topics).filter_map(differs) {
            if changed || self.topics.get(*topic).is_none_or(|known| !known.has(name)) {
                let perm = if read_only { queues.perm & !perm::WRITE } else { queues.perm };
                if let Err(why) = self.set_queues(topic, name, Queues { perm, ..*queues }) {
                    leave_out(why);
                }
            }
        }
        for (topic, mapping) in &new.mappings {
            // Also with an unchanged version: a mapping is deleted with its topic, and registered again with it.
            let known = self.topics.get(*topic).and_then(|known| known.mappings.get(&mapping.bname));
            if (changed || known.is_none())
                && let Err(why) = self.set_mapping(topic, mapping)
            {
                leave_out(why);
            }
        }
        left_out
    }

    fn remove_missing_topics(&mut self, new: &Registration<'_>, name: &Arc<str>) {
        let registered: FxHashSet<&str> = new.topics.iter().map(|(topic, _)| *topic).collect();
        let Some(broker) = self.brokers.get(name) else { return };
        let missing = broker.topics.iter().filter(|topic| !registered.contains(&***topic));
        let gone: Vec<Arc<str>> = missing.cloned().collect();
        for topic in gone {
            self.remove_queues(&topic, name);
            tracing::info!(
                topic = &*topic,
                broker = &**name,
                "topic removed: the registration of its broker no longer has it"
            );
        }
    }

    fn set_live(&mut self, new: &Registration<'_>, process: &Arc<BrokerProcess>, now_ms: i64, complete: bool) {
        let live = LiveBroker {
            broker_id: new.broker_id,
            last_heartbeat_ms: now_ms,
            heartbeat_timeout_ms: new.heartbeat_timeout_ms.unwrap_or(DEFAULT_HEARTBEAT_TIMEOUT_MS),
            version: new.version,
            complete,
            connection: new.connection,
            ha_address: new.ha_address.into(),
            repeatable: self.repeatable(new).filter(|_| complete),
        };
        self.bytes += cost::live(process, &live);
        let before = self.live.insert(Arc::clone(process), live);
        if let Some(before) = &before {
            self.bytes -= cost::live(process, before);
            if before.connection == new.connection {
                return;
            }
            self.forget_connection(before.connection, process);
        }
        self.connections.entry(new.connection).or_default().push(Arc::clone(process));
    }

    /// Replaces the filter servers of a process. They are dropped if `apogeeMaxRouteBytes` is reached.
    pub(super) fn set_filter_servers(&mut self, process: &Arc<BrokerProcess>, servers: &[String]) {
        let before = self.filter_servers.remove(process);
        self.bytes -= before.as_deref().map_or(0, cost::filter_servers);
        self.brokers_version += u64::from(before.as_deref().unwrap_or_default() != servers);
        let cost = cost::filter_servers(servers);
        if !servers.is_empty() && self.bytes + cost <= self.bounds.bytes {
            self.bytes += cost;
            self.filter_servers.insert(Arc::clone(process), servers.to_vec());
        }
    }

    /// The master of a slave, if it is registered.
    pub(super) fn master_of(&self, broker_name: &str, broker_id: i64) -> Option<Master> {
        if broker_id == MASTER_ID {
            return None;
        }
        let process = self.brokers.get(broker_name)?.members.get(&MASTER_ID)?;
        let live = self.live.get(process)?;
        Some(Master {
            address: process.address.to_string(),
            ha_address: live.ha_address.to_string(),
        })
    }

    /// The notification that this broker has the lowest id now. If it is alone, it gets one itself, as with Apache.
    fn new_lowest_id(&self, new: &Registration<'_>) -> Option<MinIdChange> {
        let broker = self.brokers.get(new.broker_name)?;
        let alone = broker.members.len() == 1;
        Some(MinIdChange {
            broker_name: new.broker_name.to_owned(),
            min_id: new.broker_id,
            min_address: new.address.to_owned(),
            offline_address: None,
            ha_address: Some(new.ha_address.to_owned()),
            recipients: broker.addresses(|id| alone || id != new.broker_id),
        })
    }
}
