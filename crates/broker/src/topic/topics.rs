//! The table of topics. Pure state: the time is given; the file is in `table.rs`.

use super::{DEFAULT_QUEUES, PERM_INHERIT, PERM_READ, PERM_WRITE};
use crate::attributes::{self, AttributeError, Attributes, Changes};
use crate::stats::{BrokerStats, TopicCounters};
use crate::upkeep::Signal;
use message::names;
use parking_lot::{Mutex, RwLock};
use protocol::DataVersion;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is configured of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name.
    pub name: Box<str>,
    /// Queues that consumers read.
    pub read_queues: i32,
    /// Queues that producers write.
    pub write_queues: i32,
    /// Bits [`PERM_READ`], [`PERM_WRITE`], [`PERM_INHERIT`].
    pub perm: i32,
    /// Whether a message may have several tags (Apache's `MULTI_TAG`); kept and told, not used.
    pub multi_tag: bool,
    /// Bits of unit topics; kept and told.
    pub sys_flag: i32,
    /// Whether the topic's order is configured at the name servers.
    pub order: bool,
    /// See [`attributes`].
    pub attributes: Attributes,
}

impl Spec {
    /// A topic of so many queues, readable and writable.
    #[must_use]
    pub fn new(name: &str, queues: i32) -> Self {
        Self {
            name: name.into(),
            read_queues: queues,
            write_queues: queues,
            perm: PERM_READ | PERM_WRITE,
            multi_tag: false,
            sys_flag: 0,
            order: false,
            attributes: Attributes::new(),
        }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self::new("", DEFAULT_QUEUES)
    }
}

/// A topic. Dereferences to what is configured.
#[derive(Debug)]
pub struct Topic {
    spec: Spec,
    /// Counter of the table's version with which it became what it is.
    changed_at: i64,
    /// What sending adds to; the same as long as the topic exists.
    pub counters: Arc<TopicCounters>,
    life: Arc<Life>,
}

/// What lasts from the making of a topic to its deletion, however it is changed in between.
#[derive(Debug)]
struct Life {
    /// How many changes the signal had counted when the topic was made; `None` if that was in an earlier run.
    made_after: Option<u64>,
    /// A topic of this name was deleted in this run: connections with lower ids may still know offsets of that one.
    reborn_at: Option<u64>,
    is_over: AtomicBool,
}

impl Topic {
    /// Whether the topic was deleted since it was looked up.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.life.is_over.load(Ordering::Acquire)
    }

    /// Whether a topic of this name was deleted before in this run.
    #[must_use]
    pub fn is_reborn(&self) -> bool {
        self.life.reborn_at.is_some()
    }

    /// Whether the client of a connection may still know offsets of a deleted topic of this name.
    #[must_use]
    pub fn may_be_mistaken(&self, connection: u64) -> bool {
        self.life.reborn_at.is_some_and(|first| connection < first)
    }

    /// Whether the topic is on the disk and known to the name servers. Whoever relies on it is answered when it is.
    #[must_use]
    pub fn is_settled(&self, changed: &Signal) -> bool {
        self.life.made_after.is_none_or(|before| changed.settled() > before)
    }
}

impl std::ops::Deref for Topic {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        &self.spec
    }
}

/// Why a topic is not made or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// There are too many.
    #[error("the broker has {0} topics already and takes no more, see apogeeMaxTopics")]
    Full(usize),
    /// Too many queues, or fewer than none.
    #[error("topic[{topic}] asks for {queues} queues, allowed are 0 to {max}, see apogeeMaxQueuesPerTopic")]
    Queues {
        /// Which topic.
        topic: String,
        /// As asked.
        queues: i32,
        /// Most allowed.
        max: i32,
    },
    /// Bits nobody knows.
    #[error("perm {0} is not allowed: it is a sum of 4 (read), 2 (write) and 1 (inherit)")]
    Perm(i32),
    /// Attributes that cannot be changed so.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
}

/// A message came for a topic that is not there.
#[derive(Clone, Copy, Debug)]
pub struct CreateOnSend<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The template the producer names.
    pub template: &'a str,
    /// Queues the producer wishes.
    pub queues: i32,
    /// Bits for [`Spec::sys_flag`].
    pub sys_flag: i32,
}

/// Bounds of the table, each a setting.
#[derive(Clone, Copy, Debug)]
pub struct TopicLimits {
    /// `apogeeMaxTopics`.
    pub topics: usize,
    /// `apogeeMaxQueuesPerTopic`.
    pub queues: i32,
}

