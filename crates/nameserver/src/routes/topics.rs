//! Topics of the tables: changed by registrations and removals of brokers, and by administrators, who delete a topic (216) or register one
//! by hand (217).

use std::sync::Arc;

use protocol::static_topic::QueueMapping;

use super::{BrokerQueues, Queues, Refused, Routes, Topic, cost};

impl Routes {
    /// Deletes a topic on all brokers, until one registers it again.
    pub fn delete_topic(&mut self, topic: &str) {
        self.remove_from_brokers(topic, |_| true);
    }

    /// Deletes a topic on the brokers of one cluster, until one registers it again.
    pub fn delete_topic_of_cluster(&mut self, topic: &str, cluster: &str) {
        let names = self.clusters.get(cluster).map(|names| Vec::from_iter(names.keys().cloned()));
        let names = names.unwrap_or_default();
        self.remove_from_brokers(topic, |name| names.binary_search_by(|known| (**known).cmp(name)).is_ok());
    }

    /// Deletes a topic on the brokers for which `is_removed` holds, and the topic if no broker has it then.
    fn remove_from_brokers(&mut self, topic: &str, is_removed: impl Fn(&str) -> bool) {
        let Some((shared, known)) = self
            .topics
            .get_key_value(topic)
            .map(|(name, _)| Arc::clone(name))
            .zip(self.topics.get_mut(topic))
        else {
            return;
        };
        let before = known.brokers.len();
        known.brokers.retain(|on_broker| {
            let is_removed = is_removed(&on_broker.broker);
            if is_removed && let Some(broker) = self.brokers.get_mut(&on_broker.broker) {
                broker.topics.remove(&shared);
                broker.changes += 1;
            }
            !is_removed
        });
        let removed = before - known.brokers.len();
        if removed == 0 {
            return;
        }
        tracing::info!(topic, brokers = removed, "topic removed from brokers");
        self.bytes -= removed * cost::BROKER_QUEUES;
        self.last_version += 1;
        known.version = self.last_version;
        if known.brokers.is_empty() {
            self.bytes -= topic_cost(topic, known);
            self.topics.remove(topic);
        }
    }

    /// Sets the queues of a topic on registered brokers. Compat: like Apache's, it stops at the first unknown broker; queues before it are set if
    /// the topic is known, otherwise none.
    ///
    /// # Errors
    /// [`Refused::TooManyTopics`] or [`Refused::TooManyBytes`] if the tables are full; queues before the refused ones are set.
    pub fn register_topic(&mut self, topic: &str, queues: &[(&str, Queues)]) -> Result<(), Refused> {
        let known = self.topics.contains_key(topic);
        let unknown_at = queues.iter().position(|(broker, _)| !self.brokers.contains_key(*broker));
        let registered = match unknown_at {
            Some(_) if !known => 0,
            Some(position) => position,
            None => queues.len(),
        };
        if let Some((broker, _)) = unknown_at.and_then(|position| queues.get(position)) {
            tracing::warn!(topic, broker, "a topic cannot be registered on an unknown broker");
        }
        for (broker_name, queues) in queues.iter().take(registered) {
            if let Some(name) = self.name(broker_name) {
                self.set_queues(topic, &name, *queues)?;
            }
        }
        Ok(())
    }

    /// The shared name of a registered broker.
    pub(super) fn name(&self, broker_name: &str) -> Option<Arc<str>> {
        self.brokers.get_key_value(broker_name).map(|(name, _)| Arc::clone(name))
    }

    /// Sets a topic's queues on a broker; an unknown broker is ignored.
    ///
    /// # Errors
    /// [`Refused::TooManyTopics`] or [`Refused::TooManyBytes`] if the tables are full; nothing has changed.
    pub(super) fn set_queues(&mut self, topic: &str, broker_name: &Arc<str>, queues: Queues) -> Result<(), Refused> {
        let Some(broker) = self.brokers.get_mut(broker_name) else {
            return Ok(());
        };
        let version = self.last_version + 1;
        if let Some(known) = self.topics.get_mut(topic)
            && let Ok(at) = known.position(broker_name)
            && let Some(on_broker) = known.brokers.get_mut(at)
        {
            if broker.queues(on_broker) == queues {
                return Ok(());
            }
            (on_broker.queues, on_broker.set_at) = (queues, version);
            known.version = version;
        } else {
            let shared = self.topics.get_key_value(topic).map(|(name, _)| Arc::clone(name));
            let cost = cost::BROKER_QUEUES + if shared.is_none() { cost::topic(topic) } else { 0 };
            if shared.is_none() && self.topics.len() >= self.bounds.topics {
                return Err(Refused::TooManyTopics(self.bounds.topics));
            }
            if self.bytes + cost > self.bounds.bytes {
                return Err(Refused::TooManyBytes(self.bounds.bytes));
            }
            let topic: Arc<str> = shared.unwrap_or_else(|| topic.into());
            let known = self.topics.entry(Arc::clone(&topic)).or_default();
            let at = known.position(broker_name).unwrap_or_else(|at| at);
            let on_broker = BrokerQueues {
                broker: Arc::clone(broker_name),
                queues,
                set_at: version,
            };
            known.brokers.insert(at, on_broker);
            known.version = version;
            broker.topics.insert(topic);
            self.bytes += cost;
        }
        broker.permission.set(version);
        broker.changes += 1;
        self.last_version = version;
        Ok(())
    }

    /// Sets the mapping of a static topic. Ignored if the topic has no queues, because then it has no route.
    ///
    /// # Errors
    /// [`Refused::TooManyBytes`] if the tables are full; nothing has changed.
    pub(super) fn set_mapping(&mut self, topic: &str, mapping: &QueueMapping) -> Result<(), Refused> {
        let Some(known) = self.topics.get_mut(topic) else { return Ok(()) };
        let before = known.mappings.get(&mapping.bname);
        if before == Some(mapping) {
            return Ok(());
        }
        let rest = self.bytes - before.map_or(0, cost::mapping);
        if rest + cost::mapping(mapping) > self.bounds.bytes {
            return Err(Refused::TooManyBytes(self.bounds.bytes));
        }
        self.bytes = rest + cost::mapping(mapping);
        self.last_version += 1;
        known.version = self.last_version;
        known.mappings.insert(mapping.bname.clone(), mapping.clone());
        Ok(())
    }

    /// Removes a topic of a broker. Returns `false` if the broker does not have it.
    pub(super) fn remove_queues(&mut self, topic: &str, broker_name: &str) -> bool {
        let Some(known) = self.topics.get_mut(topic) else { return false };
        let Ok(at) = known.position(broker_name) else { return false };
        known.brokers.remove(at);
        self.bytes -= cost::BROKER_QUEUES;
        // Compat: Apache's keeps the mapping, also when the broker has deleted the topic. Clients then find no leader either, but by an
        // address that they miss; the number of queues is that of the other brokers' mappings.
        if let Some(mapping) = known.mappings.remove(broker_name) {
            self.bytes -= cost::mapping(&mapping);
        }
        self.last_version += 1;
        known.version = self.last_version;
        if known.brokers.is_empty() {
            self.bytes -= topic_cost(topic, known);
            self.topics.remove(topic);
        }
        if let Some(broker) = self.brokers.get_mut(broker_name) {
            broker.topics.remove(topic);
            broker.changes += 1;
        }
        true
    }
}

/// Memory of a topic without its queues.
pub(super) fn topic_cost(name: &str, topic: &Topic) -> usize {
    cost::topic(name) + topic.mappings.values().map(cost::mapping).sum::<usize>()
}
