//! The topics of the tables: what registrations set and departures take away, and what administrators do: delete a topic (216) or enter
//! one by hand (217).

use std::sync::Arc;

use protocol::route::QueueMapping;

use super::{Part, Queues, Refused, Routes, Topic, cost};

impl Routes {
    /// Forgets a topic on all brokers, until one registers it again.
    pub fn delete_topic(&mut self, topic: &str) {
        self.remove_parts(topic, |_| true);
    }

    /// Forgets a topic on the brokers of one cluster.
    pub fn delete_topic_of_cluster(&mut self, topic: &str, cluster: &str) {
        let names = self.clusters.get(cluster).map(|names| Vec::from_iter(names.keys().cloned()));
        let names = names.unwrap_or_default();
        self.remove_parts(topic, |name| names.binary_search_by(|known| (**known).cmp(name)).is_ok());
    }

    /// The topic is gone on the brokers that `goes` names; without any broker there is no topic.
    fn remove_parts(&mut self, topic: &str, goes: impl Fn(&str) -> bool) {
        let Some((shared, known)) = self
            .topics
            .get_key_value(topic)
            .map(|(name, _)| Arc::clone(name))
            .zip(self.topics.get_mut(topic))
        else {
            return;
        };
        let before = known.parts.len();
        known.parts.retain(|part| {
            let goes = goes(&part.broker);
            if goes && let Some(broker) = self.brokers.get_mut(&part.broker) {
                broker.topics.remove(&shared);
            }
            !goes
        });
        let removed = before - known.parts.len();
        if removed == 0 {
            return;
        }
        tracing::info!(topic, brokers = removed, "topic removed from brokers");
        self.bytes -= removed * cost::PART;
        self.last_version += 1;
        known.version = self.last_version;
        if known.parts.is_empty() {
            self.bytes -= topic_cost(topic, known);
            self.topics.remove(topic);
        }
    }

    /// Enters queues of a topic on brokers that are there. An unknown broker ends it, as with Apache: what came before it stays if the
    /// topic was known, else nothing is entered.
    ///
    /// # Errors
    /// [`Refused::TooManyTopics`] or [`Refused::TooManyBytes`] if the tables are full; queues before the refused ones are entered.
    pub fn enter_topic(&mut self, topic: &str, queues: &[(&str, Queues)]) -> Result<(), Refused> {
        let known = self.topics.contains_key(topic);
        let unknown_at = queues.iter().position(|(broker, _)| !self.brokers.contains_key(*broker));
        let entered = match unknown_at {
            Some(_) if !known => 0,
            Some(position) => position,
            None => queues.len(),
        };
        if let Some((broker, _)) = unknown_at.and_then(|position| queues.get(position)) {
            tracing::warn!(topic, broker, "a topic was to be entered on an unknown broker");
        }
        for (broker_name, queues) in queues.iter().take(entered) {
            if let Some(name) = self.name(broker_name) {
                self.set_queues(topic, &name, *queues)?;
            }
        }
        Ok(())
    }

    /// The name of a registered broker, to be shared.
    pub(super) fn name(&self, broker_name: &str) -> Option<Arc<str>> {
        self.brokers.get_key_value(broker_name).map(|(name, _)| Arc::clone(name))
    }

    /// Enters a topic's queues on a registered broker; an unknown broker is ignored.
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
            && let Some(part) = known.parts.get_mut(at)
        {
            let perm = broker.permission.of(part);
            if (Queues { perm, ..part.queues }) == queues {
                return Ok(());
            }
            (part.queues, part.set_at) = (queues, version);
            known.version = version;
        } else {
            let shared = self.topics.get_key_value(topic).map(|(name, _)| Arc::clone(name));
            let cost = cost::PART + if shared.is_none() { cost::topic(topic) } else { 0 };
            if shared.is_none() && self.topics.len() >= self.bounds.topics {
                return Err(Refused::TooManyTopics(self.bounds.topics));
            }
            if self.bytes + cost > self.bounds.bytes {
                return Err(Refused::TooManyBytes(self.bounds.bytes));
            }
            let topic: Arc<str> = shared.unwrap_or_else(|| topic.into());
            let known = self.topics.entry(Arc::clone(&topic)).or_default();
            let at = known.position(broker_name).unwrap_or_else(|at| at);
            let part = Part {
                broker: Arc::clone(broker_name),
                queues,
                set_at: version,
            };
            known.parts.insert(at, part);
            known.version = version;
            broker.topics.insert(topic);
            self.bytes += cost;
        }
        broker.permission.set(version);
        self.last_version = version;
        Ok(())
    }

    /// Enters the mapping of a static topic; one of a topic without queues is ignored, it could never be looked up.
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

    /// A broker no longer has a topic. False: it had none.
    pub(super) fn remove_queues(&mut self, topic: &str, broker_name: &str) -> bool {
        let Some(known) = self.topics.get_mut(topic) else { return false };
        let Ok(at) = known.position(broker_name) else { return false };
        known.parts.remove(at);
        self.bytes -= cost::PART;
        self.last_version += 1;
        known.version = self.last_version;
        if known.parts.is_empty() {
            self.bytes -= topic_cost(topic, known);
            self.topics.remove(topic);
        }
        if let Some(broker) = self.brokers.get_mut(broker_name) {
            broker.topics.remove(topic);
        }
        true
    }
}

/// Without its parts.
pub(super) fn topic_cost(name: &str, topic: &Topic) -> usize {
    cost::topic(name) + topic.mappings.values().map(cost::mapping).sum::<usize>()
}
