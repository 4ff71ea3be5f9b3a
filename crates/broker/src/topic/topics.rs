//! The table of topics. Pure state: the caller passes the time; the file is in `table.rs`.

use super::{PERM_INHERIT, PERM_READ, PERM_WRITE};
use crate::attributes::{self, Changes, DedupRule, MESSAGE_TYPE, PRIORITY};
use crate::logical_queue::Mapping;
use crate::signal::Signal;
use crate::state_file::Unsaved;
use crate::stats::{BrokerStats, TopicCounters};
use crate::sync::{AtomicBool, Mutex, Ordering, RwLock};
use message::names;
use protocol::DataVersion;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

// With a path, because tests/interleavings.rs includes this file.
#[path = "mappings.rs"]
mod mappings;
#[path = "spec.rs"]
mod spec;

pub use mappings::StaticUpdate;
use spec::check_dedup;
pub use spec::{CreateOnSend, Spec, TopicError, TopicLimits};

/// A topic. Dereferences to its configuration.
#[derive(Debug)]
pub struct Topic {
    spec: Spec,
    /// Counter of the table's data version at the last change of this topic.
    changed_at: i64,
    /// Counters of sends. They persist as long as the topic exists.
    pub counters: Arc<TopicCounters>,
    /// How repeated sends are recognised, if they are.
    pub dedup: Option<DedupRule>,
    /// Whether pops read the queues by priority.
    pub has_priorities: bool,
    /// See [`Topic::mapping`].
    mapping: Option<Arc<Mapping>>,
    lifetime: Arc<Lifetime>,
}

/// State of a topic that its changes keep: from creation to deletion.
#[derive(Debug)]
struct Lifetime {
    /// Changes that the signal had counted when the topic was created; `None` if it was loaded at the start.
    created_after: Option<u64>,
    /// If a topic of this name was deleted in this run, the first connection id after the new topic was created: older connections
    /// may have offsets of the deleted topic.
    recreated_at: Option<u64>,
    is_deleted: AtomicBool,
}

impl Topic {
    /// Whether the topic was deleted after it was looked up. A thread takes the queue by the topic's name, then checks this, then
    /// appends. If it checked before taking the queue, it could create a queue after the old ones were deleted, which would never
    /// be read or deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.lifetime.is_deleted.load(Ordering::Acquire)
    }

    /// Whether a topic of this name was deleted before in this run.
    #[must_use]
    pub fn is_recreated(&self) -> bool {
        self.lifetime.recreated_at.is_some()
    }

    /// Whether the client of this connection may have offsets of a deleted topic of the same name.
    #[must_use]
    pub fn may_have_stale_offsets(&self, connection: u64) -> bool {
        self.lifetime.recreated_at.is_some_and(|first| connection < first)
    }

    /// Whether the topic is saved to disk and registered at the name servers. A response that relies on the topic waits for this.
    #[must_use]
    pub fn is_settled(&self, changed: &Signal) -> bool {
        self.lifetime.created_after.is_none_or(|before| changed.settled() > before)
    }
}

impl std::ops::Deref for Topic {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        &self.spec
    }
}

/// A topic's name, and the topic unless it is gone.
type ChangedTopic = (Box<str>, Option<Arc<Topic>>);

type Table = FxHashMap<Box<str>, Arc<Topic>>;

/// All topics of the broker.
#[derive(Debug)]
pub struct Topics {
    table: RwLock<Table>,
    /// Held while the table changes, so that both are read consistently. Locked before `table`.
    version: Mutex<DataVersion>,
    /// Topics that changed since they were saved. Locked after `table`.
    unsaved: Mutex<Unsaved>,
    /// Of the mappings of static topics. Locked after `table`.
    mapping_version: Mutex<DataVersion>,
    /// Whether a topic has, or had, a mapping.
    has_mappings: AtomicBool,
    system: BTreeSet<Box<str>>,
    /// Names of topics that were deleted in this run, oldest first.
    deleted: Mutex<VecDeque<Box<str>>>,
    /// Names whose queues are being deleted; a name may occur twice. Locked after `table`, and `table` is locked while a name is
    /// added.
    being_deleted: Mutex<Vec<Box<str>>>,
    limits: TopicLimits,
    stats: Arc<BrokerStats>,
    changed: Arc<Signal>,
    /// Counters of sends to light queues; set if there are light queues. Each is a topic of one queue that is not in the table.
    light: OnceLock<Arc<TopicCounters>>,
}

/// While this exists, no topic of its name can be created. Hold it while the queues of that name are deleted, so that a queue of a
/// new topic is never deleted.
#[must_use = "the name is protected only until this is dropped"]
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

