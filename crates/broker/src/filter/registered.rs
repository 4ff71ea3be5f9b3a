//! SQL92 expressions of consumer groups, compiled. Pure state: the time is given.
//!
//! A heartbeat registers the expressions of its group; pulls without an expression of their own use them. An expression is dead when its
//! group no longer subscribes to the topic or is offline. Dead ones are kept for a while, as in Apache's broker, and evicted first when
//! there is no room.

use super::is_tag_type;
use super::sql::{Expression, SqlLimits};
use parking_lot::RwLock;
use protocol::heartbeat::{SQL92, Subscription};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Bounds of the registered expressions.
#[derive(Clone, Copy, Debug)]
pub struct FilterLimits {
    /// Of one expression.
    pub sql: SqlLimits,
    /// Memory of all of them, in bytes: `apogeeMaxRegisteredFilterBytes`.
    pub bytes: usize,
    /// How long a dead one is kept, ms: `filterDataCleanTimeSpan`.
    pub keep_dead_ms: i64,
}

impl Default for FilterLimits {
    fn default() -> Self {
        Self {
            sql: SqlLimits::default(),
            bytes: 64 << 20,
            keep_dead_ms: 24 * 3_600_000,
        }
    }
}

/// An expression that a group registered for a topic.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The text.
    pub text: Arc<str>,
    /// Compiled.
    pub expression: Arc<Expression>,
    /// Version of the subscription, which the client counts.
    pub version: i64,
    /// When it was registered, epoch ms.
    pub born_ms: i64,
    /// When the group stopped using it, epoch ms; 0 while it uses it.
    pub dead_ms: i64,
}

/// What an entry takes beside its texts and its program.
const ENTRY_BYTES: usize = 256;

impl Registered {
    fn is_dead(&self) -> bool {
        self.dead_ms >= self.born_ms
    }

    fn die(&mut self, now_ms: i64) {
        self.dead_ms = now_ms.max(self.born_ms);
    }

    fn memory(&self, group: &str, topic: &str) -> usize {
        ENTRY_BYTES + group.len() + topic.len() + self.text.len() + self.expression.memory()
    }
}

type OfGroup = FxHashMap<Box<str>, Registered>;

#[derive(Debug, Default)]
struct FilterTable {
    /// By group, then by topic.
    groups: FxHashMap<Box<str>, OfGroup>,
    bytes: usize,
    /// Changes that are to be saved.
    changes: u64,
}

/// The registered expressions.
#[derive(Debug, Default)]
pub struct Filters {
    state: RwLock<FilterTable>,
    limits: FilterLimits,
}

impl Filters {
    /// Creates an empty table.
    #[must_use]
    pub fn new(limits: FilterLimits) -> Self {
        Self {
            state: RwLock::default(),
            limits,
        }
    }

    /// Bounds of one expression.
    #[must_use]
    pub fn sql_limits(&self) -> &SqlLimits {
        &self.limits.sql
    }

    /// The expression of a group for a topic.
    #[must_use]
    pub fn find(&self, group: &str, topic: &str) -> Option<Registered> {
        self.state.read().groups.get(group)?.get(topic).cloned()
    }

    /// Registers the expressions among the subscriptions of a heartbeat; the group's expressions for other topics are dead from now on.
    /// Versions older than the registered one change nothing. Compat: an expression that cannot be compiled is not registered, and
    /// removes that of an older version; the group's pulls are refused then (27).
    pub fn register(&self, group: &str, subscriptions: &[Subscription], now_ms: i64) {
        let expressions = || {
            let all = subscriptions.iter();
            all.filter(|told| told.expression_type == SQL92 && !told.sub_string.is_empty())
        };
        if expressions().next().is_none() && !self.state.read().groups.contains_key(group) {
            return;
        }
        // Compiled without the lock.
        let compiled: Vec<_> = expressions()
            .map(|told| (told, self.needs_compiling(group, told).then(|| self.compile(group, told))))
            .collect();
        let mut state = self.state.write();
        for (told, compiled) in compiled {
            let added = match compiled {
                Some(None) => state.remove_older(group, told),
                Some(Some(expression)) => {
                    let added = Registered {
                        text: told.sub_string.as_str().into(),
                        expression,
                        version: told.sub_version,
                        born_ms: now_ms,
                        dead_ms: 0,
                    };
                    state.add(group, &told.topic, added, self.limits.bytes)
                }
                None => state.renew(group, told),
            };
            if !added {
                tracing::warn!(
                    group,
                    topic = told.topic,
                    "an SQL filter is not registered: those of all groups take up to {} bytes (apogeeMaxRegisteredFilterBytes)",
                    self.limits.bytes
                );
            }
        }
        let is_told = |topic: &str| {
            let mut all = subscriptions.iter();
            all.any(|told| told.topic == topic && !is_tag_type(&told.expression_type))
        };
        state.kill(group, now_ms, |topic| !is_told(topic));
    }

    /// Whether a told expression is new: of a newer version with another text.
    fn needs_compiling(&self, group: &str, told: &Subscription) -> bool {
        let state = self.state.read();
        let known = state.groups.get(group).and_then(|topics| topics.get(told.topic.as_str()));
        known.is_none_or(|known| told.sub_version > known.version && *known.text != *told.sub_string)
    }

