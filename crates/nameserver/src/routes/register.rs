//! A broker registers: first, again every 30 s, after a change of role, or with a single new topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::data_version::DataVersion;
use protocol::route::{MASTER_ID, QueueMapping};
use protocol::topic::perm;
use rustc_hash::FxHashSet;

use super::{Broker, DEFAULT_PROMISE_MS, Live, Place, Queues, Routes, Topic};

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
    /// All its topics, or the one that it adds.
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

/// What the broker is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    /// Its master, if it is a slave and the master is there.
    pub master: Option<Master>,
    /// Another broker of the same name and id is there with a newer state version: nothing was registered. Compat: such a broker is
    /// answered as if all were well, it finds out from the controller.
    pub stale: bool,
    /// Others to tell.
    pub min_id_change: Option<MinIdChange>,
}

/// Nothing was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A single topic from a broker that has not registered as a whole. The broker tries again with all.
    #[error("register broker failed")]
    SingleTopicFirst,
    /// As many brokers as allowed are registered.
    #[error("register broker failed: {0} brokers are registered already, see apogeeMaxBrokers")]
    TooManyBrokers(usize),
    /// The topics would be more than allowed.
    #[error("register broker failed: there would be more than {0} topics, see apogeeMaxTopics")]
    TooManyTopics(usize),
}

