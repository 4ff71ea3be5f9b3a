//! The table of groups. Pure state: the caller passes the time; the file is in `table.rs`.

use crate::attributes::{self, AttributeError};
use crate::signal::Signal;
use crate::state_file::Unsaved;
use message::names::{self, NameError};
use parking_lot::{Mutex, RwLock};
use protocol::DataVersion;
use protocol::group::GroupConfig;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Configuration of a group.
pub type Rule = GroupConfig;
/// Permission bits that are denied to a group, by group and topic.
pub type Forbidden = BTreeMap<String, BTreeMap<String, i32>>;

/// A group, with what it has now, or no longer has.
type ChangedGroup = (Box<str>, Option<Rule>, Option<BTreeMap<String, i32>>);

/// Bit of [`Forbidden`]: reading the topic.
pub(super) const FORBIDDEN_READ: i32 = 1 << 2;

/// Why a group is not created or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The broker has too many groups.
    #[error("the broker already has {0} consumer groups, which is the limit, see apogeeMaxGroups")]
    Full(usize),
    /// The group does not exist and may not be created by its first member.
    #[error("there is no consumer group of this name: create it with mqadmin updateSubGroup, or set autoCreateSubscriptionGroup=true")]
    Missing,
    /// Too many topics are forbidden to groups.
    #[error("{0} pairs of group and topic are already forbidden, which is the limit, see apogeeMaxForbidden")]
    TooMuchForbidden(usize),
    /// An invalid name of a group or topic.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An invalid change of attributes.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
}

/// The limits, each a setting.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// Groups: `apogeeMaxGroups`.
    pub groups: usize,
    /// Pairs of group and topic that are forbidden: `apogeeMaxForbidden`.
    pub forbidden: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            groups: 100_000,
            forbidden: 100_000,
        }
    }
}

/// All groups of the broker.
#[derive(Debug)]
pub struct Groups {
    table: RwLock<FxHashMap<Box<str>, Arc<Rule>>>,
    forbidden: RwLock<Forbidden>,
    any_forbidden: AtomicBool,
    /// Held while a table changes, so that all are read consistently. Locked before them.
    version: Mutex<DataVersion>,
    /// Groups that changed since they were saved. Locked after `version`.
    unsaved: Mutex<Unsaved>,
    limits: GroupLimits,
    changed: Arc<Signal>,
    /// Every name of a light queue is a group.
    are_light_queues_groups: AtomicBool,
}

impl Groups {
    /// Creates the table with the built-in groups.
    #[must_use]
    pub fn new(limits: GroupLimits, changed: Arc<Signal>, now_ms: i64) -> Self {
        let rule = |name: &&str| ((*name).into(), Arc::new(plain(name)));
        Self {
            table: RwLock::new(names::BUILT_IN_GROUPS.iter().map(rule).collect()),
            forbidden: RwLock::default(),
            any_forbidden: AtomicBool::new(false),
            version: Mutex::new(DataVersion {
                timestamp: now_ms,
                ..DataVersion::default()
            }),
            unsaved: Mutex::default(),
            limits,
            changed,
            are_light_queues_groups: AtomicBool::new(false),
        }
    }

    /// Every name of a light queue is a group from now on, as in Apache's broker: with the default configuration, and without a place in
    /// the table.
    pub fn allow_light_queues(&self) {
        self.are_light_queues_groups.store(true, Relaxed);
    }

    fn is_light(&self, group: &str) -> bool {
        self.are_light_queues_groups.load(Relaxed) && names::can_be_light_queue(group)
    }

    /// Adds groups that were read from the file.
    pub(super) fn restore(&self, rules: impl IntoIterator<Item = Rule>, forbidden: Forbidden, version: Option<DataVersion>) {
        let mut current = self.version.lock();
        let mut table = self.table.write();
        self.unsaved.lock().add_all();
        for rule in rules {
            table.insert(rule.group_name.as_str().into(), Arc::new(rule));
        }
        self.any_forbidden.store(!forbidden.is_empty(), Relaxed);
        *self.forbidden.write() = forbidden;
        if let Some(version) = version {
            *current = version;
        }
    }

