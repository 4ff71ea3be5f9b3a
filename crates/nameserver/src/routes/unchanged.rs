//! Topics of a registration that are in the tables already. A master that changes one topic of a thousand registers them all; what it says again
//! is found beside the readers of routes, so that they wait for the one that differs only.

use protocol::route::MASTER_ID;

use super::{BrokerGroup, Registration, Routes};

/// Topics that are compared at a time, under one lock.
const AT_ONCE: usize = 64;

/// The first topics of a registration, as far as they were compared: whether the tables have them so.
#[derive(Debug, Default)]
pub struct Unchanged {
    topics: Vec<bool>,
    /// The broker's changes when they were compared.
    changes: u64,
}

impl Unchanged {
    /// Whether the topics need no change, in the order of the registration. Of a broker that has changed since, nothing is known.
    pub(super) fn of(&self, broker: Option<&BrokerGroup>) -> &[bool] {
        match broker {
            Some(broker) if broker.changes == self.changes => &self.topics,
            _ => &[],
        }
    }
}

impl Routes {
    /// Compares some of the topics that were not compared yet. Returns `false` when there is nothing more to compare. Only masters' topics are
    /// compared: those of a slave may depend on its master.
    pub fn compare(&self, new: &Registration<'_>, known: &mut Unchanged) -> bool {
        let begin = known.topics.len();
        let Some(broker) = self.brokers.get(new.broker_name).filter(|_| new.broker_id == MASTER_ID) else {
            return false;
        };
        if begin == 0 {
            known.changes = broker.changes;
        }
        let to_compare = new.topics.iter().skip(begin).take(AT_ONCE);
        if known.changes != broker.changes || to_compare.len() == 0 {
            return false;
        }
        known.topics.extend(to_compare.map(|(topic, queues)| {
            let on_broker = self.topics.get(*topic).and_then(|topic| topic.on(new.broker_name));
            on_broker.is_some_and(|on_broker| broker.queues(on_broker) == *queues)
        }));
        true
    }
}
