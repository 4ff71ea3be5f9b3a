//! Traits for the store access of admin handlers, so that they can be tested without a store.
//!
//! All methods may read from disk. Sends and pulls use the store directly.

use crate::errors::Refusal;
use message::{LogOffset, QueueOffset};
use protocol::offset::BoundaryType;
use store::{IndexedBy, Limits, QueryResult, ReadSource, Store};

/// The queues of a store.
pub trait Queues: Send + Sync {
    /// Min offset, that of the first message; 0 for an empty or unknown queue.
    fn min(&self, topic: &str, queue_id: i32) -> i64;
    /// Max offset, one after the last message; 0 for an empty or unknown queue.
    fn max(&self, topic: &str, queue_id: i32) -> i64;
    /// The offset of the first message stored at or after a time in ms since 1970. `boundary` decides between messages of the same
    /// time.
    ///
    /// # Errors
    /// The refusal of a `StoreError` if the queue or the log cannot be read.
    fn by_time(&self, topic: &str, queue_id: i32, timestamp: i64, boundary: BoundaryType) -> Result<i64, Refusal>;
    /// Store timestamp of the message at an offset, in ms since 1970.
    fn store_time(&self, topic: &str, queue_id: i32, offset: i64) -> Option<i64>;
    /// Whether the message at an offset can be read without disk I/O.
    fn is_cached(&self, topic: &str, queue_id: i32, offset: i64) -> bool;
    /// Whether a topic has queues, or files left by a failed deletion.
    fn has_topic(&self, topic: &str) -> bool;
    /// Deletes a topic's queues.
    ///
    /// # Errors
    /// The refusal of a `StoreError` if files cannot be deleted; some are left then.
    fn delete_topic(&self, topic: &str) -> Result<(), Refusal>;

    /// Store timestamp of the first message, in ms since 1970.
    fn earliest(&self, topic: &str, queue_id: i32) -> Option<i64> {
        self.store_time(topic, queue_id, self.min(topic, queue_id))
    }
}

impl Queues for Store {
    fn min(&self, topic: &str, queue_id: i32) -> i64 {
        self.min_offset(topic, queue_id).0
    }

    fn max(&self, topic: &str, queue_id: i32) -> i64 {
        self.max_offset(topic, queue_id).0
    }

    fn by_time(&self, topic: &str, queue_id: i32, timestamp: i64, boundary: BoundaryType) -> Result<i64, Refusal> {
        let boundary = match boundary {
            BoundaryType::Lower => store::Boundary::Lower,
            BoundaryType::Upper => store::Boundary::Upper,
        };
        Ok(self.offset_by_time(topic, queue_id, timestamp, boundary)?.0)
    }

    fn store_time(&self, topic: &str, queue_id: i32, offset: i64) -> Option<i64> {
        Store::store_time(self, topic, queue_id, QueueOffset(offset))
    }

    fn is_cached(&self, topic: &str, queue_id: i32, offset: i64) -> bool {
        let one = Limits {
            messages: 1,
            bytes: 1,
            scan: 1,
        };
        self.read(topic, queue_id, QueueOffset(offset), one, &|_| true, ReadSource::PageCache)
            .is_ok_and(|read| !read.cold)
    }

    fn has_topic(&self, topic: &str) -> bool {
        Store::has_topic(self, topic)
    }

    fn delete_topic(&self, topic: &str) -> Result<(), Refusal> {
        Ok(Store::delete_topic(self, topic)?)
    }
}

/// Access to the log for message queries.
pub trait Log: Send + Sync {
    /// The record at a log offset.
    ///
    /// # Errors
    /// The refusal of a `StoreError` if no record starts there or it cannot be read.
    fn record(&self, offset: i64) -> Result<bytes::Bytes, Refusal>;
    /// Records of a topic by key, unique key or tag, newest first, stored between two times (ms since 1970, inclusive).
    ///
    /// # Errors
    /// The refusal of a `StoreError` if the index or the log cannot be read.
    fn indexed(&self, topic: &str, by: IndexedBy<'_>, begin: i64, end: i64, max: usize) -> Result<QueryResult, Refusal>;
}

impl Log for Store {
    fn record(&self, offset: i64) -> Result<bytes::Bytes, Refusal> {
        Ok(self.message_at(LogOffset(offset))?)
    }

