//! Mappings of static topics in the table of topics: part of `topics.rs`, which has the fields.

use super::{Spec, Table, Topic, TopicError, Topics};
use crate::attributes::{self, Changes};
use crate::logical_queue::{Mapping, accept};
use crate::sync::Ordering;
use protocol::DataVersion;
use protocol::static_topic::{InvalidMapping, QueueMappingDetail};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Topic {
    /// What the logical queues of a static topic are made of; `None` for other topics.
    #[must_use]
    pub fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.as_ref()
    }
}

/// A change of a static topic.
#[derive(Debug)]
pub struct StaticUpdate<'a> {
    /// The topic on this broker.
    pub spec: Spec,
    /// Changes of its attributes.
    pub changes: Changes,
    /// Its mapping.
    pub mapping: QueueMappingDetail,
    /// Name of this broker.
    pub broker: &'a str,
    /// Whether the mapping may contradict the one that the topic has.
    pub force: bool,
}

impl Topics {
    /// The mapping of a topic. While there is no static topic, this reads one flag.
    #[must_use]
    pub fn mapping(&self, topic: &str) -> Option<Arc<Mapping>> {
        if !self.has_mappings() {
            return None;
        }
        self.table.read().get(topic)?.mapping.clone()
    }

    /// Whether a topic has, or had, a mapping in this run.
    #[must_use]
    pub fn has_mappings(&self) -> bool {
        self.has_mappings.load(Ordering::Relaxed)
    }

    /// All mappings by topic, with their data version.
    #[must_use]
    pub fn mappings(&self) -> (DataVersion, BTreeMap<String, QueueMappingDetail>) {
        let table = self.table.read();
        let version = *self.mapping_version.lock();
        let mapped = table.values().filter_map(|topic| Some((&topic.name, topic.mapping()?)));
        (
            version,
            mapped.map(|(name, mapping)| (name.to_string(), mapping.detail().clone())).collect(),
        )
    }

    /// The data version of the mappings.
    #[must_use]
    pub fn mapping_version(&self) -> DataVersion {
        *self.mapping_version.lock()
    }

    /// Creates or changes a static topic. Returns the mapping that was replaced, if any: sends to it may not be appended yet.
    ///
    /// # Errors
    /// [`TopicError::Mapping`] if the mapping is not accepted, otherwise as [`Self::update`].
    pub fn update_static(&self, update: StaticUpdate<'_>, now_ms: i64) -> Result<Option<Arc<Mapping>>, TopicError> {
        let StaticUpdate {
            mut spec,
            changes,
            mapping,
            broker,
            force,
        } = update;
        self.check(&spec)?;
        self.check_mapping(&spec, &mapping, broker)?;
        let replaced = self.change(now_ms, |table, at| {
            let before = table.get(&spec.name).cloned();
            spec.attributes = attributes::apply(attributes::OF_TOPICS, before.as_ref().map(|topic| &topic.attributes), &changes)?;
            super::check_dedup(&spec)?;
            let old = before.as_ref().and_then(|topic| topic.mapping.clone());
            let mapping = accept::accepted(old.as_ref().map(|old| old.detail()), mapping, broker, force)?;
            if before.is_some_and(|topic| topic.spec == spec) && old.as_ref().is_some_and(|old| *old.detail() == mapping) {
                return Ok((None, false));
            }
            tracing::info!(
                topic = &*spec.name,
                epoch = mapping.epoch,
                queues = mapping.total_queues,
                "static topic created or changed"
            );
            self.insert_mapped(table, spec, at, mapping, now_ms)?;
            Ok((old, true))
        })?;
        if let Some(old) = &replaced {
            old.replaced();
        }
        Ok(replaced)
    }

    /// Replaces the mapping of a topic by what `change` makes of it, unless that is `None` or the topic has none. For the clean-up.
    ///
    /// # Errors
    /// [`TopicError::Full`] never, because the topic exists.
    pub fn change_mapping(
        &self,
        topic: &str,
        now_ms: i64,
        change: impl FnOnce(&QueueMappingDetail) -> Option<QueueMappingDetail>,
    ) -> Result<(), TopicError> {
        let replaced = self.change(now_ms, |table, at| {
            let Some((spec, old)) = table
                .get(topic)
                .and_then(|topic| Some((topic.spec.clone(), topic.mapping.clone()?)))
            else {
                return Ok((None, false));
            };
            let Some(mapping) = change(old.detail()) else {
                return Ok((None, false));
            };
            self.insert_mapped(table, spec, at, mapping, now_ms)?;
            Ok((Some(old), true))
        })?;
        if let Some(old) = &replaced {
            old.replaced();
        }
        Ok(())
    }

    fn insert_mapped(&self, table: &mut Table, spec: Spec, at: i64, mapping: QueueMappingDetail, now_ms: i64) -> Result<(), TopicError> {
        self.insert(table, spec, at, Some(Arc::new(Mapping::new(mapping))))?;
        self.has_mappings.store(true, Ordering::Relaxed);
        self.mapping_changed(now_ms);
        Ok(())
    }

    /// Raises the version of the mappings. Called under the lock of the table.
    pub(super) fn mapping_changed(&self, now_ms: i64) {
        let mut version = self.mapping_version.lock();
        *version = version.next(now_ms);
    }

    fn check_mapping(&self, spec: &Spec, mapping: &QueueMappingDetail, broker: &str) -> Result<(), TopicError> {
        let refuse = |text: String| Err(InvalidMapping(text).into());
        if *mapping.topic != *spec.name {
            return refuse(format!("the mapping is of topic {}, the request of {}", mapping.topic, spec.name));
        }
        let most = self.limits.queues;
        if !(0..=most).contains(&mapping.total_queues) || mapping.hosted_queues.len() > most as usize {
            return refuse(format!(
                "a topic has at most {most} logical queues (apogeeMaxQueuesPerTopic), this one {} and {} on this broker",
                mapping.total_queues,
                mapping.hosted_queues.len()
            ));
        }
        let leaders = mapping.hosted_queues.iter().filter_map(|(id, items)| Some((id, items.last()?)));
        let here = leaders.filter(|(_, leader)| leader.bname == broker);
        if let Some((id, leader)) = here.into_iter().find(|(_, leader)| leader.queue_id >= spec.write_queues) {
            return refuse(format!(
                "logical queue {id} is stored in queue {}, but the topic has {} queues on this broker",
                leader.queue_id, spec.write_queues
            ));
        }
        Ok(())
    }

    /// Gives topics the mappings of a file or of the master, with their version. Returns those whose topic does not exist.
    pub fn restore_mappings(&self, mut mappings: BTreeMap<String, QueueMappingDetail>, version: DataVersion) -> Vec<String> {
        let mut table = self.table.write();
        let topics: Vec<Arc<Topic>> = table.values().cloned().collect();
        for topic in topics {
            let mapping = mappings.remove(&*topic.name);
            if topic.mapping().map(|mapping| mapping.detail()) == mapping.as_ref() {
                continue;
            }
            let mapping = mapping.map(|mapping| Arc::new(Mapping::new(mapping)));
            let mapped = Topic {
                mapping,
                ..self.topic(topic.spec.clone(), Some(&topic), None, topic.changed_at)
            };
            if mapped.mapping.is_some() {
                self.has_mappings.store(true, Ordering::Relaxed);
            }
            if let Some(old) = topic.mapping() {
                old.replaced();
            }
            table.insert(mapped.name.clone(), Arc::new(mapped));
        }
        *self.mapping_version.lock() = version;
        mappings.into_keys().collect()
    }
}
