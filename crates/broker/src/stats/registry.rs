//! All counters by Apache's name and key, and the handles for the hot paths.
//!
//! | Name | Key |
//! |---|---|
//! | `TOPIC_PUT_*` | topic (`TOPIC_PUT_LATENCY`: `queueId@topic`) |
//! | `GROUP_*`, `SNDBCK_PUT_NUMS` | `topic@group` (`GROUP_GET_LATENCY`: `queueId@topic@group`) |
//! | `QUEUE_PUT_*` | `topic@queueId` |
//! | `QUEUE_GET_*` | `topic@queueId@group` |
//! | `BROKER_*`, `*_REGISTER_TIME` | cluster name |
//! | `CHANNEL_ACTIVITY` | `CONNECT`, `CLOSE`, `IDLE`, `EXCEPTION` |
//!
//! `SNDBCK2DLQ_TIMES` has the key of Apache for a message without an owner: `null@topic@group@SEND_BACK_TO_DLQ`. The commercial
//! names exist without items, because nothing is counted by owner; so does `DLQ_PUT_NUMS`, which Apache does not count either. As
//! in Apache, `QUEUE_*` count only the messages written to the schedule topic and delivered from it.

use super::item::{ByQueue, Item, Snapshot, Span};
use super::runtime::Totals;
use message::names;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

macro_rules! names {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// Apache's counter names.
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Name { $($variant),+ }

        impl Name {
            /// All names.
            pub const ALL: &[Name] = &[$(Name::$variant),+];

            /// Apache's spelling.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Name::$variant => $text),+ }
            }

            /// The name with this spelling.
            #[must_use]
            pub fn parse(text: &str) -> Option<Name> {
                match text { $($text => Some(Name::$variant),)+ _ => None }
            }
        }
    };
}

names! {
    QueuePutNums = "QUEUE_PUT_NUMS",
    QueuePutSize = "QUEUE_PUT_SIZE",
    QueueGetNums = "QUEUE_GET_NUMS",
    QueueGetSize = "QUEUE_GET_SIZE",
    TopicPutNums = "TOPIC_PUT_NUMS",
    TopicPutSize = "TOPIC_PUT_SIZE",
    TopicPutLatency = "TOPIC_PUT_LATENCY",
    GroupGetNums = "GROUP_GET_NUMS",
    GroupGetSize = "GROUP_GET_SIZE",
    GroupGetLatency = "GROUP_GET_LATENCY",
    GroupGetFromDiskNums = "GROUP_GET_FROM_DISK_NUMS",
    GroupGetFromDiskSize = "GROUP_GET_FROM_DISK_SIZE",
    GroupAckNums = "GROUP_ACK_NUMS",
    GroupCkNums = "GROUP_CK_NUMS",
    SndbckPutNums = "SNDBCK_PUT_NUMS",
    DlqPutNums = "DLQ_PUT_NUMS",
    Sndbck2DlqTimes = "SNDBCK2DLQ_TIMES",
    BrokerPutNums = "BROKER_PUT_NUMS",
    BrokerGetNums = "BROKER_GET_NUMS",
    BrokerAckNums = "BROKER_ACK_NUMS",
    BrokerCkNums = "BROKER_CK_NUMS",
    BrokerPutNumsWithoutSystemTopic = "BROKER_PUT_NUMS_WITHOUT_SYSTEM_TOPIC",
    BrokerGetNumsWithoutSystemTopic = "BROKER_GET_NUMS_WITHOUT_SYSTEM_TOPIC",
    BrokerGetFromDiskNums = "BROKER_GET_FROM_DISK_NUMS",
    BrokerGetFromDiskSize = "BROKER_GET_FROM_DISK_SIZE",
    CommercialSendTimes = "COMMERCIAL_SEND_TIMES",
    CommercialSendSize = "COMMERCIAL_SEND_SIZE",
    CommercialRcvTimes = "COMMERCIAL_RCV_TIMES",
    CommercialRcvSize = "COMMERCIAL_RCV_SIZE",
    CommercialRcvEpolls = "COMMERCIAL_RCV_EPOLLS",
    CommercialSndbckTimes = "COMMERCIAL_SNDBCK_TIMES",
    CommercialPermFailures = "COMMERCIAL_PERM_FAILURES",
    ConsumerRegisterTime = "CONSUMER_REGISTER_TIME",
    ProducerRegisterTime = "PRODUCER_REGISTER_TIME",
    ChannelActivity = "CHANNEL_ACTIVITY",
}