impl Routes {
    /// Takes a broker's word.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub fn register(&mut self, new: &Registration<'_>, now_ms: i64) -> Result<Registered, Refused> {
        let place = Place::new(new.cluster, new.address);
        self.check_bounds(new, &place)?;
        let known = self.brokers.get(new.broker_name);
        let known_id = known.is_some_and(|broker| broker.addresses.contains_key(&new.broker_id));
        if self.is_stale(new) {
            self.live.remove(&place);
            // Invariant: one address has one id, also when the address is the one refused.
            self.forget_other_ids(new);
            return Ok(Registered {
                stale: true,
                ..Registered::default()
            });
        }
        if !known_id && new.topics.len() == 1 {
            return Err(Refused::SingleTopicFirst);
        }
        let min_before = known.and_then(Broker::lowest_id).unwrap_or(MASTER_ID);
        let first = self.place_broker(new);
        if self.speaks_for_topics(new) {
            self.take_topics(new, &place, first);
        }
        self.live.insert(place, live(new, now_ms));
        self.take_filter_servers(new);
        Ok(Registered {
            master: self.master_of(new),
            stale: false,
            min_id_change: (new.broker_id < min_before).then(|| self.newcomer(new)).flatten(),
        })
    }

    fn check_bounds(&self, new: &Registration<'_>, place: &Place) -> Result<(), Refused> {
        if self.live.len() >= self.bounds.brokers && !self.live.contains_key(place) {
            return Err(Refused::TooManyBrokers(self.bounds.brokers));
        }
        let fresh = new.topics.iter().filter(|(topic, _)| !self.topics.contains_key(*topic)).count();
        if self.topics.len() + fresh > self.bounds.topics {
            return Err(Refused::TooManyTopics(self.bounds.topics));
        }
        Ok(())
    }

    /// Another address holds this id with a newer state version.
    fn is_stale(&self, new: &Registration<'_>) -> bool {
        let holder = self
            .brokers
            .get(new.broker_name)
            .and_then(|broker| broker.addresses.get(&new.broker_id));
        let Some(holder) = holder.filter(|holder| &***holder != new.address) else {
            return false;
        };
        let live = self.live.get(&Place::new(new.cluster, holder));
        let stale = live.is_some_and(|live| live.version.state_version > new.version.state_version);
        if stale {
            tracing::warn!(broker = new.broker_name, id = new.broker_id, address = new.address, %holder, "ignoring a broker with an older state");
        }
        stale
    }

    fn forget_other_ids(&mut self, new: &Registration<'_>) {
        if let Some(broker) = self.brokers.get_mut(new.broker_name) {
            let before = broker.addresses.len();
            broker
                .addresses
                .retain(|id, address| *id == new.broker_id || &**address != new.address);
            self.brokers_version += u64::from(broker.addresses.len() != before);
        }
    }

    /// Enters the broker's name, id and address. True if the id is new.
    fn place_broker(&mut self, new: &Registration<'_>) -> bool {
        let name: Arc<str> = match self.brokers.get_key_value(new.broker_name) {
            Some((name, _)) => Arc::clone(name),
            None => new.broker_name.into(),
        };
        self.clusters.entry(new.cluster.into()).or_default().insert(Arc::clone(&name));
        self.forget_other_ids(new);
        let broker = self.brokers.entry(name).or_insert_with(|| Broker {
            cluster: new.cluster.into(),
            addresses: BTreeMap::new(),
            zone: None,
            acting_master: false,
        });
        let acting_master = new.acting_master.unwrap_or(false);
        let same = broker.acting_master == acting_master
            && broker.zone.as_deref() == new.zone
            && broker
                .addresses
                .get(&new.broker_id)
                .is_some_and(|address| &**address == new.address);
        broker.acting_master = acting_master;
        broker.zone = new.zone.map(Into::into);
        let first = broker
            .addresses
            .insert(new.broker_id, new.address.into())
            .is_none_or(|old| old.is_empty());
        if !same {
            self.brokers_version += 1;
            tracing::info!(
                cluster = new.cluster,
                broker = new.broker_name,
                id = new.broker_id,
                address = new.address,
                "broker registered"
            );
        }
        first
    }

    /// A master speaks for its topics; without one the slave with the lowest id does, if it knows of acting masters.
    fn speaks_for_topics(&self, new: &Registration<'_>) -> bool {
        new.broker_id == MASTER_ID || self.is_prime_slave(new)
    }

    fn is_prime_slave(&self, new: &Registration<'_>) -> bool {
        let lowest = self.brokers.get(new.broker_name).and_then(Broker::lowest_id);
        new.acting_master.is_some() && new.broker_id != MASTER_ID && lowest == Some(new.broker_id)
    }

    fn take_topics(&mut self, new: &Registration<'_>, place: &Place, first: bool) {
        if new.complete && new.mappings.is_empty() {
            self.drop_unnamed(new);
        }
        let changed = first || self.live.get(place).is_none_or(|live| live.version != new.version);
        let read_only = new.acting_master == Some(true) && self.is_prime_slave(new);
        for (topic, queues) in &new.topics {
            if changed || self.topics.get(*topic).is_none_or(|known| known.of(new.broker_name).is_none()) {
                let perm = if read_only { queues.perm & !perm::WRITE } else { queues.perm };
                self.set_queues(topic, new.broker_name, Queues { perm, ..*queues });
            }
        }
        if changed {
            self.take_mappings(new);
        }
    }

    fn drop_unnamed(&mut self, new: &Registration<'_>) {
        let named: FxHashSet<&str> = new.topics.iter().map(|(topic, _)| *topic).collect();
        let unnamed = |(topic, _): &(&Arc<str>, &Topic)| !named.contains(&***topic);
        let gone: Vec<Arc<str>> = self.topics.iter().filter(unnamed).map(|(topic, _)| Arc::clone(topic)).collect();
        for topic in gone {
            self.remove_queues(&topic, new.broker_name);
        }
    }

    /// Enters a topic's queues on a registered broker.
    pub(super) fn set_queues(&mut self, topic: &str, broker_name: &str, queues: Queues) {
        let Some((broker_name, _)) = self.brokers.get_key_value(broker_name) else {
            return;
        };
        let broker_name = Arc::clone(broker_name);
        let version = self.next_version();
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.into(), Topic::default());
        }
        if let Some(known) = self.topics.get_mut(topic)
            && known.set(&broker_name, queues)
        {
            known.version = version;
        }
    }

    fn take_mappings(&mut self, new: &Registration<'_>) {
        for (topic, mapping) in &new.mappings {
            let version = self.next_version();
            // A mapping of a topic that has no queues anywhere can never be looked up.
            if let Some(known) = self.topics.get_mut(*topic) {
                known.mappings.insert(mapping.bname.clone(), (*mapping).clone());
                known.version = version;
            }
        }
    }

    fn take_filter_servers(&mut self, new: &Registration<'_>) {
        let Some(servers) = new.filter_servers else { return };
        let place = Place::new(new.cluster, new.address);
        let before = match servers {
            [] => self.filter_servers.remove(&place),
            _ => self.filter_servers.insert(place, servers.to_vec()),
        };
        self.brokers_version += u64::from(before.unwrap_or_default() != servers);
    }

    fn master_of(&self, new: &Registration<'_>) -> Option<Master> {
        if new.broker_id == MASTER_ID {
            return None;
        }
        let address = self.brokers.get(new.broker_name)?.addresses.get(&MASTER_ID)?;
        let live = self.live.get(&Place::new(new.cluster, address))?;
        Some(Master {
            address: address.to_string(),
            ha_address: live.ha_address.to_string(),
        })
    }

    /// Those who were there are told of the newcomer, who now has the lowest id.
    fn newcomer(&self, new: &Registration<'_>) -> Option<MinIdChange> {
        let broker = self.brokers.get(new.broker_name)?;
        let others = || broker.addresses.iter().filter(|(id, _)| **id != new.broker_id);
        let tell: Vec<String> = if broker.addresses.len() == 1 {
            vec![new.address.to_owned()]
        } else {
            others().map(|(_, address)| address.to_string()).collect()
        };
        Some(MinIdChange {
            broker_name: new.broker_name.to_owned(),
            min_id: new.broker_id,
            min_address: new.address.to_owned(),
            offline_address: None,
            ha_address: Some(new.ha_address.to_owned()),
            tell,
        })
    }
}

fn live(new: &Registration<'_>, now_ms: i64) -> Live {
    Live {
        last_ms: now_ms,
        promise_ms: new.promise_ms.unwrap_or(DEFAULT_PROMISE_MS),
        version: new.version,
        connection: new.connection,
        ha_address: new.ha_address.into(),
    }
}