/// Number of names of deleted topics that are remembered.
const MAX_DELETED: usize = 10_000;

impl Topics {
    /// Creates the table with the built-in topics.
    #[must_use]
    pub fn new(builtin: Vec<Spec>, limits: TopicLimits, stats: Arc<BrokerStats>, changed: Arc<Signal>, now_ms: i64) -> Self {
        let system = builtin.iter().map(|spec| spec.name.clone()).collect();
        let topics = Self {
            table: RwLock::default(),
            version: Mutex::new(DataVersion {
                timestamp: now_ms,
                ..DataVersion::default()
            }),
            unsaved: Mutex::default(),
            mapping_version: Mutex::default(),
            has_mappings: AtomicBool::new(false),
            system,
            deleted: Mutex::default(),
            being_deleted: Mutex::default(),
            limits,
            stats,
            changed,
            light: OnceLock::new(),
        };
        topics.restore(builtin, None);
        topics
    }

    /// Adds topics that are built in or were read from the file, with the data version of the file.
    pub(super) fn restore(&self, specs: Vec<Spec>, version: Option<DataVersion>) {
        let mut current = self.version.lock();
        let mut table = self.table.write();
        if let Some(version) = version {
            *current = version;
        }
        for spec in specs {
            let topic = self.topic(spec, None, None, current.counter);
            table.insert(topic.name.clone(), Arc::new(topic));
        }
    }

    /// Makes the table equal to that of the master, on a slave. Nothing is changed if it has the master's version already.
    pub(super) fn copy(&self, specs: Vec<Spec>, version: DataVersion) {
        let mut current = self.version.lock();
        if *current == version {
            return;
        }
        let mut table = self.table.write();
        self.unsaved.lock().add_all();
        let before = std::mem::take(&mut *table);
        for spec in specs {
            let known = before.get(&spec.name);
            let topic = match known.filter(|known| known.spec == spec) {
                Some(known) => Arc::clone(known),
                None => Arc::new(self.topic(spec, known.map(|known| &**known), None, version.counter)),
            };
            table.insert(topic.name.clone(), topic);
        }
        let gone = before.iter().filter(|(name, _)| !table.contains_key(*name));
        gone.for_each(|(_, topic)| topic.lifetime.is_deleted.store(true, Ordering::Release));
        *current = version;
        drop(table);
        drop(current);
        self.changed.raise();
    }

    fn topic(&self, spec: Spec, before: Option<&Topic>, created_after: Option<u64>, changed_at: i64) -> Topic {
        let counters = before.map_or_else(|| Arc::new(self.stats.topic(&spec.name)), |topic| Arc::clone(&topic.counters));
        let lifetime = match before {
            Some(before) => Arc::clone(&before.lifetime),
            None => Arc::new(Lifetime {
                created_after,
                recreated_at: self.deleted.lock().contains(&spec.name).then(net::Connection::next_id),
                is_deleted: AtomicBool::new(false),
            }),
        };
        Topic {
            dedup: DedupRule::of(&spec.attributes),
            has_priorities: spec.attributes.get(MESSAGE_TYPE).is_some_and(|kind| kind == PRIORITY),
            mapping: before.and_then(|topic| topic.mapping.clone()),
            spec,
            changed_at,
            counters,
            lifetime,
        }
    }

    /// The signal that changes raise. Responses wait on it until a change is settled.
    #[must_use]
    pub fn changed(&self) -> &Arc<Signal> {
        &self.changed
    }