type Items = RwLock<FxHashMap<Box<str>, Arc<Item>>>;
type ByTopic<T> = RwLock<FxHashMap<Box<str>, FxHashMap<Box<str>, Arc<T>>>>;

/// The items of every name by key, with the limit of their number.
#[derive(Debug)]
struct Series {
    sets: Vec<Items>,
    count: AtomicUsize,
    max_items: usize,
    overflow: Arc<Item>,
}

impl Series {
    /// The item under a key; created if it does not exist.
    fn item(&self, name: Name, key: &str) -> Arc<Item> {
        let set = &self.sets[name as usize];
        if let Some(item) = set.read().get(key) {
            return Arc::clone(item);
        }
        if self.count.fetch_add(1, Relaxed) >= self.max_items {
            self.count.fetch_sub(1, Relaxed);
            return Arc::clone(&self.overflow);
        }
        Arc::clone(set.write().entry(key.into()).or_default())
    }
}

/// Counters of the whole broker.
#[derive(Debug)]
struct BrokerCounters {
    put: Arc<Item>,
    put_without_system: Arc<Item>,
    get: Arc<Item>,
    get_without_system: Arc<Item>,
    get_from_disk: Arc<Item>,
    get_from_disk_size: Arc<Item>,
    totals: Totals,
}

/// The counters of a topic that sends update. A [`crate::topic::Topic`] keeps its own.
#[derive(Debug)]
pub struct TopicCounters {
    name: Box<str>,
    put: Arc<Item>,
    put_size: Arc<Item>,
    put_latency: ByQueue,
    series: Arc<Series>,
    broker: Arc<BrokerCounters>,
    is_system: bool,
}

impl TopicCounters {
    /// Counts stored messages and the bytes of their records; `requests` is the number of sends.
    pub fn stored(&self, messages: i64, bytes: i64, requests: i64) {
        self.put.add_times(messages, requests);
        self.put_size.add_times(bytes, requests);
        self.broker.put.add_times(messages, requests);
        self.broker.totals.stored(messages, bytes);
        if !self.is_system {
            self.broker.put_without_system.add_times(messages, requests);
        }
    }

    /// Counts the latency of sends from request to response, in ms each.
    pub fn took(&self, queue_id: i32, latency_ms: i64, requests: i64) {
        let make = || self.series.item(Name::TopicPutLatency, &format!("{queue_id}@{}", self.name));
        if let Some(item) = self.put_latency.of(queue_id, make) {
            item.add_times(latency_ms * requests, requests);
        }
    }

    /// Messages stored per second during the last minute.
    #[must_use]
    pub fn put_tps(&self) -> f64 {
        self.put.over(Span::Minute).tps
    }
}

/// The counters of a group on a topic that pulls update.
#[derive(Debug)]
pub struct GroupCounters {
    /// `topic@group`.
    key: Box<str>,
    get: Arc<Item>,
    get_size: Arc<Item>,
    get_latency: ByQueue,
    series: Arc<Series>,
    from_disk: Arc<Item>,
    from_disk_size: Arc<Item>,
    broker: Arc<BrokerCounters>,
    is_system: bool,
}

impl GroupCounters {
    /// Counts the messages and bytes of a pull response.
    pub fn pulled(&self, messages: i64, bytes: i64) {
        self.get.add(messages);
        self.get_size.add(bytes);
        self.broker.get.add(messages);
        self.broker.totals.pulled(messages);
        if !self.is_system {
            self.broker.get_without_system.add(messages);
        }
    }

    /// Counts messages that the broker read for the group of the schedule topic.
    pub fn delivered(&self, messages: i64, bytes: i64) {
        self.get.add_times(messages, messages);
        self.get_size.add_times(bytes, messages);
    }

    /// Counts a pull that found no message.
    pub fn missed(&self) {
        self.broker.totals.missed();
    }

    /// Counts the time to find the messages of a pull, in ms.
    pub fn took(&self, queue_id: i32, latency_ms: i64) {
        let make = || self.series.item(Name::GroupGetLatency, &format!("{queue_id}@{}", self.key));
        if let Some(item) = self.get_latency.of(queue_id, make) {
            item.add(latency_ms);
        }
        self.broker.totals.get_took(latency_ms);
    }