    fn compile(&self, group: &str, told: &Subscription) -> Option<Arc<Expression>> {
        match Expression::parse(&told.sub_string, &self.limits.sql) {
            Ok(expression) => Some(Arc::new(expression)),
            Err(error) => {
                tracing::info!(group, topic = told.topic, "the SQL filter of a heartbeat is refused: {error}");
                None
            }
        }
    }

    /// Marks the expressions of offline groups as dead, and removes those that died before `filterDataCleanTimeSpan`.
    pub fn expire(&self, now_ms: i64, is_online: impl Fn(&str) -> bool) {
        if self.state.read().groups.is_empty() {
            return;
        }
        let mut state = self.state.write();
        let offline: Vec<Box<str>> = state.groups.keys().filter(|group| !is_online(group)).cloned().collect();
        for group in offline {
            state.kill(&group, now_ms, |_| true);
        }
        let limit = now_ms - self.limits.keep_dead_ms;
        state.retain(|known| !known.is_dead() || known.dead_ms > limit);
    }

    /// Adds a saved expression, whose group is still offline. An expression that cannot be compiled is left out with a WARN.
    pub fn restore(&self, group: &str, topic: &str, text: &str, version: i64, born_ms: i64, dead_ms: i64) {
        match Expression::parse(text, &self.limits.sql) {
            Ok(expression) => {
                let saved = Registered {
                    text: text.into(),
                    expression: Arc::new(expression),
                    version,
                    born_ms,
                    dead_ms: dead_ms.max(born_ms),
                };
                self.state.write().add(group, topic, saved, self.limits.bytes);
            }
            Err(error) => tracing::warn!(
                group,
                topic,
                "a saved SQL filter is left out, heartbeats register it again: {error}"
            ),
        }
    }

    /// The number of changes so far, unless it is `saved`. Visits group, topic and expression of all that are registered then.
    pub fn changed_since(&self, saved: u64, mut visit: impl FnMut(&str, &str, &Registered)) -> Option<u64> {
        let state = self.state.read();
        if state.changes == saved {
            return None;
        }
        for (group, topics) in &state.groups {
            topics.iter().for_each(|(topic, known)| visit(group, topic, known));
        }
        Some(state.changes)
    }
}

impl FilterTable {
    fn of(&mut self, group: &str, topic: &str) -> Option<&mut Registered> {
        self.groups.get_mut(group)?.get_mut(topic)
    }

    /// Adds one that is not older than what is known. False: there is no room.
    fn add(&mut self, group: &str, topic: &str, added: Registered, most: usize) -> bool {
        let old = self.of(group, topic).map(|known| (known.version, known.memory(group, topic)));
        if old.is_some_and(|(version, _)| version >= added.version) {
            return true;
        }
        let old_bytes = old.map_or(0, |(_, bytes)| bytes);
        let bytes = added.memory(group, topic);
        self.make_room((most + old_bytes).saturating_sub(bytes));
        // What was removed to make room may be the old one.
        let old_bytes = self.of(group, topic).map_or(0, |known| known.memory(group, topic));
        if self.bytes - old_bytes + bytes > most {
            self.remove(group, topic);
            return false;
        }
        self.bytes = self.bytes - old_bytes + bytes;
        self.groups.entry(group.into()).or_default().insert(topic.into(), added);
        self.changes += 1;
        true
    }

    /// Removes dead ones, those first that died first, until no more than `most` bytes are taken.
    fn make_room(&mut self, most: usize) {
        if self.bytes <= most {
            return;
        }
        let all = self.groups.values().flat_map(FxHashMap::values);
        let mut deaths: Vec<(i64, usize)> = all
            .filter(|known| known.is_dead())
            .map(|known| (known.dead_ms, known.text.len()))
            .collect();
        deaths.sort_unstable();
        let mut free = 0;
        let needed = self.bytes - most;
        let last = deaths.iter().find(|(_, bytes)| {
            free += bytes + ENTRY_BYTES;
            free >= needed
        });
        let until = last.or(deaths.last()).map_or(i64::MIN, |(dead_ms, _)| *dead_ms);
        self.retain(|known| !known.is_dead() || known.dead_ms > until);
    }

    /// The same expression was told again, maybe by a newer version of the subscription.
    fn renew(&mut self, group: &str, told: &Subscription) -> bool {
        let Some(known) = self.of(group, &told.topic) else { return true };
        let is_newer = told.sub_version > known.version && *known.text == *told.sub_string;
        if is_newer || (told.sub_version == known.version && known.is_dead()) {
            known.version = told.sub_version;
            known.dead_ms = 0;
            self.changes += 1;
        }
        true
    }

    fn remove_older(&mut self, group: &str, told: &Subscription) -> bool {
        if self.of(group, &told.topic).is_some_and(|known| known.version < told.sub_version) {
            self.remove(group, &told.topic);
        }
        true
    }

