//! Subscriptions that only pulls told of: their consumers send no heartbeat for them. Kept for a while so that administration sees
//! them. Pure state: the time is given.

use super::view::Subscribed;
use parking_lot::RwLock;
use protocol::heartbeat::Subscription;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// How long they are kept, in ms.
const KEPT_MS: i64 = 600_000;

/// By topic, with the time of the pull.
type Topics = FxHashMap<Box<str>, (Arc<Subscribed>, i64)>;

#[derive(Debug, Default)]
struct State {
    groups: FxHashMap<Box<str>, Topics>,
    bytes: usize,
}

/// Subscriptions by group and topic. What is over a bound is not kept.
#[derive(Debug)]
pub(super) struct Compensated {
    state: RwLock<State>,
    max_bytes: usize,
    max_topics_of_group: usize,
}

impl Compensated {
    pub(super) fn new(max_bytes: usize, max_topics_of_group: usize) -> Self {
        Self {
            state: RwLock::default(),
            max_bytes,
            max_topics_of_group,
        }
    }

    pub(super) fn find(&self, group: &str, topic: &str) -> Option<Arc<Subscribed>> {
        let state = self.state.read();
        state.groups.get(group)?.get(topic).map(|(data, _)| Arc::clone(data))
    }

    /// Does nothing while the same expression is known and young.
    pub(super) fn add(&self, group: &str, topic: &str, expression: &str, now_ms: i64, build: impl FnOnce() -> Subscription) {
        let young = |(known, told_ms): &(Arc<Subscribed>, i64)| known.data.sub_string == expression && now_ms - told_ms < KEPT_MS / 2;
        let known = |state: &State| state.groups.get(group).and_then(|topics| topics.get(topic)).is_some_and(young);
        if known(&self.state.read()) {
            return;
        }
        let data = build();
        let mut state = self.state.write();
        let State { groups, bytes } = &mut *state;
        let (topics, old) = match groups.get(group) {
            Some(topics) => (topics.len(), topics.get(topic).map_or(0, |(old, _)| old.data.memory())),
            None => (0, 0),
        };
        let after = *bytes - old + data.memory();
        if after > self.max_bytes || (old == 0 && topics >= self.max_topics_of_group) {
            return;
        }
        *bytes = after;
        let topics = groups.entry(group.into()).or_default();
        topics.insert(topic.into(), (Arc::new(data.into()), now_ms));
    }

    pub(super) fn expire(&self, now_ms: i64) {
        let mut state = self.state.write();
        let State { groups, bytes } = &mut *state;
        groups.retain(|_, topics| {
            topics.retain(|_, (known, told_ms)| {
                let keep = now_ms - *told_ms <= KEPT_MS;
                if !keep {
                    *bytes -= known.data.memory();
                }
                keep
            });
            !topics.is_empty()
        });
    }

    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        let state = self.state.read();
        state.groups.is_empty() && state.bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::consumers::testing::subscription;
    use super::*;

    #[test]
    fn a_subscription_told_by_pulls_is_kept_for_ten_minutes() {
        let told = Compensated::new(1 << 20, 10);
        told.add("g", "t", "*", 0, || subscription("t", 1));
        told.add("g", "t", "*", 1, || unreachable!("known and young"));
        assert!(told.find("g", "t").is_some());
        told.expire(KEPT_MS);
        assert!(told.find("g", "t").is_some());
        told.expire(KEPT_MS + 1);
        assert!(told.find("g", "t").is_none() && told.is_clean());
    }

    #[test]
    fn neither_topics_nor_bytes_grow_over_their_bounds() {
        let told = Compensated::new(2 * subscription("t", 1).memory(), 1);
        told.add("g", "t", "*", 0, || subscription("t", 1));
        told.add("g", "u", "*", 0, || subscription("u", 1));
        assert!(told.find("g", "u").is_none(), "a second topic of the group");
        told.add("h", "t", "*", 0, || subscription("t", 1));
        told.add("i", "t", "*", 0, || subscription("t", 1));
        assert!(told.find("h", "t").is_some() && told.find("i", "t").is_none(), "a third expression");
        // Replacing one takes no room.
        told.add("g", "t", "a", 0, || subscription("t", 2));
        assert_eq!(told.find("g", "t").unwrap().data.sub_version, 2);
        told.expire(KEPT_MS + 1);
        assert!(told.is_clean());
    }
}