    /// Counts messages that were not in memory.
    pub fn from_disk(&self, messages: i64, bytes: i64) {
        self.from_disk.add(messages);
        self.from_disk_size.add(bytes);
        self.broker.get_from_disk.add(messages);
        self.broker.get_from_disk_size.add(bytes);
    }

    /// Messages pulled per second during the last minute.
    #[must_use]
    pub fn get_tps(&self) -> f64 {
        self.get.over(Span::Minute).tps
    }
}

/// The counters of the schedule topic's queues.
#[derive(Debug, Default)]
struct DelayQueues {
    put: ByQueue,
    put_size: ByQueue,
    get: ByQueue,
    get_size: ByQueue,
}

/// All counters of a broker.
#[derive(Debug)]
pub struct BrokerStats {
    delay_queues: DelayQueues,
    series: Arc<Series>,
    groups: ByTopic<GroupCounters>,
    broker: Arc<BrokerCounters>,
    cluster: Box<str>,
    due_ms: [AtomicI64; 3],
}

impl BrokerStats {
    /// Creates the counters of a broker of this cluster; `max_items` is `apogeeMaxStatsSeries`.
    #[must_use]
    pub fn new(cluster: &str, max_items: usize) -> Self {
        let sets: Vec<Items> = Name::ALL.iter().map(|_| Items::default()).collect();
        let first = |name: Name| {
            let item = Arc::new(Item::default());
            sets[name as usize].write().insert(cluster.into(), Arc::clone(&item));
            item
        };
        let broker = Arc::new(BrokerCounters {
            put: first(Name::BrokerPutNums),
            put_without_system: first(Name::BrokerPutNumsWithoutSystemTopic),
            get: first(Name::BrokerGetNums),
            get_without_system: first(Name::BrokerGetNumsWithoutSystemTopic),
            get_from_disk: first(Name::BrokerGetFromDiskNums),
            get_from_disk_size: first(Name::BrokerGetFromDiskSize),
            totals: Totals::default(),
        });
        let series = Series {
            sets,
            count: AtomicUsize::new(0),
            max_items,
            overflow: Arc::default(),
        };
        Self {
            delay_queues: DelayQueues::default(),
            series: Arc::new(series),
            groups: RwLock::default(),
            broker,
            cluster: cluster.into(),
            due_ms: [const { AtomicI64::new(0) }; 3],
        }
    }

    /// The item under a key; created if it does not exist. Not for hot paths: it looks up strings.
    pub fn item(&self, name: Name, key: &str) -> Arc<Item> {
        self.series.item(name, key)
    }

    /// The item of a request 315, if it exists.
    #[must_use]
    pub fn find(&self, name: &str, key: &str) -> Option<Arc<Item>> {
        self.series.sets[Name::parse(name)? as usize].read().get(key).cloned()
    }

    /// The counters of a topic, for the caller to keep.
    #[must_use]
    pub fn topic(&self, topic: &str) -> TopicCounters {
        TopicCounters {
            name: topic.into(),
            put_latency: ByQueue::default(),
            series: Arc::clone(&self.series),
            put: self.item(Name::TopicPutNums, topic),
            put_size: self.item(Name::TopicPutSize, topic),
            broker: Arc::clone(&self.broker),
            is_system: names::is_system_topic(topic),
        }
    }

    /// The counters of a group on a topic: two lookups without allocation and a clone of the handle.
    #[must_use]
    pub fn group(&self, topic: &str, group: &str) -> Arc<GroupCounters> {
        if let Some(found) = self.groups.read().get(topic).and_then(|groups| groups.get(group)) {
            return Arc::clone(found);
        }
        let key = format!("{topic}@{group}");
        let made = Arc::new(GroupCounters {
            get: self.item(Name::GroupGetNums, &key),
            get_size: self.item(Name::GroupGetSize, &key),
            get_latency: ByQueue::default(),
            series: Arc::clone(&self.series),
            from_disk: self.item(Name::GroupGetFromDiskNums, &key),
            from_disk_size: self.item(Name::GroupGetFromDiskSize, &key),
            key: key.into(),
            broker: Arc::clone(&self.broker),
            is_system: names::is_system_topic(topic),
        });
        if self.series.count.load(Relaxed) >= self.series.max_items {
            return made;
        }
        let mut topics = self.groups.write();
        let groups = topics.entry(topic.into()).or_default();
        Arc::clone(groups.entry(group.into()).or_insert(made))
    }

