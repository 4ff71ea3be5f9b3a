//! The table of topics. Pure state: the time is given; the file is in `table.rs`.

use super::{DEFAULT_QUEUES, PERM_INHERIT, PERM_READ, PERM_WRITE};
use crate::attributes::{self, AttributeError, Attributes, Changes};
use crate::signal::Signal;
use crate::stats::{BrokerStats, TopicCounters};
use crate::sync::{AtomicBool, Mutex, Ordering, RwLock};
use message::names;
use protocol::DataVersion;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

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
    /// Whether the topic was deleted since it was looked up. Who takes a queue by the topic's name and appends to it asks in
    /// between: before, the queue could be made after the old ones were deleted, and nobody would ever read or delete it.
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
    /// Queues of this name are being deleted.
    #[error("topic[{0}] is being deleted: try again when that is done")]
    BeingDeleted(String),
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
    /// Names whose queues are being deleted; one may be there twice. Locked after `table`, which is locked while a name is added.
    being_deleted: Mutex<Vec<Box<str>>>,
    limits: TopicLimits,
    stats: Arc<BrokerStats>,
    changed: Arc<Signal>,
}

/// Queues of a name are being deleted: until this is dropped no topic of the name can be made, so that what is deleted by name
/// is never a new topic's.
#[must_use = "dropped at once it protects nothing"]
#[derive(Debug)]
pub struct Deletion<'t> {
    topics: &'t Topics,
    name: Box<str>,
}

impl Drop for Deletion<'_> {
    fn drop(&mut self) {
        let mut names = self.topics.being_deleted.lock();
        if let Some(at) = names.iter().position(|name| *name == self.name) {
            names.swap_remove(at);
        }
    }
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
            being_deleted: Mutex::default(),
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
        if before.is_none() {
            self.refuse_being_deleted(&spec.name)?;
            if table.len() >= self.limits.topics {
                return Err(TopicError::Full(self.limits.topics));
            }
        }
        // Read under the table's lock: who counts one more saves a table that has this topic.
        let made_after = Some(self.changed.raised());
        let topic = self.topic(spec, before.map(|topic| &**topic), made_after, at);
        table.insert(topic.name.clone(), Arc::clone(&topic));
        Ok(topic)
    }

    fn refuse_being_deleted(&self, name: &str) -> Result<(), TopicError> {
        match self.being_deleted.lock().iter().any(|deleted| **deleted == *name) {
            true => Err(TopicError::BeingDeleted(name.to_owned())),
            false => Ok(()),
        }
    }

    /// The topic a message is sent to, made after the template it names if it is not there. `None`: there is no such
    /// template, or it does not let topics be made after it (`TBW102` does not when `autoCreateTopicEnable` is off).
    ///
    /// # Errors
    /// There are too many topics, or one of this name is being deleted.
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
    /// There are too many topics, or one of this name is being deleted.
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
    /// Queues, permission or attributes are not allowed, there are too many topics, or one of such a name is being deleted.
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
            fresh.iter().try_for_each(|name| self.refuse_being_deleted(name))?;
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

    /// Deletes a topic, if it is there. Its queues are to be deleted next, by whoever holds what this returns.
    pub fn begin_deletion(&self, name: &str, now_ms: i64) -> Deletion<'_> {
        let removed = self.change(now_ms, |table, _| {
            self.being_deleted.lock().push(name.into());
            let gone = table.remove(name);
            if let Some(topic) = &gone {
                topic.life.is_over.store(true, Ordering::Release);
                self.remember_deleted(&topic.name);
            }
            Ok((gone.is_some(), gone.is_some()))
        });
        if removed.unwrap_or(false) {
            tracing::info!(topic = name, "topic deleted");
        }
        let name = name.into();
        Deletion { topics: self, name }
    }

    /// For queues without a topic, which are to be deleted next by whoever holds what this returns; `None` if there is a topic of
    /// this name.
    #[must_use]
    pub fn begin_cleaning(&self, name: &str) -> Option<Deletion<'_>> {
        // Read: whoever makes a topic waits for this lock, and finds the name.
        let table = self.table.read();
        if table.contains_key(name) {
            return None;
        }
        self.being_deleted.lock().push(name.into());
        let name = name.into();
        Some(Deletion { topics: self, name })
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
