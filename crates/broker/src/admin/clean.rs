//! Codes 306, 316 and 329: cleaning that the store else does by itself.

use crate::queues::Cleaning;
use crate::reply::{Answer, Outcome};
use crate::topic::Topics;
use message::names;

/// Code 306: removes files of queues whose messages are no longer in the log. The log stays as it is.
///
/// # Errors
/// I/O errors of the queues' files.
pub fn queues(store: &dyn Cleaning) -> Outcome {
    store.clean_queues()?;
    Ok(Answer::ok())
}

/// Code 329: the next rounds of retention delete what is old enough, whatever the hour; queues follow the log.
///
/// # Errors
/// None.
pub fn expired(store: &dyn Cleaning) -> Outcome {
    tracing::warn!("deletion of expired files asked");
    store.delete_expired();
    Ok(Answer::ok())
}

/// Code 316: deletes the queues of topics that are not there any more.
///
/// # Errors
/// The disk's.
pub fn unused_topics(store: &dyn Cleaning, topics: &Topics) -> Outcome {
    for topic in store.topics() {
        // Queues of retry topics come and go with their groups; those of the system are not anybody's to clean.
        // Compat: light queues of Apache's have no topic.
        if topics.is_system(&topic) || names::is_light_queue(&topic) {
            continue;
        }
        if let Some(_deletion) = topics.begin_cleaning(&topic) {
            tracing::warn!(topic, "queues of a topic that is not there deleted");
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

    /// A store that has a queue of the topic "gone", and in which it takes a while to delete it.
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
            assert!(made.is_err(), "its first message would be deleted");
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
    fn no_topic_is_made_of_the_name_of_queues_that_are_being_deleted() {
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