    /// Makes the table equal to that of the master, on a slave. Nothing is changed if it has the master's version already.
    pub(super) fn copy(&self, rules: impl IntoIterator<Item = Rule>, forbidden: Forbidden, version: DataVersion) {
        if self.version() == version {
            return;
        }
        self.table.write().clear();
        self.restore(rules, forbidden, Some(version));
        self.changed.raise();
    }

    /// The configuration of a group. Called for every pull.
    #[must_use]
    pub fn find(&self, group: &str) -> Option<Arc<Rule>> {
        let found = self.table.read().get(group).cloned();
        found.or_else(|| self.is_light(group).then(|| Arc::new(plain(group))))
    }

    /// Whether there is a group of this name.
    #[must_use]
    pub fn contains(&self, group: &str) -> bool {
        self.table.read().contains_key(group) || self.is_light(group)
    }

    /// The configuration of a group. Creates the group if it does not exist and `auto_create` is set
    /// (`autoCreateSubscriptionGroup`); system groups are always created.
    ///
    /// # Errors
    /// [`GroupError::Missing`] if it may not be created, [`GroupError::Name`], or [`GroupError::Full`].
    pub fn find_or_create(&self, group: &str, auto_create: bool, now_ms: i64) -> Result<Arc<Rule>, GroupError> {
        if let Some(rule) = self.find(group) {
            return Ok(rule);
        }
        if !(auto_create || names::is_system_group(group)) {
            return Err(GroupError::Missing);
        }
        names::check_group(group)?;
        let mut version = self.version.lock();
        let mut table = self.table.write();
        if let Some(rule) = table.get(group) {
            return Ok(Arc::clone(rule));
        }
        if table.len() >= self.limits.groups {
            return Err(GroupError::Full(self.limits.groups));
        }
        let rule = Arc::new(plain(group));
        table.insert(group.into(), Arc::clone(&rule));
        drop(table);
        self.raise(&mut version, [group], now_ms);
        tracing::info!(group, "consumer group created by its first member");
        Ok(rule)
    }

    /// Creates or changes groups for an operator; all or none. Their attributes are changes, see [`attributes::apply`].
    ///
    /// # Errors
    /// [`GroupError::Full`], or [`GroupError::Attribute`] for an invalid change of attributes.
    pub fn update(&self, mut rules: Vec<Rule>, now_ms: i64) -> Result<(), GroupError> {
        let mut version = self.version.lock();
        let mut table = self.table.write();
        for rule in &mut rules {
            let current = table.get(rule.group_name.as_str()).map(|current| &current.attributes);
            rule.attributes = attributes::apply(attributes::OF_GROUPS, current, &rule.attributes)?;
        }
        let fresh = rules.iter().filter(|rule| !table.contains_key(rule.group_name.as_str())).count();
        if table.len() + fresh > self.limits.groups {
            return Err(GroupError::Full(self.limits.groups));
        }
        let mut changed = Vec::new();
        for rule in rules {
            let name = rule.group_name.as_str();
            if table.get(name).is_some_and(|current| **current == rule) {
                continue;
            }
            tracing::info!(
                group = name,
                consume_enable = rule.consume_enable,
                "consumer group created or changed"
            );
            changed.push(name.to_owned());
            table.insert(name.into(), Arc::new(rule));
        }
        drop(table);
        if !changed.is_empty() {
            self.raise(&mut version, changed.iter().map(String::as_str), now_ms);
        }
        Ok(())
    }

    /// Deletes a group. Returns whether it existed.
    pub fn remove(&self, group: &str, now_ms: i64) -> bool {
        let mut version = self.version.lock();
        let gone = self.table.write().remove(group).is_some();
        let unforbidden = self.forbidden.write().remove(group).is_some();
        if gone || unforbidden {
            self.raise(&mut version, [group], now_ms);
            tracing::info!(group, "consumer group deleted");
        }
        gone
    }