    fn remove(&mut self, group: &str, topic: &str) {
        let Some(topics) = self.groups.get_mut(group) else { return };
        if let Some(known) = topics.remove(topic) {
            self.bytes -= known.memory(group, topic);
            self.changes += 1;
        }
        if topics.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Marks those topics of a group as dead that `which` says.
    fn kill(&mut self, group: &str, now_ms: i64, which: impl Fn(&str) -> bool) {
        let Some(topics) = self.groups.get_mut(group) else { return };
        for (topic, known) in topics {
            if !known.is_dead() && which(topic) {
                known.die(now_ms);
                self.changes += 1;
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&Registered) -> bool) {
        let Self { groups, bytes, changes } = self;
        groups.retain(|group, topics| {
            topics.retain(|topic, known| {
                let keeps = keep(known);
                if !keeps {
                    *bytes -= known.memory(group, topic);
                    *changes += 1;
                }
                keeps
            });
            !topics.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(topic: &str, text: &str, version: i64) -> Subscription {
        Subscription {
            topic: topic.to_owned(),
            sub_string: text.to_owned(),
            sub_version: version,
            expression_type: SQL92.to_owned(),
            ..Subscription::default()
        }
    }

    fn text(filters: &Filters, topic: &str) -> Option<String> {
        filters.find("g", topic).map(|known| known.text.to_string())
    }

    #[test]
    fn a_newer_version_replaces_the_expression() {
        let filters = Filters::default();
        filters.register("g", &[told("t", "a = 1", 5)], 10);
        filters.register("g", &[told("t", "a = 2", 5)], 11);
        filters.register("g", &[told("t", "a = 3", 4)], 12);
        assert_eq!(text(&filters, "t").as_deref(), Some("a = 1"));
        filters.register("g", &[told("t", "a = 2", 6)], 13);
        let known = filters.find("g", "t").unwrap();
        assert_eq!((&*known.text, known.version, known.born_ms), ("a = 2", 6, 13));
        // The same expression: not born again.
        filters.register("g", &[told("t", "a = 2", 7)], 14);
        let known = filters.find("g", "t").unwrap();
        assert_eq!((known.version, known.born_ms), (7, 13));
    }

    #[test]
    fn an_expression_that_cannot_be_compiled_removes_the_older_one() {
        let filters = Filters::default();
        filters.register("g", &[told("t", "a >", 1)], 10);
        assert!(filters.find("g", "t").is_none());
        filters.register("g", &[told("t", "a = 1", 2)], 10);
        filters.register("g", &[told("t", "a >", 2)], 10);
        assert!(filters.find("g", "t").is_some());
        filters.register("g", &[told("t", "a >", 3)], 10);
        assert!(filters.find("g", "t").is_none());
        assert_eq!(filters.state.read().bytes, 0);
    }

    #[test]
    fn what_nobody_uses_is_dead_and_removed_later() {
        let filters = Filters::default();
        filters.register("g", &[told("t", "a = 1", 1), told("u", "a = 1", 1)], 10);
        filters.register("g", &[told("u", "a = 1", 1)], 20);
        assert_eq!(filters.find("g", "t").unwrap().dead_ms, 20);
        filters.register("g", &[told("t", "a = 1", 1), told("u", "a = 1", 1)], 30);
        assert_eq!(filters.find("g", "t").unwrap().dead_ms, 0);
        filters.expire(40, |group| group == "g");
        assert_eq!(filters.find("g", "t").unwrap().dead_ms, 0);
        filters.expire(50, |_| false);
        assert_eq!(filters.find("g", "t").unwrap().dead_ms, 50);
        let keep = FilterLimits::default().keep_dead_ms;
        filters.expire(49 + keep, |_| false);
        assert!(filters.find("g", "t").is_some());
        filters.expire(50 + keep, |_| false);
        assert!(filters.find("g", "t").is_none());
        assert_eq!(filters.state.read().bytes, 0);
    }

    #[test]
    fn a_group_that_changes_to_tags_leaves_a_dead_expression() {
        let filters = Filters::default();
        filters.register("g", &[told("t", "a = 1", 1)], 10);
        let tags = Subscription {
            expression_type: "TAG".to_owned(),
            ..told("t", "*", 2)
        };
        filters.register("g", &[tags], 20);
        assert_eq!(filters.find("g", "t").unwrap().dead_ms, 20);
    }

    #[test]
    fn dead_ones_make_room_and_living_ones_are_kept() {
        let one = {
            let filters = Filters::default();
            filters.register("g0", &[told("t", "a = 1", 1)], 1);
            filters.state.read().bytes
        };
        let filters = Filters::new(FilterLimits {
            bytes: 3 * one,
            ..FilterLimits::default()
        });
        for group in ["g0", "g1", "g2"] {
            filters.register(group, &[told("t", "a = 1", 1)], 1);
        }
        filters.register("g3", &[told("t", "a = 1", 1)], 1);
        assert!(filters.find("g3", "t").is_none(), "no room");
        filters.expire(5, |group| group != "g1");
        filters.register("g3", &[told("t", "a = 1", 1)], 6);
        assert!(filters.find("g1", "t").is_none() && filters.find("g3", "t").is_some());
        assert_eq!(filters.state.read().bytes, 3 * one);
    }
}
