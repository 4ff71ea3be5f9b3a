//! Codes 306, 316 and 329: cleanup that the store otherwise does in the background.

use crate::queues::Cleaning;
use crate::reply::{Answer, Outcome};
use crate::topic::Topics;
use message::names;

/// Code 306: deletes files of queues whose messages are no longer in the log. The log is not changed.
///
/// # Errors
/// The refusal of a `StoreError` if files cannot be deleted.
pub fn queues(store: &dyn Cleaning) -> Outcome {
    store.clean_queues()?;
    Ok(Answer::ok())
}

/// Code 329: the next retention runs delete expired files at any hour; queues follow the log. Never fails.
pub fn expired(store: &dyn Cleaning) -> Outcome {
    tracing::warn!("deletion of expired files requested");
    store.delete_expired();
    Ok(Answer::ok())
}

/// Code 316: deletes the queues of topics that do not exist.
///
/// # Errors
/// The refusal of a `StoreError` if files cannot be deleted.
pub fn unused_topics(store: &dyn Cleaning, topics: &Topics) -> Outcome {
    for topic in store.topics() {
        // Retry topics are created and deleted with their groups; queues of system topics are never deleted.
        // Compat: light queues of Apache's broker have no topic.
        if topics.is_system(&topic) || names::is_light_queue(&topic) {
            continue;
        }
        if let Some(_deletion) = topics.begin_cleaning(&topic) {
            tracing::warn!(topic, "deleted the queues of a topic that does not exist");
            store.delete_topic(&topic)?;
        }
    }
    Ok(Answer::ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Changes;
    use crate::errors::Refusal;
    use crate::stats::BrokerStats;
    use crate::topic::{Spec, TopicLimits};
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Default)]
    struct Fake(Mutex<Vec<String>>);

    /// A store with a queue of the topic "gone" whose deletion is slow.
    struct Slow<'t>(&'t Topics);

    impl Cleaning for Slow<'_> {
        fn delete_expired(&self) {}

        fn clean_queues(&self) -> Result<(), Refusal> {
            Ok(())
        }

        fn topics(&self) -> Vec<String> {
            vec!["gone".to_owned()]
        }

        fn delete_topic(&self, topic: &str) -> Result<(), Refusal> {
            let made = self.0.update(vec![(Spec::new(topic, 1), Changes::new())], 1);
            assert!(made.is_err(), "its first message would be deleted with the queues");
            Ok(())
        }
    }

    impl Cleaning for Fake {
        fn delete_expired(&self) {
            self.0.lock().push("expired".to_owned());
        }

        fn clean_queues(&self) -> Result<(), Refusal> {
            self.0.lock().push("queues".to_owned());
            Ok(())
        }

        fn topics(&self) -> Vec<String> {
            ["kept", "gone", "rmq_sys_x", "%LMQ%x"].map(str::to_owned).into()
        }

        fn delete_topic(&self, topic: &str) -> Result<(), Refusal> {
            self.0.lock().push(topic.to_owned());
            Ok(())
        }
    }

    fn topics() -> Topics {
        let limits = TopicLimits { topics: 10, queues: 64 };
        let stats = Arc::new(BrokerStats::new("c", 100));
        Topics::new(vec![Spec::new("kept", 1)], limits, stats, Arc::default(), 0)
    }

    #[test]
    fn no_topic_is_created_while_queues_of_its_name_are_deleted() {
        let topics = topics();
        unused_topics(&Slow(&topics), &topics).unwrap();
        topics.update(vec![(Spec::new("gone", 1), Changes::new())], 1).unwrap();
    }

    #[test]
    fn only_queues_without_a_topic_are_deleted() {
        let topics = topics();
        let store = Fake::default();
        unused_topics(&store, &topics).unwrap();
        expired(&store).unwrap();
        queues(&store).unwrap();
        assert_eq!(*store.0.lock(), ["gone", "expired", "queues"]);
    }
}