    /// Forbids or allows a group to read a topic. Neither has to exist.
    ///
    /// # Errors
    /// [`GroupError::Name`], or [`GroupError::TooMuchForbidden`].
    pub fn forbid_reading(&self, group: &str, topic: &str, forbid: bool, now_ms: i64) -> Result<(), GroupError> {
        let mut version = self.version.lock();
        let mut forbidden = self.forbidden.write();
        if forbid {
            names::check_group(group)?;
            names::check_topic(topic)?;
            let is_new = forbidden.get(group).is_none_or(|topics| !topics.contains_key(topic));
            if is_new && forbidden.values().map(BTreeMap::len).sum::<usize>() >= self.limits.forbidden {
                return Err(GroupError::TooMuchForbidden(self.limits.forbidden));
            }
            let bits = forbidden.entry(group.to_owned()).or_default().entry(topic.to_owned()).or_default();
            *bits |= FORBIDDEN_READ;
        } else if let Some(topics) = forbidden.get_mut(group) {
            if let Some(bits) = topics.get_mut(topic) {
                *bits &= !FORBIDDEN_READ;
            }
            topics.retain(|_, bits| *bits > 0);
            if topics.is_empty() {
                forbidden.remove(group);
            }
        }
        self.any_forbidden.store(!forbidden.is_empty(), Relaxed);
        drop(forbidden);
        self.raise(&mut version, [group], now_ms);
        Ok(())
    }

    /// Whether a group is forbidden to read a topic. Called for every pull: one atomic load while nothing is forbidden to any
    /// group.
    #[must_use]
    pub fn is_reading_forbidden(&self, group: &str, topic: &str) -> bool {
        if !self.any_forbidden.load(Relaxed) {
            return false;
        }
        let forbidden = self.forbidden.read();
        let bits = forbidden.get(group).and_then(|topics| topics.get(topic));
        bits.is_some_and(|bits| bits & FORBIDDEN_READ != 0)
    }

    /// All groups by name and what is forbidden to them, with the data version of both.
    #[must_use]
    pub fn snapshot(&self) -> (DataVersion, BTreeMap<String, Arc<Rule>>, Forbidden) {
        let version = self.version.lock();
        let table = self.table.read();
        let sorted = table.iter().map(|(name, rule)| (name.to_string(), Arc::clone(rule)));
        (*version, sorted.collect(), self.forbidden.read().clone())
    }

    /// The current data version.
    #[must_use]
    pub fn version(&self) -> DataVersion {
        *self.version.lock()
    }

    /// Names of all groups.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.table.read().keys().map(ToString::to_string).collect()
    }

    /// The groups that changed since the last call, each with its rule and what is forbidden to it, and the data version with them; `None` if any may have.
    pub(super) fn take_changed(&self) -> Option<(DataVersion, Vec<ChangedGroup>)> {
        let version = self.version.lock();
        let names = self.unsaved.lock().take()?;
        let (table, forbidden) = (self.table.read(), self.forbidden.read());
        let changed = names.into_iter().map(|name| {
            let rule = table.get(&name).map(|rule| Rule::clone(rule));
            let forbidden = forbidden.get(&*name).cloned();
            (name, rule, forbidden)
        });
        Some((*version, changed.collect()))
    }

    fn raise<'g>(&self, version: &mut DataVersion, groups: impl IntoIterator<Item = &'g str>, now_ms: i64) {
        let mut unsaved = self.unsaved.lock();
        groups.into_iter().for_each(|group| unsaved.add(group));
        *version = version.next(now_ms);
        self.changed.raise();
    }
}