    /// The topic of this name. Called for every message.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Topic>> {
        let found = self.table.read().get(name).cloned();
        found.or_else(|| self.light(name))
    }

    /// Every light queue is a topic from now on, as in Apache's broker: with one queue, and without a place in the table.
    pub fn allow_light_queues(&self) {
        self.light.get_or_init(|| Arc::new(self.stats.topic(names::LIGHT_PREFIX)));
    }

    /// The topic that a light queue is.
    fn light(&self, name: &str) -> Option<Arc<Topic>> {
        let counters = self.light.get().filter(|_| names::can_be_light_queue(name))?;
        let spec = Spec {
            perm: PERM_READ | PERM_WRITE,
            ..Spec::new(name, 1)
        };
        Some(Arc::new(Topic {
            has_priorities: false,
            mapping: None,
            dedup: None,
            spec,
            changed_at: 0,
            counters: Arc::clone(counters),
            lifetime: Arc::new(Lifetime {
                created_after: None,
                recreated_at: None,
                is_deleted: AtomicBool::new(false),
            }),
        }))
    }

    /// Whether a topic of this name exists.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.table.read().contains_key(name) || self.light.get().is_some() && names::can_be_light_queue(name)
    }

    /// Whether the topic's order is configured at the name servers.
    #[must_use]
    pub fn is_ordered(&self, name: &str) -> bool {
        self.table.read().get(name).is_some_and(|topic| topic.order)
    }

    /// Number of topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.read().len()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the name is a system topic: in Apache's list, or built in.
    #[must_use]
    pub fn is_system(&self, name: &str) -> bool {
        names::is_system_topic(name) || self.system.contains(name)
    }

    /// Names of the system topics.
    #[must_use]
    pub fn system_names(&self) -> BTreeSet<String> {
        let fixed = names::SYSTEM_TOPICS.iter().map(ToString::to_string);
        fixed.chain(self.system.iter().map(ToString::to_string)).collect()
    }

    /// All topics by name, with their data version.
    #[must_use]
    pub fn snapshot(&self) -> (DataVersion, BTreeMap<Box<str>, Arc<Topic>>) {
        let version = self.version.lock();
        let table = self.table.read();
        let sorted = table.iter().map(|(name, topic)| (name.clone(), Arc::clone(topic)));
        (*version, sorted.collect())
    }

    /// All topics, unordered, with their data version.
    #[must_use]
    pub fn all(&self) -> (DataVersion, Vec<Arc<Topic>>) {
        let version = self.version.lock();
        let table = self.table.read();
        (*version, table.values().cloned().collect())
    }

    /// The topics created or changed after `known`, an earlier data version, unordered, and the current data version. Deleted
    /// topics are not reported. Scans all topics.
    #[must_use]
    pub fn changed_since(&self, known: DataVersion) -> (DataVersion, Vec<Arc<Topic>>) {
        let version = self.version.lock();
        let table = self.table.read();
        let changed = table.values().filter(|topic| topic.changed_at > known.counter);
        (*version, changed.cloned().collect())
    }

    /// The topics that changed since the last call, as they are now or `None` for those that are gone, and the data version with them; `None` if any may
    /// have changed.
    pub(super) fn take_changed(&self) -> Option<(DataVersion, Vec<ChangedTopic>)> {
        let version = self.version.lock();
        let table = self.table.read();
        let names = self.unsaved.lock().take()?;
        let changed = names.into_iter().map(|name| {
            let topic = table.get(&name).cloned();
            (name, topic)
        });
        Some((*version, changed.collect()))
    }

    /// Under a controller: the epoch of this master, which name servers compare before they compare versions.
    pub fn set_state_version(&self, epoch: i64) {
        self.version.lock().state_version = epoch;
    }

    /// The current data version.
    #[must_use]
    pub fn version(&self) -> DataVersion {
        *self.version.lock()
    }

    /// Changes the table under its locks. `change` gets the counter of the next data version and returns whether it is needed.
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

    /// Adds or replaces a topic; without `mapping` it keeps the one that it has.
    fn insert(&self, table: &mut Table, spec: Spec, at: i64, mapping: Option<Arc<Mapping>>) -> Result<Arc<Topic>, TopicError> {
        let before = table.get(&spec.name);
        if before.is_none() {
            self.refuse_being_deleted(&spec.name)?;
            if table.len() >= self.limits.topics {
                return Err(TopicError::Full(self.limits.topics));
            }
        }
        // Read under the table's lock: a thread that sees a higher count saves a table with this topic.
        let created_after = Some(self.changed.raised());
        let mut topic = self.topic(spec, before.map(|topic| &**topic), created_after, at);
        topic.mapping = mapping.or(topic.mapping);
        let topic = Arc::new(topic);
        self.unsaved.lock().add(&topic.name);
        table.insert(topic.name.clone(), Arc::clone(&topic));
        Ok(topic)
    }

    fn refuse_being_deleted(&self, name: &str) -> Result<(), TopicError> {
        match self.being_deleted.lock().iter().any(|deleted| **deleted == *name) {
            true => Err(TopicError::BeingDeleted(name.to_owned())),
            false => Ok(()),
        }
    }

    /// The topic that a message is sent to. Creates it from the template if it does not exist. Returns `None` if the template does
    /// not exist or topics must not be created from it (`TBW102` if `autoCreateTopicEnable` is off).
    ///
    /// # Errors
    /// [`TopicError::Full`], or [`TopicError::BeingDeleted`].
    pub fn create_on_send(&self, request: &CreateOnSend<'_>, auto_create: bool, now_ms: i64) -> Result<Option<Arc<Topic>>, TopicError> {
        self.change(now_ms, |table, at| {
            if let Some(topic) = table.get(request.topic) {
                return Ok((Some(Arc::clone(topic)), false));
            }
            let template = table.get(request.template).filter(|template| {
                let allowed = auto_create || request.template != names::AUTO_CREATE_TOPIC;
                allowed && template.perm & PERM_INHERIT != 0
            });
            let Some(template) = template else {
                tracing::warn!(
                    topic = request.topic,
                    template = request.template,
                    "topic not created: no such template"
                );
                return Ok((None, false));
            };
            let queues = request.queues.min(template.write_queues).clamp(0, self.limits.queues);
            let spec = Spec {
                perm: template.perm & !PERM_INHERIT,
                multi_tag: template.multi_tag,
                sys_flag: request.sys_flag,
                attributes: request
                    .message_type
                    .map(|kind| (MESSAGE_TYPE.to_owned(), kind.to_owned()))
                    .into_iter()
                    .collect(),
                ..Spec::new(request.topic, queues)
            };
            let topic = self.insert(table, spec, at, None)?;
            tracing::info!(topic = request.topic, queues, "topic created by a producer's first message");
            Ok((Some(topic), true))
        })
    }

    /// The retry or dead letter topic of a group. Creates it if it does not exist, and updates its `order`.
    ///
    /// # Errors
    /// [`TopicError::Full`], or [`TopicError::BeingDeleted`].
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
            Ok((self.insert(table, spec, at, None)?, true))
        })
    }

    /// Gives a topic at least so many queues, for what the broker stores there itself; it never has fewer afterwards.
    ///
    /// # Errors
    /// [`TopicError::Queues`] if that is more than a topic may have.
    pub fn widen(&self, topic: &Arc<Topic>, queues: i32, now_ms: i64) -> Result<Arc<Topic>, TopicError> {
        self.change(now_ms, |table, at| {
            // Deleted meanwhile: the append to it says so.
            let now = table.get(&topic.name).unwrap_or(topic);
            if now.is_deleted() || (now.read_queues >= queues && now.write_queues >= queues) {
                return Ok((Arc::clone(now), false));
            }
            let spec = Spec {
                read_queues: now.read_queues.max(queues),
                write_queues: now.write_queues.max(queues),
                ..now.spec.clone()
            };
            self.check(&spec)?;
            Ok((self.insert(table, spec, at, None)?, true))
        })
    }

    /// Creates or changes topics for an operator; all or none. Each comes with its attribute changes. A topic that already has this
    /// configuration is not changed.
    ///
    /// # Errors
    /// A [`TopicError`] for the first topic that cannot be created or changed.
    pub fn update(&self, updates: Vec<(Spec, Changes)>, now_ms: i64) -> Result<(), TopicError> {
        for (spec, _) in &updates {
            self.check(spec)?;
        }
        self.change(now_ms, |table, at| {
            let mut specs = Vec::with_capacity(updates.len());
            for (mut spec, changes) in updates {
                let before = table.get(&spec.name);
                spec.attributes = attributes::apply(attributes::OF_TOPICS, before.map(|topic| &topic.attributes), &changes)?;
                check_dedup(&spec)?;
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
                    "topic created or changed"
                );
                self.insert(table, spec, at, None)?;
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

    /// Sets `order` of topics whose order is configured at the name servers.
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
                self.insert(table, spec, at, None)?;
                changed = true;
            }
            Ok(((), changed))
        });
        if let Err(error) = marked {
            tracing::warn!(%error, "ordered topics were not marked");
        }
    }

    /// Deletes a topic if it exists. The caller then deletes its queues while it holds the result.
    pub fn begin_deletion(&self, name: &str, now_ms: i64) -> Deletion<'_> {
        let removed = self.change(now_ms, |table, _| {
            self.being_deleted.lock().push(name.into());
            let gone = table.remove(name);
            if let Some(topic) = &gone {
                topic.lifetime.is_deleted.store(true, Ordering::Release);
                self.unsaved.lock().add(&topic.name);
                self.remember_deleted(&topic.name);
                if topic.mapping.is_some() {
                    self.mapping_changed(now_ms);
                }
            }
            Ok((gone.is_some(), gone.is_some()))
        });
        if removed.unwrap_or(false) {
            tracing::info!(topic = name, "topic deleted");
        }
        let name = name.into();
        Deletion { topics: self, name }
    }

    /// Protects the name of queues without a topic, which the caller then deletes; `None` if a topic of this name exists.
    #[must_use]
    pub fn begin_cleaning(&self, name: &str) -> Option<Deletion<'_>> {
        // A read lock suffices: a thread that creates a topic waits for it, and then finds the name in `being_deleted`.
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

    /// Raises the data version without a change of topics: the broker's permission changed, which is part of its registration.
    pub fn touch(&self, now_ms: i64) {
        let mut version = self.version.lock();
        *version = version.next(now_ms);
        drop(version);
        self.changed.raise();
    }
}
