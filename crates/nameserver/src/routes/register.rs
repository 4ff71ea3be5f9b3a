//! A broker registers: first, again every 30 s, after a change of role, or with some of its topics.

use std::sync::Arc;

use net::Gate;
use protocol::data_version::DataVersion;
use protocol::route::{MASTER_ID, QueueMapping};
use protocol::topic::perm;
use rustc_hash::FxHashSet;

use super::{Broker, DEFAULT_PROMISE_MS, Live, Place, Queues, Routes, cost};

/// Most brokers that are told of a new lowest id. Names have a handful.
const MAX_TOLD: usize = 64;
/// Time between two reports that two processes claim one id of a broker name, ms.
const REPORT_AGAIN_MS: i64 = 600_000;

/// What a broker says about itself.
#[derive(Debug, Clone, Default)]
pub struct Registration<'a> {
    /// Its cluster.
    pub cluster: &'a str,
    /// Name that it shares with its master or slaves.
    pub broker_name: &'a str,
    /// 0 for the master.
    pub broker_id: i64,
    /// `ip:port` for clients.
    pub address: &'a str,
    /// `ip:port` for its slaves.
    pub ha_address: &'a str,
    /// Zone, if it has one.
    pub zone: Option<&'a str>,
    /// Silence after which it wants to be taken for gone; `None`: [`DEFAULT_PROMISE_MS`].
    pub promise_ms: Option<i64>,
    /// Whether its slave may act as master. `None`: a broker too old to know of that.
    pub acting_master: Option<bool>,
    /// All its topics, or some of them.
    pub topics: Vec<(&'a str, Queues)>,
    /// Version of its topics.
    pub version: DataVersion,
    /// Mappings of static topics.
    pub mappings: Vec<(&'a str, &'a QueueMapping)>,
    /// Filter servers; `None` says nothing about them.
    pub filter_servers: Option<&'a [String]>,
    /// Connection on which it speaks.
    pub connection: u64,
    /// Topics that it does not name are removed (`deleteTopicWithBrokerRegistration`).
    pub complete: bool,
    /// Topics of it that are not in `topics`, because their names cannot be kept. With any, the broker has to register again.
    pub unsound: usize,
}

/// The master of a slave that registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// `ip:port` for clients.
    pub address: String,
    /// `ip:port` for slaves.
    pub ha_address: String,
}

/// A broker with a lower id came, or the one with the lowest went: the others of its name may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinIdChange {
    /// Name the brokers share.
    pub broker_name: String,
    /// Lowest id now.
    pub min_id: i64,
    /// Address of that broker.
    pub min_address: String,
    /// Who went, if someone did.
    pub offline_address: Option<String>,
    /// HA address of who came, if someone did.
    pub ha_address: Option<String>,
    /// Whom to tell.
    pub tell: Vec<String>,
}

/// Topics that were not taken though the rest of the registration was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for {topics} of the topics: {why}")]
pub struct LeftOut {
    /// How many.
    pub topics: usize,
    /// Why the first of them was not.
    pub why: Refused,
}

/// What the broker is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    /// Its master, if it is a slave and the master is there.
    pub master: Option<Master>,
    /// Another broker of the same name and id is there with a newer state version: nothing was registered. Compat: such a broker is
    /// answered as if all were well, it finds out from the controller.
    pub stale: bool,
    /// Topics for which there was no room. What was registered before stays, and the broker counts as alive.
    pub left_out: Option<LeftOut>,
    /// A new lowest id, if the registration changed it: the broker has a lower one than the others, or it is stale and had the lowest.
    pub min_id_change: Option<MinIdChange>,
}

/// Nothing was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A single topic from a broker that has not registered as a whole. The broker tries again with all.
    #[error("register broker failed")]
    SingleTopicFirst,
    /// As many brokers as allowed are registered.
    #[error("the name server has {0} brokers already and takes no more, see apogeeMaxBrokers")]
    TooManyBrokers(usize),
    /// As many brokers as allowed speak on this connection.
    #[error("{0} brokers registered on this connection already and no more are taken, see apogeeMaxBrokersPerConnection")]
    TooManyOnConnection(usize),
    /// The topics would be more than allowed.
    #[error("the name server has {0} topics already and takes no more, see apogeeMaxTopics")]
    TooManyTopics(usize),
    /// The tables would be larger than allowed.
    #[error("the tables of the name server have {0} bytes already and take no more, see apogeeMaxRouteBytes")]
    TooManyBytes(usize),
}

impl Broker {
    /// Addresses of its processes, for a notice to them.
    pub(super) fn told(&self, whom: impl Fn(i64) -> bool) -> Vec<String> {
        let members = self.members.iter().filter(|(id, _)| whom(**id));
        members.take(MAX_TOLD).map(|(_, place)| place.address.to_string()).collect()
    }
}