type Table = FxHashMap<Box<str>, Arc<Topic>>;

/// All topics of the broker.
#[derive(Debug)]
pub struct Topics {
    table: RwLock<Table>,
    /// Held while the table changes, so that both are read together. Taken before `table`.
    version: Mutex<DataVersion>,
    system: BTreeSet<Box<str>>,
    /// Names of topics that were deleted in this run, the oldest first.
    deleted: Mutex<VecDeque<Box<str>>>,
    limits: TopicLimits,
    stats: Arc<BrokerStats>,
    changed: Arc<Signal>,
}

/// Most names of deleted topics that are remembered.
const MAX_DELETED: usize = 10_000;

impl Topics {
    /// The topics that exist from the start.
    #[must_use]
    pub fn new(builtin: Vec<Spec>, limits: TopicLimits, stats: Arc<BrokerStats>, changed: Arc<Signal>, now_ms: i64) -> Self {
        let system = builtin.iter().map(|spec| spec.name.clone()).collect();
        let topics = Self {
            table: RwLock::default(),
            version: Mutex::new(DataVersion {
                timestamp: now_ms,
                ..DataVersion::default()
            }),
            system,
            deleted: Mutex::default(),
            limits,
            stats,
            changed,
        };
        topics.restore(builtin, None);
        topics
    }

    /// Adds topics as they are, from the disk or built in, with the version they were saved with.
    pub(super) fn restore(&self, specs: Vec<Spec>, version: Option<DataVersion>) {
        let mut current = self.version.lock();
        let mut table = self.table.write();
        if let Some(version) = version {
            *current = version;
        }
        for spec in specs {
            let topic = self.topic(spec, None, None, current.counter);
            table.insert(topic.name.clone(), topic);
        }
    }

    fn topic(&self, spec: Spec, before: Option<&Topic>, made_after: Option<u64>, changed_at: i64) -> Arc<Topic> {
        let counters = before.map_or_else(|| Arc::new(self.stats.topic(&spec.name)), |topic| Arc::clone(&topic.counters));
        let life = match before {
            Some(before) => Arc::clone(&before.life),
            None => Arc::new(Life {
                made_after,
                reborn_at: self.deleted.lock().contains(&spec.name).then(net::Connection::next_id),
                is_over: AtomicBool::new(false),
            }),
        };
        Arc::new(Topic {
            spec,
            changed_at,
            counters,
            life,
        })
    }

    /// What is raised by changes, for answers that wait until they are settled.
    #[must_use]
    pub fn changed(&self) -> &Arc<Signal> {
        &self.changed
    }