    /// Counts a message of `topic` that a group sent back, and its queue of the schedule topic; `None` for a dead letter.
    pub fn sent_back(&self, topic: &str, group: &str, bytes: i64, waits_in: Option<i32>) {
        self.broker.totals.stored(1, bytes);
        if let Some(queue_id) = waits_in {
            // Compat: not counted as put to the broker.
            self.item(Name::TopicPutNums, names::SCHEDULE_TOPIC).add(1);
            self.item(Name::TopicPutSize, names::SCHEDULE_TOPIC).add(bytes);
            self.waits(queue_id, bytes);
        }
        self.item(Name::SndbckPutNums, &format!("{topic}@{group}")).add(1);
    }

    /// Counts a message written to a queue of the schedule topic.
    pub fn waits(&self, queue_id: i32, bytes: i64) {
        let queues = &self.delay_queues;
        for (items, name, value) in [(&queues.put, Name::QueuePutNums, 1), (&queues.put_size, Name::QueuePutSize, bytes)] {
            let make = || self.item(name, &format!("{}@{queue_id}", names::SCHEDULE_TOPIC));
            if let Some(item) = items.of(queue_id, make) {
                item.add(value);
            }
        }
    }

    /// Counts messages delivered from a queue of the schedule topic, as reads of that group.
    pub fn waited(&self, queue_id: i32, group: &str, messages: i64, bytes: i64) {
        let queues = &self.delay_queues;
        for (items, name, value) in [
            (&queues.get, Name::QueueGetNums, messages),
            (&queues.get_size, Name::QueueGetSize, bytes),
        ] {
            let make = || self.item(name, &format!("{}@{queue_id}@{group}", names::SCHEDULE_TOPIC));
            if let Some(item) = items.of(queue_id, make) {
                item.add_times(value, messages);
            }
        }
    }

    /// Counts a dead letter of a group; `topic` is its original topic according to the client.
    pub fn died(&self, topic: &str, group: &str) {
        self.item(Name::Sndbck2DlqTimes, &format!("null@{topic}@{group}@SEND_BACK_TO_DLQ"))
            .add(1);
    }

    /// Messages that a group pulled per second during the last minute; 0 if it never pulled any.
    #[must_use]
    pub fn group_get_tps(&self, topic: &str, group: &str) -> f64 {
        let topics = self.groups.read();
        topics
            .get(topic)
            .and_then(|groups| groups.get(group))
            .map_or(0.0, |counters| counters.get_tps())
    }

    /// Counts an event of a connection: `CONNECT` or `CLOSE`. Apache's `IDLE` and `EXCEPTION` are counted as `CLOSE`.
    pub fn channel(&self, event: &str) {
        self.item(Name::ChannelActivity, event).add(1);
    }

    /// Counts the time to register a client by a heartbeat, in ms.
    pub fn registered(&self, name: Name, took_ms: i64) {
        self.item(name, &self.cluster).add(took_ms);
    }

    /// Totals for the runtime information.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.broker.totals
    }

    /// Messages stored since the start.
    #[must_use]
    pub fn put_total(&self) -> i64 {
        self.broker.put.total()
    }

    /// Messages stored since the start, without system topics.
    #[must_use]
    pub fn put_total_without_system(&self) -> i64 {
        self.broker.put_without_system.total()
    }

    /// Messages pulled since the start.
    #[must_use]
    pub fn get_total(&self) -> i64 {
        self.broker.get.total()
    }

    /// Messages pulled since the start, without system topics.
    #[must_use]
    pub fn get_total_without_system(&self) -> i64 {
        self.broker.get_without_system.total()
    }

    /// Takes the samples that are due. Call it once a second.
    pub fn sample(&self, now_ms: i64) {
        self.broker.totals.sample(now_ms);
        for (kind, (span, period_ms)) in [(Span::Minute, 10_000), (Span::Hour, 600_000), (Span::Day, 3_600_000)]
            .into_iter()
            .enumerate()
        {
            if now_ms < self.due_ms[kind].load(Relaxed) {
                continue;
            }
            self.due_ms[kind].store(now_ms + period_ms, Relaxed);
            for set in &self.series.sets {
                for item in set.read().values() {
                    item.sample(span, now_ms);
                }
            }
        }
    }

    /// Removes the counters of a deleted topic.
    pub fn forget_topic(&self, topic: &str) {
        let groups = self.groups.write().remove(topic);
        let of_topic = |key: &str| {
            key == topic
                || key
                    .strip_prefix(topic)
                    .is_some_and(|rest| groups.is_some() && rest.starts_with('@'))
        };
        self.forget(|key| of_topic(key) || without_queue(key).is_some_and(of_topic));
    }

    /// Removes the counters of a deleted group.
    pub fn forget_group(&self, group: &str) {
        self.groups.write().retain(|_, groups| {
            groups.remove(group);
            !groups.is_empty()
        });
        self.forget(|key| key.strip_suffix(group).is_some_and(|rest| rest.ends_with('@')));
    }

    fn forget(&self, is_deleted: impl Fn(&str) -> bool) {
        for set in &self.series.sets {
            let mut items = set.write();
            let before = items.len();
            items.retain(|key, _| **key == *self.cluster || !is_deleted(key));
            self.series.count.fetch_sub(before - items.len(), Relaxed);
        }
    }

    /// Rates of an item over minute, hour and day.
    #[must_use]
    pub fn spans(item: &Item) -> [Snapshot; 3] {
        [item.over(Span::Minute), item.over(Span::Hour), item.over(Span::Day)]
    }
}

