//! Finds queues whose topic does not exist, for example after `topics.json` was lost.

use super::Topics;
use store::Store;

/// Number of topics named in the warning.
const NAMED: usize = 10;

/// A topic that has messages and is not in the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    name: String,
    queues: usize,
    messages: i64,
}

/// Topics that have messages and are not in the table, those with the most messages first.
pub(crate) fn unknown(store: &Store, topics: &Topics) -> Vec<Unknown> {
    let names = store.topics();
    let names = names.iter().filter(|name| !topics.contains(name) && !topics.is_system(name));
    let mut unknown: Vec<_> = names
        .map(|name| {
            let queues = store.queues_of(name);
            Unknown {
                name: name.to_string(),
                messages: queues.iter().map(|queue| queue.max().0 - queue.min().0).sum(),
                queues: queues
                    .iter()
                    .map(|queue| queue.queue_id() + 1)
                    .max()
                    .map_or(0, |count| count as usize),
            }
        })
        .filter(|topic| topic.messages > 0)
        .collect();
    unknown.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.name.cmp(&b.name)));
    unknown
}

/// Logs one warning about topics that have messages and are not in the table.
pub(crate) fn report(store: &Store, topics: &Topics) {
    let unknown = unknown(store, topics);
    if unknown.is_empty() {
        return;
    }
    let named = unknown
        .iter()
        .take(NAMED)
        .map(|topic| format!("{} ({} queues, {} messages)", topic.name, topic.queues, topic.messages));
    let more = unknown.len().saturating_sub(NAMED);
    tracing::warn!(
        topics = unknown.len(),
        messages = unknown.iter().map(|topic| topic.messages).sum::<i64>(),
        "queues have messages, but their topics are not in topics.json, so they cannot be consumed: {}{}. Create each topic with as many \
         queues (admin updateTopic), or delete them (admin cleanUnusedTopic)",
        named.collect::<Vec<_>>().join(", "),
        if more > 0 { format!(" and {more} more") } else { String::new() }
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::BrokerStats;
    use crate::topic::{Spec, TopicLimits};
    use message::record::Draft;
    use std::sync::Arc;
    use store::disk::Disk;
    use store::disk::simulated::SimulatedDisk;
    use store::{FlushMode, StoreOptions};

    #[test]
    fn topics_with_messages_that_are_not_in_the_table_are_found() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let (store, _) = Store::open(disk, StoreOptions::small("/s", FlushMode::Async)).unwrap();
        for (topic, queue_id) in [
            ("known", 0),
            ("lost", 0),
            ("lost", 3),
            ("most", 0),
            ("most", 0),
            ("most", 0),
            ("rmq_sys_x", 0),
        ] {
            let queue = store.queue(topic, queue_id);
            let draft = Draft::new(topic, queue_id, b"body");
            let ticket = store.append(&[draft], &[queue], 1, &mut Vec::new()).unwrap();
            store.complete_then(ticket, false, |_| ());
        }
        store.queue("empty", 0);
        let limits = TopicLimits { topics: 10, queues: 8 };
        let stats = Arc::new(BrokerStats::new("c", 10));
        let topics = Topics::new(vec![Spec::new("known", 1)], limits, stats, Arc::default(), 0);
        let found = unknown(&store, &topics);
        let found: Vec<_> = found
            .iter()
            .map(|topic| (topic.name.as_str(), topic.queues, topic.messages))
            .collect();
        assert_eq!(found, [("most", 1, 3), ("lost", 4, 2)]);
        report(&store, &topics);
        store.close().unwrap();
    }
}