    /// The topic of this name. For every message.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Topic>> {
        self.table.read().get(name).cloned()
    }

    /// Whether there is a topic of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.table.read().contains_key(name)
    }

    /// Whether the topic's order is configured at the name servers.
    #[must_use]
    pub fn is_ordered(&self, name: &str) -> bool {
        self.table.read().get(name).is_some_and(|topic| topic.order)
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.read().len()
    }

    /// Whether there is no topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the name is the system's: by Apache's list, or because this broker made it at its start.
    #[must_use]
    pub fn is_system(&self, name: &str) -> bool {
        names::is_system_topic(name) || self.system.contains(name)
    }

    /// Names that are the system's.
    #[must_use]
    pub fn system_names(&self) -> BTreeSet<String> {
        let fixed = names::SYSTEM_TOPICS.iter().map(ToString::to_string);
        fixed.chain(self.system.iter().map(ToString::to_string)).collect()
    }

    /// All topics by name, with the version they have together.
    #[must_use]
    pub fn snapshot(&self) -> (DataVersion, BTreeMap<Box<str>, Arc<Topic>>) {
        let version = self.version.lock();
        let table = self.table.read();
        let sorted = table.iter().map(|(name, topic)| (name.clone(), Arc::clone(topic)));
        (*version, sorted.collect())
    }

    /// All topics in no order, with the version they have together.
    #[must_use]
    pub fn all(&self) -> (DataVersion, Vec<Arc<Topic>>) {
        let version = self.version.lock();
        let table = self.table.read();
        (*version, table.values().cloned().collect())
    }

    /// The topics that were made or changed after `known`, a version that the table had, in no order; and the version of now. Topics
    /// deleted since are not told of. Costs a look at every topic.
    #[must_use]
    pub fn changed_since(&self, known: DataVersion) -> (DataVersion, Vec<Arc<Topic>>) {
        let version = self.version.lock();
        let table = self.table.read();
        let changed = table.values().filter(|topic| topic.changed_at > known.counter);
        (*version, changed.cloned().collect())
    }

    /// The version of now.
    #[must_use]
    pub fn version(&self) -> DataVersion {
        *self.version.lock()
    }

    /// Changes the table under its locks and, when `change` says so, the version. `change` is given the counter of the next one.
    fn change<T>(&self, now_ms: i64, change: impl FnOnce(&mut Table, i64) -> Result<(T, bool), TopicError>) -> Result<T, TopicError> {
        let mut version = self.version.lock();
        let next = version.next(now_ms);
        let (result, changed) = change(&mut self.table.write(), next.counter)?;
        if changed {
            *version = next;
            drop(version);
            self.changed.raise();
        }
        Ok(result)
    }

    fn insert(&self, table: &mut Table, spec: Spec, at: i64) -> Result<Arc<Topic>, TopicError> {
        let before = table.get(&spec.name);
        if before.is_none() && table.len() >= self.limits.topics {
            return Err(TopicError::Full(self.limits.topics));
        }
        // Read under the table's lock: who counts one more saves a table that has this topic.
        let made_after = Some(self.changed.raised());
        let topic = self.topic(spec, before.map(|topic| &**topic), made_after, at);
        table.insert(topic.name.clone(), Arc::clone(&topic));
        Ok(topic)
    }

    /// The topic a message is sent to, made after the template it names if it is not there. `None`: there is no such
    /// template, or it does not let topics be made after it (`TBW102` does not when `autoCreateTopicEnable` is off).
    ///
    /// # Errors
    /// There are too many topics.
    pub fn create_on_send(&self, asked: &CreateOnSend<'_>, auto_create: bool, now_ms: i64) -> Result<Option<Arc<Topic>>, TopicError> {
        self.change(now_ms, |table, at| {
            if let Some(topic) = table.get(asked.topic) {
                return Ok((Some(Arc::clone(topic)), false));
            }
            let template = table.get(asked.template).filter(|template| {
                let allowed = auto_create || asked.template != names::AUTO_CREATE_TOPIC;
                allowed && template.perm & PERM_INHERIT != 0
            });
            let Some(template) = template else {
                tracing::warn!(
                    topic = asked.topic,
                    template = asked.template,
                    "topic is not made: no such template"
                );
                return Ok((None, false));
            };
            let queues = asked.queues.min(template.write_queues).clamp(0, self.limits.queues);
            let spec = Spec {
                perm: template.perm & !PERM_INHERIT,
                multi_tag: template.multi_tag,
                sys_flag: asked.sys_flag,
                ..Spec::new(asked.topic, queues)
            };
            let topic = self.insert(table, spec, at)?;
            tracing::info!(topic = asked.topic, queues, "topic made by a producer's first message");
            Ok((Some(topic), true))
        })
    }

    /// The retry or dead letter topic of a group, made if it is not there; `order` is brought up to date.
    ///
    /// # Errors
    /// There are too many topics.
    pub fn create_for_group(&self, spec: Spec, now_ms: i64) -> Result<Arc<Topic>, TopicError> {
        if let Some(topic) = self.find(&spec.name).filter(|topic| topic.order == spec.order) {
            return Ok(topic);
        }
        self.change(now_ms, |table, at| {
            let spec = match table.get(&spec.name) {
                Some(topic) => Spec {
                    order: spec.order,
                    ..topic.spec.clone()
                },
                None => spec,
            };
            Ok((self.insert(table, spec, at)?, true))
        })
    }

    /// Makes or changes topics as an operator asks; all or none. Each comes with changes of its attributes; what is there
    /// already just so stays.
    ///
    /// # Errors
    /// Queues, permission or attributes are not allowed, or there are too many topics.
    pub fn update(&self, asked: Vec<(Spec, Changes)>, now_ms: i64) -> Result<(), TopicError> {
        for (spec, _) in &asked {
            self.check(spec)?;
        }
        self.change(now_ms, |table, at| {
            let mut specs = Vec::with_capacity(asked.len());
            for (mut spec, changes) in asked {
                let before = table.get(&spec.name);
                spec.attributes = attributes::apply(attributes::OF_TOPICS, before.map(|topic| &topic.attributes), &changes)?;
                if before.is_none_or(|topic| topic.spec != spec) {
                    specs.push(spec);
                }
            }
            let fresh: BTreeSet<&str> = specs
                .iter()
                .map(|spec| &*spec.name)
                .filter(|name| !table.contains_key(*name))
                .collect();
            if table.len() + fresh.len() > self.limits.topics {
                return Err(TopicError::Full(self.limits.topics));
            }
            let changed = !specs.is_empty();
            for spec in specs {
                tracing::info!(
                    topic = &*spec.name,
                    read = spec.read_queues,
                    write = spec.write_queues,
                    perm = spec.perm,
                    "topic set"
                );
                self.insert(table, spec, at)?;
            }
            Ok(((), changed))
        })
    }

    fn check(&self, spec: &Spec) -> Result<(), TopicError> {
        if let Some(queues) = [spec.read_queues, spec.write_queues]
            .into_iter()
            .find(|queues| !(0..=self.limits.queues).contains(queues))
        {
            return Err(TopicError::Queues {
                topic: spec.name.to_string(),
                queues,
                max: self.limits.queues,
            });
        }
        if !(0..16).contains(&spec.perm) {
            return Err(TopicError::Perm(spec.perm));
        }
        Ok(())
    }

    /// Marks topics as ordered that name servers have an order for.
    pub fn mark_ordered<'a>(&self, ordered: impl Iterator<Item = &'a str>, now_ms: i64) {
        let marked = self.change(now_ms, |table, at| {
            let mut changed = false;
            for name in ordered {
                let Some(topic) = table.get(name).filter(|topic| !topic.order) else {
                    continue;
                };
                let spec = Spec {
                    order: true,
                    ..topic.spec.clone()
                };
                self.insert(table, spec, at)?;
                changed = true;
            }
            Ok(((), changed))
        });
        if let Err(error) = marked {
            tracing::warn!(%error, "ordered topics not marked");
        }
    }

    /// Deletes a topic; says whether it was there.
    pub fn remove(&self, name: &str, now_ms: i64) -> bool {
        let removed = self.change(now_ms, |table, _| {
            let gone = table.remove(name);
            if let Some(topic) = &gone {
                topic.life.is_over.store(true, Ordering::Release);
                self.remember_deleted(&topic.name);
            }
            Ok((gone.is_some(), gone.is_some()))
        });
        let gone = removed.unwrap_or(false);
        if gone {
            tracing::info!(topic = name, "topic deleted");
        }
        gone
    }

    fn remember_deleted(&self, name: &str) {
        let mut deleted = self.deleted.lock();
        if !deleted.iter().any(|known| **known == *name) {
            if deleted.len() >= MAX_DELETED {
                deleted.pop_front();
            }
            deleted.push_back(name.into());
        }
    }

    /// A new version without another change: what this broker permits was changed, which is part of what it registers.
    pub fn touch(&self, now_ms: i64) {
        let mut version = self.version.lock();
        *version = version.next(now_ms);
        drop(version);
        self.changed.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        let template = Spec {
            perm: PERM_READ | PERM_WRITE | PERM_INHERIT,
            ..Spec::new("TBW102", 8)
        };
        let limits = TopicLimits { topics: 4, queues: 64 };
        let stats = Arc::new(BrokerStats::new("c", 1000));
        Topics::new(vec![template], limits, stats, Arc::default(), 0)
    }

    fn send<'a>(topic: &'a str, template: &'a str, queues: i32) -> CreateOnSend<'a> {
        CreateOnSend {
            topic,
            template,
            queues,
            sys_flag: 0,
        }
    }

    #[test]
    fn a_first_message_makes_its_topic_after_the_template() {
        let topics = topics();
        let made = topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap().unwrap();
        assert_eq!((made.write_queues, made.read_queues, made.perm), (4, 4, PERM_READ | PERM_WRITE));
        assert_eq!(topics.version().counter, 1);
        let again = topics.create_on_send(&send("a", "TBW102", 1), true, 6).unwrap().unwrap();
        assert!(Arc::ptr_eq(&made, &again));
        assert_eq!(topics.version().counter, 1);
        let many = topics.create_on_send(&send("b", "TBW102", 99), true, 7).unwrap().unwrap();
        assert_eq!(many.write_queues, 8);
        let few = topics.create_on_send(&send("c", "TBW102", -1), true, 7).unwrap().unwrap();
        assert_eq!(few.write_queues, 0);
    }

    #[test]
    fn a_topic_is_not_made_without_a_template_that_lets_it() {
        let topics = topics();
        assert!(topics.create_on_send(&send("a", "absent", 4), true, 5).unwrap().is_none());
        assert!(topics.create_on_send(&send("a", "TBW102", 4), false, 5).unwrap().is_none());
        topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap();
        assert!(
            topics.create_on_send(&send("b", "a", 4), true, 5).unwrap().is_none(),
            "made topics are no templates"
        );
        assert_eq!(topics.version().counter, 1);
    }

    #[test]
    fn a_topic_is_settled_when_a_table_that_has_it_is() {
        let topics = topics();
        let changed = topics.changed().clone();
        assert!(topics.find("TBW102").unwrap().is_settled(&changed), "it was there at the start");
        topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap();
        topics.create_on_send(&send("b", "TBW102", 4), true, 5).unwrap();
        let is_settled = |name| topics.find(name).unwrap().is_settled(&changed);
        assert!(!is_settled("a") && !is_settled("b"));
        changed.settle(1, &Ok(()));
        assert!(is_settled("a") && !is_settled("b"));
        topics.mark_ordered(["a"].into_iter(), 6);
        assert!(is_settled("a"), "only changed since");
        changed.settle(3, &Ok(()));
        assert!(is_settled("b"));
    }

    #[test]
    fn an_operator_makes_and_changes_topics() {
        let topics = topics();
        let changes = attributes::parse("+message.type=FIFO").unwrap();
        topics.update(vec![(Spec::new("a", 4), changes)], 1).unwrap();
        topics.update(vec![(Spec::new("a", 9), Changes::new())], 2).unwrap();
        let topic = topics.find("a").unwrap();
        assert_eq!((topic.read_queues, topic.attributes["message.type"].as_str()), (9, "FIFO"));
        assert_eq!(topics.version().counter, 2);
        topics.update(vec![(Spec::new("a", 9), Changes::new())], 3).unwrap();
        assert_eq!(topics.version().counter, 2, "nothing changed");
    }

    #[test]
    fn what_is_not_allowed_changes_nothing() {
        let topics = topics();
        for (queues, perm) in [(65, 6), (-1, 6), (4, 16), (4, -1)] {
            let spec = Spec {
                perm,
                ..Spec::new("a", queues)
            };
            assert!(
                topics
                    .update(vec![(Spec::new("b", 1), Changes::new()), (spec, Changes::new())], 1)
                    .is_err()
            );
        }
        let four = ["a", "b", "c", "d"].map(|name| (Spec::new(name, 1), Changes::new()));
        assert_eq!(topics.update(four.into(), 1), Err(TopicError::Full(4)));
        assert_eq!(topics.len(), 1);
        assert_eq!(topics.version().counter, 0);
    }

    #[test]
    fn counters_survive_a_change_of_the_topic() {
        let topics = topics();
        let before = topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap().unwrap();
        topics.mark_ordered(["a", "absent"].into_iter(), 6);
        let after = topics.find("a").unwrap();
        assert!(after.order && !before.order);
        assert!(Arc::ptr_eq(&before.counters, &after.counters));
    }

    #[test]
    fn a_retry_topic_follows_the_order_of_its_group() {
        let topics = topics();
        let spec = |order| Spec {
            order,
            ..Spec::new("%RETRY%g", 1)
        };
        topics.create_for_group(spec(false), 1).unwrap();
        topics.create_for_group(spec(false), 2).unwrap();
        assert_eq!(topics.version().counter, 1);
        assert!(topics.create_for_group(spec(true), 3).unwrap().order);
    }

    #[test]
    fn a_deleted_topic_is_gone() {
        let topics = topics();
        topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap();
        assert!(topics.remove("a", 6));
        assert!(!topics.remove("a", 7));
        assert!(topics.find("a").is_none());
        assert!(topics.is_system("TBW102") && topics.is_system("rmq_sys_x") && !topics.is_system("a"));
    }

    #[test]
    fn a_topic_made_again_does_not_trust_offsets_of_connections_that_knew_the_one_before() {
        let topics = topics();
        let first = topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap().unwrap();
        assert!(!first.may_be_mistaken(0));
        topics.remove("a", 6);
        assert!(first.is_deleted());
        let again = topics.create_on_send(&send("a", "TBW102", 4), true, 7).unwrap().unwrap();
        assert!(again.is_reborn() && !again.is_deleted());
        let next = net::Connection::next_id();
        assert!(again.may_be_mistaken(next - 1) && !again.may_be_mistaken(next));
        topics.mark_ordered(["a"].into_iter(), 8);
        assert!(topics.find("a").unwrap().may_be_mistaken(next - 1), "a change is no new life");
    }
}
