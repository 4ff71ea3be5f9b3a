//! What administrators do to topics: delete them, enter one by hand, take and give the permission to write.

use protocol::topic::perm;

use super::{Queues, Refused, Routes};

impl Routes {
    /// Forgets a topic on all brokers, until one registers it again.
    pub fn delete_topic(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Forgets a topic on the brokers of one cluster.
    pub fn delete_topic_of_cluster(&mut self, topic: &str, cluster: &str) {
        let names: Vec<_> = self.clusters.get(cluster).into_iter().flatten().cloned().collect();
        for name in names {
            self.remove_queues(topic, &name);
        }
    }

    /// Enters queues of a topic on brokers that are there. An unknown broker ends it, as with Apache: what came before it stays if the
    /// topic was known, else nothing is entered.
    ///
    /// # Errors
    /// There would be too many topics.
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
        if !known && entered > 0 && self.topics.len() >= self.bounds.topics {
            return Err(Refused::TooManyTopics(self.bounds.topics));
        }
        for (broker_name, queues) in queues.iter().take(entered) {
            self.set_queues(topic, broker_name, *queues);
        }
        Ok(())
    }

    /// Takes the permission to write from all topics of a broker. How many topics it has.
    pub fn wipe_write_perm(&mut self, broker_name: &str) -> i32 {
        self.change_perm(broker_name, |perm| perm & !perm::WRITE)
    }

    /// Gives all topics of a broker the permissions to read and write. How many topics it has.
    pub fn add_write_perm(&mut self, broker_name: &str) -> i32 {
        self.change_perm(broker_name, |_| perm::READ | perm::WRITE)
    }

    fn change_perm(&mut self, broker_name: &str, change: fn(i32) -> i32) -> i32 {
        let version = self.next_version();
        let mut count = 0;
        for topic in self.topics.values_mut() {
            if let Some(queues) = topic.of_mut(broker_name) {
                queues.perm = change(queues.perm);
                topic.version = version;
                count += 1;
            }
        }
        count
    }

    /// A broker no longer has a topic; without any broker there is no topic.
    pub(super) fn remove_queues(&mut self, topic: &str, broker_name: &str) {
        let version = self.next_version();
        let Some(known) = self.topics.get_mut(topic) else { return };
        if known.remove(broker_name) {
            tracing::info!(topic, broker = broker_name, "topic removed from a broker");
            known.version = version;
        }
        if known.queues.is_empty() {
            self.topics.remove(topic);
        }
    }
}