/// `topic` of `queueId@topic`, `topic@group` of `queueId@topic@group`.
fn without_queue(key: &str) -> Option<&str> {
    let (queue_id, rest) = key.split_once('@')?;
    queue_id.bytes().all(|digit| digit.is_ascii_digit()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_and_pulls_are_counted_under_apaches_names() {
        let stats = BrokerStats::new("DefaultCluster", 100);
        stats.topic("orders").stored(3, 300, 1);
        stats.topic("orders").took(2, 7, 1);
        stats.group("orders", "g").took(3, 4);
        stats.topic("TBW102").stored(1, 10, 1);
        stats.group("orders", "g").pulled(2, 200);
        stats.sample(1_000_000);
        let minute = |name, key| BrokerStats::spans(&stats.find(name, key).unwrap())[0].sum;
        assert_eq!(minute("TOPIC_PUT_NUMS", "orders"), 3);
        assert_eq!(minute("TOPIC_PUT_SIZE", "orders"), 300);
        assert_eq!(minute("GROUP_GET_NUMS", "orders@g"), 2);
        assert_eq!(minute("TOPIC_PUT_LATENCY", "2@orders"), 7);
        assert_eq!(minute("GROUP_GET_LATENCY", "3@orders@g"), 4);
        assert_eq!(minute("BROKER_PUT_NUMS", "DefaultCluster"), 4);
        assert_eq!(minute("BROKER_PUT_NUMS_WITHOUT_SYSTEM_TOPIC", "DefaultCluster"), 3);
        assert!(stats.group_get_tps("orders", "g") > 0.0);
        assert!(stats.find("TOPIC_PUT_NUMS", "absent").is_none());
        assert!(stats.find("NO_SUCH_NAME", "orders").is_none());
    }

    #[test]
    fn items_over_the_limit_share_one_that_cannot_be_queried() {
        let stats = BrokerStats::new("c", 2);
        stats.topic("a").stored(1, 1, 1);
        stats.topic("b").stored(1, 1, 1);
        assert!(stats.find("TOPIC_PUT_NUMS", "a").is_some());
        assert!(stats.find("TOPIC_PUT_NUMS", "b").is_none());
        assert_eq!(stats.put_total(), 2);
    }

    #[test]
    fn counters_of_deleted_topics_and_groups_are_removed() {
        let stats = BrokerStats::new("c", 100);
        stats.topic("a").stored(1, 1, 1);
        stats.topic("a").took(0, 1, 1);
        stats.group("a", "g").pulled(1, 1);
        stats.group("a", "g").took(0, 1);
        stats.group("b", "g").pulled(1, 1);
        stats.forget_topic("a");
        assert!(stats.find("TOPIC_PUT_NUMS", "a").is_none());
        assert!(stats.find("GROUP_GET_NUMS", "a@g").is_none());
        assert!(stats.find("TOPIC_PUT_LATENCY", "0@a").is_none());
        assert!(stats.find("GROUP_GET_LATENCY", "0@a@g").is_none());
        stats.forget_group("g");
        assert!(stats.find("GROUP_GET_NUMS", "b@g").is_none());
        assert!(stats.find("BROKER_GET_NUMS", "c").is_some());
    }
}