    fn indexed(&self, topic: &str, by: IndexedBy<'_>, begin: i64, end: i64, max: usize) -> Result<QueryResult, Refusal> {
        Ok(self.query_by(topic, by, begin, end, max)?)
    }
}

/// Access to the store for cleanup requests.
pub trait Cleaning: Send + Sync {
    /// Has the next retention runs delete expired files at any hour.
    fn delete_expired(&self);
    /// Deletes files of queues whose messages are no longer in the log.
    ///
    /// # Errors
    /// The refusal of a `StoreError` if files cannot be deleted.
    fn clean_queues(&self) -> Result<(), Refusal>;
    /// Topics that have queues.
    fn topics(&self) -> Vec<String>;
    /// Deletes a topic's queues.
    ///
    /// # Errors
    /// The refusal of a `StoreError` if files cannot be deleted.
    fn delete_topic(&self, topic: &str) -> Result<(), Refusal>;
}

impl Cleaning for Store {
    fn delete_expired(&self) {
        Store::delete_expired(self);
    }

    fn clean_queues(&self) -> Result<(), Refusal> {
        Ok(Store::clean_queues(self)?)
    }

    fn topics(&self) -> Vec<String> {
        Store::topics(self).iter().map(ToString::to_string).collect()
    }

    fn delete_topic(&self, topic: &str) -> Result<(), Refusal> {
        Ok(Store::delete_topic(self, topic)?)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use parking_lot::Mutex;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    /// Queues by topic and id: min offset, and the store timestamp of each message from there on.
    #[derive(Default)]
    pub(crate) struct FakeQueues {
        pub(crate) queues: BTreeMap<(String, i32), (i64, Vec<i64>)>,
        pub(crate) cold: bool,
        /// Deleting files fails.
        pub(crate) broken: AtomicBool,
        /// Topics with files left by a failed deletion.
        pub(crate) left: Mutex<BTreeSet<String>>,
    }

    impl FakeQueues {
        pub(crate) fn with(mut self, topic: &str, queue_id: i32, min: i64, times: &[i64]) -> Self {
            self.queues.insert((topic.to_owned(), queue_id), (min, times.to_vec()));
            self
        }

        fn queue(&self, topic: &str, queue_id: i32) -> (i64, &[i64]) {
            self.queues
                .get(&(topic.to_owned(), queue_id))
                .map_or((0, &[]), |(min, times)| (*min, times))
        }
    }

    impl Queues for FakeQueues {
        fn min(&self, topic: &str, queue_id: i32) -> i64 {
            self.queue(topic, queue_id).0
        }

        fn max(&self, topic: &str, queue_id: i32) -> i64 {
            let (min, times) = self.queue(topic, queue_id);
            min + times.len() as i64
        }

        fn by_time(&self, topic: &str, queue_id: i32, timestamp: i64, _: BoundaryType) -> Result<i64, Refusal> {
            let (min, times) = self.queue(topic, queue_id);
            Ok(min + times.iter().filter(|time| **time < timestamp).count() as i64)
        }

        fn store_time(&self, topic: &str, queue_id: i32, offset: i64) -> Option<i64> {
            let (min, times) = self.queue(topic, queue_id);
            times.get(usize::try_from(offset - min).ok()?).copied()
        }

        fn is_cached(&self, _: &str, _: i32, _: i64) -> bool {
            !self.cold
        }

        fn has_topic(&self, topic: &str) -> bool {
            self.left.lock().contains(topic) || self.queues.keys().any(|(queue_topic, _)| queue_topic == topic)
        }

        fn delete_topic(&self, topic: &str) -> Result<(), Refusal> {
            if self.broken.load(Relaxed) {
                self.left.lock().insert(topic.to_owned());
                return Err(Refusal::system("the disk is broken"));
            }
            self.left.lock().remove(topic);
            Ok(())
        }
    }
}