/// A group with the default configuration.
fn plain(name: &str) -> Rule {
    Rule::new(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Groups {
        let limits = GroupLimits {
            groups: names::BUILT_IN_GROUPS.len() + 2,
            forbidden: 2,
        };
        Groups::new(limits, Arc::default(), 0)
    }

    #[test]
    fn a_group_is_created_if_that_is_allowed() {
        let groups = groups();
        assert!(groups.find_or_create("g", false, 1).is_err());
        assert!(groups.find_or_create("CID_RMQ_SYS_x", false, 1).is_ok());
        assert!(groups.find_or_create("bad name", true, 1).is_err());
        let made = groups.find_or_create("g", true, 2).unwrap();
        assert!(made.consume_enable && made.retry_queue_nums == 1);
        assert!(Arc::ptr_eq(&made, &groups.find_or_create("g", true, 3).unwrap()));
        assert_eq!(groups.version().counter, 2);
        assert!(groups.find_or_create("one-too-many", true, 4).is_err());
        assert!(groups.find("TOOLS_CONSUMER").is_some());
    }

    #[test]
    fn attributes_of_groups_are_changed_and_stored() {
        let groups = groups();
        let with = |attributes: &[(&str, &str)]| Rule {
            attributes: attributes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..plain("g")
        };
        groups
            .update(vec![with(&[("+priority.factor", "50"), ("+lite.bind.topic", "t")])], 1)
            .unwrap();
        groups.update(vec![with(&[])], 2).unwrap();
        groups
            .update(vec![with(&[("-lite.bind.topic", ""), ("+priority.factor", "60")])], 3)
            .unwrap();
        let attributes = groups.find("g").unwrap().attributes.clone();
        assert_eq!(
            attributes.into_iter().collect::<Vec<_>>(),
            [("priority.factor".to_owned(), "60".to_owned())]
        );
        let refusal = groups.update(vec![with(&[("+a", "1")])], 4).unwrap_err();
        assert_eq!(refusal.to_string(), "unsupported key: a");
    }

    #[test]
    fn an_operator_changes_and_deletes_groups() {
        let groups = groups();
        let closed = Rule {
            consume_enable: false,
            ..plain("g")
        };
        groups.update(vec![closed.clone()], 1).unwrap();
        groups.update(vec![closed], 2).unwrap();
        assert_eq!(groups.version().counter, 1, "the second update changed nothing");
        assert!(!groups.find("g").unwrap().consume_enable);
        assert!(groups.remove("g", 3));
        assert!(!groups.remove("g", 4));
        let three = ["a", "b", "c"].map(plain).into();
        assert!(matches!(groups.update(three, 5), Err(GroupError::Full(_))));
        assert!(!groups.contains("a"));
    }

    #[test]
    fn reading_a_topic_is_forbidden_to_one_group() {
        let groups = groups();
        assert!(!groups.is_reading_forbidden("g", "t"));
        groups.forbid_reading("g", "t", true, 1).unwrap();
        assert!(groups.is_reading_forbidden("g", "t"));
        assert!(!groups.is_reading_forbidden("g", "u") && !groups.is_reading_forbidden("h", "t"));
        groups.forbid_reading("g", "t", false, 2).unwrap();
        assert!(!groups.is_reading_forbidden("g", "t"));
        assert!(groups.snapshot().2.is_empty());
    }

    #[test]
    fn forbidden_names_are_checked_and_limited() {
        let groups = groups();
        assert!(matches!(groups.forbid_reading("a\nb", "t", true, 1), Err(GroupError::Name(_))));
        assert!(matches!(
            groups.forbid_reading("g", &"t".repeat(9_999), true, 1),
            Err(GroupError::Name(_))
        ));
        groups.forbid_reading("g", "t", true, 1).unwrap();
        groups.forbid_reading("g", "u", true, 1).unwrap();
        assert_eq!(groups.forbid_reading("h", "t", true, 1), Err(GroupError::TooMuchForbidden(2)));
        groups.forbid_reading("g", "u", true, 1).unwrap();
        groups.forbid_reading("g", "u", false, 1).unwrap();
        groups.forbid_reading("h", "t", true, 1).unwrap();
    }
}
