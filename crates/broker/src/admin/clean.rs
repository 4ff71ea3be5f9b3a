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
        if !topics.contains(&topic) && !topics.is_system(&topic) && !names::is_light_queue(&topic) {
            tracing::warn!(topic, "queues of a topic that is not there deleted");
            store.delete_topic(&topic)?;
        }
    }
    Ok(Answer::ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Refusal;
    use crate::stats::BrokerStats;
    use crate::topic::{Spec, TopicLimits};
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Default)]
    struct Fake(Mutex<Vec<String>>);

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

    #[test]
    fn only_queues_without_a_topic_are_deleted() {
        let limits = TopicLimits { topics: 10, queues: 64 };
        let stats = Arc::new(BrokerStats::new("c", 100));
        let topics = Topics::new(vec![Spec::new("kept", 1)], limits, stats, Arc::default(), 0);
        let store = Fake::default();
        unused_topics(&store, &topics).unwrap();
        expired(&store).unwrap();
        queues(&store).unwrap();
        assert_eq!(*store.0.lock(), ["gone", "expired", "queues"]);
    }
}