impl Routes {
    /// Takes a broker's word.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub fn register(&mut self, new: &Registration<'_>, now_ms: i64) -> Result<Registered, Refused> {
        let name = self.name(new.broker_name).unwrap_or_else(|| new.broker_name.into());
        let place = Arc::new(Place::new(new.cluster, name, new.address));
        self.check_bounds(new, &place)?;
        let known = self.brokers.get(new.broker_name);
        let known_id = known.is_some_and(|broker| broker.members.contains_key(&new.broker_id));
        let is_stale = self.is_stale(new, &place);
        if !is_stale && !known_id && new.topics.len() == 1 {
            return Err(Refused::SingleTopicFirst);
        }
        let min_before = known.and_then(Broker::lowest_id).unwrap_or(MASTER_ID);
        if is_stale {
            // A process whose word does not count is not alive, whatever its id was.
            return Ok(Registered {
                stale: true,
                min_id_change: self.leave_all(&[place]).pop(),
                ..Registered::default()
            });
        }
        self.place_broker(new, &place, now_ms);
        let first = !known_id;
        let left_out = if self.speaks_for_topics(new) {
            self.take_topics(new, &place, first)
        } else {
            None
        };
        self.set_live(new, &place, now_ms, left_out.is_none() && new.unsound == 0);
        if let Some(servers) = new.filter_servers {
            self.set_filter_servers(&place, servers);
        }
        Ok(Registered {
            master: self.master_of(new),
            stale: false,
            left_out,
            min_id_change: (new.broker_id < min_before).then(|| self.newcomer(new)).flatten(),
        })
    }

    fn check_bounds(&self, new: &Registration<'_>, place: &Place) -> Result<(), Refused> {
        let known = self.live.get(place);
        if known.is_none() && self.live.len() >= self.bounds.brokers {
            return Err(Refused::TooManyBrokers(self.bounds.brokers));
        }
        let speaks_here = known.is_some_and(|live| live.connection == new.connection);
        let here = self.connections.get(&new.connection).map_or(0, Vec::len);
        if !speaks_here && here >= self.bounds.brokers_per_connection {
            return Err(Refused::TooManyOnConnection(self.bounds.brokers_per_connection));
        }
        if known.is_none() && self.bytes >= self.bounds.bytes {
            return Err(Refused::TooManyBytes(self.bounds.bytes));
        }
        Ok(())
    }

    /// Another process holds this id with a newer state version.
    fn is_stale(&self, new: &Registration<'_>, place: &Place) -> bool {
        static GATE: Gate = Gate::new();
        let broker = self.brokers.get(new.broker_name);
        let Some(holder) = broker
            .and_then(|broker| broker.members.get(&new.broker_id))
            .filter(|holder| ***holder != *place)
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

    /// Enters the broker's name, id and address.
    fn place_broker(&mut self, new: &Registration<'_>, place: &Arc<Place>, now_ms: i64) {
        let name = Arc::clone(&place.name);
        if !self.brokers.contains_key(&name) {
            self.bytes += cost::broker(&name);
            self.brokers.insert(Arc::clone(&name), Broker::default());
        }
        // One process has one id.
        if let Some(before) = self.live.get(place).map(|live| live.broker_id).filter(|id| *id != new.broker_id)
            && self.brokers.get(&name).is_some_and(|broker| broker.holds(before, place))
        {
            self.remove_member(&name, before);
        }
        if self.brokers.get(&name).is_some_and(|broker| !broker.holds(new.broker_id, place)) {
            self.report_other_holder(&name, new, now_ms);
            self.remove_member(&name, new.broker_id);
            self.add_member(&name, new.broker_id, place);
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
            broker.acting_master = acting_master;
            broker.zone = new.zone.map(Into::into);
            if broker.lowest_id() == Some(new.broker_id) && *broker.cluster != *new.cluster {
                self.brokers_version += 1;
                broker.cluster = new.cluster.into();
            }
        }
    }

    fn add_member(&mut self, name: &Arc<str>, id: i64, place: &Arc<Place>) {
        let Some(broker) = self.brokers.get_mut(name) else { return };
        if broker.members.is_empty() {
            broker.cluster = place.cluster.clone();
        }
        broker.members.insert(id, Arc::clone(place));
        self.brokers_version += 1;
        let names = self.clusters.entry(place.cluster.clone()).or_default();
        *names.entry(Arc::clone(name)).or_default() += 1;
    }

    /// Two processes with one name and id take the routes from each other with every registration: an operator has to know.
    fn report_other_holder(&mut self, name: &Arc<str>, new: &Registration<'_>, now_ms: i64) {
        let Some(broker) = self.brokers.get_mut(name) else { return };
        let Some(holder) = broker.members.get(&new.broker_id).filter(|holder| self.live.contains_key(*holder)) else {
            return;
        };
        self.taken_over += 1;
        if broker.reported_ms.is_some_and(|then| now_ms.saturating_sub(then) < REPORT_AGAIN_MS) {
            return;
        }
        tracing::warn!(
            broker = new.broker_name,
            id = new.broker_id,
            before = %holder.address,
            now = new.address,
            times = self.taken_over,
            "a broker registers with a name and id under which another address is alive; give each broker a name or an id of its own"
        );
        broker.reported_ms = Some(now_ms);
    }

    /// A master speaks for its topics; without one the slave with the lowest id does, if it knows of acting masters.
    fn speaks_for_topics(&self, new: &Registration<'_>) -> bool {
        new.broker_id == MASTER_ID || self.is_prime_slave(new)
    }

    fn is_prime_slave(&self, new: &Registration<'_>) -> bool {
        let lowest = self.brokers.get(new.broker_name).and_then(Broker::lowest_id);
        new.acting_master.is_some() && new.broker_id != MASTER_ID && lowest == Some(new.broker_id)
    }

    fn take_topics(&mut self, new: &Registration<'_>, place: &Place, first: bool) -> Option<LeftOut> {
        let name = &place.name;
        if new.complete && new.mappings.is_empty() {
            self.drop_unnamed(new, name);
        }
        let known = self.live.get(place);
        let changed = first || known.is_none_or(|live| !live.complete || live.version != new.version);
        let read_only = new.acting_master == Some(true) && self.is_prime_slave(new);
        let mut left_out: Option<LeftOut> = None;
        let mut leave_out = |why| left_out.get_or_insert(LeftOut { topics: 0, why }).topics += 1;
        for (topic, queues) in &new.topics {
            if changed || self.topics.get(*topic).is_none_or(|known| !known.has(name)) {
                let perm = if read_only { queues.perm & !perm::WRITE } else { queues.perm };
                if let Err(why) = self.set_queues(topic, name, Queues { perm, ..*queues }) {
                    leave_out(why);
                }
            }
        }
        for (topic, mapping) in &new.mappings {
            // Also where nothing changed: a mapping goes with its topic when that is deleted here, and comes back with it.
            let known = self.topics.get(*topic).and_then(|known| known.mappings.get(&mapping.bname));
            if (changed || known.is_none())
                && let Err(why) = self.set_mapping(topic, mapping)
            {
                leave_out(why);
            }
        }
        left_out
    }

    fn drop_unnamed(&mut self, new: &Registration<'_>, name: &Arc<str>) {
        let named: FxHashSet<&str> = new.topics.iter().map(|(topic, _)| *topic).collect();
        let Some(broker) = self.brokers.get(name) else { return };
        let unnamed = broker.topics.iter().filter(|topic| !named.contains(&***topic));
        let gone: Vec<Arc<str>> = unnamed.cloned().collect();
        for topic in gone {
            self.remove_queues(&topic, name);
            tracing::info!(topic = &*topic, broker = &**name, "topic removed: its broker no longer names it");
        }
    }

    fn set_live(&mut self, new: &Registration<'_>, place: &Arc<Place>, now_ms: i64, complete: bool) {
        let live = Live {
            broker_id: new.broker_id,
            last_ms: now_ms,
            promise_ms: new.promise_ms.unwrap_or(DEFAULT_PROMISE_MS),
            version: new.version,
            complete,
            connection: new.connection,
            ha_address: new.ha_address.into(),
        };
        self.bytes += cost::live(place, &live);
        let before = self.live.insert(Arc::clone(place), live);
        if let Some(before) = &before {
            self.bytes -= cost::live(place, before);
            if before.connection == new.connection {
                return;
            }
            self.forget_connection(before.connection, place);
        }
        self.connections.entry(new.connection).or_default().push(Arc::clone(place));
    }

    /// Replaces the filter servers of a place by these; there is no room for them where there is none for a topic.
    pub(super) fn set_filter_servers(&mut self, place: &Arc<Place>, servers: &[String]) {
        let before = self.filter_servers.remove(place);
        self.bytes -= before.as_deref().map_or(0, cost::filter_servers);
        self.brokers_version += u64::from(before.as_deref().unwrap_or_default() != servers);
        let cost = cost::filter_servers(servers);
        if !servers.is_empty() && self.bytes + cost <= self.bounds.bytes {
            self.bytes += cost;
            self.filter_servers.insert(Arc::clone(place), servers.to_vec());
        }
    }

    fn master_of(&self, new: &Registration<'_>) -> Option<Master> {
        if new.broker_id == MASTER_ID {
            return None;
        }
        let place = self.brokers.get(new.broker_name)?.members.get(&MASTER_ID)?;
        let live = self.live.get(place)?;
        Some(Master {
            address: place.address.to_string(),
            ha_address: live.ha_address.to_string(),
        })
    }

    /// Those who were there are told of the newcomer, who now has the lowest id.
    fn newcomer(&self, new: &Registration<'_>) -> Option<MinIdChange> {
        let broker = self.brokers.get(new.broker_name)?;
        let alone = broker.members.len() == 1;
        Some(MinIdChange {
            broker_name: new.broker_name.to_owned(),
            min_id: new.broker_id,
            min_address: new.address.to_owned(),
            offline_address: None,
            ha_address: Some(new.ha_address.to_owned()),
            tell: broker.told(|id| alone || id != new.broker_id),
        })
    }
}
